"""Every spec against the number of parameters of the published weights, and a digest of their names and shapes.

The counts are of the published architectures (autoencoders without the losses they were trained with, text encoders without
position ids). A spec without a row fails.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel, VQModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from sumi.config import AutoencoderConfig, BertConfig, ModelSpec, TextConfig, UNetConfig, VisionConfig
from sumi.models import zoo
from sumi.models.embedders import takes_image_embedding
from sumi.models.placement import weightless
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.bert import BertEncoder
from sumi.nets.clip import TextEncoder, VisionEncoder
from sumi.nets.unet import UNet
from support import parameters

Config = UNetConfig | AutoencoderConfig | TextConfig | BertConfig | VisionConfig

UNETS = {
    "sd15": (859_520_964, "5159ace1d6e6"),
    "sd15-inpaint": (859_535_364, "2e8168210f85"),
    "instruct-pix2pix": (859_532_484, "040efc034c01"),
    "sd2": (865_910_724, "61d626becb5b"),
    "sd2-v": (865_910_724, "61d626becb5b"),
    "sd2-inpaint": (865_925_124, "a2ec110ee2ff"),
    "sd2-depth": (865_913_604, "98f5506af748"),
    "sd2-unclip-h": (870_173_124, "b9822a12f69b"),
    "sd2-unclip-l": (869_517_764, "6514b0755266"),
    "sd-turbo": (865_910_724, "61d626becb5b"),
    "x4-upscaler": (473_398_020, "e216b5e31f3a"),
    "sdxl": (2_567_463_684, "9556a38d644b"),
    "sdxl-inpaint": (2_567_478_084, "59b2a006ad56"),
    "sdxl-refiner": (2_259_526_660, "33876647fb4e"),
    "sdxl-turbo": (2_567_463_684, "9556a38d644b"),
    "ldm-text": (872_300_484, "dc76a955f55d"),
    "ldm-text-f4": (403_623_939, "09887c0de8b9"),
    "ldm-faces": (274_056_163, "f9c10d56703c"),
    "ldm-churches": (294_966_916, "14a829738870"),
    "ldm-imagenet": (400_920_579, "458e6146fd6d"),
    "ldm-imagenet-f8": (394_984_196, "6bc75b6136db"),
    "ldm-layout": (246_277_379, "d11a60ed249e"),
    "ldm-inpaint": (387_245_827, "9daa5aa5e913"),
    "ldm-semantic": (215_229_315, "ca4f97405132"),
    "ldm-superres": (113_622_563, "dfed2e6a6ff4"),
    "rdm": (1_335_480_400, "409fc65bed77"),
    "pixels": (88_217_219, "f201c0f142f2"),
}
AUTOENCODERS = {
    "KL_F4": (55_312_063, "1a13636b85cf"),
    "KL_F4_UPSCALER": (55_325_927, "912445230840"),
    "KL_F8": (83_653_863, "600696bc94ff"),
    "KL_F8_XL": (83_653_863, "600696bc94ff"),
    "KL_F8_UNSCALED": (83_653_863, "600696bc94ff"),
    "KL_F16": (69_610_963, "7b19d7638471"),
    "KL_F32": (103_880_131, "a412c710113b"),
    "VQ_F4": (55_322_782, "77028082926a"),
    "VQ_F4_PLAIN": (53_219_486, "8e4fa5360564"),
    "VQ_F8": (67_717_295, "d617db306878"),
    "VQ_F8_SMALL": (67_652_783, "ff965f998d85"),
    "VQ_F16": (69_593_371, "eec87b0b41dc"),
    "IDENTITY": (0, "e3b0c44298fc"),
}
TEXT_ENCODERS = {
    "CLIP_L": (123_060_480, "9602ce291879"),
    "CLIP_L_XL": (123_060_480, "9602ce291879"),
    "OPENCLIP_H": (340_387_840, "67df38c09813"),
    "OPENCLIP_BIGG": (694_659_840, "cda6f69951a9"),
    "BERT": (581_994_042, "0275c7065383"),
    "BERT_F4": (186_154_682, "fee33b39e7e8"),
    "BERT_BOXES": (58_858_496, "c84f81c9104b"),
}
IMAGE_ENCODERS = {
    "CLIP_L_VISION": (303_966_208, "9a81991213e1"),
    "OPENCLIP_H_VISION": (632_076_800, "7d2d43e6ea7d"),
}


def autoencoder(kind: type[nn.Module], widths: tuple[int, ...], attention: int = 0, **arguments: int) -> nn.Module:
    """diffusers' autoencoder whose last `attention` levels have attention."""
    plain = len(widths) - attention
    return kind(
        block_out_channels=widths,
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * plain + ("AttnDownEncoderBlock2D",) * attention,
        up_block_types=("AttnUpDecoderBlock2D",) * attention + ("UpDecoderBlock2D",) * plain,
        **arguments,
    )


