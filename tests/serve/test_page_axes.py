"""Values of an axis as people list them: the forms that A1111's page documents, sumi's own, and what is refused."""

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

PAGE = files("sumi.serve") / "page"

STEPS = {"name": "steps", "type": "int", "low": 1, "high": 10_000}
NUMBER = {"name": "number", "type": "int"}
GUIDANCE = {"name": "guidance", "type": "float", "low": 0, "high": 100}
SEED = {"name": "seed", "type": "int", "low": 0, "high": 2**64 - 1}
WORDS = {"name": "replace", "type": "str"}
SAMPLER = {"name": "sampler", "type": "str", "choices": ["euler", "ddim", "dpm++2m"]}
SIZE = {"name": "size", "type": "size"}
SIGMAS = {"name": "sigmas", "type": "tuple", "low": 0, "high": 1e6}
INTERVAL = {**SIGMAS, "name": "guidance_interval", "count": 2}
EXACT = {"name": "exact", "type": "bool"}
OPTIONS = {"name": "options", "type": "dict"}


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Page]:
    """A page that has the modules and nothing else: no server."""

    def answer(route: Route) -> None:
        name = route.request.url.rsplit("/", 1)[1]
        if name:
            route.fulfill(body=(PAGE / name).read_text(), content_type="text/javascript")
        else:
            route.fulfill(body="<!doctype html><title>axes</title>", content_type="text/html")

    opened = browser.new_page()
    opened.route("http://sumi.test/**", answer)
    opened.goto("http://sumi.test/")
    yield opened
    opened.close()


def call(tab: Page, name: str, *given: Any) -> Any:
    """What a function of axes.js gives, or the text of what it throws."""
    return tab.evaluate(
        "async ([name, given]) => { const axes = await import('/axes.js');"
        " try { return axes[name](...given); } catch (error) { if (error instanceof axes.AxisError) return error.message; throw error; } }",
        [name, given],
    )


@pytest.mark.parametrize(
    ("field", "text", "values"),
    [
        # As the documentation of A1111's X/Y/Z plot lists them.
        (STEPS, "1-5", [1, 2, 3, 4, 5]),
        (STEPS, "1-5 (+2)", [1, 3, 5]),
        (STEPS, "10-5 (-3)", [10, 7]),
        (GUIDANCE, "1-3 (+0.5)", [1, 1.5, 2, 2.5, 3]),
        (STEPS, "1-10 [5]", [1, 3, 5, 7, 10]),
        (GUIDANCE, "0.0-1.0 [6]", [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (WORDS, "an apple, a watermelon, a gun", ["an apple", "a watermelon", "a gun"]),
        (WORDS, '"darkness, light","darkness, green",heat', ["darkness, light", "darkness, green", "heat"]),
        # And otherwise.
        (STEPS, "1,3,6", [1, 3, 6]),
        (STEPS, " 1 , 3,\n6, ", [1, 3, 6]),
        (STEPS, "1-10 (+3)", [1, 4, 7, 10]),
        (STEPS, "1-10 [4]", [1, 4, 7, 10]),
        (STEPS, "1 - 10(3), 20", [1, 4, 7, 10, 20]),
        (STEPS, "5-3", [5, 4, 3]),
        (STEPS, "5-3 (1)", [5, 4, 3]),
        (STEPS, "7-7", [7]),
        (STEPS, "3-9 [1]", [3]),
        (NUMBER, "-2-2", [-2, -1, 0, 1, 2]),
        (NUMBER, "-5--3", [-5, -4, -3]),
        (GUIDANCE, "1-3 (+0.75)", [1, 1.75, 2.5]),
        (GUIDANCE, "0.1-0.5 (+0.1)", [0.1, 0.2, 0.3, 0.4, 0.5]),
        (GUIDANCE, "1e-3, .5, 2.", [0.001, 0.5, 2]),
        (GUIDANCE, "1e-3-3e-3 (+1e-3)", [0.001, 0.002, 0.003]),
        (SEED, "7, 18446744073709551615", [7, "18446744073709551615"]),
        (WORDS, "a cat, asleep | a dog", ["a cat, asleep", "a dog"]),
        (WORDS, "cat,", ["cat", ""]),
        (WORDS, 'say ""x"", "a | b", " c "', ['say ""x""', "a | b", " c "]),
        (SAMPLER, "Euler, DPM++2M", ["euler", "dpm++2m"]),
        (SIZE, "64x64, 96 \u00d7 64, 64*128", ["64x64", "96x64", "64x128"]),
        (SIGMAS, "14.6,3,0 | 10,0", [[14.6, 3, 0], [10, 0]]),
        (INTERVAL, "0,5 |", [[0, 5]]),
        (EXACT, "true, no", [True, False]),
        (OPTIONS, "order=2 | order=3,churn=0.5", [{"order": 2}, {"order": 3, "churn": 0.5}]),
        (STEPS, "  ", []),
    ],
)
def test_values_are_read(tab: Page, field: dict[str, Any], text: str, values: list[Any]) -> None:
    assert call(tab, "read", field, text) == {"values": values, "repeated": 0}


def test_a_value_stands_once(tab: Page) -> None:
    assert call(tab, "read", STEPS, "1-3 [5]") == {"values": [1, 2, 3], "repeated": 2}
    assert call(tab, "read", WORDS, "cat, dog, cat") == {"values": ["cat", "dog"], "repeated": 1}


@pytest.mark.parametrize(
    ("field", "text", "told"),
    [
        (STEPS, "1.5", "whole numbers"),
        (STEPS, "1-3 (+0.5)", "whole numbers"),
        (STEPS, "10-5 (+2)", "write 10-5 (-2)"),
        (STEPS, "1-5 (-2)", "write 1-5 (+2)"),
        (STEPS, "1-5 (0)", "a step of 0"),
        (STEPS, "1-5 [0]", "no values"),
        (STEPS, "0-3", "from 1 to 10000; got 0"),
        (STEPS, "20000", "from 1 to 10000; got 20000"),
        (STEPS, "1-1000000000", "at most 1000"),
        (STEPS, "1-5 [1000000000]", "at most 1000"),
        (GUIDANCE, "0-1 (+0.0000001)", "at most 1000"),
        (SEED, "18446744073709551610-18446744073709551615", "one by one"),
        (SEED, "-1", "got -1"),
        (GUIDANCE, "high", "takes numbers"),
        (GUIDANCE, "NaN", "takes numbers"),
        (GUIDANCE, "0x10", "takes numbers"),
        (SAMPLER, "euler, eulr", "there is no sampler “eulr”: use euler, ddim, dpm++2m"),
        (SIZE, "64", "width x height"),
        (INTERVAL, "1,2,3 | 4,5", "2 numbers"),
        (EXACT, "perhaps", "true or false"),
        (OPTIONS, "order", "order=2"),
        (WORDS, 'cat, "dog', "not closed"),
    ],
)
def test_what_is_no_value_is_told(tab: Page, field: dict[str, Any], text: str, told: str) -> None:
    assert told in call(tab, "read", field, text)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        (STEPS, [1, 2, 30]),
        (GUIDANCE, [0.5, 1e-3]),
        (WORDS, ["a, b", 'say "x"', " c ", "", "a | b"]),
        (SIGMAS, [[3, 1, 0]]),
        (SIGMAS, [[3, 0], [2, 1, 0]]),
        (OPTIONS, [{"order": 2, "churn": 1}]),
        (SEED, [1, "18446744073709551615"]),
    ],
)
def test_what_is_listed_is_read_again(tab: Page, field: dict[str, Any], values: list[Any]) -> None:
    assert call(tab, "read", field, call(tab, "listed", values))["values"] == values


