"""One side of a comparison at real size, in a process of its own, so that what each takes of memory can be told.

    python full_size.py theirs FOLDER VARIANT    make a model of random weights with diffusers, save it, make its picture
    python full_size.py ours FOLDER VARIANT      open that folder with sumi, make the same
    python full_size.py both FOLDER VARIANT...   one after the other, each variant's weights deleted after it; print how far they differ

Each side writes FOLDER/<side>.safetensors (latent and picture) and prints its peak memory and times as JSON. Variants of words alone take
the way of `test_pictures`, tasks that of `test_tasks`: by a request that names files, in fewer steps. The conventions are those of both.
"""

import json
import resource
import shutil
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

STEPS, GUIDANCE, PROMPT, NEGATIVE, SIDE = 10, 5.0, "a photograph of an astronaut riding a horse", "blurry", 256
SD: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
CROSS = {"cross_attention_dim": 768, "attention_head_dim": 8}
SD2 = {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
XL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "transformer_layers_per_block": [1, 2, 10],
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
CLIP_L = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "quick_gelu"}
CLIP_H = {"hidden_size": 1024, "num_hidden_layers": 23, "num_attention_heads": 16, "intermediate_size": 4096, "hidden_act": "gelu"}
CLIP_G = {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 20, "intermediate_size": 5120, "hidden_act": "gelu"}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
}
VARIANTS = {
    "sd15": (CROSS, {}, CLIP_L, None),
    "sd21-v": (SD2, {"prediction_type": "v_prediction"}, CLIP_H, None),
    "sdxl": (XL, {}, CLIP_L, CLIP_G),
}

TASK_STEPS, SEED = 3, 7
UPSCALER: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 7,
    "block_out_channels": (256, 512, 512, 1024),
    "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 3),
    "up_block_types": (*("CrossAttnUpBlock2D",) * 3, "UpBlock2D"),
    "only_cross_attention": [True, True, True, False],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "num_class_embeds": 1000,
}
UNCLIP = SD2 | {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 2048}
VIT_H: dict[str, Any] = {
    "hidden_size": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "intermediate_size": 5120,
    "hidden_act": "gelu",
    "patch_size": 14,
    "projection_dim": 1024,
}


@dataclass(frozen=True)
class Task:
    """A pipeline of diffusers, what it is told beside words, and the request that says the same.

    unet, vae, text, schedule: what differs from Stable Diffusion 1.5. given: by argument, files and other values. asked: by field. draws:
    what their generators are fed, in order: of an autoencoder's posterior (0: its mode), and of the pipeline itself.
    """

    pipeline: str
    given: dict[str, Any]
    asked: dict[str, Any]
    unet: dict[str, Any] = field(default_factory=lambda: CROSS)
    vae: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=lambda: CLIP_L)
    schedule: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    posteriors: tuple[str, ...] = ()
    draws: tuple[str, ...] = ("start",)


HALF = {"strength": 0.67}
INPAINT = {"image": "image.png", "mask_image": "mask.png", **HALF}
FILLED = {"image": "image.png", "mask": "mask.png", **HALF}
TASKS = {
    "sd15-image": Task(
        "StableDiffusionImg2ImgPipeline", {"image": "image.png", **HALF}, {"image": "image.png", **HALF}, posteriors=("mode",)
    ),
    "sd15-any-inpaint": Task("StableDiffusionInpaintPipeline", INPAINT, FILLED, posteriors=("mode", "mode")),
    "sd15-inpaint": Task(
        "StableDiffusionInpaintPipeline",
        INPAINT | {"strength": 1.0},
        FILLED | {"strength": 1.0},
        CROSS | {"in_channels": 9},
        posteriors=("masked",),
    ),
    "sd2-depth": Task(
        "StableDiffusionDepth2ImgPipeline",
        {"image": "image.png", "depth_map": "depth.png", **HALF},
        {"image": "image.png", "depth": "depth.png", **HALF},
        SD2 | {"in_channels": 5},
        text=CLIP_H,
        more={"depth_estimator": None, "feature_extractor": None},
        posteriors=("mode",),
    ),
    "instruct-pix2pix": Task(
        "StableDiffusionInstructPix2PixPipeline",
        {"image": "image.png", "image_guidance_scale": 1.5},
        {"image": "image.png", "image_guidance": 1.5},
        CROSS | {"in_channels": 8},
    ),
    "x4-upscaler": Task(
        "StableDiffusionUpscalePipeline",
        {"image": "small.png", "noise_level": 20},
        {"low_res": "small.png", "level": 20},
        UPSCALER,
        {
            "block_out_channels": (128, 256, 512),
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "up_block_types": ("UpDecoderBlock2D",) * 3,
            "scaling_factor": 0.08333,
        },
        CLIP_H,
        {"beta_start": 0.0001, "beta_end": 0.02, "prediction_type": "v_prediction"},
        draws=("low_res", "start"),
    ),
    "sd2-unclip-h": Task(
        "StableUnCLIPImg2ImgPipeline",
        {"image": "image.png", "noise_level": 50, "height": SIDE, "width": SIDE},
        {"like": "image.png", "level": 50, "height": SIDE, "width": SIDE},
        UNCLIP,
        {},
        CLIP_H,
        {"prediction_type": "v_prediction"},
        draws=("embedding", "start"),
    ),
}