def bert(**arguments: int) -> nn.Module:
    return LDMBertModel(LDMBertConfig(encoder_attention_heads=8, head_dim=64, **arguments))


def image_encoder(**arguments: Any) -> nn.Module:
    return CLIPVisionModelWithProjection(CLIPVisionConfig(image_size=224, patch_size=14, num_attention_heads=16, **arguments))


# Architectures whose published size nobody states, by those who wrote them down in other code.
SDXL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
PLAIN: dict[str, Any] = {
    "block_out_channels": (128, 256, 384, 512),
    "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    "attention_head_dim": 64,
}
UNSTATED: list[tuple[tuple[int, str], Callable[[], nn.Module]]] = [
    (UNETS["instruct-pix2pix"], lambda: UNet2DConditionModel(in_channels=8, cross_attention_dim=768)),
    (UNETS["sdxl-inpaint"], lambda: UNet2DConditionModel(in_channels=9, **SDXL)),
    (UNETS["pixels"], lambda: UNet2DModel(in_channels=3, out_channels=3, **PLAIN)),
    (AUTOENCODERS["KL_F4"], lambda: autoencoder(AutoencoderKL, (128, 256, 512), latent_channels=3)),
    (AUTOENCODERS["KL_F32"], lambda: autoencoder(AutoencoderKL, (128, 128, 256, 256, 512, 512), 2, latent_channels=64)),
    (AUTOENCODERS["VQ_F8_SMALL"], lambda: autoencoder(VQModel, (128, 256, 256, 512), 1, latent_channels=4, num_vq_embeddings=256)),
    (AUTOENCODERS["VQ_F16"], lambda: autoencoder(VQModel, (128, 128, 256, 256, 512), 1, latent_channels=8, num_vq_embeddings=16384)),
    (TEXT_ENCODERS["BERT_F4"], lambda: bert(d_model=640, encoder_ffn_dim=2560, encoder_layers=32)),
    (
        TEXT_ENCODERS["BERT_BOXES"],
        lambda: bert(d_model=512, encoder_ffn_dim=2048, encoder_layers=16, vocab_size=8192, max_position_embeddings=92),
    ),
    (
        IMAGE_ENCODERS["CLIP_L_VISION"],
        lambda: image_encoder(hidden_size=1024, num_hidden_layers=24, intermediate_size=4096, projection_dim=768),
    ),
    (
        IMAGE_ENCODERS["OPENCLIP_H_VISION"],
        lambda: image_encoder(hidden_size=1280, num_hidden_layers=32, intermediate_size=5120, projection_dim=1024),
    ),
]


def build(config: Config) -> nn.Module:
    """The network of a config, of which nothing but names and shapes exist."""
    with weightless():
        match config:
            case UNetConfig():
                return UNet(config)
            case AutoencoderConfig():
                return Autoencoder(config)
            case TextConfig():
                return TextEncoder(config)
            case BertConfig():
                return BertEncoder(config)
            case VisionConfig():
                return VisionEncoder(config)


