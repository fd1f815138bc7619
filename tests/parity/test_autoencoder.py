"""Our autoencoder against diffusers' AutoencoderKL and VQModel, tiny and random, by the published names."""

from functools import cache
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, VQModel

from sumi.config import AutoencoderConfig
from sumi.nets.autoencoder import Autoencoder
from support import assert_agree, assert_same_norms, randomise

SCALE = 0.18215
SIZES = [(16, 16), (32, 48)]


def blocks(*attends: bool) -> dict[str, Any]:
    return {
        "block_out_channels": (16, 32, 48)[: len(attends)],
        "down_block_types": tuple("AttnDownEncoderBlock2D" if attend else "DownEncoderBlock2D" for attend in attends),
        "up_block_types": tuple("AttnUpDecoderBlock2D" if attend else "UpDecoderBlock2D" for attend in reversed(attends)),
        "layers_per_block": 2,
        "norm_num_groups": 8,
    }


def config(*attends: bool, **fields: Any) -> AutoencoderConfig:
    return AutoencoderConfig(block_channels=(16, 32, 48)[: len(attends)], attention_levels=attends, norm_groups=8, **fields)


KL = {
    "kl": (blocks(False, False, False) | {"latent_channels": 4}, config(False, False, False)),
    "kl with attention in its levels": (blocks(False, True) | {"latent_channels": 6}, config(False, True, latent_channels=6)),
}
CODES = {"num_vq_embeddings": 50, "latent_channels": 3}
VQ = {
    "vq": (blocks(False, False) | CODES, config(False, False, latent_channels=3, codebook_size=50, latent_scale=1.0)),
    "vq with attention in its levels": (
        blocks(False, True) | CODES,
        config(False, True, latent_channels=3, codebook_size=50, latent_scale=1.0),
    ),
    "vq without attention": (
        blocks(False, False) | CODES | {"mid_block_add_attention": False},
        config(False, False, latent_channels=3, codebook_size=50, latent_scale=1.0, middle_attention=False),
    ),
}


@cache
def pair(name: str) -> tuple[Autoencoder, Any]:
    arguments, settings = (KL | VQ)[name]
    theirs: Any = randomise((AutoencoderKL if name in KL else VQModel)(**arguments))
    ours = Autoencoder(settings).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


@pytest.mark.parametrize("name", KL | VQ)
def test_norms(name: str) -> None:
    assert_same_norms(*pair(name))


@pytest.mark.parametrize("name", KL)
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_kl(name: str, size: tuple[int, int]) -> None:
    ours, theirs = pair(name)
    image = torch.rand(2, 3, *size) * 2 - 1
    posterior, expected = ours.encode(image), theirs.encode(image).latent_dist
    assert_agree(posterior.mean, expected.mean)
    assert_agree(posterior.logvar, expected.logvar)
    assert_agree(posterior.mode(), expected.mode() * SCALE)
    assert_agree(posterior.kl(), expected.kl())
    noise = torch.randn_like(posterior.mean)
    assert_agree(posterior.sample(noise), (expected.mean + expected.std * noise) * SCALE)
    latent = torch.randn_like(posterior.mean)
    assert_agree(ours.decode(latent), theirs.decode(latent / SCALE).sample)


@pytest.mark.parametrize("name", VQ)
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_vq(name: str, size: tuple[int, int]) -> None:
    """The latent is the one before quantisation; decoding quantises."""
    ours, theirs = pair(name)
    image = torch.rand(2, 3, *size) * 2 - 1
    posterior, expected = ours.encode(image), theirs.encode(image).latents
    assert_agree(posterior.mode(), expected)
    assert torch.equal(posterior.sample(torch.randn_like(expected)), posterior.mode())
    latent = torch.randn_like(expected)
    assert_agree(ours.decode(latent), theirs.decode(latent).sample)
