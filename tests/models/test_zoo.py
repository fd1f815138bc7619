"""Every spec against the number of parameters of the published weights, and a digest of their names and shapes.

The counts are of the published architectures (autoencoders without the losses they were trained with, text encoders without
position ids). A spec without a row fails.
"""

import hashlib

import pytest
import torch
from torch import nn

from sumi.config import AutoencoderConfig, ModelSpec, TextConfig, UNetConfig
from sumi.models import zoo
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.clip import TextEncoder
from sumi.nets.unet import UNet
from support import parameters

Config = UNetConfig | AutoencoderConfig | TextConfig

UNETS = {
    "sd15": (859_520_964, "5159ace1d6e6"),
    "sd15-inpaint": (859_535_364, "2e8168210f85"),
    "sd2": (865_910_724, "61d626becb5b"),
    "sd2-v": (865_910_724, "61d626becb5b"),
    "sd2-inpaint": (865_925_124, "a2ec110ee2ff"),
    "sd2-depth": (865_913_604, "98f5506af748"),
    "sd2-unclip-h": (870_173_124, "b9822a12f69b"),
    "sd2-unclip-l": (869_517_764, "6514b0755266"),
    "sd-turbo": (865_910_724, "61d626becb5b"),
    "x4-upscaler": (473_398_020, "e216b5e31f3a"),
    "sdxl": (2_567_463_684, "9556a38d644b"),
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
}
AUTOENCODERS = {
    "KL_F4": (55_325_927, "912445230840"),
    "KL_F8": (83_653_863, "600696bc94ff"),
    "KL_F8_XL": (83_653_863, "600696bc94ff"),
    "KL_F16": (69_610_963, "7b19d7638471"),
    "VQ_F4": (55_322_782, "77028082926a"),
    "VQ_F4_PLAIN": (53_219_486, "8e4fa5360564"),
    "VQ_F8": (67_717_295, "d617db306878"),
}
TEXT_ENCODERS = {
    "CLIP_L": (123_060_480, "9602ce291879"),
    "CLIP_L_XL": (123_060_480, "9602ce291879"),
    "OPENCLIP_H": (340_387_840, "67df38c09813"),
    "OPENCLIP_BIGG": (694_659_840, "cda6f69951a9"),
}


def build(config: Config) -> nn.Module:
    """The network of a config, of which nothing but names and shapes exist."""
    with torch.device("meta"):
        match config:
            case UNetConfig():
                return UNet(config)
            case AutoencoderConfig():
                return Autoencoder(config)
            case TextConfig():
                return TextEncoder(config)


def fingerprint(network: nn.Module) -> tuple[int, str]:
    lines = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in network.state_dict().items())
    return parameters(network), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def named(kind: type) -> dict[str, Config]:
    return {name: value for name, value in vars(zoo).items() if isinstance(value, kind)}


@pytest.mark.parametrize(("name", "spec"), zoo.ZOO.items())
def test_unet(name: str, spec: ModelSpec) -> None:
    assert fingerprint(build(spec.unet)) == UNETS[name]


@pytest.mark.parametrize(("name", "config"), named(AutoencoderConfig).items())
def test_autoencoder(name: str, config: AutoencoderConfig) -> None:
    assert fingerprint(build(config)) == AUTOENCODERS[name]


@pytest.mark.parametrize(("name", "config"), named(TextConfig).items())
def test_text_encoder(name: str, config: TextConfig) -> None:
    assert fingerprint(build(config)) == TEXT_ENCODERS[name]


def test_every_spec_is_in_the_zoo() -> None:
    assert set(named(ModelSpec).values()) == set(zoo.ZOO.values())


@pytest.mark.parametrize("spec", zoo.ZOO.values(), ids=lambda spec: spec.name)
def test_the_parts_of_a_spec_fit(spec: ModelSpec) -> None:
    assert spec.autoencoder.latent_channels == spec.unet.out_channels
    encoders = [text for text in (spec.text, spec.text_2) if text is not None]
    if encoders:
        assert sum(text.width for text in encoders) == spec.unet.context_width
    assert all(side % spec.multiple == 0 for side in spec.size)
