"""Every task, asked for by a request that names files, against diffusers' pipelines on the same random weights, noise and pictures.

What `test_pictures` shows of the parts holds here from the bytes of a PNG to the bytes of the picture. Both sides read 8 bits.

Conventions that differ and are made the same here, beside those of `test_pictures`:
- Noise: ours, a stream for each picture, is fed to their generators.
- The latent of a picture to start from: they draw it from the autoencoder's posterior, we take the mode, which is their draw of zeros. A
  masked picture is drawn on both sides, each picture its own: they are given the same file once a picture.
- Masks: the latent's cells that one covers in part are made anew by us; by them if their first pixel is. The masks here cover cells whole.
- At strength 1 we encode a picture, of which part is kept, with its hole filled from around it: they are given the picture so filled.
- What a mask keeps is put back into our picture, from the file. They do so only for `padding_mask_crop`, by `apply_overlay`: their latents
  are compared with ours, and our picture with theirs after that.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.autoencoders import vae as vae_module
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from parity.test_pictures import (
    CROSS,
    GUIDANCE,
    KL,
    NEGATIVE,
    NOISE,
    PLAIN,
    PROMPTS,
    SD2,
    SEED,
    STEPS,
    UNCHECKED,
    VQ,
    WIDTH,
    WORDED,
    Seen,
    assert_same,
    by_formula,
    clip,
    crossed,
    ddim,
    feed,
    kl,
    model,
    module_of,
    painted,
    published,
    scheduler,
    vq,
    worded,
    xl,
)
from PIL import Image
from torch import Tensor

from sumi.config import LabelConfig, MapConfig, VisionConfig
from sumi.diffusion.noise import Noise
from sumi.errors import RequestError
from sumi.models.channels import Segmentation
from sumi.models.embedders import IMAGE_EMBEDDING, LOW_RES, MASKED_IMAGE, ImageEmbedding, Label, drawn
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.nets.clip import VisionEncoder
from sumi.nets.conditioners import LabelEmbedding, MapRescaler
from sumi.pipeline import Picture, generate, illustrate
from sumi.store.images import from_pil, to_pil
from sumi.store.inputs import covered
from support import randomise

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


def grey(size: int = 16, *, classes: int = 256) -> np.ndarray:
    return np.random.default_rng(3).integers(0, classes, (size, size), np.uint8)


def hole() -> np.ndarray:
    """Of a mask: black and white, in squares as large as a cell of the latent."""
    return np.kron(grey(8) >= 128, np.full((2, 2), 255)).astype(np.uint8)


def filled(image: Image.Image) -> Tensor:
    """The picture with that hole filled, as their pipelines take it."""
    return covered(from_pil([image]), torch.from_numpy(hole() > 0)[None, None]).expand(2, -1, -1, -1) / 2 + 0.5


def drawing(ours: LatentDiffusion, **fields: Any) -> list[Picture]:
    """A picture of each of `PROMPTS`."""
    fields = {"seed": SEED, "steps": STEPS, "guidance": GUIDANCE, "negative": NEGATIVE} | DDIM | fields
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
    """diffusers' way to put back what is kept."""
    return lambda made: VaeImageProcessor().apply_overlay(mask, image, made)


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
    """At strength 1 the picture begins as noise alone."""
    made, sampling = SAMPLERS[name][0](), SAMPLERS[name][1]
    unet, vae = crossed(CROSS), kl()
    encoder, ours = worded(unet, vae, made)
    kind = diffusers.StableDiffusionInpaintPipeline
    (image, path), (mask, mask_path) = saved("image"), saved("mask", levels=hole())
    feed(monkeypatch, vae_module, MODE, MODE)
    feed(monkeypatch, module_of(kind), NOISE(0))
    pipeline = kind(vae, encoder, clip(0), unet, made, **UNCHECKED)
    seen = filled(image) if strength == 1 else [image] * 2
    theirs = painted(pipeline, vae, image=seen, mask_image=[mask] * 2, strength=strength, **WORDED)
    assert_drawn(ours, drawing(ours, image=path, mask=mask_path, strength=strength, **sampling), theirs, overlay(image, mask))


