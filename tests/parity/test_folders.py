"""Folders that diffusers' pipelines save open here, and those that we write open there: the same weights, spec and picture.

The networks are tiny and random; the pictures are of ten steps with guidance, from the same noise, as in `test_pictures`.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from diffusers.models.autoencoders import vae as vae_module
from diffusers.pipelines.latent_diffusion import pipeline_latent_diffusion
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker, StableUnCLIPImageNormalizer
from parity.test_pictures import (
    CROSS,
    GUIDANCE,
    NEGATIVE,
    NOISE,
    PLAIN,
    PROMPTS,
    SD,
    SD2,
    SEED,
    STEPS,
    THIN,
    UNCHECKED,
    WIDTH,
    WORDED,
    XL,
    Seen,
    ancestral,
    assert_same,
    clip,
    crossed,
    ddim,
    feed,
    guided,
    images,
    kl,
    module_of,
    painted,
    published,
    sampled,
    scheduler,
    text,
    tokenizer,
    vq,
)
from torch import Tensor

import sumi
from sumi.config import ScheduleConfig, TextConfig
from sumi.diffusion.guidance import unguided
from sumi.diffusion.samplers.step import start
from sumi.diffusion.schedule import Schedule
from sumi.diffusion.spacings import spaced
from sumi.errors import CheckpointError
from sumi.models.channels import Source
from sumi.models.embedders import IMAGE_EMBEDDING, LOW_RES, MASKED_IMAGE, drawn
from sumi.models.latent_diffusion import Inputs, LatentDiffusion
from sumi.models.zoo import SDXL, ZOO
from sumi.pipeline import illustrate
from sumi.store import folder, layout, schedulers
from sumi.store.anything import open_model
from sumi.store.clip_image import clip_pixels
from sumi.store.described import read_spec
from sumi.store.folder import write_model
from sumi.store.images import to_pil
from sumi.store.model import Model
from support import assert_agree, randomise

assert clip  # a fixture
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # diffusers' schedulers under NumPy 2
    pytest.mark.filterwarnings("ignore:.*jax:DeprecationWarning"),  # of diffusers' pipelines that are saved
]

Clip = Callable[..., Any]
Make = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """A variant of the family: a pipeline of diffusers', what its folder is to be understood as, and a picture on both sides."""

    pipeline: Callable[[Clip], Any]
    spec: dict[str, Any]
    """Fields of `ModelSpec`, and of its schedule, that are not the usual ones."""
    arguments: dict[str, Any]
    """Of the pipeline's call."""
    ours: Callable[[LatentDiffusion], Tensor]
    """The latents of our picture."""
    draws: Callable[[pytest.MonkeyPatch, Any], dict[str, Any]] = lambda monkeypatch, pipeline: {}
    """Feeds the pipeline our noise; gives further arguments."""
    layers: tuple[tuple[int, bool], ...] = ((-1, True),)
    """Of each text encoder: which layer is read, and whether it is normalised."""
    extras: tuple[str, ...] = ()
    """Components that we do not write, and that the pipeline does not open without."""


# Pipelines

SEES: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 8,
    "image_size": 8,
    "patch_size": 4,
}
"""The smallest of transformers' that look at pictures."""


def sd1(clip: Clip) -> Any:
    """With the parts that every published one has and that we do not."""
    config = transformers.CLIPConfig(vision_config=SEES, text_config={**SEES, "vocab_size": 9}, projection_dim=8)
    checker = StableDiffusionSafetyChecker(config)
    return diffusers.StableDiffusionPipeline(
        kl(), text(), clip(), crossed(CROSS), ddim(), safety_checker=checker, feature_extractor=transformers.CLIPImageProcessor()
    )


def worded(kind: Any, unet: Any, made: Make = ddim, vae: Make = kl, *, pad: int | None = None, **parts: Any) -> Callable[[Clip], Any]:
    """A pipeline of one text encoder."""

    def built(clip: Clip) -> Any:
        encoder = text() if pad is None else text(activation="gelu")
        return kind(vae=vae(), text_encoder=encoder, tokenizer=clip(pad), unet=crossed(CROSS | unet), scheduler=made(), **parts)

    return built


