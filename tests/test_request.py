"""What may be asked: the fields of a request, their ranges, and their way through JSON."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sumi.errors import PromptError, RequestError
from sumi.request import FIELDS, FILES, Request

RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**64 - 1),
    "first": (0, 2**32 - 1),
    "count": (1, 2**32 - 1),
    "steps": (1, 10_000),
    "guidance": (0, 100),
    "guidance_rescale": (0, 1),
    "eta": (0, 1),
    "clip_skip": (1, 64),
    "strength": (0, 1),
    "variation": (0, 1),
    "variation_seed": (0, 2**64 - 1),
    "pag": (0, 100),
    "skip": (0, 100),
    "sag": (0, 100),
    "threshold": (0.5, 1),
    "mimic": (0, 100),
    "width": (1, 8192),
    "height": (1, 8192),
    "noise_multiplier": (0, 2),
    "image_guidance": (0, 100),
    "mask_grow": (-1024, 1024),
    "mask_blur": (0, 256),
    "level": (0, 999),
    "hires": (1, 8),
    "hires_strength": (0, 1),
    "hires_steps": (1, 10_000),
    "tile": (8, 8192),
    "tile_overlap": (0, 8192),
}
LISTS: dict[str, tuple[float, float]] = {"sigmas": (0, 1e6), "guidance_interval": (0, 1e6), "outpaint": (0, 4096)}
COUNTS = {"guidance_interval": 2, "outpaint": 4}
FLAGS = ("exact", "mask_invert")
TEXTS = ("prompt", "negative", "label", "sampler", "spacing", *FILES)
CHOICES = {
    "emphasis": ("mean", "plain", "off"),
    "noise": ("native", "torch", "a1111-cpu", "a1111-nv"),
    "guidance_method": ("cfg", "cfg++", "apg"),
    "seamless": ("none", "x", "y", "both"),
}


def values(name: str) -> st.SearchStrategy[Any]:
    field = FIELDS[name]
    value: st.SearchStrategy[Any]
    if name in CHOICES:
        value = st.sampled_from(CHOICES[name])
    elif field.type is str:
        value = st.text(st.characters(exclude_categories=["Cs"]))
    elif field.type is bool:
        value = st.booleans()
    elif field.type is dict:
        texts = st.text(st.characters(exclude_categories=["Cs"]))
        value = st.dictionaries(texts, texts if name == "digests" else st.floats(-1e9, 1e9))
    elif field.type is tuple:
        size = {"min_size": COUNTS[name], "max_size": COUNTS[name]} if name in COUNTS else {}
        value = st.lists(st.floats(*LISTS[name]), **size).map(tuple)
    else:
        value = (st.integers if field.type is int else st.floats)(*RANGES[name])
    return st.none() | value if field.optional else value


def test_every_field_has_a_range_or_is_text_and_is_documented() -> None:
    assert (
        set(FIELDS)
        == {field.name for field in dataclasses.fields(Request)}
        == {
            *(*RANGES, *LISTS, *TEXTS, *CHOICES, *FLAGS),
            *("options", "digests"),
        }
    )
    assert all(field.doc for field in FIELDS.values())


@pytest.mark.parametrize("name", RANGES)
def test_a_number_may_be_either_end_of_its_range_and_no_further(name: str) -> None:
    for end, beyond in zip(RANGES[name], (-1, 1), strict=True):
        assert getattr(Request(**{name: end}), name) == end
        with pytest.raises(RequestError, match=rf"^{name} must be from -?[\d.]+ to \d+; got "):
            Request(**{name: end + beyond})


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", True, [1], 10**400])
def test_numbers_are_finite_numbers_and_nothing_else(name: str, value: object) -> None:
    with pytest.raises(RequestError) as error:
        Request(**{name: value})
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_text(name: str) -> None:
    with pytest.raises(RequestError, match=f"{name} must be text; got 3"):
        Request(**{name: 3})  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="not Unicode"):
        Request(**{name: "half a pair: \ud800"})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_one_of_a_few(name: str) -> None:
    for value in CHOICES[name]:
        assert getattr(Request(**{name: value}), name) == value  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=rf"^there is no {name} 'natve'.*: use {CHOICES[name][0]}, "):
        Request(**{name: "natve"})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("value", [3, "3,1", [3, "1"], [3, None], [float("nan"), 1], [3, -1], [True, False]])
def test_numbers_in_a_list_are_finite_numbers_too(name: str, value: object) -> None:
    with pytest.raises(RequestError, match=rf"^{name} must be "):
        Request(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["order=3", {"order": "3"}, {3: 3}, {"order": float("nan")}, {"order": float("inf")}, [("order", 3)]])
def test_options_are_finite_numbers_by_name(value: object) -> None:
    with pytest.raises(RequestError, match=r"^options (order )?must be "):
        Request(options=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["image", {"image": 3}, {3: "abc"}, {"image": "\ud800"}, [("image", "abc")]])
def test_digests_are_texts_by_name(value: object) -> None:
    with pytest.raises(RequestError, match=r"^digests must be texts by name; got "):
        Request(digests=value)  # type: ignore[arg-type]


def test_an_interval_has_two_ends() -> None:
    with pytest.raises(RequestError, match="guidance_interval must be 2 numbers; got 3"):
        Request(guidance_interval=(1, 2, 3))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("sigmas", "14.6, 3,0", (14.6, 3.0, 0.0)),
        ("options", "order=3, heun=0", {"order": 3.0, "heun": 0.0}),
        ("noise", "torch", "torch"),
        ("steps", "20", 20),
        ("eta", "0.5", 0.5),
    ],
)
def test_fields_are_read_as_a_command_line_writes_them(name: str, text: str, value: object) -> None:
    assert FIELDS[name].read(name, text) == value


@pytest.mark.parametrize(("name", "text"), [("sigmas", "3;1"), ("sigmas", ""), ("options", "order"), ("options", "order=x")])
def test_what_is_no_number_on_a_command_line_is_refused(name: str, text: str) -> None:
    with pytest.raises(RequestError, match=rf"^{name} must be numbers; got "):
        FIELDS[name].read(name, text)


def test_whole_guidance_is_a_float_so_that_equal_requests_are_written_alike() -> None:
    assert Request(guidance=3).to_json() == Request(guidance=3.0).to_json()


def test_a_request_cannot_be_changed_and_a_changed_copy_is_checked() -> None:
    request = Request(prompt="a cat", seed=7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.seed = 8  # type: ignore[misc]
    assert dataclasses.replace(request, steps=3) == Request(prompt="a cat", seed=7, steps=3)
    with pytest.raises(RequestError):
        dataclasses.replace(request, seed=-1)


@given(st.fixed_dictionaries({}, optional={name: values(name) for name in FIELDS}))
def test_json_there_and_back(fields: dict[str, Any]) -> None:
    request = Request(**fields)
    text = request.to_json()
    assert Request.from_json(text) == request
    assert Request.from_json(text).to_json() == text
    assert "\n" not in text and None not in json.loads(text).values()


def test_seed_0_is_a_seed() -> None:
    assert json.loads(Request(seed=0).to_json())["seed"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be JSON"),
        ('{"seed": 1', "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        ("[1]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('{"sead": 1}', r"no field 'sead' \(did you mean seed\?\): the fields are prompt, "),
        ('{"seed": 1.0}', "seed must be a whole number; got 1.0"),
        ('{"guidance": NaN}', "guidance must be from 0 to 100; got nan"),
        ('{"guidance": 1e999}', "guidance must be from 0 to 100; got inf"),
        ('{"prompt": "\\ud800"}', "not Unicode"),
    ],
)
def test_json_that_is_not_a_request_is_refused(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Request.from_json(text)
