"""What a file holds, from the names and shapes of its tensors and from what it says of itself. Nothing is guessed.

Legend: names are those of the original single files (`dialects`); a form is a U-Net's configuration as far as shapes show it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from sumi.config import AutoencoderConfig, ModelSpec, Prediction, UNetConfig
from sumi.errors import CheckpointError
from sumi.models import zoo
from sumi.models.zoo import ZOO
from sumi.store import dialects

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
Says: TypeAlias = Mapping[str, Any]
"""What a file says of itself: a safetensors file's metadata, the numbers beside a pickle's tensors, the text of a `yaml` file."""

Kind = Literal["model", "unet", "autoencoder", "text encoder", "lora", "embedding", "controlnet", "adapter", "unknown"]

UNET, AUTOENCODER, CONDITIONERS = "model.diffusion_model.", "first_stage_model.", ("cond_stage_model.", "conditioner.")
AUTOENCODER_PREFIXES = (AUTOENCODER, "vae.", "")
"""The second is of some repackaged files, the last of an autoencoder alone."""
UNET_PREFIXES = (UNET, "diffusion_model.", "")
EMA = "model_ema."
# Of the schedule and of training, which sumi computes or has no use for, in files of every age.
IGNORED = re.compile(
    r"(betas|alphas_cumprod|alphas_cumprod_prev|sqrt_\w+|log_one_minus_alphas_cumprod|posterior_\w+|logvar|lvlb_weights|scale_factor"
    r"|denoiser\.sigmas|v_pred|ztsnr|model_ema\..*|.*\.position_ids|.*\.logit_scale|.*\.attn_mask|first_stage_model\.loss\..*|loss\..*"
    r"|low_scale_model\..*|depth_model\..*|embedder\..*|noise_augmentor\..*"
    # The latent diffusion paper's inpainting keeps its first stage a second time, as what reads its conditions.
    r"|cond_stage_model\.(encoder|decoder|quant_conv|post_quant_conv|quantize|loss)\..*"
    # The layer of Stable Diffusion 2's text encoder that nothing reads, and its projection.
    r"|cond_stage_model\.model\.(transformer\.resblocks\.23\..*|text_projection))"
)
LORA = re.compile(
    r"\.(lora_(up|down|A|B)\.|lora\.(up|down)\.|hada_w1|lokr_w|diff$|diff_b$|oft_blocks|on_input$)|_lora\.(up|down)\.|lora_linear_layer\."
)
EMBEDDING = {"emb_params", "clip_l", "clip_g"}
SAYINGS = {"epsilon": "eps", "eps": "eps", "v": "v", "v_prediction": "v", "sample": "x0"}


@dataclass(frozen=True)
class Found:
    """A model that a file holds: what it is, and how its prediction is known, for people to read."""

    spec: ModelSpec
    known_by: str
    ema: bool
    """Whether averaged weights are in the file, too."""


def kind(shapes: Shapes) -> Kind:
    """What sort of file these tensors are."""
    names = list(shapes)
    if any("control_model." in n or "input_hint_block" in n or "controlnet_" in n or n == "lora_controlnet" for n in names):
        return "controlnet"
    if any(LORA.search(name) for name in names):
        return "lora"
    if any(n.startswith(("adapter.", "image_proj.", "ip_adapter.", "body.")) for n in names):
        return "adapter"
    if EMBEDDING & set(names) or any(n.startswith("string_to_param") for n in names):
        return "embedding"
    if len(names) == 1 and len(shapes[names[0]]) <= 2 and shapes[names[0]][-1:] in ((768,), (1024,), (1280,)):
        return "embedding"
    autoencoder = _has(shapes, AUTOENCODER_PREFIXES, "decoder.conv_in.weight")
    if _has(shapes, UNET_PREFIXES, "input_blocks.0.0.weight"):
        return "model" if autoencoder else "unet"
    if autoencoder:
        return "autoencoder"
    if any(n.startswith(CONDITIONERS) or "text_model." in n or "transformer.resblocks." in n for n in names):
        return "text encoder"
    return "unknown"


def identify(
    shapes: Shapes,
    says: Says,
    where: str,
    *,
    prediction: Prediction | None = None,
    specs: Iterable[ModelSpec] = ZOO.values(),
) -> Found:
    """The spec of the model in a single file.

    shapes: of every tensor. says: what the file says of itself. where: its name, for errors, and for which of two models of one shape
    it may be called. prediction: what the user says. CheckpointError if the file is another sort of thing, is of no known variant, or
    if nothing says what its network predicts.
    """
    found = kind(shapes)
    if found == "unet":  # all that there is of a model whose latents are pixels
        specs = [spec for spec in specs if spec.autoencoder.identity]
    elif found != "model":
        raise CheckpointError(f"{where} {REFUSALS[found]}")
    if f"{UNET}input_blocks.0.0.weight" not in shapes:  # by itself, under a shorter name
        raise CheckpointError(f"{where} {REFUSALS['unet']}")
    form = unet_form({name.removeprefix(UNET): shape for name, shape in shapes.items() if name.startswith(UNET)}, where)
    alike = [spec for spec in specs if _form(spec.unet) == form]
    candidates = [spec for spec in alike if _has_parts(spec, shapes)]
    if not candidates:
        if found == "unet":
            raise CheckpointError(f"{where} {REFUSALS[found]}")
        holds = f"the U-Net of {alike[0].name} without its other parts" if alike else f"a U-Net of no known variant ({_told(form)})"
        raise CheckpointError(f"{where} holds {holds}: use a whole model of the latent diffusion family")
    spec, known_by = _choose(candidates, shapes, says, where, prediction)
    if not any(name.startswith(dialects.VISION) for name in shapes):  # a file that makes pictures of words alone
        spec = replace(spec, vision=None)
    if "ztsnr" in shapes:
        spec = replace(spec, schedule=replace(spec.schedule, zero_terminal_snr=True))
    return Found(spec, known_by, ema=sum(name.startswith(EMA) for name in shapes) > 100)


def unet_form(shapes: Shapes, where: str) -> UNetConfig:
    """A U-Net's configuration from its original names and shapes, without prefix; heads, groups and the vector's name do not show.

    CheckpointError if they are not of one of the family.
    """
    try:
        return _unet_form(shapes)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        told = f"{where} has no complete U-Net of the family (looking for {error})"
        raise CheckpointError(f"{told}: download it again, or use another") from None


def autoencoder_form(shapes: Shapes) -> list[AutoencoderConfig]:
    """The known autoencoders whose tensors these are, by original names without prefix; several differ in their scale alone."""
    known = [config for config in vars(zoo).values() if isinstance(config, AutoencoderConfig) and not config.identity]
    names = {name for name in shapes if not ignorable(name)}
    fitting = [config for config in known if {rule.original for rule in dialects.autoencoder(config)} == names]
    codebook = shapes.get("quantize.embedding.weight", (None,))[0]
    latent = shapes.get("decoder.conv_in.weight", (0, 0))[1]
    return [config for config in fitting if (config.codebook_size, config.latent_channels) == (codebook, latent)]


def ignorable(name: str) -> bool:
    """Whether a tensor of a single file is one that a model does without."""
    return IGNORED.fullmatch(name) is not None


REFUSALS: dict[str, str] = {
    "lora": "is a LoRA, not a model: it changes one; load the model it was made for",
    "embedding": "is a textual inversion embedding, not a model: it adds a word to one",
    "controlnet": "is a ControlNet, not a model: it steers one; load the model it was made for",
    "adapter": "is an adapter, not a model: load the model it was made for",
    "autoencoder": "is an autoencoder alone: load a whole model, or look at it with sumi inspect",
    "text encoder": "is a text encoder alone: load a whole model",
    "unet": "is a U-Net alone, without autoencoder and text encoder: load a whole model",
    "unknown": "holds no model of the latent diffusion family: none of its tensors has a name of one",
}


def _unet_form(shapes: Shapes) -> UNetConfig:
    numbers = [int(name.split(".")[1]) for name in shapes if name.startswith("output_blocks.")]
    if not numbers:
        raise KeyError("output_blocks")
    outputs = 1 + max(numbers)
    up = re.compile(r"output_blocks\.\d+\.[12]\.(conv|in_layers\.2)\.weight")
    levels = 1 + sum(up.fullmatch(name) is not None for name in shapes)
    per_level = outputs // levels - 1
    depths: dict[str, int] = {}
    for name in shapes:
        if match := re.match(r"((?:input|output)_blocks\.\d+\.1|middle_block\.1)\.(?:transformer_blocks\.(\d+)\.|qkv\.)", name):
            depths[match[1]] = max(depths.get(match[1], 0), int(match[2] or 0) + 1)
    firsts = [1 + level * (per_level + 1) for level in range(levels)]
    channels = tuple(shapes[f"input_blocks.{first}.0.out_layers.3.weight"][0] for first in firsts)
    contexts = [shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight")]
    context = contexts[0] if contexts else None
    asked = [shapes.get(f"input_blocks.{first}.1.transformer_blocks.0.attn1.to_k.weight", (0, 0))[1] for first in firsts]
    embedded = shapes["input_blocks.1.0.emb_layers.1.weight"][0]
    linear = [len(shape) == 2 for name, shape in shapes.items() if name.endswith(".1.proj_in.weight")]
    return UNetConfig(
        in_channels=shapes["input_blocks.0.0.weight"][1],
        out_channels=shapes["out.2.weight"][0],
        block_channels=channels,
        layers_per_block=per_level,
        attention_depth=tuple(depths.get(f"input_blocks.{first}.1", 0) for first in firsts),
        middle_depth=depths.get("middle_block.1", 0),
        context_width=context,
        linear_projection=any(linear),
        cross_only=tuple(width == context != out for width, out in zip(asked, channels, strict=True)),
        scale_shift=embedded == 2 * channels[0],
        residual_resampling=levels > 1 and f"input_blocks.{firsts[1] - 1}.0.op.weight" not in shapes,
        label_classes=shapes["label_emb.weight"][0] if "label_emb.weight" in shapes else None,
        vector_width=shapes["label_emb.0.0.weight"][1] if "label_emb.0.0.weight" in shapes else None,
    )


def _form(config: UNetConfig) -> UNetConfig:
    """What shapes show of a configuration: everything but heads, groups and what the vector's perceptron is called."""
    nothing = UNetConfig()
    # Where there is no attention, or its width is the context's, the shapes do not say whom it attends to.
    levels = zip(config.cross_only, config.attention_depth, config.block_channels, strict=True)
    cross = (only and depth > 0 and width != config.context_width for only, depth, width in levels)
    return replace(
        config,
        heads=nothing.heads,
        head_width=nothing.head_width,
        norm_groups=nothing.norm_groups,
        vector_name=nothing.vector_name,
        cross_only=tuple(cross),
    )