def test_each_cell_asks_for_its_values(tab: Page) -> None:
    base = {"request": {"prompt": "a red cat on a red mat", "seed": "7", "variation": 0.5}, "model": None, "varied": 9}
    axes = [
        {"name": "replace", "values": ["red", "blue"]},
        {"name": "size", "values": ["64x32", "32x32"]},
        {"name": "replace", "values": ["cat", "$& dog"]},
    ]
    cells = call(tab, "cells", base, axes)
    assert [cell["place"] for cell in cells] == [[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)]
    shared = {"seed": "7", "variation": 0.5, "variation_seed": 9}
    assert cells[0]["request"] == {"prompt": "a red cat on a red mat", "width": 64, "height": 32, **shared}
    assert cells[7]["request"] == {"prompt": "a blue $& dog on a blue mat", "width": 32, "height": 32, **shared}
    named = call(tab, "cells", base, [{"name": "model", "values": ["one", "two"]}, {"name": "prompt", "values": ["a", ""]}, None])
    assert [(cell["model"], cell["request"]["prompt"]) for cell in named] == [("one", "a"), ("two", "a"), ("one", ""), ("two", "")]


def test_axes_that_do_not_go_together_are_told(tab: Page) -> None:
    base = {"request": {"prompt": "a cat"}, "model": None, "varied": 9}
    steps, size, width = ({"name": name, "values": values} for name, values in (("steps", [1]), ("size", ["8x8"]), ("width", [8])))
    assert "steps is on two axes" in call(tab, "cells", base, [steps, None, steps])
    assert "width is on two axes" in call(tab, "cells", base, [size, width, None])
    assert "does not say “dog”" in call(tab, "cells", base, [{"name": "replace", "values": ["dog", "cat"]}, None, None])
    assert "does not say “”" in call(tab, "cells", base, [{"name": "replace", "values": ["", "cat"]}, None, None])
    assert "does not say “cat”" in call(tab, "cells", {**base, "request": {}}, [{"name": "replace", "values": ["cat"]}, None, None])
