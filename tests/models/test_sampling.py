"""What a run takes is known beforehand, and prompts that change on the way are followed."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from sumi.diffusion.samplers.table import SAMPLERS
from sumi.errors import PromptError
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.pipeline import Encoded, Step, generate, stream
from sumi.request import Request

CAT = Request(prompt="a cat", seed=7, steps=4)


@pytest.fixture
def calls(tiny: LatentDiffusion, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The batch size of every call of the UNet, of weakened copies of it as well."""
    sizes: list[int] = []
    conv = tiny.unet.conv_in
    hook = conv.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    yield sizes
    hook.remove()


GUIDED: list[dict[str, Any]] = [
    {},
    {"guidance": 1.0},
    {"negative": "two stars"},
    {"guidance_interval": (0.5, 5.0)},
    {"guidance_method": "cfg++"},
    {"guidance_method": "apg"},
    {"pag": 2.0},
    {"skip": 2.0},
    {"sag": 0.7},
    {"guidance": 1.0, "sag": 0.7},
    {"pag": 2.0, "skip": 1.0, "sag": 0.7, "guidance_interval": (0.5, 5.0)},
    {"prompt": "a cat AND two stars :0.5"},
    {"prompt": "[a cat:two stars:2] and a tree"},
    {"prompt": "a cat BREAK a tree"},
]


@pytest.mark.parametrize("fields", GUIDED, ids=str)
def test_the_network_is_called_as_often_as_was_said(tiny: LatentDiffusion, calls: list[int], fields: dict[str, Any]) -> None:
    encoded, *steps = stream(tiny, replace(CAT, **fields))
    assert isinstance(encoded, Encoded)
    assert (encoded.plan.steps, encoded.plan.calls, encoded.plan.samples) == (4, len(calls), sum(calls))
    assert [step.total for step in steps if isinstance(step, Step)] == [4] * 4


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_of_every_sampler_calls_and_steps_are_said(tiny: LatentDiffusion, calls: list[int], sampler: str) -> None:
    encoded, *events = stream(tiny, replace(CAT, sampler=sampler, steps=6, spacing="trailing"))
    assert isinstance(encoded, Encoded)
    steps = [event for event in events if isinstance(event, Step)]
    assert (len(steps), len(calls)) == (encoded.plan.steps, encoded.plan.calls)
    assert [step.index for step in steps] == [*range(1, encoded.plan.steps + 1)]


def same(one: Request, other: Request, tiny: LatentDiffusion) -> bool:
    return torch.equal(generate(tiny, one)[0].latent, generate(tiny, other)[0].latent)


def test_a_prompt_may_change_on_the_way(tiny: LatentDiffusion) -> None:
    """From its second state on, which no step of the first run is in."""
    assert same(replace(CAT, prompt="[a cat:two stars:4]"), CAT, tiny)
    assert same(replace(CAT, prompt="[a cat:two stars:0]"), replace(CAT, prompt="two stars"), tiny)
    assert not same(replace(CAT, prompt="[a cat:two stars:2]"), CAT, tiny)
    assert not same(replace(CAT, prompt="[a cat:two stars:2]"), replace(CAT, prompt="two stars"), tiny)
    assert not same(replace(CAT, negative="[a tree:two stars:2]"), replace(CAT, negative="a tree"), tiny)


def test_a_composed_prompt_of_one_part_is_that_part(tiny: LatentDiffusion) -> None:
    assert same(replace(CAT, prompt="a cat AND two stars :0"), CAT, tiny)
    assert not same(replace(CAT, prompt="a cat AND two stars"), CAT, tiny)


def test_what_guidance_leads_away_from_is_not_composed(tiny: LatentDiffusion) -> None:
    with pytest.raises(PromptError, match="AND composes what a picture shows"):
        generate(tiny, CAT, negative="a cat AND a tree")


def test_every_word_is_accounted_for(tiny: LatentDiffusion) -> None:
    request = replace(CAT, prompt="a (red:1.5) [cat:horse:2] AND a tree :0.5", negative="two stars")
    encoded = next(iter(stream(tiny, request)))
    assert isinstance(encoded, Encoded)
    told = [(read.steps, read.weight, [(word.text, word.weight) for word in read.words]) for read in encoded.prompt]
    assert told == [
        (range(0, 3), 1.0, [("a", 1.0), ("red", 1.5), ("cat", 1.0)]),
        (range(0, 3), 0.5, [("a", 1.0), ("tree", 1.0)]),
        (range(3, 4), 1.0, [("a", 1.0), ("red", 1.5), ("horse", 1.0)]),
        (range(3, 4), 0.5, [("a", 1.0), ("tree", 1.0)]),
    ]
    assert [[word.text for word in read.words] for read in encoded.negative] == [["two", "stars"]]


def test_nothing_is_cut_off_a_long_prompt(tiny: LatentDiffusion, calls: list[int]) -> None:
    """Its chunks are read one by one; the call of what guidance leads away from, which is shorter, is made apart."""
    long = ", ".join(["a cat above a tree"] * 12)
    encoded, *_ = stream(tiny, replace(CAT, prompt=long))
    assert isinstance(encoded, Encoded)
    words = encoded.prompt[0].words
    assert len(words) == len(long.replace(",", " ,").split()) and {word.chunk for word in words} == {0, 1, 2, 3}
    assert not same(replace(CAT, prompt=long), replace(CAT, prompt=long + " star"), tiny)
    assert set(calls) == {1}