def test_inpainting_from_a_seed_of_torch(clip: Callable[..., Any], saved: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whose generator the first draw is had once: it is what the hole begins with, and what noises the rest."""
    unet, vae, made = crossed(CROSS), kl(), ddim()
    encoder, ours = worded(unet, vae, made)
    (image, path), (mask, mask_path) = saved("image"), saved("mask", levels=hole())
    feed(monkeypatch, vae_module, MODE, MODE)
    pipeline = diffusers.StableDiffusionInpaintPipeline(vae, encoder, clip(0), unet, made, **UNCHECKED)
    draws = torch.Generator().manual_seed(SEED)
    theirs = painted(pipeline, vae, image=[image] * 2, mask_image=[mask] * 2, strength=0.6, eta=1.0, generator=draws, **WORDED)
    pictures = drawing(ours, image=path, mask=mask_path, strength=0.6, eta=1.0, noise="torch")
    assert_drawn(ours, pictures, theirs, overlay(image, mask))


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_inpainting_with_a_model_of_it(
    clip: Callable[..., Any], saved: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, strength: float
) -> None:
    """Nine channels, by which alone the network knows what is kept: nothing is put back into the latent on the way."""
    unet, vae, made = crossed(CROSS | {"in_channels": 9}), kl(), ddim()
    encoder, ours = worded(unet, vae, made, "mask", "masked_image")
    kind = diffusers.StableDiffusionInpaintPipeline
    (image, path), (mask, mask_path) = saved("image"), saved("mask", levels=hole())
    beside = drawn(NOISE, MASKED_IMAGE, NOISE(0))
    feed(monkeypatch, vae_module, *([beside] if strength == 1 else [MODE, beside]))
    feed(monkeypatch, module_of(kind), NOISE(0))
    pipeline = kind(vae, encoder, clip(0), unet, made, **UNCHECKED)
    theirs = painted(pipeline, vae, image=[image] * 2, mask_image=[mask] * 2, strength=strength, **WORDED)
    assert_drawn(ours, drawing(ours, image=path, mask=mask_path, strength=strength), theirs, overlay(image, mask))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("strength", [0.8, 1.0])
def test_depth(clip: Callable[..., Any], saved: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, strength: float, bits: int) -> None:
    """The depth that they are handed is that of the file. Strength 1 is from the noised picture on both sides."""
    unet, vae, made = crossed(SD2 | {"in_channels": 5}), kl(), ddim()
    encoder, ours = worded(unet, vae, made, "depth")
    kind = diffusers.StableDiffusionDepth2ImgPipeline
    levels = grey() if bits == 8 else grey().astype(np.uint16) * 199 + 5000
    (image, path), (_, depth_path) = saved("image"), saved("depth", levels=levels)
    feed(monkeypatch, vae_module, MODE)
    feed(monkeypatch, module_of(kind), NOISE(0))
    pipeline = kind(vae, encoder, clip(0), unet, made, depth_estimator=None, feature_extractor=None)
    depth = torch.from_numpy(levels.astype(np.float32)).expand(2, -1, -1)
    theirs = painted(pipeline, vae, image=[image] * 2, depth_map=depth, strength=strength, **WORDED)
    assert_drawn(ours, drawing(ours, image=path, depth=depth_path, strength=strength), theirs)


@pytest.mark.parametrize("level", [20, 100])
def test_upscaler(clip: Callable[..., Any], saved: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, level: int) -> None:
    arguments = SD2 | {
        "in_channels": 7,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "only_cross_attention": [True, False],
        "attention_head_dim": 2,
        "num_class_embeds": 1000,
    }
    betas = {"beta_start": 0.0001, "beta_end": 0.02}
    vae: Any = randomise(diffusers.AutoencoderKL(**KL | FOUR, scaling_factor=0.08333), 1)
    unet, made = crossed(arguments), ddim("v_prediction", **betas)
    encoder, ours = worded(unet, vae, made, "low_res")
    kind, low = diffusers.StableDiffusionUpscalePipeline, diffusers.DDPMScheduler(beta_schedule="scaled_linear", **betas)
    image, path = saved("image", (8, 8))
    feed(monkeypatch, module_of(kind), drawn(NOISE, LOW_RES, torch.empty(2, 3, 8, 8)))
    pipeline = kind(vae, encoder, clip(0), unet, low, made)
    theirs = painted(pipeline, vae, image=[image] * 2, noise_level=level, latents=NOISE(0), **WORDED)
    assert_drawn(ours, drawing(ours, low_res=path, level=level), theirs)


@pytest.mark.parametrize(("guidance", "by_picture"), [(7.5, 1.5), (1.0, 1.5), (1.0, 1.0)])
def test_instruct_pix2pix(clip: Callable[..., Any], saved: Callable[..., Any], guidance: float, by_picture: float) -> None:
    """At a guidance of 1 they also leave out that by the picture; ours is that of the paper, and theirs a hair above 1."""
    unet, vae, made = crossed(CROSS | {"in_channels": 8}), kl(), ddim()
    encoder, ours = worded(unet, vae, made, "image")
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline(vae, encoder, clip(0), unet, made, **UNCHECKED)
    image, path = saved("image")
    scale = guidance if guidance > 1 or by_picture == 1 else 1 + 1e-7
    words = WORDED | {"guidance_scale": scale, "image_guidance_scale": by_picture}
    theirs = painted(pipeline, vae, image=[image] * 2, latents=NOISE(0), **words)
    negative = NEGATIVE if (guidance, by_picture) != (1, 1) else ""
    assert_drawn(ours, drawing(ours, image=path, guidance=guidance, image_guidance=by_picture, negative=negative), theirs)


def test_instruct_pix2pix_has_no_interval(saved: Callable[..., Any]) -> None:
    """Equation 3 says what is asked for at each noise level, not what would be beyond an interval."""
    unet, vae, made = crossed(CROSS | {"in_channels": 8}), kl(), ddim()
    _, ours = worded(unet, vae, made, "image")
    with pytest.raises(RequestError, match="leave guidance_interval out"):
        drawing(ours, image=saved("image")[1], guidance_interval=(0.1, 5.0))


@pytest.mark.parametrize("level", [0, 200])
def test_unclip(clip: Callable[..., Any], saved: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, level: int) -> None:
    """From a picture that is not square, by transformers' own preparation of it and its image encoder."""
    sizes = {"image_size": 14, "patch_size": 7}
    width = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "projection_dim": 12}
    seeing: Any = randomise(transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**sizes, **width)))
    eyes = VisionEncoder(VisionConfig(**sizes, width=16, layers=1, heads=2, mlp_width=16, projection_width=12)).eval()
    eyes.load_state_dict(published(seeing, "vision_model."))
    normalizer = StableUnCLIPImageNormalizer(12)
    generator = torch.Generator().manual_seed(4)
    normalizer.mean.data, normalizer.std.data = torch.randn(1, 12, generator=generator), torch.rand(1, 12, generator=generator) + 0.5
    arguments = SD2 | {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 24}
    unet, vae, made = crossed(arguments), kl(), ddim("v_prediction")
    encoder, ours = worded(unet, vae, made)
    ours = replace(ours, image_embedding=ImageEmbedding(normalizer.mean[0].detach(), normalizer.std[0].detach()), vision=eyes)
    kind = diffusers.StableUnCLIPImg2ImgPipeline
    pipeline = kind(
        feature_extractor=transformers.CLIPImageProcessorPil(size={"shortest_edge": 14}, crop_size={"height": 14, "width": 14}),
        image_encoder=seeing,
        image_normalizer=normalizer,
        image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=clip(0),
        text_encoder=encoder,
        unet=unet,
        scheduler=made,
        vae=vae,
    )
    image, path = saved("image", (30, 41))
    feed(monkeypatch, module_of(kind), drawn(NOISE, IMAGE_EMBEDDING, torch.empty(2, 12)))
    theirs = painted(pipeline, vae, image=[image] * 2, noise_level=level, latents=NOISE(0), **WORDED)
    assert_drawn(ours, drawing(ours, like=path, level=level), theirs)


