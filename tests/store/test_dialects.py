"""The tables of names: that they are whole, that they go both ways, and that others read what they write."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.loaders import single_file_utils as published
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig
from diffusers.pipelines.stable_diffusion.convert_from_ckpt import assign_to_checkpoint, convert_ldm_bert_checkpoint
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from published import open_clip_transformer
from sumi.config import Activation, AutoencoderConfig, BertConfig, LabelConfig, MapConfig, ModelSpec, TextConfig, UNetConfig, VisionConfig
from sumi.errors import CheckpointError
from sumi.models import zoo
from sumi.models.placement import weightless
from sumi.nets.attention import AttentionBlock
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.bert import BertEncoder
from sumi.nets.clip import TextEncoder, VisionEncoder
from sumi.nets.conditioners import LabelEmbedding, MapRescaler
from sumi.nets.unet import UNet
from sumi.store.dialects import (
    LABEL,
    MAP,
    autoencoder,
    bert,
    ema_name,
    leftover,
    native_name,
    parts,
    text,
    to_native,
    to_original,
    unet,
    vision,
)
from sumi.store.rules import Rules
from support import assert_agree, randomise

State = Mapping[str, Tensor]
Config = UNetConfig | AutoencoderConfig | TextConfig | BertConfig | LabelConfig | MapConfig | VisionConfig

# Tensors of the published code's own networks, built from the published configurations: how many, and a digest of names and shapes.
UNETS = {
    "sd15": (686, "2489855b740b"),
    "sd15-inpaint": (686, "20c8e55771bb"),
    "instruct-pix2pix": (686, "981545959a01"),
    "sd2": (686, "50e424db2fb7"),
    "sd2-v": (686, "50e424db2fb7"),
    "sd2-inpaint": (686, "85f82990076e"),
    "sd2-depth": (686, "d67ad5f24482"),
    "sd2-unclip-h": (690, "eb4e4d5d050d"),
    "sd2-unclip-l": (690, "c9a8af5b141e"),
    "sd-turbo": (686, "50e424db2fb7"),
    "x4-upscaler": (687, "856d94ad8c4b"),
    "sdxl": (1680, "d8427731b1d2"),
    "sdxl-inpaint": (1680, "2dc99a12cda6"),
    "sdxl-refiner": (1220, "0c310acaa15e"),
    "sdxl-turbo": (1680, "d8427731b1d2"),
    "ldm-text": (686, "cdd43a2f61d0"),
    "ldm-text-f4": (688, "8188b08c4c7e"),
    "ldm-faces": (368, "01bfe51c266c"),
    "ldm-churches": (520, "ca37572b35cb"),
    "ldm-imagenet": (688, "152bf2765daf"),
    "ldm-imagenet-f8": (626, "98b4f0d7f92f"),
    "ldm-layout": (1328, "e67436acfe2d"),
    "ldm-inpaint": (416, "8753a4efdbcc"),
    "ldm-semantic": (216, "5bfeab5668e1"),
    "ldm-superres": (306, "90c87b692527"),
    "rdm": (688, "046323dd26a6"),
    "pixels": (338, "50891ed8f422"),
}
AUTOENCODERS = {
    "KL_F8": (248, "50f3b11a29b7"),
    "KL_F4": (204, "c6bf2ab3625d"),
    "KL_F4_UPSCALER": (204, "d0b63caabc8f"),
    "KL_F16": (342, "9c9db537ea59"),
    "KL_F32": (436, "e23bd2c34563"),
    "VQ_F4": (205, "c906ade7ecd4"),
    "VQ_F4_PLAIN": (185, "28e737e915ad"),
    "VQ_F8": (299, "0f7ce9a4459a"),
    "VQ_F8_SMALL": (299, "da301049b536"),
    "VQ_F16": (343, "c718670bf86d"),
}
BERTS = {
    "BERT": (422, "744df388eaa5"),
    "BERT_F4": (422, "b61a6c6a6e48"),
    "BERT_BOXES": (214, "3e3e8774f59c"),
}


def build(config: Config) -> nn.Module:
    match config:
        case UNetConfig():
            return UNet(config)
        case AutoencoderConfig():
            return Autoencoder(config)
        case TextConfig():
            return TextEncoder(config)
        case BertConfig():
            return BertEncoder(config)
        case LabelConfig():
            return LabelEmbedding(config)
        case MapConfig():
            return MapRescaler(config)
        case VisionConfig():
            return VisionEncoder(config)


@cache
def full_size(config: Config) -> State:
    """The native tensors of a network, of which nothing but names and shapes exist."""
    with weightless():
        return build(config).state_dict()


def configs(spec: ModelSpec) -> dict[str, Config | None]:
    """The config of each part, under the part's name."""
    words = "bert" if isinstance(spec.text, BertConfig) else "text_encoder"
    rest = {"text_encoder_2": spec.text_2, "label_embedding": spec.label, "map_rescaler": spec.map, "image_encoder": spec.vision}
    return {"unet": spec.unet, "vae": spec.autoencoder, words: spec.text, **rest}


def shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def fingerprint(state: State) -> tuple[int, str]:
    lines = sorted(f"{name} {shape}" for name, shape in shapes(state).items())
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def assert_equal(state: State, expected: State) -> None:
    assert set(state) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name


# Whole


@pytest.mark.parametrize("spec", zoo.ZOO.values(), ids=zoo.ZOO)
def test_every_tensor_of_a_spec_has_one_original(spec: ModelSpec) -> None:
    names = []
    found = parts(spec)
    assert [part.name for part in found] == [name for name, config in configs(spec).items() if config is not None]
    for part in found:
        config = configs(spec)[part.name]
        assert config is not None
        native = full_size(config)
        assert sorted(name for rule in part.rules for name in rule.native) == sorted(native)
        original = to_original(part.rules, native)
        assert len(original) == len(part.rules)
        assert shapes(to_native(part.rules, original)) == shapes(native)
        names += [part.prefix + name for name in original]
    assert len(set(names)) == len(names)
    unet_names = [name for name in names if name.startswith("model.diffusion_model.")]
    assert len({ema_name(name) for name in unet_names}) == len(unet_names)


@pytest.mark.parametrize("name", zoo.ZOO)
def test_unets_are_those_of_the_published_code(name: str) -> None:
    config = zoo.ZOO[name].unet
    assert fingerprint(to_original(unet(config), full_size(config))) == UNETS[name]


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_autoencoders_are_those_of_the_published_code(name: str) -> None:
    config = getattr(zoo, name)
    assert fingerprint(to_original(autoencoder(config), full_size(config))) == AUTOENCODERS[name]


@pytest.mark.parametrize("name", BERTS)
def test_berts_are_those_of_the_published_code(name: str) -> None:
    config = getattr(zoo, name)
    assert fingerprint(to_original(bert(config), full_size(config))) == BERTS[name]


PREFIXES = {
    "sd15": {"text_encoder": "cond_stage_model.transformer."},
    "sd2": {"text_encoder": "cond_stage_model.model."},
    "sd2-unclip-h": {"text_encoder": "cond_stage_model.model.", "image_encoder": "embedder.model.visual."},
    "sd2-unclip-l": {"text_encoder": "cond_stage_model.model.", "image_encoder": "embedder.model.visual."},
    "x4-upscaler": {"text_encoder": "cond_stage_model.model."},
    "sdxl": {"text_encoder": "conditioner.embedders.0.transformer.", "text_encoder_2": "conditioner.embedders.1.model."},
    "sdxl-refiner": {"text_encoder": "conditioner.embedders.0.model."},
    "ldm-text": {"bert": "cond_stage_model.transformer."},
    "ldm-layout": {"bert": "cond_stage_model.transformer."},
    "ldm-imagenet": {"label_embedding": "cond_stage_model."},
    "ldm-semantic": {"map_rescaler": "cond_stage_model."},
    "ldm-faces": {},
}


