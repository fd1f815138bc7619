"""The modes that go by a picture, made by pointer and by keys: what the server is sent, and what comes of it."""

import json
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Response, expect

from serve.serving import Studio
from sumi.engine.job import Job

PATIENCE = 60_000
"""Milliseconds that a machine may take that does other things, too."""
CLASSES = {"any": 255, "background": 0, "cat": 11, "tree": 47}
"""Some of the shipped model's, and their numbers in a map."""

LOADING = "Failed to load resource"
"""What the console says of a reply that is an error; the reply itself says more."""

expect.set_options(timeout=PATIENCE)

Levels = NDArray[np.uint8]


class Desk:
    """A page of the studio, and what one does at an easel."""

    def __init__(self, page: Page, studio: Studio) -> None:
        self.page, self.studio = page, studio
        self.before = max((job.number for job in studio.engine.list(limit=1)), default=-1)

    def go(self, mode: str) -> Locator:
        """To a mode; gives its element."""
        self.page.locator(f"#tab-{mode}").click()
        stage = self.page.locator(f"{mode}-stage")
        stage.evaluate("(stage) => stage.ready")
        return stage

    def give(self, mode: str, picture: Image.Image, name: str = "given.png") -> Locator:
        """Goes to a mode and chooses a file for it."""
        stage = self.go(mode)
        data = BytesIO()
        picture.save(data, "PNG")
        stage.locator("picture-well input[type=file]").set_input_files({"name": name, "mimeType": "image/png", "buffer": data.getvalue()})
        expect(stage.locator(".made")).to_be_visible()
        return stage

    def place(self, stage: Locator, x: float, y: float) -> tuple[float, float]:
        """Where on the page the middle of a pixel of the easel is."""
        found = stage.locator("paint-easel").evaluate(
            "(e, [x, y]) => { const box = e.base.getBoundingClientRect(), [left, top] = e.view.from(x + 0.5, y + 0.5);"
            " return [box.left + left / e.ratio, box.top + top / e.ratio]; }",
            [x, y],
        )
        return found[0], found[1]

    def drag(self, stage: Locator, *points: tuple[float, float]) -> None:
        """A stroke of the mouse through pixels."""
        mouse = self.page.mouse
        stage.locator("paint-easel").scroll_into_view_if_needed()
        mouse.move(*self.place(stage, *points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.place(stage, *point), steps=3)
        mouse.up()

    def tool(self, stage: Locator, name: str) -> None:
        stage.get_by_role("radio", name=name, exact=True).check()

    def choose(self, name: str) -> None:
        """A class of the palette."""
        search = self.page.locator("class-palette input[type=search]")
        search.fill(name)
        search.press("Enter")
        search.fill("")

    def field(self, stage: Locator) -> Levels:
        """What is painted on the easel."""
        numbers, width = stage.locator("paint-easel").evaluate("(e) => [[...e.field.bytes], e.width]")
        return np.array(numbers, np.uint8).reshape(-1, width)

    def jobs(self, group: str = "studio") -> list[Job]:
        """Those of a group that were asked for since the page was opened, the newest first."""
        return [job for job in self.studio.engine.list(group=group, limit=500) if job.number > self.before]

    def made(self, group: str = "studio", count: int = 1) -> Job:
        """The newest of so many jobs, once it is done."""
        for _ in range(PATIENCE // 50):
            jobs = self.jobs(group)
            assert not any(job.state == "failed" for job in jobs), jobs
            if len(jobs) >= count and jobs[0].state == "done":
                return jobs[0]
            self.page.wait_for_timeout(50)
        raise AssertionError(f"no {count} jobs of {group} are done")

    def make(self, count: int = 1) -> Job:
        self.page.locator("make-row .go-make").click()
        return self.made(count=count)

    def uploaded(self, id: str | None) -> Image.Image:
        assert id is not None
        return Image.open(BytesIO(self.studio.engine.uploaded(id)))

    def picture(self, job: Job) -> Levels:
        return np.asarray(Image.open(BytesIO(self.studio.engine.picture(job.pictures[0]))).convert("RGB"))


Opens = Callable[..., Desk]


@pytest.fixture
def desk(browser: Browser, opened: Studio) -> Iterator[Opens]:
    """Opens the page; in the end nothing may have gone wrong in it, and nothing been asked for elsewhere."""
    wrong: list[str] = []
    elsewhere: list[str] = []
    contexts = []

    def unwanted(reply: Response) -> bool:
        return reply.status >= 400

    def watched(page: Page) -> Page:
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" and LOADING not in message.text else None)
        page.on("response", lambda reply: wrong.append(f"{reply.status} {reply.url}") if unwanted(reply) else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request", lambda request: None if request.url.startswith((opened.url, "blob:", "data:")) else elsewhere.append(request.url)
        )
        return page

    def open_page(**how: Any) -> Desk:
        context = browser.new_context(**{"reduced_motion": "reduce", "viewport": {"width": 1280, "height": 1000}, **how})
        contexts.append(context)
        kept = json.dumps({"steps": 3, "seed": "7", "prompt": "a cat"})
        context.add_init_script(f"if (!localStorage.getItem('sumi.settings')) localStorage.setItem('sumi.settings', {json.dumps(kept)})")
        page = watched(context.new_page())
        page.goto(opened.url)
        page.evaluate("document.querySelector('map-stage').ready")
        return Desk(page, opened)

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong
    assert not elsewhere


def scene() -> Image.Image:
    """A picture of 64 x 64 in which no two rows or columns are alike."""
    down, across = np.mgrid[:64, :64]
    return Image.fromarray(np.stack([4 * across, 4 * down, 2 * (across + down)], -1).astype(np.uint8))


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
    draft = at.made("live")
    expect(stage.get_by_text("a draft of 8 steps")).to_be_visible()
    assert (draft.request.steps, draft.request.seed) == (8, 7)
    np.testing.assert_array_equal(np.asarray(at.uploaded(draft.request.map)), wanted)
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
    at.made("live")


def test_what_is_painted_is_made_anew(desk: Opens, artifacts: Path) -> None:
    """And nothing else, to the bit. It is proposed in place, tried again, accepted, and the picture as it was is still there."""
    at = desk()
    stage = at.give("paint", scene())
    at.page.locator("make-row .go-make").click()
    expect(at.page.get_by_text("Nothing is painted yet")).to_be_visible()
    at.tool(stage, "Rectangle")
    at.drag(stage, (16, 20), (47, 51))
    painted = np.zeros((64, 64), bool)
    painted[20:52, 16:48] = True
    expect(stage.get_by_text("25 % of the picture is painted")).to_be_visible()
    job = at.make()
    sent = at.uploaded(job.request.mask)
    assert sent.mode == "L"
    np.testing.assert_array_equal(np.asarray(sent) == 255, painted)
    np.testing.assert_array_equal(np.asarray(sent) == 0, ~painted)
    original, made = np.asarray(scene()), at.picture(job)
    np.testing.assert_array_equal(made[~painted], original[~painted])
    assert (made[painted] != original[painted]).mean() > 0.5
    accept = stage.get_by_role("button", name="Accept")
    expect(accept).to_be_enabled()
    at.page.screenshot(path=artifacts / "inpaint.png")
    stage.get_by_role("button", name="Try again").click()
    again = at.made(count=2)
    assert (again.request.mask, again.request.image) == (job.request.mask, job.request.image) and again.request.seed != job.request.seed
    expect(stage.get_by_text("2 of 2")).to_be_visible()
    stage.get_by_role("button", name="Discard").click()
    expect(stage.get_by_text("Made", exact=True)).to_be_visible()
    accept.click()
    versions = stage.locator(".versions button")
    expect(versions).to_have_count(2)
    assert not at.field(stage).any()
    at.drag(stage, (2, 2), (9, 9))
    next_ = at.make(count=3)
    np.testing.assert_array_equal(np.asarray(at.uploaded(next_.request.image).convert("RGB")), made)
    versions.first.click()
    expect(versions.first).to_have_attribute("aria-current", "step")


def test_a_mask_is_painted_by_keys(desk: Opens) -> None:
    at = desk()
    stage, keys = at.give("paint", scene()), at.page.keyboard
    easel = stage.locator("paint-easel")
    easel.focus()
    keys.press("f")
    keys.press("ArrowUp")
    keys.press(" ")
    assert (at.field(stage) == 255).all()
    stage.get_by_role("button", name="Undo").click()
    assert not at.field(stage).any()
    easel.focus()
    keys.press("r")
    keys.press(" ")
    keys.press("Shift+ArrowRight")
    keys.press("Escape")
    assert not at.field(stage).any()
    keys.press(" ")
    keys.press("Shift+ArrowDown")
    keys.press(" ")
    stage.get_by_role("button", name="Exchange").click()
    wanted = np.full((64, 64), 255, np.uint8)
    wanted[31:40, 40] = 0
    np.testing.assert_array_equal(at.field(stage), wanted)
    job = at.make()
    np.testing.assert_array_equal(np.asarray(at.uploaded(job.request.mask)), wanted)


def test_grow_and_soft_edge_are_asked_for(desk: Opens) -> None:
    at = desk()
    stage = at.give("paint", scene())
    at.tool(stage, "Rectangle")
    at.drag(stage, (30, 30), (33, 33))
    stage.get_by_role("slider", name="Grow", exact=True).press("ArrowRight")
    stage.get_by_role("spinbutton", name="Soft edge, as a number").fill("1.5")
    request = at.make().request
    assert (request.mask_grow, request.mask_blur, request.strength) == (1, 1.5, None)


def test_a_picture_is_drawn_out_at_its_edges(desk: Opens, artifacts: Path) -> None:
    """By a handle that is pulled, one that is moved by keys, and a number: in steps that the model draws."""
    at = desk()
    stage = at.give("paint", scene())
    right = stage.get_by_role("slider", name="Draw more on the right")
    right.focus()
    right.press("ArrowRight")
    right.press("ArrowRight")
    right.press("ArrowLeft")
    expect(right).to_have_attribute("aria-valuenow", "16")
    left = stage.get_by_role("slider", name="Draw more on the left").bounding_box()
    assert left is not None
    one = stage.locator("paint-easel").evaluate("(e) => e.view.scale / e.ratio")
    x, y = left["x"] + left["width"] / 2, left["y"] + left["height"] / 2
    at.page.mouse.move(x, y)
    at.page.mouse.down()
    at.page.mouse.move(x - 29 * one, y, steps=4)
    at.page.mouse.up()
    stage.get_by_role("spinbutton", name="bottom").fill("20")
    stage.get_by_role("spinbutton", name="bottom").press("Tab")
    expect(stage.get_by_text("112 \u00d7 80 pixels in all")).to_be_visible()
    at.page.screenshot(path=artifacts / "outpaint.png")
    job = at.make()
    assert job.request.outpaint == (32, 0, 16, 16)
    made = at.picture(job)
    assert made.shape == (80, 112, 3)
    np.testing.assert_array_equal(made[:64, 32:96], np.asarray(scene()))
    stage.get_by_role("button", name="Accept").click()
    expect(stage.locator(".versions button")).to_have_count(2)
    assert at.field(stage).shape == (80, 112)


def test_a_picture_is_made_four_times_as_large(desk: Opens, artifacts: Path) -> None:
    at = desk()
    stage = at.give("enlarge", scene().resize((16, 20)))
    job = at.make()
    assert at.picture(job).shape == (80, 64, 3)
    np.testing.assert_array_equal(np.asarray(at.uploaded(job.request.low_res).convert("RGB")), np.asarray(scene().resize((16, 20))))
    after = stage.locator("before-after figure").nth(1).locator("img")
    expect(after).to_be_visible()
    slider = stage.get_by_role("slider", name="How much of the first picture shows")
    slider.focus()
    slider.press("Home")
    assert stage.locator("before-after").evaluate("(e) => e.style.getPropertyValue('--cut')") == "0%"
    at.page.screenshot(path=artifacts / "enlarge.png")
    stage.get_by_role("button", name="Side by side").click()
    boxes = [stage.locator("before-after .side").nth(i).bounding_box() for i in (0, 1)]
    assert boxes[0] and boxes[1] and boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]


def test_a_picture_is_made_of_one_that_is_dropped(desk: Opens, artifacts: Path) -> None:
    """Anywhere in the mode, without the settings that it may carry being asked about; or that is pasted."""
    at = desk()
    stage = at.go("image")
    data = BytesIO()
    scene().save(data, "PNG")
    drop = """async (stage, [kind, bytes]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(bytes)], "dropped.png", { type: "image/png" }));
      const on = kind === "paste" ? document : stage;
      const told = { bubbles: true, cancelable: true };
      if (kind === "paste") on.dispatchEvent(new ClipboardEvent("paste", { ...told, clipboardData: transfer }));
      else on.dispatchEvent(new DragEvent(kind, { ...told, dataTransfer: transfer }));
    }"""
    stage.evaluate(drop, ["drop", list(data.getvalue())])
    expect(stage.locator(".made")).to_be_visible()
    expect(at.page.locator("dialog[open]")).to_have_count(0)
    strength = stage.get_by_role("slider", name="Strength", exact=True)
    strength.focus()
    for _ in range(35):
        strength.press("ArrowLeft")
    expect(stage.get_by_text("shapes and colours stay")).to_be_visible()
    job = at.make()
    assert job.request.strength == 0.4
    np.testing.assert_array_equal(np.asarray(at.uploaded(job.request.image).convert("RGB")), np.asarray(scene()))
    expect(stage.locator("before-after figure").nth(1).locator("img")).to_be_visible()
    at.page.screenshot(path=artifacts / "image.png")
    scene().transpose(Image.Transpose.ROTATE_90).save(data := BytesIO(), "PNG")
    stage.evaluate(drop, ["paste", list(data.getvalue())])
    expect(stage.locator("before-after figure").nth(1).locator("img")).to_have_count(0)
    turned = at.make(count=2)
    assert turned.request.image != job.request.image


def test_work_survives_a_reload(desk: Opens) -> None:
    """What is painted and its strokes, the picture, its versions and what was proposed."""
    at = desk()
    stage = at.go("map")
    at.choose("cat")
    at.tool(stage, "Rectangle")
    at.drag(stage, (3, 3), (30, 20))
    at.drag(stage, (40, 40), (50, 60))
    painted = at.field(stage)
    at.made("live")
    stage = at.give("paint", scene())
    at.tool(stage, "Rectangle")
    at.drag(stage, (30, 30), (40, 40))
    mask = at.field(stage)
    at.make()
    expect(stage.get_by_role("button", name="Accept")).to_be_enabled()
    at.page.reload()
    stage = at.page.locator("paint-stage")
    expect(stage.get_by_role("button", name="Accept")).to_be_enabled()
    np.testing.assert_array_equal(at.field(stage), mask)
    stage.get_by_role("button", name="Accept").click()
    expect(stage.locator(".versions button")).to_have_count(2)
    stage = at.go("map")
    np.testing.assert_array_equal(at.field(stage), painted)
    stage.get_by_role("button", name="Undo").click()
    painted[40:61, 40:51] = 255
    np.testing.assert_array_equal(at.field(stage), painted)
    expect(stage.locator(".pane img")).to_have_js_property("naturalWidth", 64)


def test_a_picture_of_the_gallery_is_taken(desk: Opens) -> None:
    """By what tells of it anywhere in the page, and out of the newest."""
    at = desk()
    at.page.evaluate("import('/page/jobs.js').then(({ jobs }) => jobs.submit())")
    job = at.made()
    picture = at.picture(job)
    for mode in ("image", "paint", "enlarge"):
        at.page.evaluate(
            "([id, mode]) => document.dispatchEvent(new CustomEvent('studio:start-from', { detail: { picture: { id }, mode } }))",
            [job.pictures[0], mode],
        )
        stage = at.page.locator(f"{mode}-stage")
        expect(stage.locator(".made")).to_be_visible()
    stage = at.go("paint")
    sheet = stage.locator("paint-easel").evaluate(
        "(e) => { const { data } = e.picture.getContext('2d').getImageData(0, 0, 64, 64); return [...data]; }"
    )
    np.testing.assert_array_equal(np.array(sheet).reshape(64, 64, 4)[..., :3], picture)
    at.page.reload()
    stage = at.go("enlarge")
    stage.locator("picture-well .newest button").first.click()
    expect(stage.get_by_text("what is made of it is of 256 \u00d7 256")).to_be_visible()


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


def test_what_a_model_does_not_take_is_said(desk: Opens) -> None:
    at = desk()
    at.page.evaluate(
        "import('/page/known.js').then(({ known }) => { known.card().takes = ['image']; known.dispatchEvent(new Event('change')); })"
    )
    for mode, words in {"paint": "make parts of a picture anew", "map": "takes no maps", "enlarge": "does not enlarge pictures"}.items():
        stage = at.page.locator(f"{mode}-stage")
        assert words in (stage.locator(".lacking").text_content() or "")
        said = stage.evaluate("(stage) => stage.overrides().then(() => 'nothing', ({ message }) => message)")
        assert words in said


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_modes_can_be_used_by_all(desk: Opens, artifacts: Path, scheme: str, width: int) -> None:
    """Nothing that axe finds serious; nothing wider than the page."""
    at = desk(color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce")
    for mode in ("image", "paint", "map", "enlarge"):
        stage = at.go(mode) if mode == "map" else at.give(mode, scene())
        expect(stage).to_be_visible()
        found = [
            (rule["id"], [node["html"] for node in rule["nodes"]])
            for rule in Axe().run(at.page).response["violations"]
            if rule["impact"] in ("serious", "critical")
        ]
        assert found == []
        assert at.page.evaluate("document.documentElement.scrollWidth") <= width
        at.page.screenshot(path=artifacts / f"{mode}-{scheme}-{width}.png", full_page=width < 500)
