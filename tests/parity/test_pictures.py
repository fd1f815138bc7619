"""Whole pictures against diffusers' pipelines: every variant that it has one for, tiny and random, with guidance, over ten steps.

Both sides have the same weights, the same initial noise and the same draws on the way, in float32; latents and decoded pictures are
compared. For what diffusers has no pipeline for, the formulas of the latent diffusion paper's own scripts take its place, around
diffusers' networks.

Conventions that differ and are made the same here:
- Schedulers have our alphas_cumprod, which are theirs but of float64 arithmetic.
- With trailing steps, Euler samplers of diffusers start from noise of deviation sigma, we from sqrt(1 + sigma^2).
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import diffusers
import pytest
import torch
import torch.nn.functional as F
import transformers
from diffusers.models.autoencoders import vae as vae_module
from diffusers.pipelines.latent_diffusion import pipeline_latent_diffusion
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from torch import Tensor, nn

from sumi.config import AutoencoderConfig, BertConfig, Concat, LabelConfig, MapConfig, ModelSpec, ScheduleConfig, VisionConfig
from sumi.diffusion.guidance import Denoise, cfg, unguided
from sumi.diffusion.noise import Noise
from sumi.diffusion.samplers.step import finish, start
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.diffusion.schedule import Schedule
from sumi.diffusion.spacings import spaced
from sumi.models.channels import Segmentation, Source
from sumi.models.embedders import IMAGE_EMBEDDING, LOW_RES, MASKED_IMAGE, ImageEmbedding, Label, drawn
from sumi.models.latent_diffusion import Inputs, LatentDiffusion
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.bert import BertEncoder
from sumi.nets.clip import TextEncoder, VisionEncoder
from sumi.nets.conditioners import LabelEmbedding, MapRescaler
from sumi.nets.unet import UNet
from sumi.pipeline import illustrate
from sumi.store.assembly import assemble
from sumi.store.configs import autoencoder_config, text_config, unet_config
from sumi.store.images import to_pil
from sumi.store.model import Parts
from sumi.text.bpe import Tokenizer, word_vocabulary
from sumi.text.wordpiece import WordPiece
from support import assert_agree, randomise

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # diffusers' schedulers under NumPy 2
]

STEPS, GUIDANCE, SEED = 10, 4.0, 5
PROMPTS, NEGATIVE = ["two red stars", "a cat and a tree above a horse"], "a red tree"
LENGTH = 12
IDENTITY = AutoencoderConfig(latent_channels=3, block_channels=(), attention_levels=(), latent_scale=1.0)
NOISE = Noise(SEED, range(2), (4, 8, 8))
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
TOLERANCE = 1e-4
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v"}

# diffusers' networks, and ours of the same weights

KL: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
VQ = KL | {"latent_channels": 3, "num_vq_embeddings": 40}
CROSS: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 16,
    "attention_head_dim": 2,
}
SD2 = CROSS | {"attention_head_dim": [1, 2], "use_linear_projection": True}
XL = SD2 | {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": [1, 2],
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
}
PLAIN: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attn_norm_num_groups": 4,
    "attention_head_dim": 8,
}
WIDTH = 16
WORDS = ("a", "above", "and", "cat", "horse", "red", "stars", "tree", "two")


def described(theirs: Any) -> dict[str, Any]:
    return dict(json.loads(theirs.to_json_string()))


def our_unet(theirs: Any) -> UNet:
    unet = UNet(unet_config(described(theirs)))
    unet.load_state_dict(theirs.state_dict())
    return unet.eval()


def our_autoencoder(theirs: Any) -> Autoencoder:
    autoencoder = Autoencoder(autoencoder_config(described(theirs)))
    autoencoder.load_state_dict(theirs.state_dict())
    return autoencoder.eval()


def our_text_encoder(theirs: Any, tokenizer: Tokenizer, **fields: Any) -> TextEncoder:
    """`fields` are what a folder does not say: which layer is read, and whether it is normalised."""
    described = theirs.config.to_dict() | {"architectures": [type(theirs).__name__]}
    encoder = TextEncoder(replace(text_config(described, tokenizer.eos_id, tokenizer.pad_id), **fields))
    encoder.load_state_dict(published(theirs, "text_model."))
    return encoder.eval()


def published(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """The state dict under the names of published folders, whose `prefix` newer versions of transformers leave out."""
    names = ("embeddings.", "encoder.", "final_layer_norm.", "pre_layrnorm.", "post_layernorm.")
    state = {prefix + name if name.startswith(names) else name: tensor for name, tensor in module.state_dict().items()}
    return {name: tensor for name, tensor in state.items() if not name.endswith("position_ids")}


def crossed(arguments: dict[str, Any]) -> Any:
    """A network that heeds what it is told: at its initial size, attention to the context is drowned by the rest."""
    made = randomise(diffusers.UNet2DConditionModel(**arguments))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "attn2.to_" in name and parameter.ndim == 2:
                parameter.mul_(5)
    return made


@cache
def tokenizer(pad_id: int | None = None) -> Tokenizer:
    return Tokenizer(*word_vocabulary(WORDS), length=LENGTH, pad_id=pad_id)


def text(projection: int | None = None, *, activation: str = "quick_gelu", width: int = WIDTH, seed: int = 0) -> Any:
    kind = transformers.CLIPTextModel if projection is None else transformers.CLIPTextModelWithProjection
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer().vocab),
        max_position_embeddings=LENGTH,
        hidden_size=width,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=2 * width,
        hidden_act=activation,
        projection_dim=projection or width,
        bos_token_id=tokenizer().bos_id,
        eos_token_id=tokenizer().eos_id,
    )
    return randomise(kind(config), seed)


def scheduler(kind: Any, **config: Any) -> Any:
    made = kind(**(SD | config))
    ours = Schedule(ScheduleConfig(made.config.beta_schedule, made.config.beta_start, made.config.beta_end))
    made.alphas_cumprod = ours.alphas_cumprod
    if hasattr(made, "final_alpha_cumprod") and not made.config.set_alpha_to_one:
        made.final_alpha_cumprod = ours.alphas_cumprod[0]
    return made


def ddim(prediction: str = "epsilon", **config: Any) -> Any:
    """As Stable Diffusion is published: it ends at t = 0."""
    return scheduler(diffusers.DDIMScheduler, clip_sample=False, set_alpha_to_one=False, prediction_type=prediction, **config)


def kl(scale: float = 0.18215) -> Any:
    return randomise(diffusers.AutoencoderKL(**KL, scaling_factor=scale), 1)


def vq(scale: float = 1.0) -> Any:
    made = randomise(diffusers.VQModel(**VQ, scaling_factor=scale), 1)
    with torch.no_grad():  # as far apart as latents are, so that quantising shows
        made.get_submodule("quantize.embedding").weight.mul_(10)
    return made


def model(
    unet: Any,
    autoencoder: Any,
    encoders: Sequence[Any] = (),
    tokenizers: Sequence[Any] = (),
    *,
    made: Any = None,
    concat: tuple[Concat, ...] = (),
) -> LatentDiffusion:
    """Ours, of diffusers' networks and our text encoders, with the schedule of diffusers' scheduler."""
    ours = Autoencoder(IDENTITY) if autoencoder is None else our_autoencoder(autoencoder)
    parts = Parts(our_unet(unet), ours, tuple(encoders), tuple(tokenizers))
    texts = [encoder.config for encoder in encoders]
    spec = ModelSpec(
        "tiny",
        unet=parts.unet.config,
        autoencoder=parts.autoencoder.config,
        text=texts[0] if texts else None,
        text_2=texts[1] if len(texts) > 1 else None,
        concat=concat,
        zero_null=len(texts) > 1,
        schedule=ScheduleConfig(
            made.config.beta_schedule,
            made.config.beta_start,
            made.config.beta_end,
            prediction=PREDICTIONS[made.config.prediction_type],
        ),
        size=(16, 16),
    )
    return assemble(spec, parts)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int | None], Any]:
    """transformers' tokenizer, that fills up with this id."""

    @cache
    def opened(pad_id: int | None = None) -> Any:
        folder = tmp_path_factory.mktemp("tokenizer")
        tokenizer(pad_id).save(folder)
        return transformers.CLIPTokenizer.from_pretrained(folder)

    return opened