def noise() -> torch.Tensor:
    return torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(0))


def words(folder: Path, name: str, pad_id: int | None) -> Any:
    """transformers' tokenizer with CLIP's own vocabulary, which fills up with this id."""
    import transformers

    from sumi.store.vocabulary import find_clip_vocabulary
    from sumi.text.bpe import Tokenizer

    Tokenizer(*find_clip_vocabulary(), pad_id=pad_id).save(folder / "words" / name)
    return transformers.CLIPTokenizer.from_pretrained(folder / "words" / name)


def encoder(described: dict[str, Any], kind: str = "CLIPTextModel", **fields: Any) -> Any:
    import transformers

    config = transformers.CLIPTextConfig(vocab_size=49408, bos_token_id=0, eos_token_id=2, pad_token_id=1, **described, **fields)
    return getattr(transformers, kind)(config).eval()


def heeding(unet: Any) -> Any:
    """At the weights that networks start from, words hardly matter: cross-attention is made strong enough to be heard."""
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if "attn2.to_out.0.weight" in name:
                weight.mul_(5)
    return unet.eval()


def theirs(folder: Path, variant: str) -> dict[str, torch.Tensor]:
    import diffusers

    unet, schedule, first, second = VARIANTS[variant]
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "unet": heeding(diffusers.UNet2DConditionModel(**unet)),
        "vae": diffusers.AutoencoderKL(**VAE, scaling_factor=0.13025 if second else 0.18215).eval(),
        "scheduler": diffusers.DDIMScheduler(**SD, **schedule, clip_sample=False, set_alpha_to_one=False),
        "text_encoder": encoder(first),
        "tokenizer": words(folder, "first", 0 if first is CLIP_H else None),
    }
    if second:
        parts["text_encoder_2"] = encoder(second, "CLIPTextModelWithProjection", projection_dim=1280)
        parts["tokenizer_2"] = words(folder, "second", 0)
        pipeline: Any = diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    else:
        pipeline = diffusers.StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.save_pretrained(folder / "model")
    pipeline.set_progress_bar_config(disable=True)
    asked = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "negative_prompt": NEGATIVE, "height": SIDE, "width": SIDE}
    latent = pipeline(PROMPT, latents=noise(), output_type="latent", **asked).images
    return {"latent": latent, "picture": decoded(pipeline, latent)}


def decoded(pipeline: Any, latent: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        picture: torch.Tensor = pipeline.vae.decode(latent / pipeline.vae.config.scaling_factor).sample
    return picture


def their_task(folder: Path, variant: str) -> dict[str, torch.Tensor]:
    import diffusers
    import transformers
    from diffusers.models.autoencoders import vae as vae_module
    from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer

    from sumi.diffusion.noise import Noise
    from sumi.models.embedders import IMAGE_EMBEDDING, LOW_RES, MASKED_IMAGE

    task = TASKS[variant]
    pictures(folder)
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "unet": heeding(diffusers.UNet2DConditionModel(**{"sample_size": SIDE // 8} | task.unet)),
        "vae": diffusers.AutoencoderKL(**VAE | {"scaling_factor": 0.18215} | task.vae).eval(),
        "scheduler": diffusers.DDIMScheduler(**SD | task.schedule, clip_sample=False, set_alpha_to_one=False),
        "text_encoder": encoder(task.text),
        "tokenizer": words(folder, "first", 0 if task.text is CLIP_H else None),
        **task.more,
    }
    if task.unet is UPSCALER:
        parts["low_res_scheduler"] = diffusers.DDPMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="scaled_linear")
    elif task.unet is UNCLIP:
        parts["image_encoder"] = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**VIT_H)).eval()
        parts["feature_extractor"] = transformers.CLIPImageProcessorPil()
        parts["image_normalizer"] = StableUnCLIPImageNormalizer(1024)
        parts["image_noising_scheduler"] = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    elif not task.more:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    kind = getattr(diffusers, task.pipeline)
    pipeline: Any = kind(**parts)
    pipeline.save_pretrained(folder / "model")
    pipeline.set_progress_bar_config(disable=True)

    numbers = {"start": 0, "low_res": LOW_RES, "embedding": IMAGE_EMBEDDING, "masked": MASKED_IMAGE}

    def fed(draws: tuple[str, ...]) -> Any:
        """A generator that draws our noise."""
        left = iter(draws)

        def draw(shape: tuple[int, ...], **_: Any) -> torch.Tensor:
            name = next(left)
            return torch.zeros(tuple(shape)) if name == "mode" else Noise(SEED, [0], tuple(shape[1:]))(numbers[name])

        return draw

    vae_module.randn_tensor, sys.modules[kind.__module__].randn_tensor = fed(task.posteriors), fed(task.draws)
    given = {name: Image.open(folder / value) if str(value).endswith(".png") else value for name, value in task.given.items()}
    if "depth_map" in given:
        given["depth_map"] = torch.from_numpy(np.array(given["depth_map"]).astype(np.float32))[None]
    asked = {"num_inference_steps": TASK_STEPS, "guidance_scale": GUIDANCE, "negative_prompt": NEGATIVE}
    latent = pipeline(prompt=PROMPT, output_type="latent", **asked, **given).images
    return {"latent": latent, "picture": decoded(pipeline, latent)}


