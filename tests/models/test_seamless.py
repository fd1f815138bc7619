"""Networks closed on themselves: what is rolled comes out rolled, and nothing else is different."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sumi.config import AutoencoderConfig, UNetConfig
from sumi.models.seamless import closed, seamless
from sumi.models.weakened import perturbed
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.unet import UNet
from support import assert_agree, randomise

KL = AutoencoderConfig(block_channels=(8, 16, 16), layers_per_block=1, attention_levels=(False, False, False), norm_groups=4)
AUTOENCODERS = {
    "kl": KL,
    "patches": replace(KL, patch_size=2, middle_attention=False),
    "attention": replace(KL, attention_levels=(False, False, True)),
}
UNET = UNetConfig(
    block_channels=(16, 32),
    layers_per_block=1,
    attention_depth=(1, 1),
    cross_only=(False, False),
    heads=2,
    context_width=None,
    norm_groups=8,
)
UNETS = {"strides": UNET, "residual resampling": replace(UNET, residual_resampling=True, scale_shift=True)}
T = torch.tensor([10, 700])

rolls = pytest.mark.parametrize(("axes", "dims"), [("x", (3,)), ("y", (2,)), ("both", (2, 3))])


def autoencoder(name="kl"):
    return randomise(Autoencoder(AUTOENCODERS[name])).requires_grad_(False)


def unet(name="strides"):
    return randomise(UNet(UNETS[name])).requires_grad_(False)


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@rolls
@pytest.mark.parametrize("name", AUTOENCODERS)
def test_a_rolled_latent_is_a_rolled_picture(name, axes, dims):
    network, latent = seamless(autoencoder(name), axes), noise(2, 4, 6, 10)
    factor = network.config.factor
    rolled = network.decode(latent.roll([3] * len(dims), dims))
    assert_agree(rolled, network.decode(latent).roll([3 * factor] * len(dims), dims))
    picture = noise(1, 3, 6 * factor, 10 * factor)
    rolled = network.encode(picture.roll([3 * factor] * len(dims), dims)).mode()
    assert_agree(rolled, network.encode(picture).mode().roll([3] * len(dims), dims))


@rolls
@pytest.mark.parametrize("name", UNETS)
def test_a_rolled_state_is_a_rolled_prediction(name, axes, dims):
    network, x = seamless(unet(name), axes), noise(2, 4, 8, 12)
    assert_agree(network(x.roll([6] * len(dims), dims), T), network(x, T).roll([6] * len(dims), dims))


@pytest.mark.parametrize(("axes", "dim"), [("none", 2), ("none", 3), ("x", 2), ("y", 3)])
def test_along_the_other_axis_there_are_edges(axes, dim):
    x, latent, (predictor, decoder) = noise(2, 4, 8, 12), noise(1, 4, 6, 10), (seamless(unet(), axes), seamless(autoencoder(), axes))
    assert (predictor(x.roll(6, dim), T) - predictor(x, T).roll(6, dim)).abs().max() > 1e-2
    assert (decoder.decode(latent.roll(3, dim)) - decoder.decode(latent).roll(12, dim)).abs().max() > 1e-2


def test_along_the_other_axis_a_convolution_pads_with_zeros():
    conv, x = nn.Conv2d(3, 5, 3, padding=1), noise(2, 3, 6, 7)
    round_x = F.conv2d(torch.cat([x[..., -1:], x, x[..., :1]], 3), conv.weight, conv.bias, padding=(1, 0))
    round_y = F.conv2d(torch.cat([x[:, :, -1:], x, x[:, :, :1]], 2), conv.weight, conv.bias, padding=(0, 1))
    assert_agree(seamless(nn.Sequential(conv), "x")(x), round_x)
    assert_agree(seamless(nn.Sequential(conv), "y")(x), round_y)


def test_along_both_axes_it_is_the_circular_padding_of_pytorch():
    network, x = unet(), noise(2, 4, 8, 12)
    theirs = copy.deepcopy(network)
    for module in theirs.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
    assert_agree(seamless(network, "both")(x, T), theirs(x, T))


def test_the_network_itself_stays_as_it_is():
    network, x = unet(), noise(2, 4, 8, 12)
    modules, before = dict(network.named_modules()), network(x, T)
    weights = {name: weight.clone() for name, weight in network.state_dict().items()}
    twin = seamless(network, "both")
    assert (twin(x, T) - before).abs().max() > 1e-2
    assert dict(network.named_modules()) == modules
    assert torch.equal(network(x, T), before)
    assert closed(network) == "none" and closed(twin) == "both"
    assert list(twin.state_dict()) == list(weights)
    for name, weight in twin.named_parameters():
        assert weight is network.get_parameter(name)
        assert torch.equal(weight, weights[name])


def test_a_weakened_network_is_closed_as_well():
    x = noise(2, 4, 8, 12)
    first, second = seamless(perturbed(unet()), "x"), perturbed(seamless(unet(), "x"))
    assert torch.equal(first(x, T), second(x, T))
    assert_agree(first(x.roll(6, 3), T), first(x, T).roll(6, 3))


def test_no_axes_are_no_change():
    network = unet()
    assert seamless(network, "none") is network


def test_a_network_is_closed_once():
    with pytest.raises(ValueError, match="seamless along x already"):
        seamless(seamless(unet(), "x"), "y")