def depth(clip: Clip) -> Any:
    config = transformers.DPTConfig(
        **SEES | {"num_hidden_layers": 4},
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8] * 4,
        fusion_hidden_size=8,
        head_in_index=-1,
    )
    parts = {"depth_estimator": transformers.DPTForDepthEstimation(config), "feature_extractor": transformers.DPTImageProcessor()}
    return worded(diffusers.StableDiffusionDepth2ImgPipeline, SD2 | {"in_channels": 5}, pad=0, **parts)(clip)


LOW = {"beta_start": 0.0001, "beta_end": 0.02}


def upscaler(clip: Clip) -> Any:
    unet = SD2 | {
        "in_channels": 7,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "only_cross_attention": [True, False],
        "attention_head_dim": 2,
        "num_class_embeds": 1000,
    }
    low = diffusers.DDPMScheduler(beta_schedule="scaled_linear", **LOW)
    made, vae = partial(ddim, "v_prediction", **LOW), partial(kl, 0.08333)
    return worded(diffusers.StableDiffusionUpscalePipeline, unet, made, vae, pad=0, low_res_scheduler=low)(clip)


def unclip(clip: Clip) -> Any:
    vision = transformers.CLIPVisionConfig(
        image_size=14, patch_size=7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, projection_dim=12
    )
    normalizer = StableUnCLIPImageNormalizer(12)
    generator = torch.Generator().manual_seed(4)
    normalizer.mean.data, normalizer.std.data = torch.randn(1, 12, generator=generator), torch.rand(1, 12, generator=generator) + 0.5
    parts = {
        "feature_extractor": transformers.CLIPImageProcessorPil(size={"shortest_edge": 14}, crop_size=14),
        "image_encoder": randomise(transformers.CLIPVisionModelWithProjection(vision)),
        "image_normalizer": normalizer,
        "image_noising_scheduler": diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    }
    unet = SD2 | {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 24}
    return worded(diffusers.StableUnCLIPImg2ImgPipeline, unet, partial(ddim, "v_prediction"), pad=0, **parts)(clip)


def euler() -> Any:
    return scheduler(diffusers.EulerDiscreteScheduler, timestep_spacing="leading")


def few_steps() -> Any:
    return scheduler(diffusers.EulerAncestralDiscreteScheduler, timestep_spacing="trailing")


def xl(kind: Any, made: Make = euler, *, unet: dict[str, Any] | None = None, **options: Any) -> Callable[[Clip], Any]:
    def built(clip: Clip) -> Any:
        network = crossed(XL | {"cross_attention_dim": 36, "projection_class_embeddings_input_dim": 12 + 6 * 256} | (unet or {}))
        parts = {"text_encoder": text(), "text_encoder_2": text(12, activation="gelu", width=20, seed=3)}
        words = {"tokenizer": clip(), "tokenizer_2": clip(0)}
        return kind(vae=kl(0.13025), **parts, **words, unet=network, scheduler=made(), add_watermarker=False, **options)

    return built


def refiner(clip: Clip) -> Any:
    unet = crossed(XL | {"cross_attention_dim": 20, "projection_class_embeddings_input_dim": 12 + 5 * 256})
    options: dict[str, Any] = {"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False, "add_watermarker": False}
    large = text(12, activation="gelu", width=20, seed=3)
    return diffusers.StableDiffusionXLImg2ImgPipeline(kl(0.13025), None, large, None, clip(0), unet, euler(), **options)


def ldm_text(clip: Clip) -> Any:
    module = pipeline_latent_diffusion
    config = module.LDMBertConfig(encoder_layers=2, encoder_ffn_dim=4 * WIDTH, encoder_attention_heads=2, head_dim=4, d_model=WIDTH)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "tree", "red", "two", "star", "##s", "and", "above", "horse"]
    vocab = {name: number for number, name in enumerate(names)}
    tokenizer = transformers.BertTokenizer(vocab, model_max_length=77)
    return module.LDMTextToImagePipeline(kl(), randomise(module.LDMBertModel(config)), tokenizer, crossed(CROSS), ddim())


