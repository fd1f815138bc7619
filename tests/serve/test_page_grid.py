"""Grids made by clicking: what each cell shows, how one stops, tries again and comes back, and the sheet that is downloaded."""

import json
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, expect

import sumi
from serve.gated import Gate
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.request import Request
from sumi.store.images import read_png_text

PATIENCE = 60_000
"""Milliseconds: how long a machine that does other things, too, may take for what is sure to come."""

expect.set_options(timeout=PATIENCE)

PROMPT = "a red circle on a green background"

Pixels = NDArray[np.uint8]
Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    return sumi.load()


@pytest.fixture
def opens(browser: Browser, opened: Any) -> Iterator[Opened]:
    """Opens the page at its grid, with nothing kept from before; in the end nothing may have gone wrong in it."""
    wrong: list[str] = []
    asked: list[str] = []
    contexts = []

    def open_page(prompt: str = PROMPT, **how: Any) -> Page:
        context = browser.new_context(**{"reduced_motion": "reduce", "viewport": {"width": 1280, "height": 1000}, **how})
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(PATIENCE)
        tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" and "400" not in said.text else None)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(opened.url)
        tab.get_by_label("Prompt", exact=True).fill(prompt)
        tab.get_by_role("tab", name="Grid").click()
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong
    assert [url for url in asked if not url.startswith((opened.url, "blob:", "data:"))] == []


def choose(tab: Page, letter: str, field: str, values: str) -> None:
    tab.get_by_label(f"what {letter} varies").select_option(field)
    if values:
        tab.get_by_label(f"values of {letter}", exact=True).and_(tab.locator("input")).fill(values)


def make(tab: Page) -> None:
    tab.get_by_role("button", name="Make the grid").click()


def finished(tab: Page, text: str) -> None:
    expect(tab.locator("grid-stage .state")).to_have_text(text)


def jobs(url: str, tab: Page) -> list[dict[str, Any]]:
    """The jobs of the grid that the page shows, the oldest first."""
    grids = json.loads(tab.evaluate("localStorage.getItem('sumi.prefs')"))["grids"]
    found = httpx.get(f"{url}/v1/jobs", params={"group": f"grid-{grids[0]['id']}", "limit": 1000}).json()["jobs"]
    return sorted(found, key=lambda job: int(job["number"]))


def shown(tab: Page, name: str) -> str:
    """The id of the picture that a cell shows."""
    source = tab.get_by_role("button", name=f"{name}: open", exact=True).locator("img").get_attribute("src")
    found = re.fullmatch(r"/v1/pictures/(\w+)", source or "")
    assert found
    return found[1]


def pixels(data: bytes) -> Pixels:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def near(one: Pixels, other: Any) -> bool:
    return bool(abs(one.astype(int) - np.asarray(other)).max() <= 1)


def places(page: Pixels, picture: Pixels) -> list[tuple[int, int]]:
    """Where on a page a picture stands to the bit, as (x, y)."""
    height, width, _ = picture.shape
    corners = (page[: -height + 1, : -width + 1] == picture[0, 0]).all(-1)
    return [
        (int(x), int(y)) for y, x in zip(*corners.nonzero(), strict=True) if np.array_equal(page[y : y + height, x : x + width], picture)
    ]


def serious(tab: Page) -> list[str]:
    """What axe finds wrong."""
    found = Axe().run(tab, {"exclude": [["iframe"]]}).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found if each["impact"] in ("serious", "critical")]