def _has_parts(spec: ModelSpec, shapes: Shapes) -> bool:
    """Whether a tensor of each other part of a spec is there, but for the image encoder, and its latents are as wide."""
    for part in dialects.parts(replace(spec, vision=None)):
        if part.rules and not any(part.prefix + rule.original in shapes or _alias(part, rule.aliases, shapes) for rule in part.rules[:1]):
            return False
    codebook = shapes.get(f"{AUTOENCODER}quantize.embedding.weight", (None,))[0]
    return spec.autoencoder.identity or codebook == spec.autoencoder.codebook_size


def _alias(part: dialects.Part, aliases: Sequence[str], shapes: Shapes) -> bool:
    return any(part.prefix + alias in shapes for alias in aliases)


def _choose(candidates: Sequence[ModelSpec], shapes: Shapes, says: Says, where: str, asked: Prediction | None) -> tuple[ModelSpec, str]:
    """Of specs of one shape, the one that predicts what the file says, or is said to; the plain one before those of few steps."""
    prediction, known_by = _prediction(candidates, shapes, says, where, asked)
    fitting = [spec for spec in candidates if spec.schedule.prediction == prediction]
    if not fitting:
        first = candidates[0]
        return replace(first, schedule=replace(first.schedule, prediction=prediction)), known_by
    title = f"{says.get('modelspec.title', '')} {where}".lower()
    # Distilled models have the shape of what they were made of: only what they are called tells.
    fitting = sorted(fitting, key=lambda spec: spec.name.endswith("turbo") != ("turbo" in title))
    return fitting[0], known_by


