"""A model's description as diffusers and transformers write it, and as sumi does: JSON <-> the configs of `sumi.config`.

Their fields say nearly everything. What they cannot say (`ModelSpec.steps`, which layer of a text encoder is read, ...) is
kept as the difference from what they do say, by `differences` and `amended`. A field that asks for something sumi does not
do is refused, never passed over.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeAlias

from sumi import config as kinds
from sumi.config import AutoencoderConfig, BertConfig, TextConfig, UNetConfig
from sumi.errors import CheckpointError
from sumi.store.sound import sound

CLASSES: dict[str, Any] = {name: kind for name, kind in vars(kinds).items() if is_dataclass(kind)}
Json: TypeAlias = dict[str, Any]

# What every model of the family has in common. The first value is what diffusers takes a missing field for.
Fixed: TypeAlias = Mapping[str, tuple[object, ...]]
UNET: Fixed = {
    "act_fn": ("silu", "swish"),
    "center_input_sample": (False,),
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
    "downsample_padding": (1,),
    "mid_block_scale_factor": (1,),
    "norm_eps": (1e-5,),
    "time_embedding_type": ("positional",),
    "time_embedding_dim": (None,),
}
UNET_WITH_CONTEXT: Fixed = {
    **UNET,
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "mid_block_only_cross_attention": (None, False),
    "reverse_transformer_layers_per_block": (None,),
    "num_attention_heads": (None,),
    "attention_type": ("default",),
    "dual_cross_attention": (False,),
    "cross_attention_norm": (None,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "class_embed_type": (None, "projection"),
    "class_embeddings_concat": (False,),
    "addition_embed_type": (None, "text_time"),
    "addition_time_embed_dim": (None, 256),
    "time_cond_proj_dim": (None,),
    "time_embedding_act_fn": (None,),
    "timestep_post_act": (None,),
    "resnet_skip_time_act": (False,),
    "resnet_out_scale_factor": (1,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
}
UNET_WITHOUT_CONTEXT: Fixed = {**UNET, "mid_block_type": ("UNetMidBlock2D",), "class_embed_type": (None,)}
AUTOENCODER: Fixed = {
    "act_fn": ("silu", "swish"),
    "shift_factor": (None, 0),
    "latents_mean": (None,),
    "latents_std": (None,),
    "use_quant_conv": (True,),
    "use_post_quant_conv": (True,),
    "norm_type": ("group",),
    "lookup_from_codebook": (False,),
}
BERT: Fixed = {"model_type": ("ldmbert",), "activation_function": ("gelu",), "scale_embedding": (False,)}
TEXT: Fixed = {"layer_norm_eps": (1e-5,), "model_type": ("clip_text_model",)}


def unet_json(config: UNetConfig) -> Json:
    """diffusers' UNet2DConditionModel, or UNet2DModel if there is no context."""
    levels = range(len(config.block_channels))
    heads = [config.heads_at(level) for level in levels]
    common = {
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": list(config.block_channels),
        "layers_per_block": config.layers_per_block,
        "norm_num_groups": config.norm_groups,
        "num_class_embeds": config.label_classes,
        "resnet_time_scale_shift": "scale_shift" if config.scale_shift else "default",
        "down_block_types": [_block(config, level, "Down") for level in levels],
        "up_block_types": [_block(config, level, "Up") for level in reversed(levels)],
    }
    if config.context_width is None:
        widths = [width // count for width, count in zip(config.block_channels, heads, strict=True)]
        return {
            "_class_name": "UNet2DModel",
            **written(UNET_WITHOUT_CONTEXT),
            **common,
            # Where the width of a head differs by level, diffusers has no word; a list stops it from guessing.
            "attention_head_dim": config.head_width or (None if set(heads) == {1} else widths),
            "attn_norm_num_groups": config.norm_groups,
            "add_attention": config.middle_depth > 0,
            "downsample_type": "resnet" if config.residual_resampling else "conv",
            "upsample_type": "resnet" if config.residual_resampling else "conv",
        }
    # The middle takes the last level's depth; where there is no attention the number says nothing.
    depths = [depth or 1 for depth in config.attention_depth[:-1]] + [config.attention_depth[-1] or config.middle_depth]
    vector = {
        "projection_class_embeddings_input_dim": config.vector_width,
        "class_embed_type": "projection" if config.vector_name == "class_embedding" else None,
        "addition_embed_type": "text_time" if config.vector_name == "add_embedding" else None,
        "addition_time_embed_dim": 256 if config.vector_name == "add_embedding" else None,
    }
    return {
        "_class_name": "UNet2DConditionModel",
        **written(UNET_WITH_CONTEXT),
        **common,
        "attention_head_dim": config.heads if isinstance(config.heads, int) else heads,  # diffusers' word for their number
        "cross_attention_dim": config.context_width,
        "transformer_layers_per_block": depths if len(set(depths)) > 1 else depths[0],
        "only_cross_attention": list(config.cross_only) if any(config.cross_only) else False,
        "use_linear_projection": config.linear_projection,
        **(vector if config.vector_width is not None else {}),
    }


def unet_config(json: Json) -> UNetConfig:
    """The reverse of `unet_json`."""
    crossed = choice(json, "_class_name", {"UNet2DConditionModel": True, "UNet2DModel": False})
    check(json, UNET_WITH_CONTEXT if crossed else UNET_WITHOUT_CONTEXT)
    channels, downs = tuple(json["block_out_channels"]), json["down_block_types"]
    attends = ["Attn" in down for down in downs]
    head = json.get("attention_head_dim", 8)
    common: Json = {
        "in_channels": json["in_channels"],
        "out_channels": json["out_channels"],
        "block_channels": channels,
        "layers_per_block": json.get("layers_per_block", 2),
        "norm_groups": json.get("norm_num_groups", 32),
        "label_classes": json.get("num_class_embeds"),
        "scale_shift": choice(json, "resnet_time_scale_shift", {"default": False, "scale_shift": True}, "default"),
        "residual_resampling": json.get("downsample_type") == "resnet" or any(down.startswith("Resnet") for down in downs),
    }
    if crossed:
        depth, only = json.get("transformer_layers_per_block", 1), json.get("only_cross_attention", False)
        depths = depth if isinstance(depth, list) else [depth] * len(channels)
        projection, text_time = json.get("class_embed_type"), json.get("addition_embed_type")
        if projection and text_time:
            raise CheckpointError("it takes two vectors: use a model of the Stable Diffusion family")
        config = UNetConfig(
            **common,
            **({"heads": head} if isinstance(head, int) else _heads(channels, head)),
            attention_depth=tuple(d if attend else 0 for d, attend in zip(depths, attends, strict=True)),
            middle_depth=depths[-1],
            context_width=json.get("cross_attention_dim", 1280),
            linear_projection=json.get("use_linear_projection", False),
            cross_only=tuple(only) if isinstance(only, list) else (only,) * len(channels),
            vector_width=json["projection_class_embeddings_input_dim"] if projection or text_time else None,
            vector_name="class_embedding" if projection else "add_embedding",
        )
    else:
        counts = [] if isinstance(head, int) else [c // w for c, w in zip(channels, head or channels, strict=True)]
        config = UNetConfig(
            **common,
            **({"heads": None, "head_width": head} if isinstance(head, int) else _heads(channels, counts)),
            attention_depth=tuple(int(attend) for attend in attends),
            middle_depth=int(json.get("add_attention", True)),
            cross_only=(False,) * len(channels),
            context_width=None,
        )
    ups = [_block(config, level, "Up") for level in reversed(range(len(channels)))]
    if downs != [_block(config, level, "Down") for level in range(len(channels))] or json["up_block_types"] != ups:
        raise CheckpointError(f"blocks {downs} and {json['up_block_types']} are not sumi's: use a model of the Stable Diffusion family")
    return sound(config)


def autoencoder_json(config: AutoencoderConfig) -> Json:
    """diffusers' AutoencoderKL, or VQModel if there is a codebook."""
    kinds = ["Attn" if attends else "" for attends in config.attention_levels]
    # diffusers has no word for patches: it opens the network that they enter and leave as channels.
    channels = config.image_channels * config.patch_size**2
    common = {
        "act_fn": "silu",
        "in_channels": channels,
        "out_channels": channels,
        "latent_channels": config.latent_channels,
        "block_out_channels": list(config.block_channels),
        "layers_per_block": config.layers_per_block,
        "down_block_types": [f"{kind}DownEncoderBlock2D" for kind in kinds],
        "up_block_types": [f"{kind}UpDecoderBlock2D" for kind in reversed(kinds)],
        "mid_block_add_attention": config.middle_attention,
        "norm_num_groups": config.norm_groups,
        "scaling_factor": config.latent_scale,
    }
    if config.codebook_size is None:
        return {"_class_name": "AutoencoderKL", **common}
    return {"_class_name": "VQModel", **common, "num_vq_embeddings": config.codebook_size, "vq_embed_dim": config.latent_channels}


def autoencoder_config(json: Json) -> AutoencoderConfig:
    """The reverse of `autoencoder_json`."""
    quantised = choice(json, "_class_name", {"AutoencoderKL": False, "VQModel": True})
    check(json, AUTOENCODER)
    config = AutoencoderConfig(
        image_channels=json["in_channels"],
        latent_channels=json["latent_channels"],
        block_channels=tuple(json["block_out_channels"]),
        layers_per_block=json["layers_per_block"],
        attention_levels=tuple(down.startswith("Attn") for down in json["down_block_types"]),
        middle_attention=json.get("mid_block_add_attention", True),
        norm_groups=json.get("norm_num_groups", 32),
        # Files from before there was this field: of Stable Diffusion, or of a codebook, whose latents the paper leaves as they are.
        latent_scale=json.get("scaling_factor", 1.0 if quantised else 0.18215),
        codebook_size=json["num_vq_embeddings"] if quantised else None,
    )
    again = autoencoder_json(config)
    for field in ("out_channels", "down_block_types", "up_block_types", "vq_embed_dim"):
        if json.get(field) not in (again.get(field), None):
            raise CheckpointError(f"its {field} {json[field]} is not sumi's: use a model of the Stable Diffusion family")
    return sound(config)


def bert_json(config: BertConfig) -> Json:
    """diffusers' LDMBertModel."""
    return {
        "architectures": ["LDMBertModel"],
        **written(BERT),
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.length,
        "d_model": config.width,
        "encoder_layers": config.layers,
        "num_hidden_layers": config.layers,
        "encoder_attention_heads": config.heads,
        "head_dim": config.head_width,
        "encoder_ffn_dim": 4 * config.width,
        "pad_token_id": config.pad_id,
    }


def bert_config(json: Json) -> BertConfig:
    """The reverse of `bert_json`."""
    check(json, BERT)
    if json.get("encoder_ffn_dim", 4 * json["d_model"]) != 4 * json["d_model"]:
        raise CheckpointError(f"its encoder_ffn_dim {json['encoder_ffn_dim']} is not sumi's: use the text encoder of latent diffusion")
    return sound(
        BertConfig(
            vocab_size=json["vocab_size"],
            length=json["max_position_embeddings"],
            width=json["d_model"],
            layers=json["encoder_layers"],
            heads=json["encoder_attention_heads"],
            head_width=json["head_dim"],
            pad_id=json.get("pad_token_id", 0),
        )
    )


def text_json(config: TextConfig) -> Json:
    """transformers' CLIPTextModel, with or without a projection."""
    return {
        "architectures": ["CLIPTextModel" if config.projection_width is None else "CLIPTextModelWithProjection"],
        **written(TEXT),
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.length,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_width,
        "hidden_act": config.activation,
        "projection_dim": config.projection_width or config.width,
        "bos_token_id": config.eos_id - 1,
        "eos_token_id": config.eos_id,
        "pad_token_id": config.pad_id,
    }


def text_config(json: Json, eos_id: int, pad_id: int) -> TextConfig:
    """The reverse of `text_json`; the ids are the tokenizer's, since published folders give wrong ones here."""
    check(json, TEXT)
    kinds = {"CLIPTextModel": False, "CLIPTextModelWithProjection": True}
    projected = choice({"architectures": json["architectures"][0]}, "architectures", kinds)
    return sound(
        TextConfig(
            vocab_size=json["vocab_size"],
            length=json.get("max_position_embeddings", 77),
            width=json["hidden_size"],
            layers=json["num_hidden_layers"],
            heads=json["num_attention_heads"],
            mlp_width=json["intermediate_size"],
            activation=json.get("hidden_act", "quick_gelu"),
            projection_width=json["projection_dim"] if projected else None,
            eos_id=eos_id,
            pad_id=pad_id,
        )
    )


def differences(config: Any, derived: Any) -> Json:
    """The fields of `config` that are not those of `derived`, another of its class."""
    found: Json = {}
    for field in fields(config):
        value, other = getattr(config, field.name), getattr(derived, field.name)
        if value != other:
            found[field.name] = differences(value, other) if is_dataclass(value) and is_dataclass(other) else value
    return found


def amended(derived: Any, table: Json) -> Any:
    """The reverse of `differences`: `derived` with the fields of `table`."""
    values: Json = {}
    for name, value in table.items():
        old = getattr(derived, name)
        values[name] = amended(old, value) if is_dataclass(old) else _tuples(value)
    return sound(replace(derived, **values))


def _tuples(value: Any) -> Any:
    """What JSON has lists for."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def whole_json(config: Any) -> Any:
    """All of a configuration, each part with the name of its class under "is"."""
    if isinstance(config, tuple):
        return [whole_json(value) for value in config]
    if not is_dataclass(config):
        return config
    return {"is": type(config).__name__} | {field.name: whole_json(getattr(config, field.name)) for field in fields(config)}


def whole_config(json: Any) -> Any:
    """The reverse of `whole_json`; CheckpointError, or one of Python's, for what describes nothing."""
    if isinstance(json, list):
        return tuple(whole_config(value) for value in json)
    if not isinstance(json, dict):
        return json
    values = {name: whole_config(value) for name, value in json.items() if name != "is"}
    return sound(CLASSES[json["is"]](**values))


def _block(config: UNetConfig, level: int, way: str) -> str:
    """diffusers' name of a level's block, `way` Down or Up."""
    if config.attention_depth[level]:
        return f"{'Attn' if config.context_width is None else 'CrossAttn'}{way}Block2D"
    return f"Resnet{way}sampleBlock2D" if config.residual_resampling else f"{way}Block2D"


def _heads(channels: tuple[int, ...], counts: list[int]) -> Json:
    """Heads by level in the shortest words: by their width if that is the same everywhere."""
    widths = {width // count for width, count in zip(channels, counts, strict=True)}
    if len(widths) == 1:
        return {"heads": None, "head_width": widths.pop()}
    return {"heads": counts[0] if len(set(counts)) == 1 else tuple(counts)}


def written(fixed: Fixed) -> Json:
    """The fields that every model has in common, as they are written."""
    return {name: values[0] for name, values in fixed.items()}


def check(json: Json, fixed: Fixed) -> None:
    """CheckpointError if a field asks for something else than every model has in common."""
    for name, values in fixed.items():
        if name in json and json[name] not in values:
            raise CheckpointError(f"{name} {json[name]!r} is not something sumi does: use a model of the Stable Diffusion family")


def choice(json: Json, name: str, table: Mapping[str, Any], default: str | None = None) -> Any:
    """What the word in a field stands for; CheckpointError if it is not in the table."""
    word: Any = json.get(name, default)
    if word not in table:
        raise CheckpointError(f"{name} is {word!r}, not {' or '.join(table)}: use a model of the Stable Diffusion family")
    return table[word]