# SDXL


def of_xl(kind: Any, pipeline: Any) -> Any:
    """Another pipeline of the same parts."""
    parts = (pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2, pipeline.tokenizer, pipeline.tokenizer_2)
    return kind(*parts, pipeline.unet, pipeline.scheduler, add_watermarker=False)


def test_sdxl_image_to_image(clip: Callable[..., Any], saved: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, vae, ours = xl(SAMPLERS["euler"][0](), clip)
    kind = diffusers.StableDiffusionXLImg2ImgPipeline
    image, path = saved("image", (16, 24))
    feed(monkeypatch, vae_module, torch.zeros(2, 4, 8, 12))
    feed(monkeypatch, module_of(kind), Noise(SEED, range(2), (4, 8, 12))(0))
    theirs = painted(of_xl(kind, pipeline), vae, image=[image] * 2, strength=0.6, **WORDED)
    assert_drawn(ours, drawing(ours, image=path, width=24, height=16, strength=0.6, sampler="euler"), theirs)


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_sdxl_inpainting(clip: Callable[..., Any], saved: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, strength: float) -> None:
    pipeline, vae, ours = xl(SAMPLERS["euler"][0](), clip)
    kind = diffusers.StableDiffusionXLInpaintPipeline
    (image, path), (mask, mask_path) = saved("image"), saved("mask", levels=hole())
    feed(monkeypatch, vae_module, MODE, MODE)
    feed(monkeypatch, module_of(kind), NOISE(0))
    seen = filled(image) if strength == 1 else [image] * 2
    theirs = painted(of_xl(kind, pipeline), vae, image=seen, mask_image=[mask] * 2, strength=strength, **WORDED)
    pictures = drawing(ours, image=path, mask=mask_path, strength=strength, sampler="euler")
    assert_drawn(ours, pictures, theirs, overlay(image, mask))


# The latent diffusion paper


def wordless(ours: LatentDiffusion, count: int = 2, **fields: Any) -> list[Picture]:
    return generate(ours, count=count, **{"seed": SEED, "steps": STEPS, **DDIM, **fields})


def test_ldm_super_resolution(saved: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs takes one picture at a time, with sides of 32 or multiples."""
    kind = diffusers.LDMSuperResolutionPipeline
    vae: Any = randomise(diffusers.VQModel(**VQ | FOUR, scaling_factor=1.0), 1)
    with torch.no_grad():  # as far apart as latents are, so that quantising shows
        vae.get_submodule("quantize.embedding").weight.mul_(10)
    unet, made = randomise(diffusers.UNet2DModel(**PLAIN | {"in_channels": 6})), ddim(beta_start=0.0015, beta_end=0.0155)
    noise, (image, path) = Noise(SEED, range(1), (3, 32, 32)), saved("image", (32, 32))
    feed(monkeypatch, module_of(kind), noise(0))
    feed(monkeypatch, module_of(diffusers.DDIMScheduler), *(noise(step) for step in range(1, STEPS + 1)))
    theirs = painted(kind(vae, unet, made), vae, image=image, eta=1.0)
    ours = model(unet, vae, made=made, concat=("low_res",))
    assert_drawn(ours, wordless(ours, 1, low_res=path, eta=1.0), theirs)


def shown(vae: Any, latents: Tensor, scale: float = 1.0) -> Seen:
    """What their autoencoder makes of a latent."""
    with torch.no_grad():
        return Seen(latents, vae.decode(latents / scale).sample)


def test_ldm_inpainting(saved: Callable[..., Any]) -> None:
    """By the script of the paper, around diffusers' networks: the hole is black, and the mask is from -1 to 1."""
    unet, vae, made = randomise(diffusers.UNet2DModel(**PLAIN | {"in_channels": 7})), vq(0.5), ddim(beta_start=0.0015, beta_end=0.0205)
    ours = model(unet, vae, made=made, concat=("masked_image", "mask"))
    (image, path), (mask, mask_path) = saved("image"), saved("mask", levels=hole())
    pixels, white = torch.from_numpy(np.array(image)).movedim(2, 0)[None] / 255, torch.from_numpy(hole())[None, None] / 255
    with torch.no_grad():
        masked = vae.encode((1 - white) * pixels * 2 - 1).latents.expand(2, -1, -1, -1)
    small = F.interpolate(white * 2 - 1, size=(8, 8)).expand(2, -1, -1, -1)
    latents = by_formula(unet, made, lambda x, t: unet(torch.cat([x, masked, small], 1), t).sample)
    assert_drawn(ours, wordless(ours, image=path, mask=mask_path), shown(vae, latents, 0.5), overlay(image, mask))


@pytest.mark.parametrize("label", ["3", "Cat"])
def test_ldm_label(label: str) -> None:
    """By number or name: one token, and guidance away from the last class of the table."""
    unet = crossed(CROSS | {"in_channels": 3, "out_channels": 3})
    vae, made = vq(), ddim(beta_start=0.0015, beta_end=0.0195)
    table = LabelEmbedding(LabelConfig(classes=11, width=WIDTH))
    bare = model(unet, vae, made=made)
    spec = replace(bare.spec, label=table.config, classes=("tree", "dog", "horse", "cat", *"abcdef") if label == "Cat" else ())
    ours = replace(bare, spec=spec, label=Label(table))
    rows = table.embedding.weight[[3, 10]].detach()

    def epsilon(x: Tensor, t: Tensor) -> Tensor:
        given, away = (unet(x, t, row.expand(2, 1, -1)).sample for row in rows)
        return away + GUIDANCE * (given - away)

    latents = by_formula(unet, made, epsilon)
    assert_drawn(ours, wordless(ours, label=label, guidance=GUIDANCE), shown(vae, latents))


def test_ldm_semantic(saved: Callable[..., Any]) -> None:
    """A map whose grey values are classes, one of them unknown: one-hot, halved twice, then a 1x1 convolution, behind the latent."""
    unet, vae = randomise(diffusers.UNet2DModel(**PLAIN | {"in_channels": 6})), randomise(diffusers.VQModel(**VQ | FOUR), 1)
    made = ddim(beta_start=0.0015, beta_end=0.0205)
    rescaler = MapRescaler(MapConfig(classes=7))
    randomise(rescaler)
    rescaler.channel_mapper.weight.data *= 5
    bare = model(unet, vae, made=made, concat=("map",))
    ours = replace(bare, spec=replace(bare.spec, map=rescaler.config), segmentation=Segmentation(rescaler))
    classes = grey(32, classes=8)
    _, path = saved("map", levels=np.where(classes == 7, 255, classes).astype(np.uint8))
    one_hot = torch.stack([torch.from_numpy(classes == k).float() for k in range(7)])[None]
    small = F.avg_pool2d(one_hot, 4)
    channels = torch.einsum("ck,bkhw->bchw", rescaler.channel_mapper.weight[:, :, 0, 0].detach(), small).expand(2, -1, -1, -1)
    latents = by_formula(unet, made, lambda x, t: unet(torch.cat([x, channels], 1), t).sample)
    assert_drawn(ours, wordless(ours, map=path, width=32, height=32), shown(vae, latents))
