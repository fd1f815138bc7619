"""The modes that go by a picture, made by pointer and by keys: what the server is sent, and what comes of it."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

from serve.desk import Opens, scene


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
    at.drafted(painted)
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