def ldm(kind: Any, end: float, **unet: Any) -> Callable[[Clip], Any]:
    made = partial(ddim, beta_start=0.0015, beta_end=end)
    return lambda clip: kind(vq(), randomise(diffusers.UNet2DModel(**PLAIN | unet)), made())


def pixels(clip: Clip) -> Any:
    made = ddim(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    return diffusers.DDIMPipeline(randomise(diffusers.UNet2DModel(**PLAIN)), made)


# Ours


def asked(**fields: Any) -> Callable[[LatentDiffusion], Tensor]:
    """By way of a request, with the model's own sampler and spacing."""

    def made(ours: LatentDiffusion) -> Tensor:
        settings = {"seed": SEED, "steps": STEPS, "guidance": GUIDANCE, "negative": NEGATIVE} | fields
        if settings["guidance"] == 1:  # nothing is led away from
            settings["negative"] = ""
        return torch.stack([picture.latent for picture in illustrate(ours, settings.pop("prompts", PROMPTS), **settings)])

    return made


def given(**inputs: Any) -> Callable[[LatentDiffusion], Tensor]:
    """By way of conditions."""
    return lambda ours: sampled(ours, guided(ours, Inputs(**inputs)))


IMAGE, MASK = images(), torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(3))
DEPTH = torch.rand(2, 1, 20, 20, generator=torch.Generator().manual_seed(3)) * 50
SMALL, EYED = images(8), to_pil(torch.rand(2, 3, 17, 23, generator=torch.Generator().manual_seed(5)) * 2 - 1)


def edited(ours: LatentDiffusion) -> Tensor:
    """Guided by words and by the picture."""
    with torch.no_grad():
        both, picture = ours.conditions(PROMPTS, Inputs(IMAGE * 2 - 1), NOISE, negative=[NEGATIVE] * 2)
        assert picture.concat is not None
        none = replace(picture, concat=Source(ours.autoencoder).null(picture.concat).concat)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        a, b, c = (ours.denoiser()(x, sigma, conditioning) for conditioning in (both, picture, none))
        return c + GUIDANCE * (a - b) + 1.5 * (b - c)

    return sampled(ours, denoise)


def deepened(ours: LatentDiffusion) -> Tensor:
    with torch.no_grad():
        latent = ours.autoencoder.encode(IMAGE * 2 - 1).sample(drawn(NOISE, MASKED_IMAGE, NOISE(0)))
    return sampled(ours, guided(ours, Inputs(depth=DEPTH)), latent)


def alike(ours: LatentDiffusion) -> Tensor:
    with torch.no_grad():
        embedding = ours.embed(torch.cat([clip_pixels(image, 14) for image in EYED]))
    return given(embedding=embedding, level=200)(ours)


def enlarged(ours: LatentDiffusion) -> Tensor:
    with torch.no_grad():
        told, _ = ours.conditions(["", ""], Inputs(low_res=SMALL * 2 - 1), THIN)
    return sampled(ours, unguided(ours.denoiser(), told), noise=THIN, eta=1.0)


# Draws


