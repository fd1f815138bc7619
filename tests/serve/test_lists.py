"""What forms are made of, against what requests take."""

import json
import math
from typing import Any

import pytest

from small import SMALL
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.diffusion.spacings import SPACINGS
from sumi.errors import RequestError
from sumi.request import Request
from sumi.resolve.defaults import resolve
from sumi.serve.lists import fields, samplers

LISTS = samplers()
FIELDS = {field["name"]: field for field in fields()["fields"]}


def test_all_of_it_is_json() -> None:
    for each in (LISTS, fields()):
        assert json.loads(json.dumps(each, allow_nan=False)) == json.loads(json.dumps(each))


def test_every_sampler_and_spacing_is_there_and_says_what_it_is() -> None:
    for kind, table in (("samplers", SAMPLERS), ("spacings", SPACINGS)):
        assert [row["name"] for row in LISTS[kind]] == list(table)
        assert all(len(row["about"]) > 10 and "\n" not in row["about"] for row in LISTS[kind])


@pytest.mark.parametrize("row", LISTS["samplers"], ids=lambda row: row["name"])
def test_the_options_of_a_sampler_are_those_that_a_request_gives_it(row: dict[str, Any]) -> None:
    """Given as they are listed, they change nothing, and so does eta where it is taken."""
    usual = resolve(Request(sampler=row["name"], seed=0), SMALL)
    given = {name: value for name, value in row["options"].items() if value is not None}
    assert resolve(Request(sampler=row["name"], seed=0, options=given), SMALL) == usual
    assert (usual.options or {}) == given and (usual.eta is not None) == row["eta"]
    if not row["eta"]:
        with pytest.raises(RequestError, match="takes no eta"):
            resolve(Request(sampler=row["name"], eta=0.5), SMALL)
    for name in row["options"].keys() - given.keys():
        assert SAMPLERS[row["name"]].options[name] == math.inf


def test_the_options_of_a_spacing_are_taken_with_it() -> None:
    bent = {row["name"]: row["options"] for row in LISTS["spacings"] if row["options"]}
    assert bent == {"karras": {"rho": 7.0}, "polyexponential": {"rho": 1.0}}
    for name, options in bent.items():
        resolve(Request(sampler="euler", spacing=name, options=options), SMALL)


def test_fields_have_their_defaults_and_groups() -> None:
    request = Request()
    assert list(FIELDS) == list(vars(request))
    assert all(field["default"] == getattr(request, name) and field["doc"] and field["group"] for name, field in FIELDS.items())
    assert all(field["optional"] for field in FIELDS.values() if field["default"] is None)
    assert FIELDS["emphasis"]["choices"] == ["mean", "plain", "off"] and FIELDS["outpaint"]["count"] == 4
    assert {field["type"] for field in FIELDS.values()} == {"str", "int", "float", "bool", "tuple", "dict"}


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field["high"] is not None])
def test_a_field_takes_its_bounds_and_nothing_beyond(name: str) -> None:
    field = FIELDS[name]

    def given(number: float) -> Request:
        value = int(number) if field["type"] == "int" else number
        return Request(**{name: {"tuple": [value] * (field["count"] or 2), "dict": {"x": value}}.get(field["type"], value)})

    given(field["low"])
    given(field["high"])
    beyond = 1 if field["type"] == "int" else max(1.0, field["high"] / 1e6)
    for number in (field["low"] - beyond, field["high"] + beyond):
        with pytest.raises(RequestError, match=f"{name}.* must be from"):
            given(number)


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field["choices"]])
def test_a_field_takes_its_choices_and_nothing_else(name: str) -> None:
    assert [getattr(Request(**{name: choice}), name) for choice in FIELDS[name]["choices"]] == FIELDS[name]["choices"]
    with pytest.raises(RequestError, match=f"there is no {name}"):
        Request(**{name: "another"})
