"""Attention against its formula, and what each block attends to."""

import torch
import torch.nn.functional as F

from sumi.nets.attention import GEGLU, Attention, AttentionBlock, FeedForward, SpatialTransformer, TransformerBlock
from support import assert_agree, randomise


def formula(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) v, one head after another, each a slice of the channels."""
    outs = []
    for qh, kh, vh in zip(*(h.double().chunk(heads, dim=-1) for h in (q, k, v)), strict=True):
        weights = (qh @ kh.transpose(1, 2) / qh.shape[-1] ** 0.5).softmax(-1)
        outs.append(weights @ vh)
    return torch.cat(outs, dim=-1).float()


def test_cross_attention() -> None:
    attention = randomise(Attention(24, 10, heads=3))
    x, context = torch.randn(2, 5, 24), torch.randn(2, 7, 10)
    expected = attention.to_out[0](formula(attention.to_q(x), attention.to_k(context), attention.to_v(context), 3))
    assert_agree(attention(x, context), expected)


def test_without_context_the_tokens_attend_to_each_other() -> None:
    attention = randomise(Attention(24, 24, heads=4))
    x = torch.randn(2, 5, 24)
    assert torch.equal(attention(x), attention(x, x))


def test_attention_over_cells() -> None:
    block = randomise(AttentionBlock(16, heads=2, groups=4))
    x = torch.randn(2, 16, 3, 5)
    h = F.group_norm(x, 4, block.group_norm.weight, block.group_norm.bias, eps=1e-6).flatten(2).transpose(1, 2)
    h = block.to_out[0](formula(block.to_q(h), block.to_k(h), block.to_v(h), 2))
    assert_agree(block(x), x + h.transpose(1, 2).reshape(x.shape))


def test_the_second_half_is_the_gate() -> None:
    layer = randomise(GEGLU(4, 6))
    x = torch.randn(2, 3, 4)
    value, gate = layer.proj(x)[..., :6], layer.proj(x)[..., 6:]
    assert_agree(layer(x), value * 0.5 * gate * (1 + torch.erf(gate / 2**0.5)))


def test_feed_forward_widens_fourfold() -> None:
    layer = FeedForward(8)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        "net.0.proj.weight": (64, 8),
        "net.0.proj.bias": (64,),
        "net.2.weight": (8, 32),
        "net.2.bias": (8,),
    }


def test_cross_only_blocks_look_at_the_context_twice() -> None:
    """With one token of context each attention has one answer, so a cell's output depends on no other cell."""
    x = torch.randn(1, 6, 16)
    changed = x.clone()
    changed[:, 3:] = torch.randn(1, 3, 16)
    context = torch.randn(1, 1, 10)
    for cross_only in (False, True):
        block = randomise(TransformerBlock(16, 10, heads=2, cross_only=cross_only))
        unmoved = torch.allclose(block(x, context)[:, :3], block(changed, context)[:, :3], atol=1e-6)
        assert unmoved == cross_only


def test_a_transformer_adds_to_its_input() -> None:
    for linear in (False, True):
        transformer = SpatialTransformer(16, 10, heads=2, depth=2, linear=linear, groups=4)
        torch.nn.init.zeros_(transformer.proj_out.weight)
        torch.nn.init.zeros_(transformer.proj_out.bias)
        x = torch.randn(2, 16, 4, 6)
        assert torch.equal(transformer(x, torch.randn(2, 3, 10)), x)