# Running both


@dataclass
class Seen:
    """What passed through an autoencoder's decoder."""

    latents: Tensor = field(default_factory=lambda: torch.empty(0))
    pictures: Tensor = field(default_factory=lambda: torch.empty(0))


def painted(pipeline: Any, autoencoder: Any, **arguments: Any) -> Seen:
    """The latents that a pipeline decodes, scaled, and the pictures that they become."""
    seen, decode = Seen(), autoencoder.decode

    def watched(latents: Tensor, *positional: Any, **keywords: Any) -> Any:
        out = decode(latents, *positional, **keywords)
        seen.latents, seen.pictures = latents * autoencoder.config.scaling_factor, out[0]
        return out

    autoencoder.decode = watched
    pipeline.set_progress_bar_config(disable=True)
    pipeline(num_inference_steps=STEPS, output_type="pt", **arguments)
    autoencoder.decode = decode
    return seen


@torch.no_grad()
def sampled(ours: LatentDiffusion, denoise: Denoise, latent: Tensor | float = 0.0, *, noise: Noise = NOISE, eta: float = 0.0) -> Tensor:
    """DDIM, from pure noise or from a noised latent."""
    sigmas = spaced(ours.schedule, STEPS, "leading")
    x = start(noise(0), sigmas[0]) if isinstance(latent, float) else latent + sigmas[0] * noise(0)
    *_, last = SAMPLERS["ddim"].function(denoise, x, sigmas, noise, eta=eta)
    return finish(last.x, last.sigma)