@pytest.mark.parametrize("name", PREFIXES)
def test_where_the_parts_lie(name: str) -> None:
    """As the original projects' loaders and diffusers' look for them."""
    expected = {"unet": "model.diffusion_model.", "vae": "first_stage_model.", **PREFIXES[name]}
    assert {part.name: part.prefix for part in parts(zoo.ZOO[name])} == expected


# Both ways


@dataclass(frozen=True)
class Tiny:
    config: Config
    rules: Rules

    @cached_property
    def native(self) -> State:
        """Random numbers. Not to be changed."""
        return randomise(build(self.config)).state_dict()


def tiny_unet(**fields: Any) -> Tiny:
    common = {"block_channels": (8, 16), "attention_depth": (1, 2), "cross_only": (False, False), "heads": 2, "norm_groups": 4}
    config = UNetConfig(**{**common, "context_width": 6, **fields})
    return Tiny(config, unet(config))


def tiny_autoencoder(*attention: bool, **fields: Any) -> Tiny:
    config = AutoencoderConfig(block_channels=(4, 8, 8), attention_levels=attention, norm_groups=4, **fields)
    return Tiny(config, autoencoder(config))


PLAIN = {"context_width": None, "attention_depth": (0, 1)}
UNETS_TINY = {
    "sd1": tiny_unet(),
    "sd2": tiny_unet(linear_projection=True),
    "sdxl": tiny_unet(linear_projection=True, attention_depth=(0, 2), vector_width=10),
    "unclip": tiny_unet(linear_projection=True, vector_width=10, vector_name="class_embedding"),
    "x4-upscaler": tiny_unet(linear_projection=True, cross_only=(True, False), label_classes=3),
}
AUTOENCODERS_TINY = {
    "kl": tiny_autoencoder(False, False, False),
    "kl without attention": tiny_autoencoder(False, False, False, middle_attention=False),
}
CLIP = TextConfig(vocab_size=20, length=5, width=8, layers=2, heads=2, mlp_width=16)
PROJECTED = replace(CLIP, projection_width=6)
WORDS = BertConfig(vocab_size=20, length=5, width=8, layers=3, heads=2, head_width=3)
SEES = VisionConfig(image_size=14, patch_size=7, width=8, layers=2, heads=2, mlp_width=16, projection_width=6)
OPEN_CLIP = Tiny(PROJECTED, text(PROJECTED, "open_clip"))
TINY = {
    **UNETS_TINY,
    **AUTOENCODERS_TINY,
    "faces": tiny_unet(**PLAIN),
    "churches": tiny_unet(**PLAIN, scale_shift=True, residual_resampling=True),
    "churches with a context": tiny_unet(residual_resampling=True),
    "three levels, no middle": tiny_unet(
        block_channels=(4, 8, 8), attention_depth=(0, 0, 1), cross_only=(False,) * 3, middle_depth=0, layers_per_block=1
    ),
    "kl with attention": tiny_autoencoder(False, True, True),
    "vq": tiny_autoencoder(False, False, True, codebook_size=5),
    "clip": Tiny(CLIP, text(CLIP, "clip")),
    "clip with a projection": Tiny(PROJECTED, text(PROJECTED, "clip")),
    "open_clip": OPEN_CLIP,
    "bert": Tiny(WORDS, bert(WORDS)),
    "image encoder": Tiny(SEES, vision(SEES)),
    "label": Tiny(LabelConfig(5, 3), LABEL),
    "map": Tiny(MapConfig(5, 3), MAP),
}


@pytest.mark.parametrize("name", TINY)
def test_there_and_back(name: str) -> None:
    rules, native = TINY[name].rules, TINY[name].native
    original = to_original(rules, native)
    again = to_native(rules, original)
    assert_equal(again, native)
    assert_equal(to_original(rules, again), original)


