"""Latents, their scale and their spread. The numbers of the networks are tested in parity/."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from sumi.config import AutoencoderConfig
from sumi.nets.autoencoder import Autoencoder, Codebook, Posterior
from support import assert_agree, randomise

TINY = AutoencoderConfig(block_channels=(8, 16, 16), attention_levels=(False,) * 3, norm_groups=4)
QUANTISING = replace(TINY, latent_scale=1.0, codebook_size=20)


@torch.no_grad()
def test_the_latent_scale_is_the_autoencoders_own() -> None:
    """It multiplies latents, and nothing of it is left in a picture."""
    image = torch.rand(1, 3, 16, 24) * 2 - 1
    one, half = (Autoencoder(replace(TINY, latent_scale=scale)) for scale in (1.0, 0.5))
    half.load_state_dict(randomise(one).state_dict())
    latents = [autoencoder.encode(image).sample(torch.ones(1, 4, 4, 6)) for autoencoder in (one, half)]
    assert_agree(latents[1], 0.5 * latents[0])
    assert_agree(half.decode(latents[1]), one.decode(latents[0]))


def test_factor() -> None:
    assert AutoencoderConfig().factor == 8
    assert TINY.factor == 4
    assert Autoencoder(TINY).encode(torch.zeros(1, 3, 16, 8)).mean.shape == (1, 4, 4, 2)


@torch.no_grad()
def test_patches_are_channels() -> None:
    """Two by two pixels enter as one cell of twelve channels and leave again where they were."""
    patched, plain = Autoencoder(replace(TINY, patch_size=2)), Autoencoder(replace(TINY, image_channels=12))
    plain.load_state_dict(randomise(patched).state_dict())
    image = torch.rand(1, 3, 16, 32) * 2 - 1
    cells = torch.stack([image[:, c, i::2, j::2] for c in range(3) for i in range(2) for j in range(2)], dim=1)
    latent = patched.encode(image).mode()
    assert patched.config.factor == 8 and latent.shape == (1, 4, 2, 4)
    assert torch.equal(latent, plain.encode(cells).mode())
    decoded, expected = patched.decode(latent), plain.decode(latent)
    for c, i, j in itertools.product(range(3), range(2), range(2)):
        assert torch.equal(decoded[:, c, i::2, j::2], expected[:, 4 * c + 2 * i + j])


def test_posterior() -> None:
    mean, logvar, noise = torch.randn(3, 2, 4, 4, 4).unbind()
    posterior = Posterior(mean, logvar, 0.5)
    assert torch.equal(posterior.mode(), 0.5 * mean)
    assert torch.equal(posterior.sample(torch.zeros_like(mean)), posterior.mode())
    assert_agree(posterior.sample(noise), 0.5 * (mean + logvar.exp().sqrt() * noise))
    expected = kl_divergence(Normal(mean, logvar.exp().sqrt()), Normal(0.0, 1.0)).sum((1, 2, 3))
    assert_agree(posterior.kl(), expected)


@torch.no_grad()
def test_the_spread_is_bounded() -> None:
    autoencoder = Autoencoder(TINY)
    torch.nn.init.zeros_(autoencoder.quant_conv.weight)
    for bias, bound in ((1e6, 20), (-1e6, -30)):
        torch.nn.init.constant_(autoencoder.quant_conv.bias, bias)
        assert (autoencoder.encode(torch.zeros(1, 3, 8, 8)).logvar == bound).all()


def test_the_nearest_code_by_brute_force() -> None:
    codebook = randomise(Codebook(20, 3))
    latent = torch.randn(2, 3, 4, 5)
    distances = (latent.movedim(1, -1)[..., None, :] - codebook.embedding.weight).norm(dim=-1)
    assert torch.equal(codebook.nearest(latent), distances.argmin(-1))
    codes = codebook.embedding.weight[distances.argmin(-1)].movedim(-1, 1)
    assert torch.equal(codebook(latent), codes)


def test_the_gradient_passes_the_codebook() -> None:
    codebook = randomise(Codebook(20, 3))
    latent, weight = torch.randn(1, 3, 2, 2, requires_grad=True), torch.randn(1, 3, 2, 2)
    (codebook(latent) * weight).sum().backward()
    assert torch.equal(latent.grad, weight)
    assert codebook.embedding.weight.grad is None
    with torch.no_grad():
        assert_agree(codebook(latent.detach().requires_grad_()), codebook(latent.detach()))


@torch.no_grad()
def test_codes_are_what_is_decoded() -> None:
    autoencoder = randomise(Autoencoder(QUANTISING))
    latent = autoencoder.encode(torch.rand(1, 3, 8, 8) * 2 - 1).mode()
    codes = autoencoder.quantize(latent)
    assert not torch.equal(latent, codes)
    assert torch.equal(autoencoder.decode(latent), autoencoder.decode(codes))


def test_without_blocks_latents_are_pixels() -> None:
    """Bit for bit, and with nothing to learn."""
    config = AutoencoderConfig(latent_channels=3, block_channels=(), attention_levels=(), latent_scale=1.0)
    autoencoder, image = Autoencoder(config), torch.randn(2, 3, 5, 7)
    assert config.identity and config.factor == 1 and not TINY.identity
    assert autoencoder.state_dict() == {}
    posterior = autoencoder.encode(image)
    assert torch.equal(posterior.mode(), image)
    assert torch.equal(posterior.sample(torch.randn_like(image)), image)
    assert torch.equal(autoencoder.decode(image), image)


@pytest.mark.parametrize(
    "fields", [{"latent_channels": 4}, {"latent_scale": 0.5}, {"codebook_size": 8}, {"patch_size": 2}, {"image_channels": 1}]
)
def test_without_blocks_nothing_else_can_be_set(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="latents are the pixels themselves"):
        AutoencoderConfig(**{"latent_channels": 3, "block_channels": (), "attention_levels": (), "latent_scale": 1.0, **fields})


@pytest.mark.parametrize("config", [TINY, QUANTISING, replace(TINY, attention_levels=(False, False, True), middle_attention=False)])
def test_every_parameter_learns(config: AutoencoderConfig) -> None:
    autoencoder = randomise(Autoencoder(config))
    posterior = autoencoder.encode(torch.rand(1, 3, 16, 16) * 2 - 1)
    autoencoder.decode(posterior.sample(torch.randn_like(posterior.mean))).square().mean().backward()
    idle = {name for name, p in autoencoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert idle == ({"quantize.embedding.weight"} if config.codebook_size else set()), "codes learn from their own loss"


def test_as_many_attention_levels_as_levels() -> None:
    with pytest.raises(ValueError, match="attention_levels has 4 entries for 2 levels"):
        AutoencoderConfig(block_channels=(8, 16))