@torch.no_grad()
def assert_same(ours: LatentDiffusion, latents: Tensor, theirs: Seen) -> None:
    assert_agree(latents, theirs.latents, TOLERANCE)
    assert_agree(ours.decode(latents), theirs.pictures, TOLERANCE)


def assert_illustrates(ours: LatentDiffusion, theirs: Seen, **fields: Any) -> None:
    """The same by way of a request, from words to bytes."""
    fields = {"seed": SEED, "steps": STEPS, "guidance": GUIDANCE, "negative": NEGATIVE, "sampler": "ddim", "spacing": "leading"} | fields
    if fields["guidance"] == 1:  # nothing is led away from
        fields["negative"] = ""
    pictures = list(illustrate(ours, fields.pop("prompts", PROMPTS), **fields))
    assert_same(ours, torch.stack([picture.latent for picture in pictures]), theirs)
    for picture, other in zip(pictures, to_pil(theirs.pictures), strict=True):
        ours_bytes, their_bytes = (
            torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).int() for image in (picture.image, other)
        )
        assert (ours_bytes - their_bytes).abs().max() <= 1


def feed(monkeypatch: pytest.MonkeyPatch, module: ModuleType, *draws: Tensor) -> None:
    """What `module` draws, in order."""
    left = iter(draws)
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: next(left))


def module_of(kind: type) -> ModuleType:
    return sys.modules[kind.__module__]


def images(size: int = 16, seed: int = 2) -> Tensor:
    """Two pictures, in [0, 1], as pipelines take them."""
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


UNCHECKED: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
WORDED: dict[str, Any] = {"prompt": PROMPTS, "negative_prompt": [NEGATIVE] * 2, "guidance_scale": GUIDANCE}


# Stable Diffusion from words


def test_sd1(clip: Callable[..., Any]) -> None:
    unet, vae, encoder, made = crossed(CROSS), kl(), text(), ddim()
    pipeline = diffusers.StableDiffusionPipeline(vae, encoder, clip(), unet, made, **UNCHECKED)
    ours = model(unet, vae, [our_text_encoder(encoder, tokenizer())], [tokenizer()], made=made)
    assert_illustrates(ours, painted(pipeline, vae, latents=NOISE(0), **WORDED))


