"""Every task, asked for by a request that names files, against diffusers' pipelines on the same random weights, noise and pictures.

What `test_pictures` shows of the parts holds here from the bytes of a PNG to the bytes of the picture. Both sides read 8 bits.

Conventions that differ and are made the same here, beside those of `test_pictures`:
- Noise: ours, a stream for each picture, is fed to their generators.
- The latent of a picture to start from: they draw it from the autoencoder's posterior, we take the mode, which is their draw of zeros. A
  masked picture is drawn on both sides, each picture its own: they are given the same file once a picture.
- What a mask keeps is put back into our picture, from the file. They do so only for `padding_mask_crop`, by `apply_overlay`: their latents
  are compared with ours, and our picture with theirs after that.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.autoencoders import vae as vae_module
from parity.test_pictures import (
    CROSS,
    GUIDANCE,
    NEGATIVE,
    NOISE,
    PROMPTS,
    SEED,
    STEPS,
    UNCHECKED,
    WORDED,
    Seen,
    assert_same,
    clip,
    crossed,
    ddim,
    feed,
    kl,
    module_of,
    painted,
    scheduler,
    worded,
)
from PIL import Image

from sumi.models.latent_diffusion import LatentDiffusion
from sumi.pipeline import Picture, illustrate
from sumi.store.images import to_pil

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # diffusers' schedulers under NumPy 2
]

__all__ = ["clip"]

MODE = torch.zeros_like(NOISE(0))
"""The draw that makes a posterior's sample its mode."""
DDIM = {"sampler": "ddim", "spacing": "leading"}
SAMPLERS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "ddim": (ddim, DDIM),
    "euler": (lambda: scheduler(diffusers.EulerDiscreteScheduler, timestep_spacing="leading"), {"sampler": "euler", "spacing": "leading"}),
    "dpmpp_2m": (
        lambda: scheduler(diffusers.DPMSolverMultistepScheduler, timestep_spacing="trailing", final_sigmas_type="zero"),
        {"sampler": "dpmpp_2m", "spacing": "trailing"},
    ),
}
FOUR: dict[str, Any] = {
    "block_out_channels": (8, 8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
}
"""An autoencoder whose latents are a quarter of the picture, as that of what enlarges pictures is."""


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Any]:
    """Noise of 8 bits, or the levels given, as a picture and as the path of its PNG."""

    def written(name: str, size: tuple[int, int] = (16, 16), levels: np.ndarray | None = None) -> tuple[Image.Image, str]:
        seed = sum(name.encode())
        picture = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8) if levels is None else levels)
        path = tmp_path / f"{name}.png"
        picture.save(path)
        return picture, str(path)

    return written


def grey(size: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size), np.uint8)


def drawing(ours: LatentDiffusion, **fields: Any) -> list[Picture]:
    """A picture of each of `PROMPTS`."""
    fields = {"seed": SEED, "steps": STEPS, "guidance": GUIDANCE, "negative": NEGATIVE} | DDIM | fields
    if fields["guidance"] == 1 and not fields.get("image_guidance"):  # nothing is led away from
        fields["negative"] = ""
    return list(illustrate(ours, PROMPTS, **fields))


def assert_drawn(
    ours: LatentDiffusion, pictures: list[Picture], theirs: Seen, overlaid: Callable[[Image.Image], Image.Image] | None = None
) -> None:
    """The same latents, the same pictures before they are rounded, and the same bytes, but for rounding."""
    assert_same(ours, torch.stack([picture.latent for picture in pictures]), theirs)
    others = to_pil(theirs.pictures)
    for picture, other in zip(pictures, others if overlaid is None else map(overlaid, others), strict=True):
        ours_bytes, their_bytes = (np.asarray(image).astype(int) for image in (picture.image, other))
        assert ours_bytes.shape == their_bytes.shape
        assert abs(ours_bytes - their_bytes).max() <= 1


def overlay(image: Image.Image, mask: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """diffusers' way to put back what is kept, by a mask that is black or white."""
    hard = mask.convert("L").point(lambda level: 255 * (level >= 128))
    return lambda made: VaeImageProcessor().apply_overlay(hard, image, made)


# Stable Diffusion from a picture


@pytest.mark.parametrize("name", SAMPLERS)
def test_image_to_image(clip: Callable[..., Any], saved: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    made, sampling = SAMPLERS[name][0](), SAMPLERS[name][1]
    unet, vae = crossed(CROSS), kl()
    encoder, ours = worded(unet, vae, made)
    kind = diffusers.StableDiffusionImg2ImgPipeline
    image, path = saved("image")
    feed(monkeypatch, vae_module, MODE)
    feed(monkeypatch, module_of(kind), NOISE(0))
    pipeline = kind(vae, encoder, clip(0), unet, made, **UNCHECKED)
    theirs = painted(pipeline, vae, image=[image, image], strength=0.6, **WORDED)
    assert_drawn(ours, drawing(ours, image=path, strength=0.6, **sampling), theirs)


@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize("name", SAMPLERS)
def test_inpainting_with_any_model(
    clip: Callable[..., Any], saved: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str, strength: float
) -> None:
    """A mask of greys, which both read as black or white. At strength 1 the picture begins as noise alone."""
    made, sampling = SAMPLERS[name][0](), SAMPLERS[name][1]
    unet, vae = crossed(CROSS), kl()
    encoder, ours = worded(unet, vae, made)
    kind = diffusers.StableDiffusionInpaintPipeline
    (image, path), (mask, mask_path) = saved("image"), saved("mask", levels=np.where(grey(16) >= 128, 255, 0).astype(np.uint8))
    feed(monkeypatch, vae_module, MODE, MODE)
    feed(monkeypatch, module_of(kind), NOISE(0))
    pipeline = kind(vae, encoder, clip(0), unet, made, **UNCHECKED)
    theirs = painted(pipeline, vae, image=[image] * 2, mask_image=[mask] * 2, strength=strength, **WORDED)
    assert_drawn(ours, drawing(ours, image=path, mask=mask_path, strength=strength, **sampling), theirs, overlay(image, mask))
