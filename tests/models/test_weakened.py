"""UNets made worse on purpose: only in the layers that are chosen, and never the UNet itself."""

from dataclasses import replace

import pytest
import torch

from sumi.config import UNetConfig
from sumi.errors import RequestError
from sumi.models.placement import weightless
from sumi.models.weakened import attending, perturbed, skipped
from sumi.models.zoo import ZOO
from sumi.nets.unet import UNet
from support import assert_agree, randomise

CONFIG = UNetConfig(
    block_channels=(16, 32),
    layers_per_block=1,
    attention_depth=(1, 2),
    middle_depth=2,
    cross_only=(False, False),
    heads=2,
    context_width=12,
    norm_groups=8,
)
PLAIN = replace(CONFIG, context_width=None)
CONFIGS = {"of a context": CONFIG, "of none": PLAIN}


def made(config):
    return randomise(UNet(config)).requires_grad_(False)


def inputs(config):
    generator = torch.Generator().manual_seed(0)
    context = None if config.context_width is None else torch.randn(2, 5, config.context_width, generator=generator)
    return torch.randn(2, 4, 8, 12, generator=generator), torch.tensor([10, 700]), context


def nothing(seen):
    pass


WEAKENED = {"perturbed": perturbed, "skipped": skipped, "attending": lambda unet: attending(unet, nothing)}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
@pytest.mark.parametrize("weaken", WEAKENED.values(), ids=list(WEAKENED))
def test_the_unet_itself_stays_as_it_is(weaken, config):
    unet = made(config)
    modules, before = dict(unet.named_modules()), unet(*inputs(config))
    state = {name: (weight, weight.clone()) for name, weight in unet.state_dict(keep_vars=True).items()}
    weaken(unet)(*inputs(config))
    assert dict(unet.named_modules()) == modules
    assert torch.equal(unet(*inputs(config)), before)
    for name, weight in unet.state_dict(keep_vars=True).items():
        assert weight is state[name][0]
        assert torch.equal(weight, state[name][1])
    for module in modules.values():
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert "forward" not in vars(module)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
@pytest.mark.parametrize("weaken", [perturbed, skipped])
def test_each_layer_weakens_in_a_way_of_its_own(weaken, config):
    unet = made(config)
    found = [weaken(unet, layers)(*inputs(config)) for layers in ([], ["mid"], ["down.1"], ["up.1.attentions.0"], ["mid", "down"])]
    assert torch.equal(found[0], unet(*inputs(config)))
    for i, one in enumerate(found):
        for other in found[:i]:
            assert (one - other).abs().max() > 1e-4


def test_weights_are_shared():
    unet = made(CONFIG)
    weak = perturbed(unet)
    before = weak(*inputs(CONFIG))
    unet.mid_block.attentions[0].transformer_blocks[1].attn1.to_v.weight.mul_(2)
    assert (weak(*inputs(CONFIG)) - before).abs().max() > 1e-4


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_attention_by_the_identity_has_neither_queries_nor_keys(config):
    unet = made(config)
    weak, before = perturbed(unet, ["mid", "down", "up"]), unet(*inputs(config))
    expected = weak(*inputs(config))
    for name, weight in unet.named_parameters():
        if "attn2" not in name and ("to_q" in name or "to_k" in name):
            weight.mul_(3)
    assert torch.equal(weak(*inputs(config)), expected)
    assert (unet(*inputs(config)) - before).abs().max() > 1e-4


def test_a_layer_left_out_has_no_weights():
    unet = made(CONFIG)
    weak = skipped(unet, ["down.1"])
    expected = weak(*inputs(CONFIG))
    for weight in unet.down_blocks[1].attentions[0].transformer_blocks.parameters():
        weight.mul_(3)
    assert torch.equal(weak(*inputs(CONFIG)), expected)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_watching_changes_nothing_and_shows_probabilities_once(config):
    unet, maps = made(config), []
    assert torch.equal(attending(unet, maps.append)(*inputs(config)), unet(*inputs(config)))
    (seen,) = maps
    assert seen.shape == (2, 2, 4 * 6, 4 * 6)
    torch.testing.assert_close(seen.sum(3), torch.ones(2, 2, 24))
    assert seen.std(3).min() > 0


def test_the_first_of_the_middles_layers_is_watched():
    unet, maps, given = made(CONFIG), [], []
    attention = unet.mid_block.attentions[0].transformer_blocks[0].attn1
    with attention.register_forward_pre_hook(lambda module, args: given.append(args[0])):
        unet(*inputs(CONFIG))
    attending(unet, maps.append)(*inputs(CONFIG))
    q, k = (layer(given[0]).unflatten(2, (2, -1)).transpose(1, 2) for layer in (attention.to_q, attention.to_k))
    assert_agree(maps[0], (q @ k.transpose(2, 3) / 16**0.5).softmax(3))


def test_one_that_fails_leaves_no_trace():
    unet = made(CONFIG)
    before = unet(*inputs(CONFIG))

    def fail(seen):
        raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        attending(unet, fail)(*inputs(CONFIG))
    assert torch.equal(unet(*inputs(CONFIG)), before)


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        (replace(CONFIG, middle_depth=0), ["mid"]),
        (replace(CONFIG, attention_depth=(0, 1)), ["mid", "down.0"]),
        (CONFIG, ["down.7"]),
        (CONFIG, ["middle"]),
    ],
)
def test_layers_without_attention_are_an_error_in_one_line(config, layers):
    for weaken in (perturbed, skipped):
        with pytest.raises(RequestError, match=f"no attention to guide by in its {layers[-1]} layers") as error:
            weaken(made(config), layers)
        assert "\n" not in str(error.value)


def test_a_model_without_attention_in_the_middle_cannot_be_watched():
    with pytest.raises(RequestError, match="mid"):
        attending(made(replace(CONFIG, middle_depth=0)), nothing)


def test_attention_to_the_context_alone_is_none_of_the_cells():
    unet = made(replace(CONFIG, cross_only=(True, False)))
    perturbed(unet, ["down.1"])
    skipped(unet, ["down.0"])
    with pytest.raises(RequestError, match=r"down\.0"):
        perturbed(unet, ["down.0"])


def test_every_model_of_the_zoo_can_be_weakened():
    for config in {spec.unet for spec in ZOO.values()}:
        with weightless():
            unet = UNet(config)
        before = dict(unet.named_modules())
        for weaken in WEAKENED.values():
            changed = [name for name, module in weaken(unet).named_modules() if module is not before.get(name)]
            assert "mid_block.attentions.0" in changed
            assert not [name for name in changed if name and not name.startswith("mid_block")]
