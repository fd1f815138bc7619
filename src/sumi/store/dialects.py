"""Names of tensors in the files of other projects, as two-way tables.

sumi's own names are those of Hugging Face folders. A *single file* of the original projects (CompVis, Stability AI) holds every
part of a model under a prefix, by names that number the blocks in the order in which they run. The tables are enumerated from a
config: each holds every tensor of the network that the config describes, and no other.

What a file has beside these (buffers of the schedule, averaged weights, losses, the layer of a text encoder that nothing reads)
is its reader's to report: see `leftover`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor

from sumi.config import AutoencoderConfig, BertConfig, ModelSpec, TextConfig, UNetConfig, VisionConfig
from sumi.errors import CheckpointError
from sumi.store.rules import Form, Rule, Rules, layer

RESNET = {"in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2", "out_layers.3": "conv2"}
CLIP_LAYER = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.out_proj",
    "layer_norm1",
    "mlp.fc1",
    "mlp.fc2",
    "layer_norm2",
)
OPEN_CLIP_LAYER = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "ln_2": "layer_norm2",
}
VISION = "embedder.model.visual."
LABEL: Rules = (Rule("embedding.weight", ("embedding.weight",)),)
MAP: Rules = (Rule("channel_mapper.weight", ("channel_mapper.weight",)),)

# Names that diffusers gave to attention without context before its version 0.15.
OLD_ATTENTION = re.compile(r"(?<=attentions\.)(\d+)\.(query|key|value|proj_attn)\.")
NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
# Names as transformers 5.6 and later save them.
BARE_TEXT = re.compile(r"^(?=embeddings\.|encoder\.layers\.|final_layer_norm\.)")


@dataclass(frozen=True)
class Part:
    """Where one network of a model lies in a single file."""

    name: str
    """unet, vae, text_encoder, text_encoder_2, bert, label_embedding, map_rescaler or image_encoder."""
    prefix: str
    rules: Rules


def parts(spec: ModelSpec) -> tuple[Part, ...]:
    """The networks of a single file, in the order in which the original projects define them."""
    # Stability AI's later code, of Stable Diffusion XL, keeps all conditioners in one list.
    listed = spec.unet.vector_width is not None and spec.unet.vector_name == "add_embedding"
    found = [Part("unet", "model.diffusion_model.", unet(spec.unet)), Part("vae", "first_stage_model.", autoencoder(spec.autoencoder))]
    for number, config in enumerate((spec.text, spec.text_2)):
        owner = f"conditioner.embedders.{number}." if listed else "cond_stage_model."
        match config:
            case BertConfig():
                found.append(Part("bert", f"{owner}transformer.", bert(config)))
            case TextConfig():
                # OpenAI's CLIP is read by transformers, OpenCLIP's by its own code; the activation tells whose it is.
                name, ours = ("text_encoder", "text_encoder_2")[number], config.activation == "quick_gelu"
                found.append(Part(name, owner + ("transformer." if ours else "model."), text(config, "clip" if ours else "open_clip")))
    if spec.label is not None:
        found.append(Part("label_embedding", "cond_stage_model.", LABEL))
    if spec.map is not None:
        found.append(Part("map_rescaler", "cond_stage_model.", MAP))
    if spec.vision is not None:
        found.append(Part("image_encoder", VISION, vision(spec.vision)))
    return tuple(found)


def unet(config: UNetConfig) -> Rules:
    """The noise predictor: openaimodel's UNetModel."""
    return tuple(_unet(config))


def autoencoder(config: AutoencoderConfig) -> Rules:
    """The first stage: ldm's AutoencoderKL or VQModel. No rules for the identity."""
    return () if config.identity else tuple(_autoencoder(config))


def text(config: TextConfig, kind: Literal["clip", "open_clip"]) -> Rules:
    """A text encoder as transformers' CLIP (Stable Diffusion 1 and XL's first) or as open_clip's (2 and XL's second)."""
    return tuple(_clip(config) if kind == "clip" else _open_clip(config))


def vision(config: VisionConfig) -> Rules:
    """An image encoder by the names that OpenAI and open_clip have for it, both of them."""
    return tuple(_vision(config))


def bert(config: BertConfig) -> Rules:
    """The text encoder of the latent diffusion paper: ldm's x_transformer."""
    return tuple(_bert(config))


