"""Our UNet against diffusers': every form of the family, tiny and random, by the published names."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn

from sumi.config import UNetConfig
from sumi.nets.layers import timestep_embedding
from sumi.nets.unet import Residuals, UNet
from support import assert_agree, assert_same_norms, randomise

TIMES = [0, 1, 500, 999]
SIZES = [(8, 8), (16, 24), (24, 8)]
BATCH = 2


@dataclass(frozen=True)
class Variant:
    """diffusers' arguments and our configuration of one network."""

    arguments: dict[str, Any]
    config: UNetConfig
    network: type[nn.Module] = UNet2DConditionModel
    vector: str | None = None
    """How diffusers takes the vector or label: class_labels, or text_embeds and time_ids."""


def down(*attends: bool, kind: str = "CrossAttnDownBlock2D", plain: str = "DownBlock2D") -> tuple[str, ...]:
    return tuple(kind if attend else plain for attend in attends)


def up(*attends: bool, kind: str = "CrossAttnUpBlock2D", plain: str = "UpBlock2D") -> tuple[str, ...]:
    return tuple(kind if attend else plain for attend in reversed(attends))


FOUR = (16, 32, 48, 48)
SMALL: dict[str, Any] = {"norm_num_groups": 8, "layers_per_block": 2}
CROSS = SMALL | {"cross_attention_dim": 24, "block_out_channels": FOUR}
PLAIN = SMALL | {"in_channels": 4, "out_channels": 4, "flip_sin_to_cos": True, "freq_shift": 0, "downsample_padding": 1, "norm_eps": 1e-5}

SD2_ARGUMENTS = CROSS | {"attention_head_dim": [1, 2, 3, 3], "use_linear_projection": True}
SD2_CONFIG = UNetConfig(block_channels=FOUR, heads=None, head_width=16, context_width=24, linear_projection=True, norm_groups=8)

VARIANTS = {
    "sd1": Variant(
        CROSS | {"attention_head_dim": 4},
        UNetConfig(block_channels=FOUR, heads=4, context_width=24, norm_groups=8),
    ),
    "sd1 inpainting": Variant(
        CROSS | {"attention_head_dim": 4, "in_channels": 9},
        UNetConfig(in_channels=9, block_channels=FOUR, heads=4, context_width=24, norm_groups=8),
    ),
    "sd2": Variant(SD2_ARGUMENTS, SD2_CONFIG),
    "sdxl": Variant(
        SMALL
        | {
            "cross_attention_dim": 24,
            "block_out_channels": (16, 32, 48),
            "down_block_types": down(False, True, True),
            "up_block_types": up(False, True, True),
            "attention_head_dim": [1, 2, 3],
            "transformer_layers_per_block": [1, 2, 3],
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 20 + 6 * 8,
        },
        UNetConfig(
            block_channels=(16, 32, 48),
            attention_depth=(0, 2, 3),
            middle_depth=3,
            cross_only=(False,) * 3,
            heads=(1, 2, 3),
            context_width=24,
            linear_projection=True,
            vector_width=20 + 6 * 8,
            norm_groups=8,
        ),
        vector="text_time",
    ),
    "x4-upscaler": Variant(
        CROSS
        | {
            "in_channels": 7,
            "down_block_types": down(False, True, True, True),
            "up_block_types": up(False, True, True, True),
            "only_cross_attention": [True, True, True, False],
            "attention_head_dim": 4,
            "use_linear_projection": True,
            "num_class_embeds": 10,
        },
        UNetConfig(
            in_channels=7,
            block_channels=FOUR,
            attention_depth=(0, 1, 1, 1),
            cross_only=(True, True, True, False),
            heads=4,
            context_width=24,
            linear_projection=True,
            label_classes=10,
            norm_groups=8,
        ),
        vector="label",
    ),
    "unclip": Variant(
        SD2_ARGUMENTS | {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 20},
        UNetConfig(
            block_channels=FOUR,
            heads=(1, 2, 3, 3),
            context_width=24,
            linear_projection=True,
            vector_width=20,
            vector_name="class_embedding",
            norm_groups=8,
        ),
        vector="class",
    ),
    "ldm faces": Variant(
        PLAIN
        | {
            "block_out_channels": FOUR,
            "down_block_types": down(False, True, True, True, kind="AttnDownBlock2D"),
            "up_block_types": up(False, True, True, True, kind="AttnUpBlock2D"),
            "attention_head_dim": 16,
        },
        UNetConfig(block_channels=FOUR, attention_depth=(0, 1, 1, 1), heads=None, head_width=16, context_width=None, norm_groups=8),
        UNet2DModel,
    ),
    "ldm churches": Variant(
        PLAIN
        | {
            "block_out_channels": (16, 32, 32),
            "down_block_types": down(True, True, False, kind="AttnDownBlock2D", plain="ResnetDownsampleBlock2D"),
            "up_block_types": up(True, True, False, kind="AttnUpBlock2D", plain="ResnetUpsampleBlock2D"),
            "attention_head_dim": 8,
            "attn_norm_num_groups": 8,
            "resnet_time_scale_shift": "scale_shift",
            "downsample_type": "resnet",
            "upsample_type": "resnet",
        },
        UNetConfig(
            block_channels=(16, 32, 32),
            attention_depth=(1, 1, 0),
            cross_only=(False,) * 3,
            heads=None,
            head_width=8,
            context_width=None,
            scale_shift=True,
            residual_resampling=True,
            norm_groups=8,
        ),
        UNet2DModel,
    ),
    "ldm semantic": Variant(
        PLAIN
        | {
            "block_out_channels": (16, 32, 48),
            "down_block_types": down(False, False, False),
            "up_block_types": up(False, False, False),
            "attention_head_dim": 8,
        },
        UNetConfig(
            block_channels=(16, 32, 48),
            attention_depth=(0, 0, 0),
            cross_only=(False,) * 3,
            heads=None,
            head_width=8,
            context_width=None,
            norm_groups=8,
        ),
        UNet2DModel,
    ),
}


