"""The noise predictor: what it refuses, and what may not change its answer. Its numbers are tested in parity/."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sumi.config import UNetConfig
from sumi.nets.unet import Residuals, UNet
from support import assert_agree, randomise

TINY = UNetConfig(block_channels=(16, 32), attention_depth=(1, 1), cross_only=(False, False), heads=2, context_width=12, norm_groups=8)
VECTOR = replace(TINY, vector_width=10)
LABEL = replace(TINY, label_classes=5)


def inputs(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(batch, 4, 8, 8), torch.linspace(10, 900, batch), torch.randn(batch, 5, 12)


@pytest.mark.parametrize("config", [TINY, replace(TINY, scale_shift=True, residual_resampling=True), VECTOR, LABEL])
def test_every_parameter_learns(config: UNetConfig) -> None:
    unet = randomise(UNet(config))
    vector = {VECTOR: torch.randn(2, 10), LABEL: torch.tensor([1, 3])}.get(config)
    unet(*inputs(), vector).square().mean().backward()
    assert [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@torch.no_grad()
def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    unet = randomise(UNet(TINY))
    x, t, context = inputs(batch=3)
    together = unet(x, t, context)
    for i in range(3):
        assert_agree(unet(x[i : i + 1], t[i : i + 1], context[i : i + 1]), together[i : i + 1])


@torch.no_grad()
def test_whole_and_float_times_are_one() -> None:
    unet = randomise(UNet(TINY))
    x, _, context = inputs()
    assert torch.equal(unet(x, torch.tensor([7, 7]), context), unet(x, torch.tensor([7.0, 7.0]), context))
    assert not torch.equal(unet(x, torch.tensor([7.0, 7.0]), context), unet(x, torch.tensor([7.5, 7.5]), context))


@torch.no_grad()
def test_residuals_of_zero_change_nothing() -> None:
    unet = randomise(UNet(TINY))
    arguments = inputs()
    shapes = [(16, 8, 8)] * 3 + [(16, 4, 4)] + [(32, 4, 4)] * 2
    zeros = [torch.zeros(2, *shape) for shape in shapes]
    expected = unet(*arguments)
    for residuals in (Residuals(), Residuals(zeros), Residuals(middle=torch.zeros(2, 32, 4, 4)), Residuals(zeros, zeros[-1])):
        assert torch.equal(unet(*arguments, residuals=residuals), expected)


def test_as_many_residuals_as_skips() -> None:
    with pytest.raises(ValueError, match="shorter"):
        UNet(TINY)(*inputs(), residuals=Residuals([torch.zeros(2, 16, 8, 8)]))


@pytest.mark.parametrize(
    ("config", "context", "vector", "message"),
    [
        (TINY, None, None, "needs context"),
        (replace(TINY, context_width=None), torch.zeros(2, 5, 12), None, "takes no context"),
        (TINY, torch.zeros(2, 5, 12), torch.zeros(2, 10), "takes no label or vector"),
        (VECTOR, torch.zeros(2, 5, 12), None, "needs a vector"),
        (LABEL, torch.zeros(2, 5, 12), None, "needs a label"),
    ],
)
def test_refusals(config: UNetConfig, context: Tensor | None, vector: Tensor | None, message: str) -> None:
    x, t, _ = inputs()
    with pytest.raises(ValueError, match=message):
        UNet(config)(x, t, context, vector)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention_depth": (1,)}, "attention_depth has 1 entries for 2 levels"),
        ({"cross_only": (True,)}, "cross_only has 1 entries for 2 levels"),
        ({"heads": (1, 2, 3)}, "heads has 3 entries for 2 levels"),
        ({"heads": None}, "exactly one of heads and head_width"),
        ({"head_width": 8}, "exactly one of heads and head_width"),
        ({"label_classes": 10, "vector_width": 10}, "at most one of label_classes and vector_width"),
    ],
)
def test_configurations_that_contradict_themselves(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **fields)


def test_heads_of_a_level() -> None:
    assert [UNetConfig().heads_at(level) for level in (0, 1, 2, 3, -1)] == [8] * 5
    sd2 = UNetConfig(heads=None, head_width=64)
    assert [sd2.heads_at(level) for level in (0, 1, 2, 3, -1)] == [5, 10, 20, 20, 20]
    assert UNetConfig(heads=(5, 10, 20, 40)).heads_at(-1) == 40


def test_no_attention_means_none() -> None:
    """The one network of the paper with attention in its middle alone, and one with none at all."""
    names = {name for name, _ in UNet(replace(TINY, attention_depth=(0, 0))).named_modules() if "attentions" in name}
    assert names and all(name.startswith("mid_block") for name in names)
    bare = UNet(replace(TINY, attention_depth=(0, 0), middle_depth=0, context_width=None))
    assert not any("attentions" in name for name, _ in bare.named_modules())
    assert bare(*inputs()[:2]).shape == (2, 4, 8, 8)


def test_the_middle_is_no_level() -> None:
    """Its first attention is over the picture even if the deepest level's is over the context, as in published configurations."""
    unet = UNet(replace(TINY, cross_only=(True, True)))
    keys = {name: module.in_features for name, module in unet.named_modules() if name.endswith("attn1.to_k")}
    assert {name: width for name, width in keys.items() if width != 12} == {"mid_block.attentions.0.transformer_blocks.0.attn1.to_k": 32}