SCHEDULERS: dict[str, tuple[type[Any], dict[str, Any], dict[str, Any]]] = {
    "ddim": (diffusers.DDIMScheduler, {"set_alpha_to_one": False, "clip_sample": False}, {"spacing": "leading"}),
    "ddim, eta 1": (
        diffusers.DDIMScheduler,
        {"set_alpha_to_one": False, "clip_sample": False},
        {"sampler": "ddim", "spacing": "leading", "eta": 1.0},
    ),
    "plms": (diffusers.PNDMScheduler, {"skip_prk_steps": True}, {"spacing": "leading"}),
    "euler": (diffusers.EulerDiscreteScheduler, {"timestep_spacing": "trailing"}, {"spacing": "trailing"}),
    "euler_ancestral": (diffusers.EulerAncestralDiscreteScheduler, {"timestep_spacing": "leading"}, {"spacing": "leading"}),
    "heun": (diffusers.HeunDiscreteScheduler, {"timestep_spacing": "linspace"}, {"spacing": "linspace"}),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, {"timestep_spacing": "trailing"}, {"spacing": "trailing"}),
    "dpmpp_2m_sde": (
        diffusers.DPMSolverMultistepScheduler,
        {"timestep_spacing": "trailing", "algorithm_type": "sde-dpmsolver++"},
        {"spacing": "trailing"},
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_seed_is_the_same_picture_in_diffusers(clip: Callable[..., Any], name: str) -> None:
    """From words and a generator to pixels, nothing being handed over but the seed."""
    kind, config, fields = SCHEDULERS[name]
    unet, vae, encoder = crossed(CROSS), kl(), text()
    made = kind(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, **config)
    pipeline = diffusers.StableDiffusionPipeline(vae, encoder, clip(), unet, made, **UNCHECKED)
    ours = model(unet, vae, [our_text_encoder(encoder, tokenizer())], [tokenizer()], made=ddim())
    arguments = WORDED | ({"eta": 1.0} if "eta" in fields else {})
    theirs = painted(pipeline, vae, generator=torch.Generator().manual_seed(SEED), **arguments)
    assert_illustrates(ours, theirs, **{"noise": "torch", "sampler": name, "eta": None} | fields)


def test_sd2(clip: Callable[..., Any]) -> None:
    """v, linear projections, padding by 0, and a sampler of second order."""
    kind = diffusers.DPMSolverMultistepScheduler
    made = scheduler(kind, prediction_type="v_prediction", timestep_spacing="trailing", final_sigmas_type="zero")
    unet, vae, encoder = crossed(SD2), kl(), text(activation="gelu")
    pipeline = diffusers.StableDiffusionPipeline(vae, encoder, clip(0), unet, made, **UNCHECKED)
    ours = model(unet, vae, [our_text_encoder(encoder, tokenizer(0))], [tokenizer(0)], made=made)
    assert_illustrates(ours, painted(pipeline, vae, latents=NOISE(0), **WORDED), sampler="dpmpp_2m", spacing="trailing")


def ancestral(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Tensor]:
    """The scheduler of the turbo models, fed our noise, and the initial noise that it is to be given."""
    kind = diffusers.EulerAncestralDiscreteScheduler
    feed(monkeypatch, module_of(kind), *(NOISE(step) for step in range(1, STEPS + 1)))
    made = scheduler(kind, timestep_spacing="trailing")
    made.set_timesteps(STEPS)
    return made, NOISE(0) * (1 + made.sigmas[0] ** 2).sqrt() / made.sigmas[0]


TURBO = {"guidance": 1.0, "sampler": "euler_ancestral", "spacing": "trailing"}


def test_sd_turbo(clip: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made, latents = ancestral(monkeypatch)
    unet, vae, encoder = crossed(SD2), kl(), text(activation="gelu")
    pipeline = diffusers.StableDiffusionPipeline(vae, encoder, clip(0), unet, made, **UNCHECKED)
    ours = model(unet, vae, [our_text_encoder(encoder, tokenizer(0))], [tokenizer(0)], made=made)
    assert_illustrates(ours, painted(pipeline, vae, latents=latents, prompt=PROMPTS, guidance_scale=0.0), **TURBO)


def xl(made: Any, clip: Callable[..., Any]) -> tuple[Any, Any, LatentDiffusion]:
    """SDXL's pipeline, its autoencoder, and ours of the same weights."""
    layer: dict[str, Any] = {"output_layer": -2, "final_norm": False}
    unet = crossed(XL | {"cross_attention_dim": 36, "projection_class_embeddings_input_dim": 12 + 6 * 256})
    vae, small, large = kl(0.13025), text(), text(12, activation="gelu", width=20, seed=3)
    pipeline = diffusers.StableDiffusionXLPipeline(vae, small, large, clip(), clip(0), unet, made, add_watermarker=False)
    encoders = [our_text_encoder(small, tokenizer(), **layer), our_text_encoder(large, tokenizer(0), **layer)]
    return pipeline, vae, model(unet, vae, encoders, [tokenizer(), tokenizer(0)], made=made)


@pytest.mark.parametrize("negative", ["", NEGATIVE])
def test_sdxl(clip: Callable[..., Any], negative: str) -> None:
    """No negative prompt is zeros; one is read. Its own sizes, in pixels, are told."""
    made = scheduler(diffusers.EulerDiscreteScheduler, timestep_spacing="leading")
    pipeline, vae, ours = xl(made, clip)
    words = WORDED | {"negative_prompt": [negative] * 2 if negative else None}
    noise = Noise(SEED, range(2), (4, 8, 12))
    theirs = painted(pipeline, vae, latents=noise(0), height=16, width=24, **words)
    assert_illustrates(ours, theirs, negative=negative, sampler="euler", width=24)


def test_sdxl_turbo(clip: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made, latents = ancestral(monkeypatch)
    pipeline, vae, ours = xl(made, clip)
    assert_illustrates(ours, painted(pipeline, vae, latents=latents, prompt=PROMPTS, guidance_scale=0.0), **TURBO)


@pytest.mark.parametrize("negative", ["", NEGATIVE])
def test_sdxl_refiner(clip: Callable[..., Any], negative: str) -> None:
    """One encoder, the large; no negative prompt is read as the empty one; a score in place of the size asked for."""
    made = scheduler(diffusers.EulerDiscreteScheduler, timestep_spacing="leading")
    unet = crossed(XL | {"cross_attention_dim": 20, "projection_class_embeddings_input_dim": 12 + 5 * 256})
    vae, large = kl(0.13025), text(12, activation="gelu", width=20, seed=3)
    options: dict[str, Any] = {"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False, "add_watermarker": False}
    pipeline = diffusers.StableDiffusionXLImg2ImgPipeline(vae, None, large, None, clip(0), unet, made, **options)
    encoder = our_text_encoder(large, tokenizer(0), output_layer=-2, final_norm=False)
    ours = model(unet, vae, [encoder], [tokenizer(0)], made=made)
    made.set_timesteps(STEPS)
    latents = start(NOISE(0), made.sigmas[0])
    words = WORDED | {"negative_prompt": [negative] * 2 if negative else None}
    theirs = painted(pipeline, vae, image=torch.zeros(2, 4, 8, 8), latents=latents, strength=1.0, **words)
    assert_illustrates(ours, theirs, negative=negative, sampler="euler")


# Stable Diffusion from more than words


def worded(unet: Any, vae: Any, made: Any, *concat: Concat) -> tuple[Any, LatentDiffusion]:
    """transformers' text encoder, and our model that reads by it."""
    encoder = text(activation="gelu")
    return encoder, model(unet, vae, [our_text_encoder(encoder, tokenizer(0))], [tokenizer(0)], made=made, concat=concat)


@torch.no_grad()
def guided(ours: LatentDiffusion, inputs: Inputs, noise: Noise = NOISE, scale: float = GUIDANCE) -> Denoise:
    given, away = ours.conditions(PROMPTS, inputs, noise, negative=[NEGATIVE] * 2)
    return cfg(ours.denoiser(), given, away, scale)


def test_inpainting(clip: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    unet, vae, made = crossed(CROSS | {"in_channels": 9}), kl(), ddim()
    encoder, ours = worded(unet, vae, made, "mask", "masked_image")
    pipeline = diffusers.StableDiffusionInpaintPipeline(vae, encoder, clip(0), unet, made, **UNCHECKED)
    image, mask = images(), torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    feed(monkeypatch, vae_module, drawn(NOISE, MASKED_IMAGE, NOISE(0)))
    theirs = painted(pipeline, vae, image=image, mask_image=mask, latents=NOISE(0), strength=1.0, **WORDED)
    assert_same(ours, sampled(ours, guided(ours, Inputs(image * 2 - 1, mask))), theirs)


def test_depth(clip: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    unet, vae, made = crossed(SD2 | {"in_channels": 5}), kl(), ddim()
    encoder, ours = worded(unet, vae, made, "depth")
    kind = diffusers.StableDiffusionDepth2ImgPipeline
    pipeline = kind(vae, encoder, clip(0), unet, made, depth_estimator=None, feature_extractor=None)
    image, depth = images(), torch.rand(2, 1, 20, 20, generator=torch.Generator().manual_seed(3)) * 50
    posterior = drawn(NOISE, MASKED_IMAGE, NOISE(0))
    feed(monkeypatch, vae_module, posterior)
    feed(monkeypatch, module_of(kind), NOISE(0))
    theirs = painted(pipeline, vae, image=image, depth_map=depth[:, 0], strength=1.0, **WORDED)
    with torch.no_grad():
        latent = ours.autoencoder.encode(image * 2 - 1).sample(posterior)
    assert_same(ours, sampled(ours, guided(ours, Inputs(depth=depth)), latent), theirs)


def test_upscaler(clip: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = SD2 | {
        "in_channels": 7,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "only_cross_attention": [True, False],
        "attention_head_dim": 2,
        "num_class_embeds": 1000,
    }
    betas = {"beta_start": 0.0001, "beta_end": 0.02}
    unet, vae, made = randomise(diffusers.UNet2DConditionModel(**arguments)), kl(0.08333), ddim("v_prediction", **betas)
    encoder, ours = worded(unet, vae, made, "low_res")
    kind, low = diffusers.StableDiffusionUpscalePipeline, diffusers.DDPMScheduler(beta_schedule="scaled_linear", **betas)
    pipeline = kind(vae, encoder, clip(0), unet, low, made)
    image = images(8)
    feed(monkeypatch, module_of(kind), drawn(NOISE, LOW_RES, image))
    theirs = painted(pipeline, vae, image=image, noise_level=20, latents=NOISE(0), **WORDED)
    assert_same(ours, sampled(ours, guided(ours, Inputs(low_res=image * 2 - 1))), theirs)


def test_instruct_pix2pix(clip: Callable[..., Any]) -> None:
    """Guidance by words and by the picture: D(none) + s (D(both) - D(picture)) + t (D(picture) - D(none))."""
    unet, vae, made = crossed(CROSS | {"in_channels": 8}), kl(), ddim()
    encoder, ours = worded(unet, vae, made, "image")
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline(vae, encoder, clip(0), unet, made, **UNCHECKED)
    image = images()
    theirs = painted(pipeline, vae, image=image, image_guidance_scale=1.5, latents=NOISE(0), **WORDED)
    with torch.no_grad():
        both, picture = ours.conditions(PROMPTS, Inputs(image * 2 - 1), NOISE, negative=[NEGATIVE] * 2)
    assert picture.concat is not None
    none = replace(picture, concat=Source(ours.autoencoder).null(picture.concat).concat)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        a, b, c = (ours.denoiser()(x, sigma, conditioning) for conditioning in (both, picture, none))
        return c + GUIDANCE * (a - b) + 1.5 * (b - c)

    assert_same(ours, sampled(ours, denoise), theirs)


def test_unclip(clip: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"image_size": 14, "patch_size": 7}
    vision: Any = randomise(
        transformers.CLIPVisionModelWithProjection(
            transformers.CLIPVisionConfig(
                **sizes, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, projection_dim=12
            )
        )
    )
    eyes = VisionEncoder(VisionConfig(**sizes, width=16, layers=1, heads=2, mlp_width=16, projection_width=12)).eval()
    eyes.load_state_dict(published(vision, "vision_model."))
    normalizer = StableUnCLIPImageNormalizer(12)
    generator = torch.Generator().manual_seed(4)
    normalizer.mean.data, normalizer.std.data = torch.randn(1, 12, generator=generator), torch.rand(1, 12, generator=generator) + 0.5

    arguments = SD2 | {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 24}
    unet, vae, made = randomise(diffusers.UNet2DConditionModel(**arguments)), kl(), ddim("v_prediction")
    encoder, ours = worded(unet, vae, made)
    ours = replace(ours, image_embedding=ImageEmbedding(normalizer.mean[0].detach(), normalizer.std[0].detach()))
    kind, noising = diffusers.StableUnCLIPImg2ImgPipeline, diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    pipeline = kind(
        feature_extractor=transformers.CLIPImageProcessor(),
        image_encoder=vision,
        image_normalizer=normalizer,
        image_noising_scheduler=noising,
        tokenizer=clip(0),
        text_encoder=encoder,
        unet=unet,
        scheduler=made,
        vae=vae,
    )
    image = images(14)
    with torch.no_grad():
        embedding = eyes(image)
    feed(monkeypatch, module_of(kind), drawn(NOISE, IMAGE_EMBEDDING, embedding))
    theirs = painted(pipeline, vae, image=image, noise_level=200, latents=NOISE(0), **WORDED)
    assert_same(ours, sampled(ours, guided(ours, Inputs(embedding=embedding, level=200))), theirs)


# The latent diffusion paper

THIN = Noise(SEED, range(2), (3, 8, 8))
"""Of the paper's models with three latent channels."""


def test_ldm_text(tmp_path: Path) -> None:
    module = pipeline_latent_diffusion
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "tree", "red", "two", "star", "##s", "and", "above", "horse"]
    words = WordPiece({name: number for number, name in enumerate(names)})
    words.save(tmp_path)
    config = BertConfig(width=WIDTH, layers=2, heads=2, head_width=4)
    bert: Any = randomise(
        module.LDMBertModel(
            module.LDMBertConfig(
                encoder_layers=2,
                encoder_ffn_dim=4 * WIDTH,
                encoder_attention_heads=2,
                head_dim=4,
                d_model=WIDTH,
            )
        )
    )
    encoder = BertEncoder(config).eval()
    encoder.load_state_dict({name: tensor for name, tensor in bert.state_dict().items() if not name.endswith("position_ids")})
    unet, vae, made = crossed(CROSS), kl(), ddim()
    pipeline = module.LDMTextToImagePipeline(vae, bert, transformers.BertTokenizer.from_pretrained(tmp_path), unet, made)
    ours = model(unet, vae, [encoder], [words], made=made)
    # Its latents are an eighth of the picture, whatever its autoencoder says.
    theirs = painted(pipeline, vae, prompt=PROMPTS, latents=NOISE(0), guidance_scale=GUIDANCE, height=64, width=64)
    assert_illustrates(ours, theirs, negative="")


def test_ldm_unconditional(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = diffusers.LDMPipeline
    unet, vae, made = randomise(diffusers.UNet2DModel(**PLAIN)), vq(), ddim(beta_start=0.0015, beta_end=0.0195)
    feed(monkeypatch, module_of(kind), THIN(0))
    ours = model(unet, vae, made=made)
    assert_illustrates(ours, painted(kind(vae, unet, made), vae, batch_size=2), prompts=["", ""], negative="")


def test_ldm_super_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = diffusers.LDMSuperResolutionPipeline
    unet, vae, made = randomise(diffusers.UNet2DModel(**PLAIN | {"in_channels": 6})), vq(), ddim(beta_start=0.0015, beta_end=0.0155)
    image = images(8) * 2 - 1
    feed(monkeypatch, module_of(kind), THIN(0))
    feed(monkeypatch, module_of(diffusers.DDIMScheduler), *(THIN(step) for step in range(1, STEPS + 1)))
    theirs = painted(kind(vae, unet, made), vae, image=image, eta=1.0)
    ours = model(unet, vae, made=made, concat=("low_res",))
    with torch.no_grad():
        given, _ = ours.conditions(["", ""], Inputs(low_res=image), THIN)
    assert_same(ours, sampled(ours, unguided(ours.denoiser(), given), noise=THIN, eta=1.0), theirs)


def test_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a first stage: a picture of 8 by 8 is its own latent."""
    kind = diffusers.DDIMPipeline
    unet, made = randomise(diffusers.UNet2DModel(**PLAIN)), ddim(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    feed(monkeypatch, module_of(kind), THIN(0))
    pipeline = kind(unet, made)
    pipeline.scheduler = made  # which it had copied
    pipeline.set_progress_bar_config(disable=True)
    theirs = torch.from_numpy(pipeline(batch_size=2, num_inference_steps=STEPS, output_type="np").images).movedim(-1, 1)
    pictures = illustrate(model(unet, None, made=made), ["", ""], seed=SEED, steps=STEPS, width=8, height=8)
    ours = torch.stack([picture.latent for picture in pictures])
    assert_agree((ours / 2 + 0.5).clamp(0, 1), theirs, TOLERANCE)


# Where diffusers has no pipeline: the latent diffusion paper's scripts, step by step, and each of their traps


@torch.no_grad()
def by_formula(unet: Any, made: Any, epsilon: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The latents that diffusers' scheduler makes of a noise predictor."""
    made.set_timesteps(STEPS)
    x = THIN(0)
    for t in made.timesteps:
        x = made.step(epsilon(x, t), t, x).prev_sample
    return x


def assert_trap(trap: str, ours: LatentDiffusion, latents: Tensor, theirs: Tensor, pictures: Tensor) -> None:
    """Both agree where there is no trap, and not where it is walked into."""
    with torch.no_grad():
        decoded = ours.decode(latents)
    if not trap:
        assert_agree(latents, theirs, TOLERANCE)
        assert_agree(decoded, pictures, TOLERANCE)
    else:
        with pytest.raises(AssertionError, match="relative error"):
            assert_agree(decoded, pictures, 0.01)


@pytest.mark.parametrize("trap", ["", "order", "grey", "unsigned", "scaled", "unquantised"])
def test_ldm_inpainting(trap: str) -> None:
    """[z, masked picture, mask]: the hole is black, the mask from -1 to 1, the latent beside as the encoder gives it."""
    unet, vae, made = randomise(diffusers.UNet2DModel(**PLAIN | {"in_channels": 7})), vq(0.5), ddim(beta_start=0.0015, beta_end=0.0205)
    ours = model(unet, vae, made=made, concat=("masked_image", "mask"))
    image, mask = images(), (torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(3)) > 0.6).float()
    with torch.no_grad():
        given, _ = ours.conditions(["", ""], Inputs(image * 2 - 1, mask), THIN)

    masked, small = (1 - mask) * image * 2 - 1, F.interpolate(mask * 2 - 1, size=(8, 8))
    if trap == "grey":
        masked = (1 - mask) * (image * 2 - 1)
    with torch.no_grad():
        hidden = vae.encode(masked).latents * (0.5 if trap == "scaled" else 1)
    beside = [hidden, (small + 1) / 2 if trap == "unsigned" else small]
    beside = beside[::-1] if trap == "order" else beside
    theirs = by_formula(unet, made, lambda x, t: unet(torch.cat([x, *beside], 1), t).sample)
    with torch.no_grad():
        pictures = vae.decode(theirs / 0.5, force_not_quantize=trap == "unquantised").sample
    assert_trap(trap, ours, sampled(ours, unguided(ours.denoiser(), given), noise=THIN), theirs, pictures)


@pytest.mark.parametrize("trap", ["", "first class", "zeros"])
def test_ldm_imagenet(trap: str) -> None:
    """One token a label; guidance leads away from the last class of the table, which is of no picture."""
    unet = crossed(CROSS | {"in_channels": 3, "out_channels": 3})
    vae, made = vq(), ddim(beta_start=0.0015, beta_end=0.0195)
    table = LabelEmbedding(LabelConfig(classes=11, width=WIDTH))
    ours = replace(model(unet, vae, made=made), label=Label(table))
    with torch.no_grad():
        given, away = ours.conditions(["", ""], Inputs(labels=torch.tensor([3, 9])), THIN)

    rows = table.embedding.weight
    tokens, null = rows[[3, 9]][:, None], rows[[0 if trap == "first class" else 10] * 2][:, None]
    null = torch.zeros_like(null) if trap == "zeros" else null

    def epsilon(x: Tensor, t: Tensor) -> Tensor:
        without, with_label = (unet(x, t, context).sample for context in (null, tokens))
        return without + 3 * (with_label - without)

    theirs = by_formula(unet, made, epsilon)
    with torch.no_grad():
        pictures = vae.decode(theirs).sample
    assert_trap(trap, ours, sampled(ours, cfg(ours.denoiser(), given, away, 3.0), noise=THIN), theirs, pictures)


@pytest.mark.parametrize("trap", ["", "nearest", "at once", "order"])
def test_ldm_semantic(trap: str) -> None:
    """One-hot classes, halved twice by bilinear interpolation, then a 1x1 convolution, behind the latent."""
    unet, vae = randomise(diffusers.UNet2DModel(**PLAIN | {"in_channels": 6})), vq()
    made = ddim(beta_start=0.0015, beta_end=0.0205)
    rescaler = randomise(MapRescaler(MapConfig(classes=7)))
    assert isinstance(rescaler, MapRescaler)
    rescaler.channel_mapper.weight.data *= 5
    ours = replace(model(unet, vae, made=made, concat=("map",)), segmentation=Segmentation(rescaler))
    classes = torch.randint(0, 7, (2, 32, 32), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        given, _ = ours.conditions(["", ""], Inputs(map=classes), THIN)

    one_hot = torch.stack([(classes == k).float() for k in range(7)], 1)
    match trap:
        case "nearest":
            small = one_hot[:, :, ::4, ::4]
        case "at once":
            small = F.interpolate(one_hot, scale_factor=0.25, mode="bilinear")
        case _:
            small = one_hot.unflatten(3, (16, 2)).mean(4).unflatten(2, (16, 2)).mean(3)
            small = small.unflatten(3, (8, 2)).mean(4).unflatten(2, (8, 2)).mean(3)
    channels = torch.einsum("ck,bkhw->bchw", rescaler.channel_mapper.weight[:, :, 0, 0], small)
    theirs = by_formula(
        unet, made, lambda x, t: unet(torch.cat([channels, x] if trap == "order" else [x, channels], 1), t).sample
    )  # fmt: skip
    with torch.no_grad():
        pictures = vae.decode(theirs).sample
    assert_trap(trap, ours, sampled(ours, unguided(ours.denoiser(), given), noise=THIN), theirs, pictures)