@cache
def fingerprint(config: Config) -> tuple[int, str]:
    return digest(build(config))


def digest(network: nn.Module) -> tuple[int, str]:
    lines = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in network.state_dict().items())
    return parameters(network), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def named(*kinds: type) -> dict[str, Config]:
    return {name: value for name, value in vars(zoo).items() if isinstance(value, kinds)}


@pytest.mark.parametrize(("name", "spec"), zoo.ZOO.items())
def test_unet(name: str, spec: ModelSpec) -> None:
    assert fingerprint(spec.unet) == UNETS[name]


@pytest.mark.parametrize(("name", "config"), named(AutoencoderConfig).items())
def test_autoencoder(name: str, config: AutoencoderConfig) -> None:
    assert fingerprint(config) == AUTOENCODERS[name]


@pytest.mark.parametrize(("name", "config"), named(TextConfig, BertConfig).items())
def test_text_encoder(name: str, config: TextConfig | BertConfig) -> None:
    assert fingerprint(config) == TEXT_ENCODERS[name]


@pytest.mark.parametrize(("name", "config"), named(VisionConfig).items())
def test_image_encoder(name: str, config: VisionConfig) -> None:
    assert fingerprint(config) == IMAGE_ENCODERS[name]


@pytest.mark.parametrize(("row", "build"), UNSTATED)
def test_rows_that_nobody_states(row: tuple[int, str], build: Callable[[], nn.Module]) -> None:
    with weightless():
        assert digest(build()) == row


def test_every_spec_is_in_the_zoo() -> None:
    assert set(named(ModelSpec).values()) == set(zoo.ZOO.values())


def test_every_part_of_a_spec_has_a_row() -> None:
    texts = {text for spec in zoo.ZOO.values() for text in (spec.text, spec.text_2) if text is not None}
    assert texts <= set(named(TextConfig, BertConfig).values())
    assert {spec.vision for spec in zoo.ZOO.values()} - {None} <= set(named(VisionConfig).values())
    assert {spec.autoencoder for spec in zoo.ZOO.values()} <= set(named(AutoencoderConfig).values())


@pytest.mark.parametrize("spec", zoo.ZOO.values(), ids=lambda spec: spec.name)
def test_the_parts_of_a_spec_fit(spec: ModelSpec) -> None:
    latent = spec.autoencoder.latent_channels
    assert latent == spec.unet.out_channels
    widths = [part.width for part in (spec.text, spec.text_2, spec.label) if part is not None]
    if widths:
        assert sum(widths) == spec.unet.context_width
    channels = {"mask": 1, "depth": 1, "low_res": 3, "masked_image": latent, "image": latent, "map": spec.map and spec.map.channels}
    assert latent + sum(channels[name] for name in spec.concat) == spec.unet.in_channels
    assert (spec.vision is not None) == takes_image_embedding(spec)
    if spec.vision is not None:
        assert 2 * spec.vision.projection_width == spec.unet.vector_width
    assert (spec.map is not None) == ("map" in spec.concat)
    assert all(side % spec.multiple == 0 for side in spec.size)


def test_the_order_of_what_lies_beside_the_latent() -> None:
    """Of the same channels, Stable Diffusion has the mask first, the latent diffusion paper last."""
    assert {spec.concat for spec in (zoo.SD15_INPAINT, zoo.SD2_INPAINT, zoo.SDXL_INPAINT)} == {("mask", "masked_image")}
    assert zoo.LDM_INPAINT.concat == ("masked_image", "mask")


def test_attention_is_where_the_first_stages_were_trained_to_have_it() -> None:
    """Published configurations name resolutions of a picture of 256 pixels."""
    resolutions = {"KL_F16": {16}, "KL_F32": {16, 8}, "VQ_F8": {32}, "VQ_F8_SMALL": {32}, "VQ_F16": {16}}
    for name, config in named(AutoencoderConfig).items():
        found = {256 >> level for level, attends in enumerate(config.attention_levels) if attends}
        assert found == resolutions.get(name, set())