@pytest.mark.parametrize("name", ["sd1", "kl with attention", "open_clip"])
def test_reading_copies_nothing(name: str) -> None:
    rules = TINY[name].rules
    original = {name: tensor.contiguous() for name, tensor in to_original(rules, TINY[name].native).items()}
    memory = {tensor.untyped_storage().data_ptr() for tensor in original.values()}
    assert {tensor.untyped_storage().data_ptr() for tensor in to_native(rules, original).values()} == memory


def test_the_identity_has_no_tensors() -> None:
    assert autoencoder(zoo.IDENTITY) == ()


# As others read them


@pytest.mark.parametrize("name", UNETS_TINY)
def test_diffusers_reads_our_unets(name: str) -> None:
    config = UNETS_TINY[name].config
    assert isinstance(config, UNetConfig)
    projected = config.vector_width is not None
    described = {
        "layers_per_block": config.layers_per_block,
        "class_embed_type": "projection" if projected and config.vector_name == "class_embedding" else None,
        "addition_embed_type": "text_time" if projected and config.vector_name == "add_embedding" else None,
        "num_class_embeds": config.label_classes,
    }
    native = UNETS_TINY[name].native
    file = prefixed("model.diffusion_model.", to_original(UNETS_TINY[name].rules, native))
    assert_equal(published.convert_ldm_unet_checkpoint(file, described), native)


@pytest.mark.parametrize("name", AUTOENCODERS_TINY)
def test_diffusers_reads_our_autoencoders(name: str) -> None:
    native = AUTOENCODERS_TINY[name].native
    file = prefixed("first_stage_model.", to_original(AUTOENCODERS_TINY[name].rules, native))
    described = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    assert_equal(published.convert_ldm_vae_checkpoint(file, described), native)


@pytest.mark.parametrize("projection_width", [None, 8])
def test_diffusers_reads_our_open_clip(projection_width: int | None) -> None:
    config = replace(CLIP, projection_width=projection_width)
    native = Tiny(config, ()).native
    file = prefixed("conditioner.embedders.1.model.", to_original(text(config, "open_clip"), native))
    theirs = SimpleNamespace(config=SimpleNamespace(hidden_size=config.width))
    assert_equal(published.convert_open_clip_checkpoint(theirs, file, prefix="conditioner.embedders.1.model."), native)


def test_diffusers_reads_our_clip() -> None:
    native = TINY["clip"].native
    file = prefixed("cond_stage_model.transformer.", to_original(TINY["clip"].rules, native))
    assert_equal(published.convert_ldm_clip_checkpoint(file), native)


def test_diffusers_reads_our_bert() -> None:
    native = TINY["bert"].native
    described = LDMBertConfig(
        vocab_size=WORDS.vocab_size,
        max_position_embeddings=WORDS.length,
        d_model=WORDS.width,
        encoder_layers=WORDS.layers,
        encoder_ffn_dim=4 * WORDS.width,
        encoder_attention_heads=WORDS.heads,
        head_dim=WORDS.head_width,
    )
    file = nested(prefixed("transformer.", to_original(TINY["bert"].rules, native)))
    assert_equal(convert_ldm_bert_checkpoint(file, described).state_dict(), native)


def test_diffusers_deals_rows_to_heads_as_we_do() -> None:
    native = TINY["faces"].native
    original = to_original(TINY["faces"].rules, native)
    theirs: dict[str, Tensor] = {}
    for kind in ("weight", "bias"):
        names = {which: f"mid_block.attentions.0.to_{which[0]}.{kind}" for which in ("query", "key", "value")}
        assign_to_checkpoint([], theirs, original, {f"middle_block.1.qkv.{kind}": names}, config={"num_head_channels": 8})
    assert_equal(theirs, {name: native[name] for name in theirs})
    assert len(theirs) == 6


