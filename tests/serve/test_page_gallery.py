"""The gallery in a real browser: 100,000 pictures of which only those in sight exist."""

import re
from collections.abc import Callable
from pathlib import Path

import httpx
from playwright.sync_api import APIResponse, Page, Route, expect

from serve.at_gallery import COUNT, PHONE, Visit, accessible, begin, focused, gallery, label, tell, total
from serve.gallery import prompt, seed
from serve.serving import Studio

SCROLL = """(share) => {
  const box = document.querySelector("picture-gallery .box"), { top, left } = box.getBoundingClientRect();
  box.scrollTop = share * (box.scrollHeight - box.clientHeight);
  return [box.scrollTop, box.clientHeight, left, top];
}"""


def read(tab: Page) -> None:
    """Waits until all that is in sight is known."""
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    tab.wait_for_function("() => !document.querySelector('picture-gallery [aria-label*=\"being read\"]')")


def test_only_what_is_in_sight_exists_and_it_is_the_right_pictures(visit: Visit, many: Studio) -> None:
    tab = visit(many)
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


def test_cells_go_round_while_it_scrolls_and_what_has_the_focus_keeps_it(visit: Visit, many: Studio) -> None:
    tab = visit(many)
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


def test_keys(visit: Visit, many: Studio) -> None:
    tab = visit(many)
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


def test_search_and_stars(visit: Visit, many: Studio) -> None:
    tab = visit(many)
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


def test_it_is_where_it_was_when_the_page_is_loaded_again(visit: Visit, many: Studio) -> None:
    tab = visit(many)
    gallery(tab).get_by_role("searchbox").fill("tree")
    expect(gallery(tab).locator(".count")).to_contain_text("found")
    tab.evaluate(SCROLL, 0.5)
    read(tab)
    first = "[...document.querySelectorAll('picture-gallery .row')].find((row) => row.getBoundingClientRect().bottom > "
    first += "document.querySelector('picture-gallery .box').getBoundingClientRect().top + 40).firstElementChild.getAttribute('aria-label')"
    before = tab.evaluate(first)
    assert "tree" in before
    tab.reload()
    expect(gallery(tab).get_by_role("gridcell", name=before)).to_be_visible()
    read(tab)
    assert tab.evaluate(first) == before


def test_new_pictures_come_on_top_without_moving_what_is_looked_at(visit: Visit, many: Studio) -> None:
    tab = visit(many)
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


def test_the_very_first_picture_comes_by_itself(begin: Callable[..., Studio], visit: Visit) -> None:
    """Where there was nothing, nothing is looked at that could move; and what is made aside from the gallery stays out of it."""
    studio = begin(key=None)
    tab = visit(studio, empty=True)
    expect(gallery(tab).locator(".nothing")).to_be_visible()
    httpx.post(f"{studio.url}/v1/jobs", json={"request": {"prompt": "aside", "seed": 1}, "shelf": False}).raise_for_status()
    httpx.post(f"{studio.url}/v1/jobs", json={"request": {"prompt": "the first", "seed": 1}}).raise_for_status()
    total(tab, "1 picture")
    expect(gallery(tab).locator(".thumb:visible")).to_have_attribute("aria-label", "the first, seed 1")
    expect(gallery(tab).locator(".fresh")).to_be_hidden()


def test_stars_and_removals_with_undo(visit: Visit, many: Studio) -> None:
    tab = visit(many)
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


def test_a_reply_that_is_late_brings_nothing_back(visit: Visit, many: Studio) -> None:
    """What was read before a picture was removed, and comes after."""
    tab = visit(many)
    late: list[tuple[Route, APIResponse]] = []
    tab.route("**/v1/pictures?offset=0&*", lambda route: late.append((route, route.fetch())), times=1)
    tab.evaluate("import('/page/shelf.js').then(({ shelf }) => shelf.look())")
    while not late:
        tab.wait_for_timeout(20)
    begin(tab)
    tab.keyboard.press("Delete")
    total(tab, f"{COUNT - 1:,} pictures")
    with tab.expect_response("**/v1/pictures?offset=0&*"):
        route, reply = late[0]
        route.fulfill(response=reply)
    tab.wait_for_timeout(300)
    total(tab, f"{COUNT - 1:,} pictures")
    tab.get_by_role("button", name="Undo").click()
    total(tab, f"{COUNT:,} pictures")


def test_several_at_once(visit: Visit, many: Studio) -> None:
    tab = visit(many)
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


def test_a_range_is_picked_over_pictures_that_were_never_seen(visit: Visit, many: Studio) -> None:
    tab = visit(many)
    cells = gallery(tab).get_by_role("gridcell")
    cells.first.click(modifiers=["Control"])
    tab.evaluate("document.querySelector('picture-gallery .box').scrollTop = 12000")
    read(tab)
    last = cells.filter(visible=True).nth(20)
    number = int(re.search(r"no(\d+)", last.get_attribute("aria-label") or "")[1])  # type: ignore[index]
    last.click(modifiers=["Shift"])
    expect(gallery(tab).locator(".many")).to_have_text(f"{COUNT - number + 1} picked")


def test_larger_pictures(visit: Visit, many: Studio) -> None:
    tab = visit(many)
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


def test_a_phone(visit: Visit, many: Studio, artifacts: Path) -> None:
    tab = visit(many, **PHONE)
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


def test_the_gallery_is_accessible(visit: Visit, many: Studio, artifacts: Path) -> None:
    tab = visit(many)
    cells = gallery(tab).get_by_role("gridcell")
    cells.nth(1).click(modifiers=["Control"])
    cells.nth(2).click(modifiers=["Control"])
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        accessible(tab, "picture-gallery")
        tab.screenshot(path=artifacts / f"gallery-{scheme}.png")
