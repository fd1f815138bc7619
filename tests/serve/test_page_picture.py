"""A picture from near, in a real browser: zoom, what is told of it, what is done with it; and pictures that are read."""

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from serve.at_gallery import ASKED, PHONE, Visit, accessible, begin, drop, gallery, pixels, plain, total, view
from serve.serving import Studio


def enter(tab: Page, place: int = 0) -> Locator:
    """Opens a picture by keys; gives what holds it."""
    begin(tab)
    for _ in range(place):
        tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    stage = view(tab).locator(".stage")
    expect(stage.locator("img")).to_be_visible()
    expect(view(tab).locator(".how-made")).to_be_visible()
    return stage


def at(tab: Page, text: str) -> None:
    expect(view(tab).locator(".place")).to_have_text(text)


def original(studio: Studio, item: dict[str, Any]) -> NDArray[np.uint8]:
    return pixels(httpx.get(studio.url + item["url"]).content)


def enlarged(picture: NDArray[np.uint8], by: int) -> NDArray[np.uint8]:
    return picture.repeat(by, 0).repeat(by, 1)


def test_a_picture_from_near(visit: Visit, opened: Studio, few: list[dict[str, Any]]) -> None:
    tab = visit(opened)
    stage = enter(tab)
    at(tab, "1 of 3")
    first = original(opened, few[0])
    # As large as fits, by a whole number: every pixel is a square of one colour.
    fit = pixels(stage.screenshot())
    assert fit.shape[0] % 64 == 0 and fit.shape[0] >= 640
    assert np.array_equal(fit, enlarged(first, fit.shape[0] // 64))
    tab.keyboard.press("1")
    expect(view(tab).locator(".percent")).to_have_text("100 %")
    assert np.array_equal(pixels(stage.screenshot()), first)
    tab.keyboard.press("ArrowRight")
    at(tab, "2 of 3")
    assert np.array_equal(pixels(stage.screenshot()), fit := enlarged(original(opened, few[1]), fit.shape[0] // 64))
    port = view(tab).locator(".port").bounding_box()
    assert port is not None
    middle = (port["x"] + port["width"] / 2, port["y"] + port["height"] / 2)
    tab.mouse.move(*middle)
    tab.mouse.wheel(0, -600)
    before = stage.bounding_box()
    assert before is not None and before["width"] > 1.3 * fit.shape[1]
    tab.mouse.down()
    tab.mouse.move(middle[0] + 70, middle[1] + 30, steps=3)
    tab.mouse.up()
    after = stage.bounding_box()
    assert after is not None and (after["x"] - before["x"], after["y"] - before["y"]) == (70, 30)
    tab.keyboard.press("Shift+ArrowLeft")
    assert (stage.bounding_box() or {})["x"] == after["x"] + 60
    tab.keyboard.press("0")
    assert np.array_equal(pixels(stage.screenshot()), fit)
    tab.mouse.dblclick(*middle)
    assert (stage.bounding_box() or {})["width"] == 2 * fit.shape[1]
    # Closed, the gallery stands where one looked last.
    tab.keyboard.press("Escape")
    expect(gallery(tab).get_by_role("gridcell").nth(1)).to_be_focused()


def test_fingers(visit: Visit, opened: Studio, few: list[dict[str, Any]], artifacts: Path) -> None:
    tab = visit(opened, **PHONE)
    gallery(tab).get_by_role("gridcell").nth(1).tap()
    at(tab, "2 of 3")
    session = tab.context.new_cdp_session(tab)
    port = view(tab).locator(".port").bounding_box()
    assert port is not None
    x, y = port["x"] + port["width"] / 2, port["y"] + port["height"] / 2

    def touch(*frames: list[tuple[float, float]]) -> None:
        for i, points in enumerate(frames):
            kind = "touchStart" if i == 0 else "touchMove"
            session.send(
                "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b, "id": k} for k, (a, b) in enumerate(points)]}
            )
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    touch([(x + 60, y)], [(x + 20, y)], [(x - 50, y + 4)])
    at(tab, "3 of 3")
    touch([(x - 60, y)], [(x - 20, y)], [(x + 50, y + 4)])
    at(tab, "2 of 3")
    stage = view(tab).locator(".stage")
    before = stage.bounding_box()
    touch([(x - 30, y), (x + 30, y)], [(x - 60, y), (x + 60, y)], [(x - 90, y), (x + 90, y)])
    after = stage.bounding_box()
    assert before is not None and after is not None
    assert after["width"] == pytest.approx(3 * before["width"], rel=0.02)
    at(tab, "2 of 3")
    tab.get_by_role("button", name=re.compile("^At ")).click()
    assert stage.bounding_box() == before
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    accessible(tab, "picture-view")
    tab.screenshot(path=artifacts / "view-phone.png")


def test_what_is_told_of_a_picture(visit: Visit, opened: Studio, few: list[dict[str, Any]], artifacts: Path) -> None:
    tab = visit(opened, permissions=["clipboard-read", "clipboard-write"])
    enter(tab, 1)
    rows = dict(zip(view(tab).locator("dt").all_text_contents(), view(tab).locator("dd").all_text_contents(), strict=True))
    assert {name: rows[name] for name in ("size", "steps", "guidance", "number")} == {
        "size": "64 \u00d7 64", "steps": "4", "guidance": "2.5", "number": "1"}  # fmt: skip
    expect(view(tab).locator(".asked")).to_have_text(str(ASKED["prompt"]))
    expect(view(tab).locator(".not")).to_contain_text("two")
    view(tab).get_by_role("button", name="Copy the seed").click()
    expect(view(tab).get_by_text("The seed copied")).to_be_visible()
    assert tab.evaluate("navigator.clipboard.readText()") == str(ASKED["seed"])
    view(tab).get_by_text("As text").click()
    view(tab).get_by_role("button", name="Copy the text").click()
    expect(view(tab).get_by_text("The text copied")).to_be_visible()
    written = Image.open(BytesIO(httpx.get(opened.url + few[1]["url"]).content)).text["parameters"]  # type: ignore[attr-defined]
    assert tab.evaluate("navigator.clipboard.readText()") == written
    with tab.expect_download() as downloaded:
        view(tab).get_by_role("button", name="Download").click()
    assert Path(downloaded.value.path()).read_bytes() == httpx.get(opened.url + few[1]["url"]).content
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        accessible(tab, "picture-view")
        tab.screenshot(path=artifacts / f"view-{scheme}.png")


def test_two_pictures_beside_each_other(visit: Visit, opened: Studio, few: list[dict[str, Any]], artifacts: Path) -> None:
    tab = visit(opened)
    enter(tab)
    tab.keyboard.press("ArrowRight")
    at(tab, "2 of 3")
    tab.keyboard.press("c")
    slider = view(tab).get_by_role("slider")
    expect(slider).to_be_visible()

    def parted(share: float) -> None:
        shot = pixels(view(tab).locator(".stage").screenshot())
        by, cut = shot.shape[0] // 64, int(share * shot.shape[1])
        assert np.array_equal(shot[:, : cut - 3], enlarged(original(opened, few[0]), by)[:, : cut - 3])
        assert np.array_equal(shot[:, cut + 3 :], enlarged(original(opened, few[1]), by)[:, cut + 3 :])

    parted(0.5)
    slider.fill("25")
    parted(0.25)
    box = view(tab).locator(".stage").bounding_box()
    assert box is not None
    tab.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 99)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 99, steps=4)
    tab.mouse.up()
    parted(0.75)
    accessible(tab, "picture-view")
    tab.screenshot(path=artifacts / "compare.png")
    view(tab).get_by_role("button", name="Compare").click()
    expect(slider).to_be_hidden()
    tab.keyboard.press("Escape")
    cells = gallery(tab).get_by_role("gridcell")
    cells.nth(0).click(modifiers=["Control"])
    cells.nth(2).click(modifiers=["Control"])
    gallery(tab).get_by_role("button", name="Compare").click()
    expect(slider).to_be_visible()
    at(tab, "1 of 3")


def test_what_is_done_with_a_picture(visit: Visit, opened: Studio, few: list[dict[str, Any]]) -> None:
    tab = visit(opened)
    kept = "JSON.parse(localStorage.getItem('sumi.settings') ?? '{}')"
    enter(tab, 1)
    view(tab).get_by_role("button", name="only the words").click()
    assert tab.evaluate(kept) == {"prompt": ASKED["prompt"], "negative": ASKED["negative"]}
    view(tab).get_by_role("button", name="only the seed").click()
    assert tab.evaluate(kept)["seed"] == str(ASKED["seed"])
    view(tab).get_by_role("button", name="Use these settings").click()
    expect(view(tab)).to_be_hidden()
    assert {"steps": 4, "guidance": 2.5, "first": 1}.items() <= tab.evaluate(kept).items()
    expect(tab.get_by_label("Prompt", exact=True)).to_have_value(str(ASKED["prompt"]))
    for act, mode in (("Image to image", "Image"), ("Inpaint", "Paint"), ("Enlarge", "Enlarge")):
        enter(tab)
        view(tab).get_by_role("button", name=act, exact=True).click()
        expect(view(tab)).to_be_hidden()
        expect(tab.get_by_role("tab", name=mode)).to_have_attribute("aria-selected", "true")
    enter(tab)
    view(tab).get_by_role("button", name="See how it came about").click()
    expect(tab.locator("dialog.see")).to_be_visible()
    expect(tab.locator("dialog.see iframe")).to_be_visible()
    total(tab, "3 pictures")  # it was made once more, to be seen, and not to be kept


def test_again_and_vary(visit: Visit, opened: Studio, few: list[dict[str, Any]]) -> None:
    tab = visit(opened)
    for pressed, same in (("Again", True), ("Vary", False)):
        enter(tab)
        view(tab).get_by_role("button", name=pressed, exact=True).click()
        expect(view(tab)).to_be_hidden()
        total(tab, "4 pictures")
        made = httpx.get(f"{opened.url}/v1/pictures").json()["items"][0]
        assert np.array_equal(original(opened, made), original(opened, few[0])) is same
        begin(tab)
        tab.keyboard.press("Delete")
        total(tab, "3 pictures")


def test_removed_from_near_and_undone(visit: Visit, opened: Studio, few: list[dict[str, Any]]) -> None:
    tab = visit(opened)
    stage = enter(tab, 1)
    view(tab).get_by_role("button", name="Star", exact=True).click()
    expect(view(tab).get_by_role("button", name="Star", exact=True)).to_have_attribute("aria-pressed", "true")
    tab.keyboard.press("s")
    expect(view(tab).get_by_role("button", name="Star", exact=True)).to_have_attribute("aria-pressed", "false")
    tab.keyboard.press("Delete")
    at(tab, "2 of 2")
    expect(stage.locator("img")).to_have_attribute("src", few[2]["url"])
    tab.keyboard.press("Delete")
    at(tab, "1 of 1")
    for _ in range(2):
        view(tab).get_by_role("button", name="Undo").last.click()
    at(tab, "2 of 3")
    expect(stage.locator("img")).to_have_attribute("src", few[1]["url"])


def test_a_picture_is_read(visit: Visit, opened: Studio, few: list[dict[str, Any]], artifacts: Path) -> None:
    tab = visit(opened)
    dialog = tab.locator("drop-picture dialog")
    ours = httpx.get(opened.url + few[1]["url"]).content
    drop(tab, ours, "mine.png", "image/png", "dragover")
    expect(tab.get_by_text("Let go to read how it was made")).to_be_visible()
    drop(tab, ours, "mine.png", "image/png")
    expect(dialog.locator(".asked")).to_have_text(str(ASKED["prompt"]))
    expect(dialog.get_by_text(str(ASKED["seed"]))).to_be_visible()
    accessible(tab, "drop-picture")
    tab.screenshot(path=artifacts / "read.png")
    dialog.get_by_role("button", name="Use these settings").click()
    expect(dialog).to_be_hidden()
    kept = tab.evaluate("JSON.parse(localStorage.getItem('sumi.settings'))")
    assert {"prompt": ASKED["prompt"], "seed": str(ASKED["seed"]), "steps": 4, "first": 1}.items() <= kept.items()

    with tab.expect_file_chooser() as chooser:
        tab.get_by_role("button", name="Read a picture").click()
    chooser.value.set_files({"name": "other.png", "mimeType": "image/png", "buffer": plain()})
    expect(dialog.get_by_role("heading")).to_have_text("This picture tells nothing")
    expect(dialog.get_by_text("40 \u00d7 24")).to_be_visible()
    expect(dialog.get_by_role("button", name="Use these settings")).to_have_count(0)
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()

    drop(tab, b"words", "notes.txt", "text/plain")
    expect(tab.get_by_text("That is not a picture")).to_be_visible()
    drop(tab, b"no picture", "broken.png", "image/png")
    expect(tab.get_by_text("broken.png cannot be read as a picture")).to_be_visible()

    drop(tab, plain(), "pasted.png", "image/png", "paste")
    dialog.get_by_role("button", name="Start from this picture").click()
    expect(dialog).to_be_hidden()
    expect(tab.get_by_role("tab", name="Image")).to_have_attribute("aria-selected", "true")
