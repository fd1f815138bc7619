"""Maps painted on the page, by pointer, pen, fingers and keys: what the server is sent, and what comes of it."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from serve.desk import CLASSES, Desk, Opens, scene
from sumi.engine.job import Job


def test_a_map_is_painted_and_made(desk: Opens, artifacts: Path) -> None:
    """Drafts while one paints, which are not kept; what is sent are exactly the numbers that were painted; made in full with their seed."""
    at = desk()
    stage = at.go("map")
    wanted = np.zeros((64, 64), np.uint8)
    at.choose("background")
    at.tool(stage, "Fill")
    at.drag(stage, (30, 30))
    at.choose("cat")
    at.tool(stage, "Rectangle")
    at.drag(stage, (8, 34), (27, 58))
    wanted[34:59, 8:28] = CLASSES["cat"]
    at.choose("tree")
    at.drag(stage, (55, 60), (40, 10))
    wanted[10:61, 40:56] = CLASSES["tree"]
    np.testing.assert_array_equal(at.field(stage), wanted)
    draft = at.drafted(wanted)
    expect(stage.get_by_text("a draft of 8 steps")).to_be_visible()
    assert (draft.request.steps, draft.request.seed) == (8, 7)
    at.page.screenshot(path=artifacts / "map.png")
    job = at.make()
    sent = at.uploaded(job.request.map)
    assert sent.mode == "L"
    np.testing.assert_array_equal(np.asarray(sent), wanted)
    assert (job.request.seed, job.request.steps, job.request.image) == (7, 3, None)
    expect(stage.get_by_text("made in full")).to_be_visible()
    kept = {item.job for item in at.studio.engine.gallery(limit=1000).items}
    assert job.id in kept and not kept & {each.id for each in at.jobs("live")}
    assert not any(each.shelf for each in at.jobs("live")) and job.shelf


def used(at: Desk, job: Job) -> None:
    """The settings of a job in place of those that are set, as when they are asked for beside its picture."""
    at.page.evaluate(
        "async (id) => { const { request, model } = await (await fetch(`/v1/jobs/${id}`)).json();"
        " document.dispatchEvent(new CustomEvent('studio:use', { detail: { request, model } })); }",
        job.id,
    )


def test_what_a_picture_was_made_of_is_taken_up_again(desk: Opens) -> None:
    """A map, and a mask with what lies beyond the edges, of a job that is used on a page where nothing of it is painted."""
    at = desk()
    stage = at.go("map")
    at.choose("cat")
    at.tool(stage, "Rectangle")
    at.drag(stage, (8, 34), (27, 58))
    of_map = at.make()
    stage = at.give("paint", scene())
    at.tool(stage, "Rectangle")
    at.drag(stage, (20, 20), (40, 45))
    for _ in range(2):
        stage.get_by_role("slider", name="Draw more on the right").press("ArrowRight")
    of_mask = at.make(count=2)
    assert of_mask.request.outpaint == (0, 0, 32, 0)

    at = desk()
    used(at, of_map)
    expect(at.page.locator("#tab-map")).to_have_attribute("aria-selected", "true")
    wanted = np.full((64, 64), CLASSES["any"], np.uint8)
    wanted[34:59, 8:28] = CLASSES["cat"]
    at.page.wait_for_function(
        "(n) => document.querySelector('map-stage paint-easel').field.bytes.filter((b) => b === n).length === 500", arg=11
    )
    np.testing.assert_array_equal(at.field(at.page.locator("map-stage")), wanted)
    used(at, of_mask)
    stage = at.page.locator("paint-stage")
    expect(stage.get_by_text("what lies beyond its edges will be drawn")).to_be_visible()
    again = at.make()
    one, other = of_mask.request, again.request
    assert (one.mask, one.image, one.outpaint, one.seed) == (other.mask, other.image, other.outpaint, other.seed)


def test_a_map_is_painted_by_keys(desk: Opens) -> None:
    """Arrows move a cross, Shift farther; Space paints while it is held, Enter until pressed again; digits choose, letters take tools."""
    at = desk()
    stage = at.go("map")
    at.choose("cat")
    easel, keys = stage.locator("paint-easel"), at.page.keyboard
    easel.focus()
    for _ in range(12):
        keys.press("[")
    keys.press("ArrowLeft")
    keys.down(" ")
    for _ in range(3):
        keys.press("ArrowDown")
    keys.up(" ")
    keys.press("Shift+ArrowRight")
    keys.press("Enter")
    keys.press("Shift+ArrowUp")
    keys.press("Enter")
    keys.press("2")  # the key of the background
    keys.press("r")
    easel.focus()
    keys.press("ArrowRight")
    keys.press(" ")
    keys.press("Shift+ArrowRight")
    keys.press("Shift+ArrowDown")
    keys.press(" ")
    wanted = np.full((64, 64), 255, np.uint8)
    wanted[32:36, 31] = CLASSES["cat"]
    wanted[27:36, 39] = CLASSES["cat"]
    wanted[27:36, 40:49] = 0
    np.testing.assert_array_equal(at.field(stage), wanted)
    keys.press("Control+z")
    keys.press("Control+z")
    wanted[27:36, 39:49] = 255
    np.testing.assert_array_equal(at.field(stage), wanted)
    keys.press("Control+Shift+z")
    wanted[27:36, 39] = CLASSES["cat"]
    np.testing.assert_array_equal(at.field(stage), wanted)
    at.drafted(wanted)


def test_a_pen_presses_and_fingers_zoom(desk: Opens) -> None:
    """A pen paints the broader the harder it presses; a second finger takes back what the first began, and both zoom."""
    at = desk()
    stage = at.give("paint", scene())
    send = """(e, [kind, type, id, x, y, pressure]) => {
      const box = e.base.getBoundingClientRect(), [left, top] = e.view.from(x + 0.5, y + 0.5);
      e.setPointerCapture = () => {};
      e.dispatchEvent(new PointerEvent(kind, { pointerId: id, pointerType: type, pressure, button: 0, bubbles: true, cancelable: true,
        clientX: box.left + left / e.ratio, clientY: box.top + top / e.ratio }));
    }"""
    easel = stage.locator("paint-easel")
    stage.get_by_role("spinbutton", name="Size, as a number").fill("10")

    def point(kind: str, pointer: str, id: int, x: float, y: float, pressure: float = 0.5) -> None:
        easel.evaluate(send, [f"pointer{kind}", pointer, id, x, y, pressure])

    for y, pressure in ((10, 0.3), (40, 1.0)):
        point("down", "pen", 5, 30, y, pressure)
        point("up", "pen", 5, 30, y)
    painted = at.field(stage) == 255
    assert (painted[:25].any(0).sum(), painted[25:].any(0).sum()) == (3, 10)
    scale = easel.evaluate("(e) => e.view.scale")
    point("down", "touch", 1, 20, 25)
    point("move", "touch", 1, 24, 25)
    assert (at.field(stage) == 255).sum() > painted.sum()
    point("down", "touch", 2, 40, 25)
    np.testing.assert_array_equal(at.field(stage) == 255, painted)
    point("move", "touch", 2, 56, 25)
    point("up", "touch", 2, 40, 25)
    point("up", "touch", 1, 24, 25)
    assert easel.evaluate("(e) => e.view.scale") == pytest.approx(2 * scale, rel=0.01)
    np.testing.assert_array_equal(at.field(stage) == 255, painted)


@pytest.mark.parametrize("scale", [1, 2])
def test_an_easel_is_drawn_in_the_pixels_of_the_device(desk: Opens, scale: int) -> None:
    at = desk(device_scale_factor=scale)
    stage = at.give("paint", scene())
    at.tool(stage, "Rectangle")
    at.drag(stage, (0, 0), (31, 63))
    sizes = stage.locator("paint-easel").evaluate("(e) => [e.base.width / e.clientWidth, e.ratio, e.view.scale]")
    assert sizes[:2] == pytest.approx([scale, scale], abs=0.01)
    shown = Image.open(BytesIO(stage.locator("paint-easel").screenshot())).convert("RGB")
    box = stage.locator("paint-easel").bounding_box()
    assert box is not None
    colours = []
    for x in (20, 44):
        left, top = at.place(stage, x, 20)
        colours.append(np.array(shown.getpixel((round(scale * (left - box["x"])), round(scale * (top - box["y"]))))))
    wash = np.array([0xAE, 0x32, 0x18])
    plain = [np.array([4 * x, 80, 2 * (x + 20)]) for x in (20, 44)]
    assert np.abs(colours[1] - plain[1]).max() <= 3
    assert np.abs(colours[0] - (plain[0] + (wash - plain[0]) * 0x82 / 255)).max() <= 4