def pictures(folder: Path) -> None:
    """Soft colours, as a picture and as a quarter of one; a mask of whole cells; a slope as depth."""
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    for name, side in (("image", SIDE), ("small", SIDE // 4)):
        colours.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    mask, slope = np.zeros((SIDE, SIDE), np.uint8), np.add.outer(np.arange(SIDE), np.arange(SIDE) // 2)
    mask[SIDE // 4 : SIDE // 2, SIDE // 8 :] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray((slope * 255 // slope.max()).astype(np.uint8)).save(folder / "depth.png")


def ours(folder: Path, variant: str) -> dict[str, torch.Tensor]:
    import sumi
    from sumi.diffusion.guidance import cfg
    from sumi.diffusion.noise import Noise
    from sumi.diffusion.samplers.step import finish
    from sumi.diffusion.samplers.table import SAMPLERS
    from sumi.diffusion.spacings import spaced
    from sumi.models.latent_diffusion import Inputs

    model = sumi.load(folder / "model", precision="float32")
    assert model.spec.schedule.prediction == ("v" if variant == "sd21-v" else "eps")
    with torch.inference_mode():
        draws = Noise(0, [0], model.latent_shape(SIDE, SIDE))
        given, away = model.conditions([PROMPT], Inputs(), draws, negative=[NEGATIVE], size=(SIDE, SIDE))
        sigmas = spaced(model.schedule, STEPS, "leading")
        # Where the scheduler starts: its latents are x / sqrt(1 + sigma^2).
        x = noise() * (1 + sigmas[0] ** 2).sqrt()
        *_, last = SAMPLERS["ddim"].function(cfg(model.denoiser(), given, away, GUIDANCE), x, sigmas, draws)
        latent = finish(last.x, last.sigma)
        return {"latent": latent, "picture": model.decode(latent)}


def our_task(folder: Path, variant: str) -> dict[str, torch.Tensor]:
    import sumi

    model = sumi.load(folder / "model", precision="float32")
    asked = {name: str(folder / value) if str(value).endswith(".png") else value for name, value in TASKS[variant].asked.items()}
    asked |= {"prompt": PROMPT, "negative": NEGATIVE, "guidance": GUIDANCE}
    shown: list[torch.Tensor] = []
    model.autoencoder.decoder.register_forward_hook(lambda module, told, found: shown.append(found))
    (made,) = sumi.generate(model, seed=SEED, steps=TASK_STEPS, sampler="ddim", spacing="leading", **asked)
    return {"latent": made.latent[None], "picture": shown[0]}


def side(name: str, folder: Path, variant: str) -> None:
    began = time.perf_counter()
    ways = {"theirs": (theirs, their_task), "ours": (ours, our_task)}
    found = ways[name][variant in TASKS](folder, variant)
    save_file({part: tensor.contiguous() for part, tensor in found.items()}, folder / f"{name}.safetensors")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps({"side": name, "variant": variant, "peak_gib": round(peak / 2**20, 2), "seconds": round(time.perf_counter() - began, 1)})
    )


def both(folder: Path, variants: list[str]) -> None:
    """The largest difference of latents, relative to the largest of theirs, and of pictures in [0, 1]."""
    for variant in variants:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("theirs", "ours"):
            subprocess.run([sys.executable, __file__, name, folder, variant], check=True)
        one, other = (load_file(folder / f"{name}.safetensors") for name in ("theirs", "ours"))
        latent = (one["latent"] - other["latent"]).abs().max() / one["latent"].abs().max()
        shown = [(found["picture"] / 2 + 0.5).clamp(0, 1) for found in (one, other)]
        difference, contrast = (shown[0] - shown[1]).abs().max(), shown[0].std()
        figures = {"latent": f"{latent:.1e}", "picture": f"{difference:.1e}", "contrast": f"{contrast:.2f}"}
        print(json.dumps({"variant": variant, **figures}), flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder, variants = Path(sys.argv[2]), sys.argv[3:]
    if sys.argv[1] == "both":
        both(folder, variants)
    else:
        side(sys.argv[1], folder, variants[0])