def to_native(rules: Rules, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `tensors`, by original names without their prefix, are by native ones: views, but for the heads of an unconditional UNet.

    Absent tensors are passed over. CheckpointError for a shape that no network of the family has.
    """
    native: dict[str, Tensor] = {}
    for rule in rules:
        name = next((name for name in (rule.original, *rule.aliases) if name in tensors), None)
        if name is not None:
            try:
                native.update(zip(rule.native, rule.split(tensors[name]), strict=True))
            except (IndexError, RuntimeError) as error:
                shape = list(tensors[name].shape)
                raise CheckpointError(f"{name} has the shape {shape}, which is not of this model: use another file") from error
    return native


def to_original(rules: Rules, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of `to_native`; an original whose native tensors are not all there is passed over."""
    present = [rule for rule in rules if all(name in tensors for name in rule.native)]
    return {rule.original: rule.join([tensors[name] for name in rule.native]) for rule in present}


def leftover(rules: Rules, names: Iterable[str]) -> list[str]:
    """The original names that no rule reads, in their order."""
    known = {name for rule in rules for name in (rule.original, *rule.aliases)}
    return [name for name in names if name not in known]


def ema_name(name: str) -> str:
    """Where a single file keeps the average over training of the weight that is called `name`, prefix included."""
    return "model_ema." + name.removeprefix("model.").replace(".", "")


def native_name(name: str) -> str:
    """The native name of a tensor of a folder of any age, as far as it is known."""
    return BARE_TEXT.sub("text_model.", OLD_ATTENTION.sub(lambda found: f"{found[1]}.{NEW_ATTENTION[found[2]]}.", name))


def _unet(config: UNetConfig) -> Iterator[Rule]:
    channels, levels = config.block_channels, range(len(config.block_channels))
    yield from layer("time_embed.0", "time_embedding.linear_1")
    yield from layer("time_embed.2", "time_embedding.linear_2")
    if config.label_classes is not None:
        yield Rule("label_emb.weight", ("class_embedding.weight",))
    if config.vector_width is not None:
        yield from layer("label_emb.0.0", f"{config.vector_name}.linear_1")
        yield from layer("label_emb.0.2", f"{config.vector_name}.linear_2")
    yield from layer("input_blocks.0.0", "conv_in")

    def attention(original: str, native: str, level: int, depth: int) -> Iterator[Rule]:
        if config.context_width is None:
            return _unet_attention(original, native, config.heads_at(level))
        return _transformer(original, native, depth)

    number, width, skips = 1, channels[0], [channels[0]]
    for level, out in enumerate(channels):
        native = f"down_blocks.{level}"
        for index in range(config.layers_per_block):
            yield from _resnet(f"input_blocks.{number}.0", f"{native}.resnets.{index}", width != out)
            if depth := config.attention_depth[level]:
                yield from attention(f"input_blocks.{number}.1", f"{native}.attentions.{index}", level, depth)
            width = out
            skips.append(out)
            number += 1
        if level < levels[-1]:
            yield from _resampler(config, f"input_blocks.{number}.0", f"{native}.downsamplers.0", "op")
            skips.append(out)
            number += 1

    yield from _resnet("middle_block.0", "mid_block.resnets.0", shortcut=False)
    if config.middle_depth:
        yield from attention("middle_block.1", "mid_block.attentions.0", -1, config.middle_depth)
    yield from _resnet(f"middle_block.{2 if config.middle_depth else 1}", "mid_block.resnets.1", shortcut=False)

    number = 0
    for block, level in enumerate(reversed(levels)):
        native, out, depth = f"up_blocks.{block}", channels[level], config.attention_depth[level]
        for index in range(config.layers_per_block + 1):
            yield from _resnet(f"output_blocks.{number}.0", f"{native}.resnets.{index}", width + skips.pop() != out)
            if depth:
                yield from attention(f"output_blocks.{number}.1", f"{native}.attentions.{index}", level, depth)
            width = out
            number += 1
        if level > 0:
            yield from _resampler(config, f"output_blocks.{number - 1}.{2 if depth else 1}", f"{native}.upsamplers.0", "conv")

    yield from layer("out.0", "conv_norm_out")
    yield from layer("out.2", "conv_out")


def _resnet(original: str, native: str, shortcut: bool) -> Iterator[Rule]:
    for theirs, ours in RESNET.items():
        yield from layer(f"{original}.{theirs}", f"{native}.{ours}")
    if shortcut:
        yield from layer(f"{original}.skip_connection", f"{native}.conv_shortcut")


def _resampler(config: UNetConfig, original: str, native: str, convolution: str) -> Iterator[Rule]:
    if config.residual_resampling:
        return _resnet(original, native, shortcut=False)
    return layer(f"{original}.{convolution}", f"{native}.conv")


def _transformer(original: str, native: str, depth: int) -> Iterator[Rule]:
    """A spatial transformer, whose inner names are the same in both."""
    yield from layer(f"{original}.norm", f"{native}.norm")
    yield from layer(f"{original}.proj_in", f"{native}.proj_in")
    for number in range(depth):
        block = f"transformer_blocks.{number}"
        for attention in ("attn1", "attn2"):
            for bare in ("to_q", "to_k", "to_v"):
                yield Rule(f"{original}.{block}.{attention}.{bare}.weight", (f"{native}.{block}.{attention}.{bare}.weight",))
            yield from layer(f"{original}.{block}.{attention}.to_out.0", f"{native}.{block}.{attention}.to_out.0")
        for name in ("ff.net.0.proj", "ff.net.2", "norm1", "norm2", "norm3"):
            yield from layer(f"{original}.{block}.{name}", f"{native}.{block}.{name}")
    yield from layer(f"{original}.proj_out", f"{native}.proj_out")


def _unet_attention(original: str, native: str, heads: int) -> Iterator[Rule]:
    """Attention over the picture alone: one convolution for query, key and value (QKVAttentionLegacy)."""
    yield from layer(f"{original}.norm", f"{native}.group_norm")
    forms: tuple[tuple[str, Form], ...] = (("weight", "conv1d"), ("bias", "same"))
    for kind, form in forms:
        yield Rule(f"{original}.qkv.{kind}", tuple(f"{native}.to_{which}.{kind}" for which in "qkv"), form, heads)
    yield from layer(f"{original}.proj_out", f"{native}.to_out.0", "conv1d")


def _autoencoder(config: AutoencoderConfig) -> Iterator[Rule]:
    channels, top = config.block_channels, len(config.block_channels) - 1
    yield from layer("encoder.conv_in", "encoder.conv_in")
    width = channels[0]
    for level, out in enumerate(channels):
        widths = [width] + [out] * config.layers_per_block
        yield from _level(config, f"encoder.down.{level}", f"encoder.down_blocks.{level}", level, widths)
        if level < top:
            yield from layer(f"encoder.down.{level}.downsample.conv", f"encoder.down_blocks.{level}.downsamplers.0.conv")
        width = out
    yield from _ends(config, "encoder")
    yield from layer("decoder.conv_in", "decoder.conv_in")
    for level in reversed(range(top + 1)):
        # The original runs its levels backwards, but counts them as the encoder does.
        original, native = f"decoder.up.{level}", f"decoder.up_blocks.{top - level}"
        widths = [width] + [channels[level]] * (config.layers_per_block + 1)
        yield from _level(config, original, native, level, widths)
        if level > 0:
            yield from layer(f"{original}.upsample.conv", f"{native}.upsamplers.0.conv")
        width = channels[level]
    yield from _ends(config, "decoder")
    yield from layer("quant_conv", "quant_conv")
    yield from layer("post_quant_conv", "post_quant_conv")
    if config.codebook_size is not None:
        yield Rule("quantize.embedding.weight", ("quantize.embedding.weight",))


def _level(config: AutoencoderConfig, original: str, native: str, level: int, widths: list[int]) -> Iterator[Rule]:
    """The residual blocks between `widths`, and the attention after each."""
    for index, (width, out) in enumerate(pairwise(widths)):
        yield from _block(f"{original}.block.{index}", f"{native}.resnets.{index}", width != out)
        if config.attention_levels[level]:
            yield from _block_attention(f"{original}.attn.{index}", f"{native}.attentions.{index}")


def _ends(config: AutoencoderConfig, coder: str) -> Iterator[Rule]:
    """What the encoder and the decoder have besides levels."""
    for number in (0, 1):
        yield from _block(f"{coder}.mid.block_{number + 1}", f"{coder}.mid_block.resnets.{number}", shortcut=False)
    if config.middle_attention:
        yield from _block_attention(f"{coder}.mid.attn_1", f"{coder}.mid_block.attentions.0")
    yield from layer(f"{coder}.norm_out", f"{coder}.conv_norm_out")
    yield from layer(f"{coder}.conv_out", f"{coder}.conv_out")


def _block(original: str, native: str, shortcut: bool) -> Iterator[Rule]:
    for name in ("norm1", "conv1", "norm2", "conv2"):
        yield from layer(f"{original}.{name}", f"{native}.{name}")
    if shortcut:
        yield from layer(f"{original}.nin_shortcut", f"{native}.conv_shortcut")


def _block_attention(original: str, native: str) -> Iterator[Rule]:
    yield from layer(f"{original}.norm", f"{native}.group_norm")
    for theirs, ours in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
        yield from layer(f"{original}.{theirs}", f"{native}.{ours}", "conv")


def _clip(config: TextConfig) -> Iterator[Rule]:
    for name in _clip_names(config):
        # Some early merges of Stable Diffusion 1 leave the first word out.
        yield Rule(name, (name,), aliases=(name.removeprefix("text_model."),))


def _clip_names(config: TextConfig) -> Iterator[str]:
    yield "text_model.embeddings.token_embedding.weight"
    yield "text_model.embeddings.position_embedding.weight"
    modules = [f"encoder.layers.{number}.{name}" for number in range(config.layers) for name in CLIP_LAYER]
    for module in (*modules, "final_layer_norm"):
        yield f"text_model.{module}.weight"
        yield f"text_model.{module}.bias"
    if config.projection_width is not None:
        yield "text_projection.weight"


def _open_clip(config: TextConfig) -> Iterator[Rule]:
    yield Rule("token_embedding.weight", ("text_model.embeddings.token_embedding.weight",))
    yield Rule("positional_embedding", ("text_model.embeddings.position_embedding.weight",))
    yield from _open_clip_layers(config.layers, "text_model")
    yield from layer("ln_final", "text_model.final_layer_norm")
    if config.projection_width is not None:
        yield Rule("text_projection", ("text_projection.weight",), "transposed")


def _vision(config: VisionConfig) -> Iterator[Rule]:
    yield Rule("class_embedding", ("vision_model.embeddings.class_embedding",))
    yield Rule("positional_embedding", ("vision_model.embeddings.position_embedding.weight",))
    yield Rule("conv1.weight", ("vision_model.embeddings.patch_embedding.weight",))
    yield from layer("ln_pre", "vision_model.pre_layrnorm")
    yield from _open_clip_layers(config.layers, "vision_model")
    yield from layer("ln_post", "vision_model.post_layernorm")
    yield Rule("proj", ("visual_projection.weight",), "transposed")


def _open_clip_layers(layers: int, model: str) -> Iterator[Rule]:
    for number in range(layers):
        original, native = f"transformer.resblocks.{number}", f"{model}.encoder.layers.{number}"
        for kind in ("weight", "bias"):
            yield Rule(f"{original}.attn.in_proj_{kind}", tuple(f"{native}.self_attn.{which}_proj.{kind}" for which in "qkv"))
        for theirs, ours in OPEN_CLIP_LAYER.items():
            yield from layer(f"{original}.{theirs}", f"{native}.{ours}")


def _bert(config: BertConfig) -> Iterator[Rule]:
    yield Rule("token_emb.weight", ("model.embed_tokens.weight",))
    yield Rule("pos_emb.emb.weight", ("model.embed_positions.weight",))
    for number in range(config.layers):
        # The original counts attentions and perceptrons in one list.
        attention, perceptron = f"attn_layers.layers.{2 * number}", f"attn_layers.layers.{2 * number + 1}"
        native = f"model.layers.{number}"
        yield from layer(f"{attention}.0", f"{native}.self_attn_layer_norm")
        for which in "qkv":
            yield Rule(f"{attention}.1.to_{which}.weight", (f"{native}.self_attn.{which}_proj.weight",))
        yield from layer(f"{attention}.1.to_out", f"{native}.self_attn.out_proj")
        yield from layer(f"{perceptron}.0", f"{native}.final_layer_norm")
        yield from layer(f"{perceptron}.1.net.0.0", f"{native}.fc1")
        yield from layer(f"{perceptron}.1.net.2", f"{native}.fc2")
    yield from layer("norm", "model.layer_norm")
    yield from layer("to_logits", "to_logits")
