"""Autoencoders by tiles, the same as without; and noise predictors by windows, as published."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch.overrides import TorchFunctionMode

from sumi.config import AutoencoderConfig, UNetConfig
from sumi.models import tiles
from sumi.models.seamless import seamless
from sumi.models.tiles import inside, tiled, windows
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.unet import UNet
from support import assert_agree, randomise

KL = AutoencoderConfig(block_channels=(8, 16, 16), layers_per_block=1, attention_levels=(False, False, False), norm_groups=4)
AUTOENCODERS = {
    "kl": KL,
    "patches": replace(KL, patch_size=2, middle_attention=False),
    "attention in a level": replace(KL, attention_levels=(False, True, False)),
    "vq": replace(KL, codebook_size=20, middle_attention=False, latent_scale=1.0),
    "one level": replace(KL, block_channels=(8,), attention_levels=(False,), layers_per_block=2),
}


def autoencoder(name="kl"):
    return randomise(Autoencoder(AUTOENCODERS[name])).requires_grad_(False)


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def uneven(*shape):
    """With a mean and a variance that are others in every tile."""
    height, width = shape[-2:]
    slope = torch.linspace(0, 2, height)[:, None] + torch.linspace(-2, 1, width)
    return slope + noise(*shape) * slope


@pytest.mark.parametrize(("kept", "axes"), [(0, "none"), (20, "x"), (0, "both"), (1000, "y")])
@pytest.mark.parametrize("name", AUTOENCODERS)
def test_tiles_are_exact(name, axes, kept, monkeypatch):
    monkeypatch.setattr(tiles, "KEPT", kept)
    whole = seamless(autoencoder(name), axes)
    factor = whole.config.factor
    parts = tiled(whole, 4 * factor)
    latent, picture = uneven(2, 4, 10, 7), uneven(2, 3, 10 * factor, 7 * factor)
    assert_agree(parts.decode(latent), whole.decode(latent))
    ours, theirs = parts.encode(picture), whole.encode(picture)
    assert_agree(ours.mean, theirs.mean)
    if whole.config.codebook_size is None:
        assert_agree(ours.logvar, theirs.logvar)


def test_tiles_with_numbers_of_their_own_would_not_do():
    """What the test above would not have found with latents too even."""
    whole, latent = autoencoder(), uneven(1, 4, 8, 8)
    alone = torch.cat([whole.decode(half) for half in latent.chunk(2, 3)], 3)
    far = [*range(8), *range(24, 32)]  # where no layer looks across
    assert (alone - whole.decode(latent))[..., far].abs().max() > 1e-2


class Largest(TorchFunctionMode):
    """How many numbers the largest tensor holds that anything made."""

    found = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.found = max(self.found, out.numel())
        return out


@pytest.mark.parametrize("task", ["decode", "encode"])
def test_nothing_is_larger_than_a_tile_or_a_map_worth_keeping(task, monkeypatch):
    monkeypatch.setattr(tiles, "KEPT", 4)
    whole, side = autoencoder(), 128
    given = noise(1, 4, side // 4, side // 4) if task == "decode" else noise(1, 3, side, side)
    with Largest() as untiled:
        getattr(whole, task)(given)
    with Largest() as by_tiles:
        getattr(tiled(whole, 32), task)(given)
    margin = 2 * 8
    assert untiled.found >= 8 * side**2
    assert by_tiles.found <= max(4 * side**2, 16 * (32 + margin) ** 2)


def test_a_picture_no_larger_than_a_tile_is_computed_as_without():
    whole = autoencoder()
    latent, picture = noise(2, 4, 4, 6), noise(2, 3, 16, 24)
    assert torch.equal(tiled(whole, 24).decode(latent), whole.decode(latent))
    assert torch.equal(tiled(whole, 24).encode(picture).mean, whole.encode(picture).mean)
    assert not torch.equal(tiled(whole, 20).decode(latent), whole.decode(latent))


def test_the_autoencoder_itself_stays_as_it_is():
    whole, latent = autoencoder(), noise(1, 4, 8, 8)
    modules, before = dict(whole.named_modules()), whole.decode(latent)
    parts = tiled(whole, 16)
    parts.decode(latent)
    assert dict(whole.named_modules()) == modules
    assert torch.equal(whole.decode(latent), before)
    assert parts.config is whole.config
    assert list(parts.state_dict()) == list(whole.state_dict())
    assert all(weight is whole.get_parameter(name) for name, weight in parts.named_parameters())


def test_tiles_in_lower_precision_are_as_near_as_the_whole():
    whole, latent = autoencoder(), uneven(1, 4, 8, 8)
    exact, low = whole.decode(latent), randomise(Autoencoder(KL)).requires_grad_(False).bfloat16()
    found = tiled(low, 16).decode(latent.bfloat16())
    assert found.dtype == torch.bfloat16
    lost = (low.decode(latent.bfloat16()) - exact).norm() / exact.norm()
    assert 0 < (found - exact).norm() / exact.norm() < 1.5 * lost


def test_pixels_that_are_latents_need_no_tiles():
    nothing = Autoencoder(
        AutoencoderConfig(block_channels=(), attention_levels=(), latent_channels=3, latent_scale=1.0, middle_attention=False)
    )
    assert tiled(nothing, 1) is nothing


@pytest.mark.parametrize("tile", [3, 0, -16])
def test_a_tile_has_a_cell(tile):
    with pytest.raises(ValueError, match=f"tiles of {tile} pixels are too small: 4 is the least"):
        tiled(autoencoder(), tile)


CASES = [(20, 12, 4), (21, 8, 0), (17, 8, 3), (64, 8, 7), (13, 12, 1)]
around = pytest.mark.parametrize("axes", ["none", "x", "y", "both"])


def pointwise(x, t, context, vector):
    told = t if context is None else t + context.mean((1, 2)) + vector.mean(1)
    return torch.tanh(x[:, :3] * told[:, None, None, None]) + x[:, -1:]


class Blur:
    """Looks one cell far, and takes zeros for what is beyond."""

    def __init__(self):
        self.shapes = []

    def __call__(self, x, t, context, vector):
        self.shapes.append(tuple(x.shape))
        return F.conv2d(x, torch.ones(x.shape[1], 1, 3, 3) / 9, padding=1, groups=x.shape[1])


T = torch.tensor([10, 700])


@around
@pytest.mark.parametrize("weights", ["ramps", "uniform"])
@pytest.mark.parametrize(("length", "size", "overlap"), CASES)
def test_weights_add_up_to_one_everywhere(length, size, overlap, weights, axes):
    predict = windows(lambda x, t, context, vector: torch.ones_like(x), size, overlap, axes=axes, weights=weights)
    torch.testing.assert_close(predict(noise(1, 2, length, 15), T[:1], None, None), torch.ones(1, 2, length, 15), rtol=0, atol=1e-6)


@around
@pytest.mark.parametrize("cells", [1, 1000])
@pytest.mark.parametrize(("length", "size", "overlap"), CASES)
def test_a_network_that_looks_at_one_cell_knows_no_windows(length, size, overlap, cells, axes, monkeypatch):
    monkeypatch.setattr(tiles, "CELLS", cells)
    x, context, vector = noise(2, 5, 15, length), noise(2, 4, 6), noise(2, 7)
    found = windows(pointwise, size, overlap, axes=axes)(x, T, context, vector)
    assert_agree(found, pointwise(x, T, context, vector), 1e-6)
    found = windows(pointwise, size, overlap, axes=axes)(x, T, None, None)
    assert_agree(found, pointwise(x, T, None, None), 1e-6)


def test_what_is_not_far_enough_from_a_seam_is_all_that_differs():
    blur, x = Blur(), noise(2, 3, 20, 12)
    error = (windows(blur, 12, 4)(x, T, None, None) - blur(x, T, None, None)).abs().amax((0, 1, 3))
    near = [8, 11]  # windows are 0 to 12 and 8 to 20: these cells are at the edge of one that goes on in the picture
    assert all(error[at] > 1e-3 for at in near)
    assert max(error[at] for at in range(20) if at not in near) < 1e-6


def test_ramps_count_least_at_the_edge():
    blur, x = Blur(), noise(2, 3, 20, 12)
    whole = blur(x, T, None, None)
    ramps, uniform = ((windows(blur, 12, 4, weights=w)(x, T, None, None) - whole).abs().max() for w in ("ramps", "uniform"))
    torch.testing.assert_close(ramps / uniform, torch.tensor(0.2 / 0.5))


@around
def test_a_picture_no_larger_than_a_window_is_left_to_the_network(axes):
    blur, x = Blur(), noise(2, 3, 12, 10)
    assert torch.equal(windows(blur, 12, 4, axes=axes)(x, T, None, None), blur(x, T, None, None))
    assert blur.shapes == [(2, 3, 12, 10)] * 2


def test_few_are_computed_at_once(monkeypatch):
    monkeypatch.setattr(tiles, "CELLS", 3 * 2 * 64)
    blur = Blur()
    windows(blur, 8, 0)(noise(2, 3, 16, 32), T, None, None)
    assert blur.shapes == [(6, 3, 8, 8), (6, 3, 8, 8), (4, 3, 8, 8)]


@pytest.mark.parametrize(("axes", "dim"), [("y", 2), ("x", 3)])
def test_windows_go_round_where_the_picture_does(axes, dim):
    shape = [2, 3, 10, 10]
    shape[dim] = 24
    x, closing, ending = noise(*shape), windows(Blur(), 12, 4, axes=axes), windows(Blur(), 12, 4)
    for predict, same in ((closing, True), (ending, False)):  # of 24 cells three windows, 8 cells apart
        error = (predict(x.roll(8, dim), T, None, None) - predict(x, T, None, None).roll(8, dim)).abs().max()
        assert (error < 1e-6) == same


def test_a_window_that_fits_goes_round_by_itself():
    assert [inside(axes, (8, 24), 8) for axes in ("none", "x", "y", "both")] == ["none", "none", "y", "y"]
    assert [inside(axes, (8, 8), 8) for axes in ("none", "x", "y", "both")] == ["none", "x", "y", "both"]
    assert [inside(axes, (9, 8), 8) for axes in ("none", "x", "y", "both")] == ["none", "x", "none", "x"]


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (-8, 0), (8, 8), (8, 9), (8, -1)])
def test_windows_go_on(size, overlap):
    with pytest.raises(ValueError, match=f"windows of {size} cells cannot overlap by {overlap}"):
        windows(pointwise, size, overlap)


def panorama(unet: Any, scheduler: Any) -> Any:
    from diffusers.pipelines.deprecated.stable_diffusion_panorama import StableDiffusionPanoramaPipeline

    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
    )
    nothing = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipe = StableDiffusionPanoramaPipeline(vae=vae, unet=unet, scheduler=scheduler, requires_safety_checker=False, **nothing)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_uniform_windows_are_those_of_multidiffusion():
    """By diffusers, whose windows are of 64 cells, 8 cells apart."""
    arguments = {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": 6,
        "sample_size": 64,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    theirs: Any = randomise(UNet2DConditionModel(**arguments))
    config = UNetConfig(
        block_channels=(8, 16),
        layers_per_block=1,
        attention_depth=(0, 1),
        cross_only=(False, False),
        heads=2,
        context_width=6,
        norm_groups=4,
    )
    ours = UNet(config).eval()
    ours.load_state_dict(theirs.state_dict())
    context, away, latents = noise(1, 5, 6), -noise(1, 5, 6), noise(1, 4, 64, 80)
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    expected = panorama(theirs, DDIMScheduler(**settings))(
        prompt_embeds=context,
        negative_prompt_embeds=away,
        latents=latents,
        height=512,
        width=640,
        num_inference_steps=3,
        guidance_scale=3.0,
        output_type="latent",
    ).images
    scheduler, x, predict = DDIMScheduler(**settings), latents, windows(ours, 64, 56, weights="uniform")
    scheduler.set_timesteps(3)
    with torch.no_grad():
        for t in scheduler.timesteps:
            led, given = predict(torch.cat([x, x]), t.expand(2), torch.cat([away, context]), None).chunk(2)
            x = scheduler.step(led + 3.0 * (given - led), t, x).prev_sample
    assert_agree(x, expected)