def test_every_cell_is_what_its_request_makes_alone(
    opens: Opened, opened: Any, model: LatentDiffusion, artifacts: Path, tmp_path: Path
) -> None:
    tab = opens()
    choose(tab, "X", "steps", "2-4")
    choose(tab, "Y", "guidance", "1, 3")
    expect(tab.locator("grid-stage .read").first).to_have_text("2 · 3 · 4")
    expect(tab.locator("grid-stage .plan")).to_contain_text("6 pictures, 3 across and 2 down")
    tab.screenshot(path=artifacts / "grid-asked.png")
    make(tab)
    finished(tab, "6 of 6 pictures")
    expect(tab.locator("grid-stage .plan")).to_contain_text("about")
    tab.screenshot(path=artifacts / "grid-made.png")

    by_id = {job["pictures"][0]["id"]: job["request"] for job in jobs(opened.url, tab)}
    assert len(by_id) == 6 and len({request["seed"] for request in by_id.values()}) == 1
    made: dict[tuple[int, int], Pixels] = {}
    for i, steps in enumerate((2, 3, 4)):
        for j, guidance in enumerate((1, 3)):
            id = shown(tab, f"steps {steps}, guidance {guidance}")
            assert (by_id[id]["steps"], by_id[id]["guidance"], by_id[id]["prompt"]) == (steps, guidance, PROMPT)
            made[i, j] = pixels(httpx.get(f"{opened.url}/v1/pictures/{id}").content)
            (alone,) = sumi.generate(model, Request(**by_id[id]))
            assert near(made[i, j], alone.image)

    with tab.expect_download() as coming:
        tab.get_by_role("button", name="Download the sheet").click()
    path = tmp_path / "sheet.png"
    coming.value.save_as(path)
    coming.value.save_as(artifacts / "grid-sheet.png")
    sheet = pixels(path.read_bytes())
    at = {place: places(sheet, picture) for place, picture in made.items()}
    assert all(len(found) == 1 for found in at.values())
    columns, rows = [at[i, 0][0][0] for i in range(3)], [at[0, j][0][1] for j in range(2)]
    assert columns == sorted(columns) and rows == sorted(rows)
    assert {place: found[0] for place, found in at.items()} == {(i, j): (columns[i], rows[j]) for i in range(3) for j in range(2)}
    told = json.loads(read_png_text(path)["sumi-grid"])
    assert (told["x"], told["y"]) == ({"field": "steps", "values": [2, 3, 4]}, {"field": "guidance", "values": [1, 3]})
    assert Request(**told["request"]).prompt == PROMPT

    tab.reload()
    finished(tab, "6 of 6 pictures")
    assert shown(tab, "steps 4, guidance 3") in by_id
    expect(tab.get_by_label("values of X", exact=True).and_(tab.locator("input"))).to_have_value("2-4")


def test_words_are_replaced_and_sheets_are_turned(opens: Opened, opened: Any, artifacts: Path) -> None:
    tab = opens()
    tab.get_by_label("Prompt", exact=True).fill("a red circle")
    choose(tab, "X", "replace", "red, blue")
    choose(tab, "Y", "sampler", "")
    offered = tab.get_by_role("group", name="values of Y", exact=True)
    for name in ("euler", "ddim"):
        offered.get_by_role("button", name=name, exact=True).click()
    expect(offered.get_by_role("button", name="ddim", exact=True)).to_have_attribute("aria-pressed", "true")
    choose(tab, "Z", "steps", "2, 3")
    expect(tab.locator("grid-stage .plan")).to_contain_text("8 pictures, 2 across and 2 down, on 2 sheets")
    make(tab)
    finished(tab, "8 of 8 pictures")
    asked = {job["pictures"][0]["id"]: job["request"] for job in jobs(opened.url, tab)}
    for sheet in (2, 3):
        tab.get_by_role("tab", name=f"steps {sheet}").click()
        for word in ("red", "blue"):
            for sampler in ("euler", "ddim"):
                request = asked[shown(tab, f"{word}, {sampler}")]
                assert (request["prompt"], request["sampler"], request["steps"]) == (f"a {word} circle", sampler, sheet)
    tab.screenshot(path=artifacts / "grid-words.png")

    # By keyboard: to the cell below on the right, back to the first sheet, into the lightbox, from there to the next cell.
    tab.get_by_role("button", name="red, euler: open").focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowRight", "PageUp"):
        tab.keyboard.press(key)
    expect(tab.get_by_role("tab", name="steps 2")).to_have_attribute("aria-selected", "true")
    expect(tab.get_by_role("button", name="blue, ddim: open")).to_be_focused()
    with tab.expect_request(lambda request: request.url.endswith(f"{shown(tab, 'blue, ddim')}/info")):
        tab.keyboard.press("Enter")
    expect(tab.locator("picture-view dialog")).to_be_visible()
    tab.keyboard.press("Escape")
    expect(tab.get_by_role("button", name="blue, ddim: open")).to_be_focused()


