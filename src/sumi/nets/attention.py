"""Attention, and the transformer that a UNet level is told its context by.

Legend: B batch, C channels, H W latent height and width, T L tokens asking and asked, D E widths, N heads.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(queries [B N T _], keys [B N L _], values [B N L _]) -> [B N T _]."""


def attend(q: Float[Tensor, "B N T d"], k: Float[Tensor, "B N L d"], v: Float[Tensor, "B N L d"]) -> Float[Tensor, "B N T d"]:
    """softmax(q k^T / sqrt(d)) v: scaled dot-product attention (Vaswani et al. 2017, equation 1)."""
    return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Attention over several heads: tokens of `context` are attended to; without one, the tokens attend to each other."""

    def __init__(self, width: int, context_width: int, heads: int, *, bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.attend: Attend = attend
        self.to_q = nn.Linear(width, width, bias=bias)
        self.to_k = nn.Linear(context_width, width, bias=bias)
        self.to_v = nn.Linear(context_width, width, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])  # a list for its published name: to_out.0

    def forward(self, x: Float[Tensor, "B T D"], context: Float[Tensor, "B L E"] | None = None) -> Float[Tensor, "B T D"]:
        source = x if context is None else context
        q, k, v = (self._split(h) for h in (self.to_q(x), self.to_k(source), self.to_v(source)))
        out: Tensor = self.to_out[0](self.attend(q, k, v).transpose(1, 2).flatten(2))
        return out

    def _split(self, h: Float[Tensor, "B T D"]) -> Float[Tensor, "B N T _"]:
        return h.view(*h.shape[:2], self.heads, -1).transpose(1, 2)


class GEGLU(nn.Module):
    """A linear layer half of whose output gates the other half (Shazeer 2020, equation 6); the second half is the gate."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_width, 2 * width)

    def forward(self, x: Float[Tensor, "B T _"]) -> Float[Tensor, "B T D"]:
        value, gate = self.proj(x).chunk(2, dim=-1)
        out: Tensor = value * F.gelu(gate)
        return out


class FeedForward(nn.Module):
    """Widen fourfold with a gate, and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # The identity stands where training scripts of the original put dropout; it keeps the published name net.2.
        self.net = nn.ModuleList([GEGLU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        out: Tensor = self.net[2](self.net[0](x))
        return out


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention, feed-forward; each normalised before and added after.

    `cross_only`: the first attention, too, attends to the context (x4-upscaler).
    """

    def __init__(self, width: int, context_width: int, heads: int, *, cross_only: bool = False) -> None:
        super().__init__()
        self.cross_only = cross_only
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, context_width if cross_only else width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, context_width, heads)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Float[Tensor, "B T D"], context: Float[Tensor, "B L E"]) -> Float[Tensor, "B T D"]:
        x = x + self.attn1(self.norm1(x), context if self.cross_only else None)
        x = x + self.attn2(self.norm2(x), context)
        out: Tensor = x + self.ff(self.norm3(x))
        return out


class SpatialTransformer(nn.Module):
    """Transformer blocks over the cells of a feature map (Rombach et al. 2022, appendix E.2.1)."""

    def __init__(
        self,
        channels: int,
        context_width: int,
        heads: int,
        depth: int,
        *,
        linear: bool = False,
        cross_only: bool = False,
        groups: int = 32,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            [TransformerBlock(channels, context_width, heads, cross_only=cross_only) for _ in range(depth)]
        )
        self.proj_out = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)

    def forward(self, x: Float[Tensor, "B C H W"], context: Float[Tensor, "B L E"]) -> Float[Tensor, "B C H W"]:
        h: Tensor = self.norm(x)
        if self.linear:
            h = self.proj_in(h.flatten(2).transpose(1, 2))
        else:
            h = self.proj_in(h).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            h = block(h, context)
        if self.linear:
            h = self.proj_out(h).transpose(1, 2).view(x.shape)
        else:
            h = self.proj_out(h.transpose(1, 2).view(x.shape))
        return x + h


class AttentionBlock(nn.Module):
    """Self-attention over the cells of a feature map, no context: unconditional UNets and autoencoders."""

    def __init__(self, channels: int, heads: int = 1, *, groups: int = 32, eps: float = 1e-6) -> None:
        super().__init__()
        self.heads = heads
        self.attend: Attend = attend
        self.group_norm = nn.GroupNorm(groups, channels, eps)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        h = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = (layer(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v))
        h = self.attend(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = x + self.to_out[0](h).transpose(1, 2).unflatten(2, x.shape[2:])
        return out