def hidden(monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> dict[str, Any]:
    """Of an autoencoder that encodes a picture."""
    feed(monkeypatch, vae_module, drawn(NOISE, MASKED_IMAGE, NOISE(0)))
    return {}


def deep(monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> dict[str, Any]:
    feed(monkeypatch, module_of(type(pipeline)), NOISE(0))
    return hidden(monkeypatch, pipeline)


def low(monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> dict[str, Any]:
    feed(monkeypatch, module_of(type(pipeline)), drawn(NOISE, LOW_RES, SMALL))
    return {}


def seen(monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> dict[str, Any]:
    feed(monkeypatch, module_of(type(pipeline)), drawn(NOISE, IMAGE_EMBEDDING, torch.zeros(2, 12)))
    return {"image": EYED}


def few(monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> dict[str, Any]:
    return {"latents": ancestral(monkeypatch)[1]}


def scaled(monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> dict[str, Any]:
    """A picture to refine of which nothing is left."""
    pipeline.scheduler.set_timesteps(STEPS)
    return {"latents": start(NOISE(0), pipeline.scheduler.sigmas[0])}


def initial(monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> dict[str, Any]:
    feed(monkeypatch, module_of(type(pipeline)), THIN(0))
    feed(monkeypatch, module_of(diffusers.DDIMScheduler), *(THIN(step) for step in range(1, STEPS + 1)))
    return {}


WITH_NOISE: dict[str, Any] = WORDED | {"latents": NOISE(0)}
ENDS: dict[str, Any] = {"sampler": "euler", "final_sigma_zero": True}
FILLED: dict[str, Any] = WITH_NOISE | {"image": IMAGE, "mask_image": MASK, "strength": 1.0}
INPAINT = ("mask", "masked_image")
TWO_LAYERS = ((-2, False), (-2, False))
TURBO: dict[str, Any] = {"sampler": "euler_ancestral", "spacing": "trailing", "final_sigma_zero": True}
LDM: dict[str, Any] = {"start": 0.0015}

CASES = {
    "sd1": Case(sd1, {}, WITH_NOISE, asked()),
    "sd1-inpaint": Case(
        worded(diffusers.StableDiffusionInpaintPipeline, {"in_channels": 9}, **UNCHECKED),
        {"concat": INPAINT},
        FILLED,
        given(image=IMAGE * 2 - 1, mask=MASK),
        hidden,
    ),
    "instruct-pix2pix": Case(
        worded(diffusers.StableDiffusionInstructPix2PixPipeline, {"in_channels": 8}, **UNCHECKED),
        {"concat": ("image",)},
        WITH_NOISE | {"image": IMAGE, "image_guidance_scale": 1.5},
        edited,
    ),
    "sd2": Case(worded(diffusers.StableDiffusionPipeline, SD2, pad=0, **UNCHECKED), {}, WITH_NOISE, asked()),
    "sd2-v": Case(
        worded(diffusers.StableDiffusionPipeline, SD2, partial(ddim, "v_prediction"), pad=0, **UNCHECKED),
        {"prediction": "v"},
        WITH_NOISE,
        asked(),
    ),
    "sd2-inpaint": Case(
        worded(diffusers.StableDiffusionInpaintPipeline, SD2 | {"in_channels": 9}, pad=0, **UNCHECKED),
        {"concat": INPAINT},
        FILLED,
        given(image=IMAGE * 2 - 1, mask=MASK),
        hidden,
    ),
    "sd2-depth": Case(
        depth,
        {"concat": ("depth",)},
        WORDED | {"image": IMAGE, "depth_map": DEPTH[:, 0], "strength": 1.0},
        deepened,
        deep,
        extras=("depth_estimator", "feature_extractor"),
    ),
    "x4-upscaler": Case(
        upscaler,
        {"concat": ("low_res",), "prediction": "v", "start": 0.0001, "end": 0.02},
        WITH_NOISE | {"image": SMALL, "noise_level": 20},
        given(low_res=SMALL * 2 - 1),
        low,
    ),
    "unclip": Case(
        unclip,
        {"prediction": "v"},
        WITH_NOISE | {"noise_level": 200},
        alike,
        seen,
    ),
    "sdxl": Case(
        xl(diffusers.StableDiffusionXLPipeline), ENDS | {"zero_null": True}, WITH_NOISE | {"negative_prompt": None}, asked(negative=""),
        layers=TWO_LAYERS,
    ),
    "sdxl-read": Case(
        xl(diffusers.StableDiffusionXLPipeline, force_zeros_for_empty_prompt=False),
        ENDS | {"zero_null": False},
        WITH_NOISE | {"negative_prompt": None},
        asked(negative=""),
        layers=TWO_LAYERS,
    ),
    "sdxl-inpaint": Case(
        xl(diffusers.StableDiffusionXLInpaintPipeline, ddim, unet={"in_channels": 9}),
        {"concat": INPAINT, "zero_null": True},
        FILLED,
        given(image=IMAGE * 2 - 1, mask=MASK),
        hidden,
        layers=TWO_LAYERS,
    ),
    "sdxl-refiner": Case(
        refiner,
        ENDS | {"zero_null": False},
        WORDED | {"image": torch.zeros(2, 4, 8, 8), "strength": 1.0},
        asked(),
        scaled,
        layers=TWO_LAYERS[:1],
    ),
    "sd-turbo": Case(
        worded(
            diffusers.StableDiffusionPipeline,
            SD2,
            few_steps,
            pad=0,
            **UNCHECKED,
        ),
        TURBO,
        {"prompt": PROMPTS, "guidance_scale": 0.0},
        asked(guidance=1.0),
        few,
    ),
    "sdxl-turbo": Case(
        xl(diffusers.StableDiffusionXLPipeline, few_steps),
        TURBO | {"zero_null": True},
        {"prompt": PROMPTS, "guidance_scale": 0.0},
        asked(guidance=1.0),
        few,
        layers=TWO_LAYERS,
    ),
    "ldm-text": Case(
        ldm_text,
        {},
        {"prompt": PROMPTS, "latents": NOISE(0), "guidance_scale": GUIDANCE, "height": 64, "width": 64},
        asked(negative=""),
        layers=(),
    ),
    "ldm-faces": Case(
        ldm(diffusers.LDMPipeline, 0.0195), LDM | {"end": 0.0195}, {"batch_size": 2}, asked(prompts=["", ""], negative=""), initial,
        layers=(),
    ),
    "ldm-superres": Case(
        ldm(diffusers.LDMSuperResolutionPipeline, 0.0155, in_channels=6),
        LDM | {"end": 0.0155, "concat": ("low_res",)},
        {"image": SMALL * 2 - 1, "eta": 1.0},
        enlarged,
        initial,
        layers=(),
    ),
    "pixels": Case(
        pixels,
        {"kind": "linear", "start": 0.0001, "end": 0.02},
        {"batch_size": 2},
        asked(prompts=["", ""], negative=""),
        initial,
        layers=(),
    ),
}  # fmt: skip


def autoencoder_of(pipeline: Any) -> Any:
    return pipeline.components.get("vae") or pipeline.components.get("vqvae")


def drawing(pipeline: Any, case: Case) -> Seen:
    """What a pipeline makes; its schedule is of our arithmetic, its autoencoder is watched."""
    if "safety_checker" in pipeline.components:
        pipeline.safety_checker = None  # which would blacken what it takes random pictures for
    made = pipeline.scheduler
    ours = Schedule(ScheduleConfig(made.config.beta_schedule, made.config.beta_start, made.config.beta_end))
    made.alphas_cumprod = ours.alphas_cumprod
    if hasattr(made, "final_alpha_cumprod") and not made.config.set_alpha_to_one:
        made.final_alpha_cumprod = ours.alphas_cumprod[0]
    with pytest.MonkeyPatch.context() as monkeypatch:
        more = case.draws(monkeypatch, pipeline)
        if (autoencoder := autoencoder_of(pipeline)) is not None:
            return painted(pipeline, autoencoder, **case.arguments, **more)
        pipeline.set_progress_bar_config(disable=True)
        pictures = torch.from_numpy(pipeline(num_inference_steps=STEPS, output_type="np", **case.arguments).images).movedim(-1, 1)
        return Seen(pictures * 2 - 1, pictures * 2 - 1)


def states(pipeline: Any) -> dict[str, dict[str, Tensor]]:
    """The weights of the parts that we have, by our names."""
    folders = {"unet": "unet", "vae": "vae", "vqvae": "vae", "bert": "bert", "image_normalizer": "image_normalizer"}
    folders |= {"image_encoder": "image_encoder"}
    parts = {name: part for name, part in pipeline.components.items() if part is not None}
    found = {ours: parts[theirs].state_dict() for theirs, ours in folders.items() if theirs in parts}
    texts = [parts[name] for name in ("text_encoder", "text_encoder_2") if name in parts]
    for name, encoder in zip(("text_encoder", "text_encoder_2"), texts, strict=False):
        found[name] = published(encoder, "text_model.")
    return {name: {n: tensor for n, tensor in state.items() if not n.endswith("position_ids")} for name, state in found.items()}


def assert_equal(ours: dict[str, dict[str, Tensor]], theirs: dict[str, dict[str, Tensor]]) -> None:
    assert ours.keys() == theirs.keys()
    for part, state in theirs.items():
        assert ours[part].keys() == state.keys()
        assert all(torch.equal(ours[part][name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("name", CASES)
def test_there_and_back(name: str, tmp_path: Path, clip: Clip) -> None:
    case = CASES[name]
    pipeline = case.pipeline(clip)
    pipeline.save_pretrained(tmp_path / name)
    model = open_model(tmp_path / name)
    assert_equal(model.states, states(pipeline))

    spec = model.spec
    usual = {"concat": (), "sampler": "ddim", "spacing": "leading", "prediction": "eps", "final_sigma_zero": False, "zero_null": False}
    usual |= {"kind": "scaled_linear", "start": 0.00085, "end": 0.012, "steps_offset": 1}
    assert {key: getattr(spec if hasattr(spec, key) else spec.schedule, key) for key in usual} == usual | case.spec
    assert spec.name == name and spec.size == (8, 8) if name == "pixels" else spec.size == (16, 16)
    texts = [found for found in (spec.text, spec.text_2) if isinstance(found, TextConfig)]
    assert tuple((found.output_layer, found.final_norm) for found in texts) == case.layers
    assert read_spec(tmp_path / name) == spec

    ours = sumi.load(tmp_path / name, device="cpu", precision="float32")
    theirs = drawing(pipeline, case)
    latents = case.ours(ours)
    if name == "pixels":
        latents = latents.clamp(-1, 1)
    assert_same(ours, latents, theirs)

    write_model(tmp_path / "ours", model)
    assert open_model(tmp_path / "ours").spec == spec
    kind = type(pipeline)
    again = kind.from_pretrained(tmp_path / "ours", **{part: pipeline.components[part] for part in case.extras})
    assert_equal(states(again), states(pipeline))
    assert_same(ours, latents, drawing(again, case))


# Weights in other files


def halved(pipeline: Any) -> dict[str, dict[str, Tensor]]:
    return {part: {name: tensor.half() for name, tensor in state.items()} for part, state in states(pipeline).items()}


SAVED: dict[str, dict[str, Any]] = {
    "sharded": {"max_shard_size": "40KB"},
    "pickled": {"safe_serialization": False},
    "fp16": {"variant": "fp16"},
    "fp16 sharded": {"variant": "fp16", "max_shard_size": "20KB"},
    "fp16 pickled and sharded": {"variant": "fp16", "safe_serialization": False, "max_shard_size": "40KB"},
}


def pickle_text(folder: Path, saved: dict[str, Any]) -> None:
    """As transformers did before its version 5, which saves nothing but safetensors."""
    suffix = f".{saved['variant']}" if "variant" in saved else ""
    encoder = transformers.CLIPTextModel.from_pretrained(folder, variant=saved.get("variant"))
    tensors = {name: tensor.clone() for name, tensor in published(encoder, "text_model.").items()}
    for file in folder.glob("model*"):
        file.unlink()
    if "max_shard_size" not in saved:
        torch.save(tensors, folder / f"pytorch_model{suffix}.bin")
        return
    names = list(tensors)
    files = {f"pytorch_model{suffix}-0000{n + 1}-of-00002.bin": names[n::2] for n in range(2)}
    for file, own in files.items():
        torch.save({name: tensors[name] for name in own}, folder / file)
    table = {"metadata": {}, "weight_map": {name: file for file, own in files.items() for name in own}}
    (folder / f"pytorch_model.bin.index{suffix}.json").write_text(json.dumps(table))


@pytest.mark.parametrize("how", SAVED)
def test_weights_as_pipelines_save_them(how: str, tmp_path: Path, clip: Clip) -> None:
    pipeline, saved = CASES["sd2"].pipeline(clip), SAVED[how]
    if "variant" in saved:
        pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(tmp_path / "theirs", **saved)
    if "safe_serialization" in saved:
        pickle_text(tmp_path / "theirs" / "text_encoder", saved)
    assert ("sharded" in how) == any("-of-" in file.name for file in (tmp_path / "theirs" / "text_encoder").iterdir())
    model = open_model(tmp_path / "theirs")
    assert_equal(model.states, states(pipeline))
    if "variant" in saved:
        assert_equal(open_model(tmp_path / "theirs", variant="fp16").states, states(pipeline))
    write_model(tmp_path / "ours", model, variant=saved.get("variant"), shard=40_000 if "sharded" in how else None)
    again = type(pipeline).from_pretrained(
        tmp_path / "ours", variant=saved.get("variant"), dtype=torch.float16 if "variant" in saved else None
    )
    assert_equal(states(again), states(pipeline))


def test_each_part_is_of_the_variant_that_it_has(tmp_path: Path, clip: Clip) -> None:
    """As Stable Diffusion 1.5 is published: the U-Net as training left it beside its average, all parts in halves, too."""
    pipeline = CASES["sd2"].pipeline(clip)
    pipeline.save_pretrained(tmp_path)
    average = states(pipeline)
    trained = randomise(diffusers.UNet2DConditionModel.from_config(pipeline.unet.config), 9)
    trained.save_pretrained(tmp_path / "unet", variant="non_ema")
    model = open_model(tmp_path)
    assert_equal(model.states, average)
    assert_equal({"unet": model.trained}, {"unet": trained.state_dict()})
    left = open_model(tmp_path, variant="non_ema")
    assert_equal(left.states, average | {"unet": trained.state_dict()})
    assert not left.trained
    with pytest.raises(CheckpointError, match="no weights of the variant fp16"):
        open_model(tmp_path, variant="fp16")
    write_model(tmp_path / "ours", model, variant="fp16", shard=20_000)
    assert_equal({"unet": open_model(tmp_path / "ours", variant="fp16").trained}, {"unet": trained.state_dict()})

    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(tmp_path, variant="fp16")
    assert_equal(open_model(tmp_path).states, average)
    assert_equal(open_model(tmp_path, variant="fp16").states, states(pipeline))


# What the files leave unsaid


def edit(path: Path, **changes: Any) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in (found | changes).items() if value is not ...}))


def test_the_latents_of_a_codebook_are_not_scaled(tmp_path: Path, clip: Clip) -> None:
    """The folders of the latent diffusion paper are older than the field; its code decodes what was sampled, as it is."""
    pipeline = CASES["ldm-faces"].pipeline(clip)
    pipeline.save_pretrained(tmp_path)
    edit(tmp_path / "vqvae" / "config.json", scaling_factor=...)
    ours, z = sumi.load(tmp_path, device="cpu", precision="float32"), THIN(0)
    with torch.no_grad():
        assert_agree(ours.decode(z), pipeline.vqvae.decode(z).sample)


@pytest.mark.parametrize("written", [..., 0.18215])
def test_the_upscaler_has_its_own_scale(written: Any, tmp_path: Path, clip: Clip) -> None:
    CASES["x4-upscaler"].pipeline(clip).save_pretrained(tmp_path)
    edit(tmp_path / "vae" / "config.json", scaling_factor=written)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys.modules[diffusers.StableDiffusionUpscalePipeline.__module__], "deprecate", lambda *_, **__: None)
        theirs = diffusers.StableDiffusionUpscalePipeline.from_pretrained(tmp_path)
    assert open_model(tmp_path).spec.autoencoder.latent_scale == theirs.vae.config.scaling_factor == 0.08333


@pytest.mark.parametrize("name", ["sd1", "sdxl", "ldm-faces"])
@pytest.mark.parametrize("written", [..., 0])
def test_where_the_leading_times_begin(name: str, written: Any, tmp_path: Path, clip: Clip) -> None:
    """Some pipelines put 1 there, whatever the file says; for the others a missing field is 0."""
    CASES[name].pipeline(clip).save_pretrained(tmp_path)
    edit(tmp_path / "scheduler" / "scheduler_config.json", steps_offset=written)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(module_of(diffusers.StableDiffusionPipeline), "deprecate", lambda *_, **__: None)
        theirs = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    assert open_model(tmp_path).spec.schedule.steps_offset == theirs.scheduler.config.steps_offset == (name == "sd1")


@pytest.mark.parametrize(
    ("kind", "channels", "concat"),
    [
        ("StableDiffusionInpaintPipeline", 4, ()),
        ("StableDiffusionPipeline", 9, ("mask", "masked_image")),
        ("StableDiffusionControlNetInpaintPipeline", 9, ("mask", "masked_image")),
        ("StableDiffusionPipeline", 5, ("depth",)),
        ("StableDiffusionUpscalePipeline", 7, ("low_res",)),
        ("StableDiffusionXLInstructPix2PixPipeline", 8, ("image",)),
        ("MarigoldPipeline", 8, ()),  # whose picture comes first
    ],
)
def test_what_lies_beside_is_what_there_is_room_for(kind: str, channels: int, concat: tuple[str, ...]) -> None:
    assert layout.concat(kind, replace(SDXL.unet, in_channels=channels), SDXL.autoencoder) == concat


@pytest.mark.parametrize(
    "name",
    [
        "sd15",
        "sd15-inpaint",
        "instruct-pix2pix",
        "sd2",
        "sd2-v",
        "sd2-depth",
        "sd2-unclip-h",
        "sd2-unclip-l",
        "sd-turbo",
        "x4-upscaler",
        "sdxl",
        "sdxl-turbo",
        "sdxl-refiner",
    ],
)
def test_a_published_description_is_the_variant(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By published fields alone, at full size; nothing of ours is in the files."""
    spec = ZOO[name]
    monkeypatch.setattr(folder, "write_weights", lambda *_: None)
    texts = [found for found in (spec.text, spec.text_2) if found is not None]
    write_model(tmp_path, Model(spec, {part: {} for part in layout.places(spec)}, tuple(tokenizer() for _ in texts)))
    for file in (tmp_path / "model_index.json", *tmp_path.glob("*/config.json")):
        edit(file, sumi=...)
    found = read_spec(tmp_path)
    ids = {"length": 77, "eos_id": tokenizer().eos_id, "pad_id": tokenizer().pad_id}
    expected = {part: None if text is None else replace(text, **ids) for part, text in (("text", spec.text), ("text_2", spec.text_2))}
    assert found == replace(spec, name=tmp_path.name, **expected)


def test_pixels_that_would_be_clipped_are_noted(tmp_path: Path, clip: Clip) -> None:
    CASES["pixels"].pipeline(clip).save_pretrained(tmp_path)
    assert not open_model(tmp_path).notes
    for written in (True, ...):
        edit(tmp_path / "scheduler" / "scheduler_config.json", clip_sample=written)
        (note,) = open_model(tmp_path).notes
        assert "clip_sample" in note


def test_noise_told_in_another_way_is_refused(tmp_path: Path, clip: Clip) -> None:
    CASES["sdxl"].pipeline(clip).save_pretrained(tmp_path)
    diffusers.EDMEulerScheduler().save_pretrained(tmp_path / "scheduler")
    with pytest.raises(CheckpointError, match=r"scheduler_config\.json: sigma_data 0\.5 is not something sumi does"):
        read_spec(tmp_path)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("kind", ["DDIM", "EulerDiscrete", "EulerAncestralDiscrete"])
def test_noise_levels_are_those_of_the_scheduler(kind: str, zero: bool, spacing: str, offset: int, tmp_path: Path) -> None:
    """That its file describes; DDIM visits times, the others levels."""
    made = getattr(diffusers, f"{kind}Scheduler")(
        **SD | {"timestep_spacing": spacing, "rescale_betas_zero_snr": zero, "steps_offset": offset}
    )
    made.save_pretrained(tmp_path)
    found = json.loads((tmp_path / "scheduler_config.json").read_text())
    config, (_, named) = schedulers.schedule_config(found), schedulers.asked(found)[:2]
    made.set_timesteps(STEPS)
    if kind == "DDIM":
        theirs = ((1 - made.alphas_cumprod) / made.alphas_cumprod).sqrt()[made.timesteps]
        theirs = torch.cat([theirs, torch.zeros(1)])
    else:
        theirs = made.sigmas
    assert_agree(spaced(Schedule(config), STEPS, named)[1:], theirs[1:])  # infinite or nearly so at the first, with zero SNR
