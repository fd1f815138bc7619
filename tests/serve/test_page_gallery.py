"""The gallery in a real browser: 100,000 pictures of which only those in sight exist, one of them from near, and pictures that are read."""

import base64
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
from playwright.sync_api import Browser, Locator, Page, expect

from serve.gallery import prompt, seed, shelve, starred
from serve.serving import STUB, Studio, serving

PATIENCE = 60_000
COUNT = 100_000
ASKED = {"prompt": "a red circle on a green background", "negative": "two", "seed": 2**64 - 7, "count": 3, "steps": 4, "guidance": 2.5}
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}

expect.set_options(timeout=PATIENCE)
Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """100,000 pictures of which there are rows alone, and a worker whose pictures are none that a browser shows."""
    folder = tmp_path_factory.mktemp("many")
    shelve(folder, COUNT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        with serving(folder, key=None, maker=STUB) as studio:
            yield studio


@pytest.fixture(scope="module")
def few(opened: Studio) -> list[dict[str, Any]]:
    """Three pictures by the model that comes with sumi: what the server tells of them, the newest first."""
    job = httpx.post(f"{opened.url}/v1/jobs", json={"request": ASKED}).json()
    with httpx.stream("GET", f"{opened.url}/v1/jobs/{job['id']}/events", timeout=120) as told:
        told.read()
    items = httpx.get(f"{opened.url}/v1/pictures").json()["items"]
    assert len(items) == 3
    return [dict(item) for item in items]


@pytest.fixture
def opens(browser: Browser) -> Iterator[Opened]:
    """Opens the page, with nothing kept from before; in the end nothing may have gone wrong in it."""
    wrong: list[str] = []
    asked: list[tuple[str, str]] = []
    contexts = []

    def open_page(studio: Studio, *, empty: bool = False, **how: Any) -> Page:
        context = browser.new_context(**{"reduced_motion": "reduce", "viewport": {"width": 1400, "height": 900}, **how})
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(PATIENCE)
        tab.on(
            "console", lambda said: wrong.append(said.text) if said.type == "error" and "the server responded" not in said.text else None
        )
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda request: asked.append((studio.url, request.url)))
        tab.goto(studio.url)
        if not empty:
            expect(gallery(tab).locator(".count")).not_to_be_empty()
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong
    assert [url for studio, url in asked if not url.startswith((studio, "blob:", "data:"))] == []


def gallery(tab: Page) -> Locator:
    return tab.locator("picture-gallery")


def view(tab: Page) -> Locator:
    return tab.locator("picture-view dialog")


def label(number: int) -> str:
    """What is told of a picture of `many`."""
    return f"{prompt(number)}, seed {seed(number)}" + (", starred" if starred(number) else "")


def total(tab: Page, text: str) -> None:
    expect(gallery(tab).locator(".count")).to_have_text(text)


def focused(tab: Page, text: str) -> None:
    expect(tab.locator(":focus")).to_have_attribute("aria-label", text)


def begin(tab: Page) -> None:
    """Goes to the first picture by keys."""
    gallery(tab).get_by_role("searchbox").focus()
    tab.keyboard.press("ArrowDown")


def tell(studio: Studio, number: int) -> httpx.Response:
    return httpx.get(f"{studio.url}/v1/pictures", params={"search": f"no{number}"})


def drop(tab: Page, data: bytes, file: str, kind: str, event: str = "drop") -> None:
    tab.evaluate(
        """([data, name, type, event]) => {
          const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0)), transfer = new DataTransfer();
          transfer.items.add(new File([bytes], name, { type }));
          const how = { bubbles: true, cancelable: true };
          document.getElementById("head").dispatchEvent(event === "paste" ? new ClipboardEvent(event, { ...how, clipboardData: transfer })
            : new DragEvent(event, { ...how, dataTransfer: transfer }));
        }""",
        [base64.b64encode(data).decode(), file, kind, event],
    )


def plain(width: int = 40, height: int = 24) -> bytes:
    """A PNG that tells nothing."""
    file = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(file, "png")
    return file.getvalue()


def pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def accessible(tab: Page, part: str) -> None:
    found = Axe().run(tab, context=part).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found if each["impact"] in ("serious", "critical")] == []


SCROLL = """(share) => {
  const box = document.querySelector("picture-gallery .box"), { top, left } = box.getBoundingClientRect();
  box.scrollTop = share * (box.scrollHeight - box.clientHeight);
  return [box.scrollTop, box.clientHeight, left, top];
}"""


def read(tab: Page) -> None:
    """Waits until all that is in sight is known."""
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    tab.wait_for_function("() => !document.querySelector('picture-gallery [aria-label*=\"being read\"]')")