@torch.no_grad()
def test_attention_of_the_latent_diffusion_paper() -> None:
    """One convolution makes, head by head, queries, keys and values; QKVAttentionLegacy of the published code, in formulas."""
    heads, channels, cells = 2, 16, 6
    block = randomise(AttentionBlock(channels, heads, groups=4, eps=1e-5))
    native = prefixed("mid_block.attentions.0.", block.state_dict())
    original = {name.removeprefix("middle_block.1."): tensor for name, tensor in to_original(TINY["faces"].rules, native).items()}
    assert set(original) == {f"{layer}.{kind}" for layer in ("norm", "qkv", "proj_out") for kind in ("weight", "bias")}
    x = torch.randn(1, channels, 2, 3)
    h = nn.functional.group_norm(x, 4, original["norm.weight"], original["norm.bias"], 1e-5).flatten(2)
    stack = nn.functional.conv1d(h, original["qkv.weight"], original["qkv.bias"]).reshape(heads, 3 * channels // heads, cells)
    q, k, v = stack.split(channels // heads, dim=1)
    weight = (q.transpose(1, 2) @ k / (channels // heads) ** 0.5).softmax(-1)
    h = (v @ weight.transpose(1, 2)).reshape(1, channels, cells)
    h = nn.functional.conv1d(h, original["proj_out.weight"], original["proj_out.bias"])
    assert_agree(block(x), x + h.view(x.shape))


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@torch.no_grad()
def test_image_encoders_are_those_of_open_clip(activation: Activation) -> None:
    """Whose names are OpenAI's, too, whose activation is the quick one."""
    module, config = open_clip_transformer(), replace(SEES, activation=activation)
    act = {"gelu": nn.GELU, "quick_gelu": module.QuickGELU}[activation]
    sizes = {"image_size": 14, "patch_size": 7, "width": 8, "layers": 2, "heads": 2, "mlp_ratio": 2.0, "output_dim": 6}
    theirs = randomise(module.VisionTransformer(**sizes, act_layer=act))
    file, rules = theirs.state_dict(), vision(config)
    assert set(file) == {rule.original for rule in rules}
    ours = VisionEncoder(config)
    ours.load_state_dict(to_native(rules, file), strict=True)
    image = torch.randn(3, 3, 14, 14)
    assert_agree(ours(image), theirs(image))
    assert_equal(to_original(rules, ours.state_dict()), file)


# As others write them


@pytest.mark.parametrize("axes", [0, 1, 2])
def test_attention_of_autoencoders_of_any_age(axes: int) -> None:
    """Linear layers, convolutions over one axis, or over two."""
    rules, native = TINY["kl with attention"].rules, TINY["kl with attention"].native
    original = to_original(rules, native)
    attention = [name for name in original if re.search(r"attn.*\.(q|k|v|proj_out)\.weight", name)]
    assert len(attention) == 4 * (2 + 2 * (2 + 3))
    assert all(original[name].ndim == 4 for name in attention)
    older = original | {name: original[name].flatten(1)[(..., *[None] * axes)] for name in attention}
    assert_equal(to_native(rules, older), native)


def test_text_encoders_without_the_first_word() -> None:
    rules, native = TINY["clip"].rules, TINY["clip"].native
    bare = {name.removeprefix("text_model."): tensor for name, tensor in native.items()}
    assert not set(bare) & set(native)
    assert_equal(to_native(rules, bare), native)
    assert leftover(rules, bare) == []
    assert_equal(to_original(rules, native), native)


def test_names_of_transformers() -> None:
    described = CLIPTextConfig(
        vocab_size=20,
        max_position_embeddings=5,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    theirs = shapes(CLIPTextModel(described).state_dict())
    assert {native_name(name): shape for name, shape in theirs.items()} == shapes(TINY["clip"].native)


def test_names_of_old_diffusers() -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    native = TINY["kl with attention"].native
    older = {re.sub(r"\b(to_[qkv]|to_out\.0)\b", lambda found: old[found[1]], name): tensor for name, tensor in native.items()}
    assert len(set(older) - set(native)) == 2 * 4 * (2 + 2 * (2 + 3))
    assert_equal({native_name(name): tensor for name, tensor in older.items()}, native)
    theirs = AutoencoderKL(
        block_out_channels=(4, 8, 8),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        layers_per_block=2,
        norm_num_groups=4,
    )
    assert_equal(theirs._fix_state_dict_keys_on_load(dict(older)), native)


@pytest.mark.parametrize("name", TINY)
def test_native_names_stay(name: str) -> None:
    assert [native_name(name) for name in TINY[name].native] == list(TINY[name].native)


@pytest.mark.parametrize(
    ("original", "averaged"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", "model_ema.diffusion_modelinput_blocks00weight"),
        ("model.diffusion_model.label_emb.0.0.bias", "model_ema.diffusion_modellabel_emb00bias"),
        ("encoder.conv_in.weight", "model_ema.encoderconv_inweight"),
    ],
)
def test_names_of_averages(original: str, averaged: str) -> None:
    assert ema_name(original) == averaged


# Not whole


@pytest.mark.parametrize("name", ["sd1", "faces", "open_clip"])
def test_what_is_missing_is_not_made_up(name: str) -> None:
    rules, native = TINY[name].rules, TINY[name].native
    original = to_original(rules, native)
    for rule in rules[::5]:
        rest = {name: tensor for name, tensor in original.items() if name != rule.original}
        assert set(native) - set(to_native(rules, rest)) == set(rule.native)
    stacked = next(rule for rule in rules if len(rule.native) == (1 if name == "sd1" else 3))
    without = {name: tensor for name, tensor in native.items() if name != stacked.native[-1]}
    assert set(original) - set(to_original(rules, without)) == {stacked.original}


def test_what_stable_diffusion_2_does_not_read_is_left_over() -> None:
    """Its file has the whole of OpenCLIP: a 24th layer, a projection and a temperature."""
    whole = replace(zoo.OPENCLIP_H, layers=24, projection_width=1024)
    names = [rule.original for rule in text(whole, "open_clip")] + ["logit_scale"]
    ignored = {name.removeprefix("cond_stage_model.model.") for name in published.SD_2_TEXT_ENCODER_KEYS_TO_IGNORE}
    assert set(leftover(text(zoo.OPENCLIP_H, "open_clip"), names)) == ignored | {"logit_scale"}
    assert leftover((), ["b", "a"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("name", "original", "shape"),
    [
        ("open_clip", "transformer.resblocks.0.attn.in_proj_weight", (23, 8)),
        ("open_clip", "transformer.resblocks.0.attn.in_proj_bias", ()),
        ("open_clip", "text_projection", (8, 6, 1)),
        ("faces", "middle_block.1.qkv.weight", (45, 16, 1)),
        ("faces", "middle_block.1.qkv.weight", (48,)),
        ("kl", "encoder.mid.attn_1.q.weight", (8,)),
        ("kl", "encoder.mid.attn_1.q.weight", ()),
    ],
)
def test_impossible_shapes_are_refused(name: str, original: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match=rf"^{re.escape(original)} has the shape {re.escape(str(list(shape)))}") as caught:
        to_native(TINY[name].rules, {original: torch.zeros(shape)})
    assert "\n" not in str(caught.value)


def prefixed(prefix: str, state: State) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def nested(state: State) -> Any:
    """Modules whose attributes are those tensors, as much as their names tell; what is numbered is a list."""
    heads = {name.partition(".")[0] for name in state}
    inner = {
        head: state[head]
        if head in state
        else nested({name.removeprefix(f"{head}."): tensor for name, tensor in state.items() if name.startswith(f"{head}.")})
        for head in heads
    }
    if all(head.isdigit() for head in heads):
        return [inner.get(str(number)) for number in range(1 + max(map(int, heads)))]
    return SimpleNamespace(**{head: nn.Parameter(value) if isinstance(value, Tensor) else value for head, value in inner.items()})