def _prediction(
    candidates: Sequence[ModelSpec], shapes: Shapes, says: Says, where: str, asked: Prediction | None
) -> tuple[Prediction, str]:
    if asked is not None:
        return asked, "as you said"
    for key in ("modelspec.prediction_type", "prediction_type"):
        if (said := SAYINGS.get(str(says.get(key, "")).lower())) is not None:
            return said, f"its metadata: {key}"  # type: ignore[return-value]
    architecture = str(says.get("modelspec.architecture", ""))
    if architecture.startswith("stable-diffusion-v2-"):
        return ("v" if architecture.startswith("stable-diffusion-v2-768-v") else "eps"), "its metadata: modelspec.architecture"
    if "v_pred" in shapes:
        return "v", "the tensor v_pred in it"
    if (yaml := says.get("yaml")) is not None:
        given = re.search(r"^\s*parameterization:\s*[\"']?(\w+)", str(yaml), re.MULTILINE)
        return ("v" if given is not None and given[1] == "v" else "eps"), "the .yaml file beside it"
    if says.get("global_step") == 875_000:
        return "eps", "its number of training steps, that of Stable Diffusion 2's base"
    predictions = {spec.schedule.prediction for spec in candidates}
    if len(predictions) == 1:
        return predictions.pop(), "its shape: every published model of it predicts the same"
    names = " or ".join(f"--prediction {spec.schedule.prediction} ({spec.name}, {spec.size[1]} px)" for spec in candidates[:2])
    raise CheckpointError(f"{where} does not say what its network predicts, and models of its shape differ: add {names}")


def _has(shapes: Shapes, prefixes: Iterable[str], name: str) -> bool:
    return any(prefix + name in shapes for prefix in prefixes)


def _told(form: UNetConfig) -> str:
    """The parts of a form that tell variants apart."""
    return f"of {form.in_channels} input channels, widths {'-'.join(map(str, form.block_channels))}, context {form.context_width}"