def test_only_what_is_in_sight_exists_and_it_is_the_right_pictures(opens: Opened, many: Studio) -> None:
    tab = opens(many)
    grid = gallery(tab).get_by_role("grid")
    columns, rows = int(grid.get_attribute("aria-colcount") or 0), int(grid.get_attribute("aria-rowcount") or 0)
    assert rows == -(-COUNT // columns)
    box = grid.get_by_role("gridcell").first.bounding_box()
    assert box is not None
    pitch = box["width"] + 4
    for share in (0.0, 0.123, 0.5, 0.987, 1.0):
        scrolled, height, left, top = tab.evaluate(SCROLL, share)
        read(tab)
        first = int(scrolled // pitch) * columns
        # By where it is, and by what rows and columns are said to be.
        edge = "([x, y]) => document.elementFromPoint(x, y).closest('[role=gridcell]').ariaLabel"
        assert tab.evaluate(edge, [left + 20, top + 8]) == label(COUNT - first)
        told = tab.evaluate(
            """() => [...document.querySelectorAll('picture-gallery [role=gridcell]:not([hidden])')].map((cell) =>
              [Number(cell.parentElement.ariaRowIndex), Number(cell.ariaColIndex), cell.ariaLabel])"""
        )
        assert height // pitch * columns - columns <= len(told) <= (height // pitch + 6) * columns
        assert [row for row, _, _ in told] == sorted(row for row, _, _ in told)
        assert all(text == label(COUNT - ((row - 1) * columns + column - 1)) for row, column, text in told)


def test_cells_go_round_while_it_scrolls_and_what_has_the_focus_keeps_it(opens: Opened, many: Studio) -> None:
    tab = opens(many)
    begin(tab)
    focused(tab, label(COUNT))
    most = tab.evaluate(
        """async () => {
          const box = document.querySelector("picture-gallery .box");
          let most = 0;
          for (let i = 1; i <= 60; i++) {
            box.scrollTop = i * i * 900;
            await new Promise(requestAnimationFrame);
            most = Math.max(most, document.querySelectorAll("picture-gallery [role=gridcell]").length);
          }
          return most;
        }"""
    )
    assert most <= 120
    focused(tab, label(COUNT))
    assert tab.evaluate("document.querySelectorAll('picture-gallery [tabindex=\"0\"]').length") == 1
    tab.keyboard.press("ArrowRight")
    focused(tab, label(COUNT - 1))
    assert tab.evaluate("document.querySelector('picture-gallery .box').scrollTop") < 200


def test_keys(opens: Opened, many: Studio) -> None:
    tab = opens(many)
    columns = int(gallery(tab).get_by_role("grid").get_attribute("aria-colcount") or 0)
    begin(tab)
    for pressed, number in (
        ("ArrowRight", COUNT - 1),
        ("ArrowDown", COUNT - 1 - columns),
        ("ArrowLeft", COUNT - columns),
        ("ArrowUp", COUNT),
        ("ArrowUp", COUNT),
        ("End", 1),
        ("ArrowDown", 1),
        ("ArrowLeft", 2),
        ("Home", COUNT),
    ):
        tab.keyboard.press(pressed)
        focused(tab, label(number))
    tab.keyboard.press("Space")
    expect(gallery(tab).locator(".many")).to_have_text("1 picked")
    tab.keyboard.press("Shift+ArrowRight")
    tab.keyboard.press("Shift+ArrowRight")
    expect(gallery(tab).locator(".many")).to_have_text("3 picked")
    tab.keyboard.press("Escape")
    expect(gallery(tab).locator(".many")).to_be_hidden()


def test_search_and_stars(opens: Opened, many: Studio) -> None:
    tab = opens(many)
    total(tab, f"{COUNT:,} pictures")
    tab.keyboard.press("/")
    tab.keyboard.type("square no99")
    matching = [number for number in range(1, COUNT + 1) if "square" in prompt(number) and str(number).startswith("99")]
    total(tab, f"{len(matching):,} pictures found")
    expect(gallery(tab).get_by_role("gridcell").first).to_have_attribute("aria-label", label(max(matching)))
    gallery(tab).get_by_role("searchbox").fill(str(seed(77)))
    total(tab, "1 picture found")
    expect(gallery(tab).get_by_role("gridcell").first).to_have_attribute("aria-label", label(77))
    gallery(tab).get_by_role("searchbox").fill("nowhere")
    expect(gallery(tab).locator(".nothing")).to_have_text("Nothing is found for “nowhere”.")
    tab.reload()
    expect(gallery(tab).locator(".nothing")).to_have_text("Nothing is found for “nowhere”.")
    accessible(tab, "picture-gallery")
    gallery(tab).get_by_role("searchbox").fill("")
    gallery(tab).get_by_role("button", name="Starred only").click()
    total(tab, f"{COUNT // 50:,} pictures found")


def test_new_pictures_come_on_top_without_moving_what_is_looked_at(opens: Opened, many: Studio) -> None:
    tab = opens(many)
    first = gallery(tab).get_by_role("gridcell").first
    begin(tab)
    tab.keyboard.press("PageDown")
    tab.keyboard.press("PageDown")
    seen = """() => [...document.querySelectorAll("picture-gallery [role=gridcell]")].map((cell) =>
      [cell.ariaLabel, cell.getBoundingClientRect().top])"""
    read(tab)
    before = tab.evaluate(seen)
    httpx.post(f"{many.url}/v1/jobs", json={"request": {"prompt": "newcomers", "count": 2, "steps": 1}})
    more = gallery(tab).get_by_role("button", name="2 new")
    expect(more).to_be_visible()
    assert tab.evaluate(seen) == before
    more.click()
    expect(first).to_have_attribute("aria-label", re.compile("^newcomers, seed "))
    expect(tab.locator(":focus")).to_have_attribute("aria-label", re.compile("^newcomers, seed "))
    total(tab, f"{COUNT + 2:,} pictures")
    # At the top they come by themselves, and the focus stays on its picture.
    httpx.post(f"{many.url}/v1/jobs", json={"request": {"prompt": "another", "steps": 1}})
    expect(first).to_have_attribute("aria-label", re.compile("^another, seed "))
    expect(tab.locator(":focus")).to_have_attribute("aria-label", re.compile("^newcomers, seed "))
    expect(first.locator("img")).to_be_hidden()  # the stub makes files that are no pictures
    expect(first).to_have_class(re.compile("missing"))
    for item in httpx.get(f"{many.url}/v1/pictures", params={"limit": 3}).json()["items"]:
        httpx.delete(f"{many.url}/v1/pictures/{item['id']}")


def test_the_very_first_picture_comes_by_itself(begin: Callable[..., Studio], opens: Opened) -> None:
    """Where there was nothing, nothing is looked at that could move; and what is made aside from the gallery stays out of it."""
    studio = begin(key=None)
    tab = opens(studio, empty=True)
    expect(gallery(tab).locator(".nothing")).to_be_visible()
    httpx.post(f"{studio.url}/v1/jobs", json={"request": {"prompt": "aside", "seed": 1}, "shelf": False}).raise_for_status()
    httpx.post(f"{studio.url}/v1/jobs", json={"request": {"prompt": "the first", "seed": 1}}).raise_for_status()
    total(tab, "1 picture")
    expect(gallery(tab).locator(".thumb:visible")).to_have_attribute("aria-label", "the first, seed 1")
    expect(gallery(tab).locator(".fresh")).to_be_hidden()


def test_stars_and_removals_with_undo(opens: Opened, many: Studio) -> None:
    tab = opens(many)
    begin(tab)
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("s")
    focused(tab, f"{label(COUNT - 1)}, starred")
    assert tell(many, COUNT - 1).json()["items"][0]["starred"]
    other = tab.context.new_page()
    other.goto(many.url)
    expect(gallery(other).get_by_role("gridcell").nth(1)).to_have_attribute("aria-label", f"{label(COUNT - 1)}, starred")
    tab.bring_to_front()
    tab.keyboard.press("s")
    focused(tab, label(COUNT - 1))
    expect(gallery(other).get_by_role("gridcell").nth(1)).to_have_attribute("aria-label", label(COUNT - 1))

    tab.keyboard.press("Delete")
    focused(tab, label(COUNT - 2))
    total(tab, f"{COUNT - 1:,} pictures")
    total(other, f"{COUNT - 1:,} pictures")
    assert tell(many, COUNT - 1).json()["total"] == 0
    tab.get_by_role("button", name="Undo").click()
    total(tab, f"{COUNT:,} pictures")
    expect(gallery(tab).get_by_role("gridcell").nth(1)).to_have_attribute("aria-label", label(COUNT - 1))
    assert tell(many, COUNT - 1).json()["total"] == 1


def test_several_at_once(opens: Opened, many: Studio) -> None:
    tab = opens(many)
    cells = gallery(tab).get_by_role("gridcell")
    cells.nth(2).click(modifiers=["Control"])
    cells.nth(7).click(modifiers=["Shift"])
    expect(gallery(tab).locator(".many")).to_have_text("6 picked")
    assert [i for i in range(12) if cells.nth(i).get_attribute("aria-selected") == "true"] == [2, 3, 4, 5, 6, 7]
    cells.nth(4).click(modifiers=["Control"])
    gallery(tab).get_by_role("button", name="Remove").click()
    total(tab, f"{COUNT - 5:,} pictures")
    expect(cells.nth(2)).to_have_attribute("aria-label", label(COUNT - 4))
    expect(cells.nth(3)).to_have_attribute("aria-label", label(COUNT - 8))
    tab.get_by_role("button", name="Undo").click()
    total(tab, f"{COUNT:,} pictures")
    for i in range(10):
        expect(cells.nth(i)).to_have_attribute("aria-label", label(COUNT - i))


def test_a_range_is_picked_over_pictures_that_were_never_seen(opens: Opened, many: Studio) -> None:
    tab = opens(many)
    cells = gallery(tab).get_by_role("gridcell")
    cells.first.click(modifiers=["Control"])
    tab.evaluate("document.querySelector('picture-gallery .box').scrollTop = 12000")
    read(tab)
    last = cells.filter(visible=True).nth(20)
    number = int(re.search(r"no(\d+)", last.get_attribute("aria-label") or "")[1])  # type: ignore[index]
    last.click(modifiers=["Shift"])
    expect(gallery(tab).locator(".many")).to_have_text(f"{COUNT - number + 1} picked")


def test_larger_pictures(opens: Opened, many: Studio) -> None:
    tab = opens(many)
    grid, slider = gallery(tab).get_by_role("grid"), gallery(tab).get_by_role("slider")
    columns = int(grid.get_attribute("aria-colcount") or 0)
    assert columns >= 3
    tab.evaluate("document.querySelector('picture-gallery .box').scrollTop = 50000")
    place = "() => document.querySelector('picture-gallery .box').getBoundingClientRect()"
    box = tab.evaluate(place)
    at = "([x, y]) => document.elementFromPoint(x, y).closest('[role=gridcell]').parentElement.getAttribute('aria-rowindex')"
    before = (int(tab.evaluate(at, [box["x"] + 20, box["y"] + 12])) - 1) * columns
    slider.focus()
    tab.keyboard.press("End")
    expect(grid).to_have_attribute("aria-colcount", "2")
    after = (int(tab.evaluate(at, [box["x"] + 20, box["y"] + 12])) - 1) * 2
    assert abs(after - before) <= columns + 2
    tab.reload()
    expect(gallery(tab).get_by_role("grid")).to_have_attribute("aria-colcount", "2")


def test_a_phone(opens: Opened, many: Studio, artifacts: Path) -> None:
    tab = opens(many, **PHONE)
    gallery(tab).scroll_into_view_if_needed()
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    session = tab.context.new_cdp_session(tab)
    cell = gallery(tab).get_by_role("gridcell").nth(1)
    cell.scroll_into_view_if_needed()
    box = cell.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    expect(gallery(tab).locator(".many")).to_have_text("1 picked")
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(gallery(tab).locator(".many")).to_have_text("1 picked")
    gallery(tab).get_by_role("gridcell").nth(2).tap()
    expect(gallery(tab).locator(".many")).to_have_text("2 picked")
    small = tab.evaluate(
        """() => [...document.querySelectorAll("picture-gallery button")].filter((button) => button.checkVisibility())
          .filter((button) => button.getBoundingClientRect().height < 44).map((button) => button.textContent)"""
    )
    assert small == []
    accessible(tab, "picture-gallery")
    tab.screenshot(path=artifacts / "gallery-phone.png")


def test_the_gallery_is_accessible(opens: Opened, many: Studio, artifacts: Path) -> None:
    tab = opens(many)
    cells = gallery(tab).get_by_role("gridcell")
    cells.nth(1).click(modifiers=["Control"])
    cells.nth(2).click(modifiers=["Control"])
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        accessible(tab, "picture-gallery")
        tab.screenshot(path=artifacts / f"gallery-{scheme}.png")


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


def test_a_picture_from_near(opens: Opened, opened: Studio, few: list[dict[str, Any]]) -> None:
    tab = opens(opened)
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


def test_fingers(opens: Opened, opened: Studio, few: list[dict[str, Any]], artifacts: Path) -> None:
    tab = opens(opened, **PHONE)
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


def test_what_is_told_of_a_picture(opens: Opened, opened: Studio, few: list[dict[str, Any]], artifacts: Path) -> None:
    tab = opens(opened, permissions=["clipboard-read", "clipboard-write"])
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


def test_two_pictures_beside_each_other(opens: Opened, opened: Studio, few: list[dict[str, Any]], artifacts: Path) -> None:
    tab = opens(opened)
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


def test_what_is_done_with_a_picture(opens: Opened, opened: Studio, few: list[dict[str, Any]]) -> None:
    tab = opens(opened)
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


def test_again_and_vary(opens: Opened, opened: Studio, few: list[dict[str, Any]]) -> None:
    tab = opens(opened)
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


def test_removed_from_near_and_undone(opens: Opened, opened: Studio, few: list[dict[str, Any]]) -> None:
    tab = opens(opened)
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


def test_a_picture_is_read(opens: Opened, opened: Studio, few: list[dict[str, Any]], artifacts: Path) -> None:
    tab = opens(opened)
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
