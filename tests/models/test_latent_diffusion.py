"""The parts put together."""

import copy
from dataclasses import replace

import pytest
import torch

from sumi.diffusion.conditioning import Conditioning
from sumi.models.latent_diffusion import LatentDiffusion


def test_a_latent_has_the_autoencoders_channels_and_factor(tiny: LatentDiffusion) -> None:
    assert tiny.latent_shape(16, 24) == (4, 8, 12)
    picture = tiny.decode(torch.zeros(2, 4, 8, 12))
    assert picture.shape == (2, 3, 16, 24) and picture.dtype == torch.float32


def test_the_denoiser_is_the_unet_behind_its_prediction(tiny: LatentDiffusion) -> None:
    x, sigma, cond = torch.randn(2, 4, 8, 12), torch.tensor(2.0), tiny.encode(["a cat", ""])
    c = 1 / (1 + sigma**2).sqrt()
    v = tiny.unet(x * c, tiny.schedule.t(sigma).expand(2), cond.context, cond.vector)
    torch.testing.assert_close(tiny.denoiser()(x, sigma, cond), x * c**2 - v * sigma * c)


def test_networks_of_lower_precision_are_behind_the_same_float32_face(tiny: LatentDiffusion) -> None:
    assert tiny.prompt is not None
    prompt = copy.copy(tiny.prompt)
    prompt.encoder = copy.deepcopy(prompt.encoder).bfloat16()
    low = replace(tiny, unet=copy.deepcopy(tiny.unet).bfloat16(), autoencoder=copy.deepcopy(tiny.autoencoder).bfloat16(), prompt=prompt)
    x, sigma = torch.randn(1, 4, 8, 12), torch.tensor(2.0)
    for ours, exact in (
        (low.denoiser()(x, sigma, low.encode(["a cat"])), tiny.denoiser()(x, sigma, tiny.encode(["a cat"]))),
        (low.decode(x), tiny.decode(x)),
    ):
        assert ours.dtype == torch.float32
        assert 0 < (ours - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("texts", [[], ["", "a cat"]])
def test_a_model_without_text_tells_its_unet_nothing(tiny: LatentDiffusion, texts: list[str]) -> None:
    assert replace(tiny, prompt=None).encode(texts) == Conditioning()