@cache
def pair(name: str) -> tuple[UNet, nn.Module]:
    variant = VARIANTS[name]
    theirs = randomise(variant.network(**variant.arguments))
    ours = UNet(variant.config).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def context_of(config: UNetConfig) -> Tensor | None:
    return None if config.context_width is None else torch.randn(BATCH, 7, config.context_width)


def vectors(variant: Variant) -> tuple[Tensor | None, dict[str, Any]]:
    """The vector or label as we take it, and as diffusers does, which embeds SDXL's sizes inside its network."""
    match variant.vector:
        case "label":
            labels = torch.tensor([3, 9])
            return labels, {"class_labels": labels}
        case "class":
            vector = torch.randn(BATCH, 20)
            return vector, {"class_labels": vector}
        case "text_time":
            pooled = torch.randn(BATCH, 20)
            sizes = torch.tensor([[512.0, 384.0, 0.0, 16.0, 512.0, 384.0], [1024.0, 1024.0, 32.0, 0.0, 1024.0, 768.0]])
            ours = torch.cat([pooled, timestep_embedding(sizes.flatten(), 8).reshape(BATCH, -1)], dim=1)
            return ours, {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes}}
        case _:
            return None, {}


@pytest.mark.parametrize("name", VARIANTS)
def test_prediction(name: str) -> None:
    variant, (ours, theirs) = VARIANTS[name], pair(name)
    torch.manual_seed(1)
    for height, width in SIZES:
        x, context = torch.randn(BATCH, variant.config.in_channels, height, width), context_of(variant.config)
        vector, keywords = vectors(variant)
        if context is not None:
            keywords["encoder_hidden_states"] = context
        for time in TIMES:
            t = torch.tensor([time, 999 - time])
            with torch.no_grad():
                assert_agree(ours(x, t, context, vector), theirs(x, t, **keywords).sample)


@pytest.mark.parametrize("name", VARIANTS)
def test_norms(name: str) -> None:
    assert_same_norms(*pair(name))


def test_fractional_times() -> None:
    ours, theirs = pair("sd1")
    x, context, t = torch.randn(BATCH, 4, 8, 8), torch.randn(BATCH, 7, 24), torch.tensor([353.8904, 0.25])
    with torch.no_grad():
        assert_agree(ours(x, t, context), theirs(x, t, context).sample)


def test_context_of_any_length() -> None:
    ours, theirs = pair("sd2")
    for length in (1, 77, 154):
        x, context, t = torch.randn(BATCH, 4, 8, 8), torch.randn(BATCH, length, 24), torch.tensor([10, 900])
        with torch.no_grad():
            assert_agree(ours(x, t, context), theirs(x, t, context).sample)


def test_residuals() -> None:
    """What a ControlNet adds reaches the skips, nearest the input first, and the middle."""
    ours, theirs = pair("sd1")
    x, context, t = torch.randn(BATCH, 4, 16, 8), torch.randn(BATCH, 7, 24), torch.tensor([10, 900])
    shapes = [(16, 16, 8)] * 3 + [(16, 8, 4)] + [(32, 8, 4)] * 2 + [(32, 4, 2)] + [(48, 4, 2)] * 2 + [(48, 2, 1)] * 3
    skips = [torch.randn(BATCH, *shape) for shape in shapes]
    middle = torch.randn(BATCH, 48, 2, 1)
    with torch.no_grad():
        expected = theirs(x, t, context, down_block_additional_residuals=tuple(skips), mid_block_additional_residual=middle).sample
        assert_agree(ours(x, t, context, residuals=Residuals(skips, middle)), expected)
        assert (expected - ours(x, t, context)).abs().max() > 0.01
