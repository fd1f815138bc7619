"""One side of a comparison at real size, in a process of its own, so that what each takes of memory can be told.

    python full_size.py theirs FOLDER VARIANT    make a model of random weights with diffusers, save it, make its picture
    python full_size.py ours FOLDER VARIANT      open that folder with sumi, make the same

Each writes FOLDER/<side>.safetensors (latent and picture) and prints its peak memory and times as JSON.
"""

import json
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

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


def noise() -> torch.Tensor:
    return torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(0))


def theirs(folder: Path, variant: str) -> dict[str, torch.Tensor]:
    import diffusers
    import transformers

    from sumi.store.vocabulary import find_clip_vocabulary
    from sumi.text.bpe import Tokenizer

    unet, schedule, first, second = VARIANTS[variant]
    torch.manual_seed(0)
    vocab, merges = find_clip_vocabulary()

    def words(name: str, pad_id: int | None) -> Any:
        Tokenizer(vocab, merges, pad_id=pad_id).save(folder / "words" / name)
        return transformers.CLIPTokenizer.from_pretrained(folder / "words" / name)

    def encoder(described: dict[str, Any], kind: Any, **fields: Any) -> Any:
        return kind(
            transformers.CLIPTextConfig(vocab_size=49408, bos_token_id=0, eos_token_id=2, pad_token_id=1, **described, **fields)
        ).eval()

    parts: dict[str, Any] = {
        "unet": diffusers.UNet2DConditionModel(**unet).eval(),
        "vae": diffusers.AutoencoderKL(**VAE, scaling_factor=0.13025 if second else 0.18215).eval(),
        "scheduler": diffusers.DDIMScheduler(**SD, **schedule, clip_sample=False, set_alpha_to_one=False),
        "text_encoder": encoder(first, transformers.CLIPTextModel),
        "tokenizer": words("first", 0 if first is CLIP_H else None),
    }
    # At the weights that networks start from, words hardly matter: cross-attention is made strong enough to be heard.
    with torch.no_grad():
        for name, weight in parts["unet"].named_parameters():
            if "attn2.to_out.0.weight" in name:
                weight.mul_(5)
    if second:
        parts["text_encoder_2"] = encoder(second, transformers.CLIPTextModelWithProjection, projection_dim=1280)
        parts["tokenizer_2"] = words("second", 0)
        pipeline: Any = diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    else:
        pipeline = diffusers.StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.save_pretrained(folder / "model")
    pipeline.set_progress_bar_config(disable=True)
    asked = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "negative_prompt": NEGATIVE, "height": SIDE, "width": SIDE}
    latent = pipeline(PROMPT, latents=noise(), output_type="latent", **asked).images
    with torch.no_grad():
        picture = pipeline.vae.decode(latent / pipeline.vae.config.scaling_factor).sample
    return {"latent": latent, "picture": picture}


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


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    side, folder, variant = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    began = time.perf_counter()
    found = {"theirs": theirs, "ours": ours}[side](folder, variant)
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, folder / f"{side}.safetensors")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps({"side": side, "variant": variant, "peak_gib": round(peak / 2**20, 2), "seconds": round(time.perf_counter() - began, 1)})
    )