def test_it_stops_and_goes_on(opens: Opened, opened: Any, gate: Gate) -> None:
    tab = opens()
    choose(tab, "X", "seed", "1-4")
    choose(tab, "Y", "steps", "4")
    make(tab)
    expect(tab.locator('.cell[data-state="running"] progress').first).to_be_visible()
    tab.locator("grid-stage").get_by_role("button", name="Stop").click()
    expect(tab.locator('.cell:is([data-state="running"], [data-state="queued"])')).to_have_count(0)
    expect(tab.locator('.cell[data-state="cancelled"]').last).to_contain_text("stopped")
    # Those that were not asked for yet are not asked for.
    left = tab.locator('.cell:is([data-state="cancelled"], [data-state="open"])').count()
    assert left == 4
    assert {job["state"] for job in jobs(opened.url, tab)} == {"cancelled"}
    gate.open()
    tab.reload()
    tab.get_by_role("button", name="Make all 4").click()
    finished(tab, "4 of 4 pictures")
    assert [job["seed"] for job in jobs(opened.url, tab)] == ["1", "2", "3", "4"]


def test_a_cell_that_fails_tells_why_and_can_be_tried_again(opens: Opened) -> None:
    tab = opens()
    choose(tab, "X", "sampler", "euler, eulr")
    choose(tab, "Y", "steps", "2")
    make(tab)
    finished(tab, "1 of 2 pictures, 1 failed")
    wrong = tab.get_by_role("button", name=re.compile("^eulr, steps 2: there is no sampler .*; Try again$"))
    expect(wrong).to_contain_text("Try again")
    with tab.expect_response(lambda reply: reply.url.endswith("/v1/jobs") and reply.request.method == "POST") as again:
        wrong.click()
    assert again.value.status == 400


def test_what_cannot_be_asked_for_is_told_before(opens: Opened) -> None:
    tab = opens()
    plan, button = tab.locator("grid-stage .plan"), tab.get_by_role("button", name="Make the grid")
    for field, values, told in (
        ("replace", "dog, cat", "the prompt does not say “dog”"),
        ("steps", "10-5 (+2)", "write 10-5 (-2)"),
        ("strength", "0.2, 0.5", "choose another mode to start from"),
        ("steps", "", "has no values yet"),
    ):
        choose(tab, "X", field, values)
        expect(plan).to_contain_text(told)
        expect(button).to_be_disabled()


def test_it_starts_from_a_picture_and_an_earlier_one_is_changed(opens: Opened, opened: Any) -> None:
    tab = opens()
    choose(tab, "X", "steps", "3")
    make(tab)
    finished(tab, "1 of 1 picture")
    picture = shown(tab, "steps 3")
    begun = "(id) => document.dispatchEvent(new CustomEvent('studio:start-from', { detail: { picture: { id }, mode: 'image' } }))"
    tab.evaluate(begun, picture)
    expect(tab.locator("image-stage img").first).to_be_visible()
    tab.get_by_role("tab", name="Grid").click()
    choose(tab, "X", "strength", "0.5, 1")
    tab.get_by_label("starting from").select_option("image")
    make(tab)
    finished(tab, "2 of 2 pictures")
    asked = [job["request"] for job in jobs(opened.url, tab)]
    assert [request["strength"] for request in asked] == [0.5, 1]
    assert {request["image"] for request in asked} == {asked[0]["image"]} and asked[0]["image"].startswith("upload:")
    tab.get_by_label("grids").select_option(index=1)
    finished(tab, "1 of 1 picture")
    assert shown(tab, "steps 3") == picture
    tab.get_by_role("button", name="Change it").click()
    expect(tab.get_by_label("what X varies")).to_have_value("steps")
    expect(tab.get_by_label("values of X", exact=True).and_(tab.locator("input"))).to_have_value("3")


@pytest.mark.parametrize(("scheme", "width"), [("dark", 360), ("light", 360), ("dark", 1280)])
def test_it_is_legible_and_accessible(opens: Opened, artifacts: Path, scheme: str, width: int) -> None:
    tab = opens("a red circle", viewport={"width": width, "height": 900}, color_scheme=scheme)
    choose(tab, "X", "replace", "red, blue")
    choose(tab, "Y", "sampler", "euler, no")
    choose(tab, "Z", "steps", "1, 2")
    make(tab)
    finished(tab, "4 of 8 pictures, 4 failed")
    assert serious(tab) == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.screenshot(path=artifacts / f"grid-{scheme}-{width}.png", full_page=True)
