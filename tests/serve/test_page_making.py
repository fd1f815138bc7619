"""The studio's page in a real browser: words in, pictures out, by clicking and typing."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from serve.gated import Gate
from serve.pages import STEPS, changed, done, made, make, newest, prompt, settings, tabs, watched
from serve.serving import Studio


def test_the_first_picture_takes_one_action(tab: Page, opened: Studio) -> None:
    example = tab.get_by_role("region", name="To begin with").get_by_role("button").first
    words = example.inner_text()
    example.click()
    done(tab)
    expect(prompt(tab)).to_have_value(words)
    assert changed(newest(opened)) == {"prompt": words, "seed": newest(opened).request.seed}
    assert tab.locator("making-stage .frame img").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [64, 64]
    expect(tab.get_by_role("region", name="To begin with")).to_be_hidden()
    expect(tab.get_by_text("The picture is done.")).to_be_attached()


def test_with_a_picture(tab: Page, opened: Studio) -> None:
    settings(tab)
    tab.get_by_role("spinbutton", name="Steps").fill("2")
    first = made(tab, "a red car")
    job = newest(opened)
    tab.get_by_role("button", name="Again", exact=True).click()
    expect(tab.locator("making-stage .frame.done img")).not_to_have_attribute("src", first)
    second = done(tab)
    assert newest(opened).request == job.request
    assert opened.engine.picture(first.split("/")[-1]) != b""
    assert tab.request.get(opened.url + first).body() == tab.request.get(opened.url + second).body()
    tab.get_by_role("button", name="Vary").click()
    expect(tab.locator("making-stage dl")).to_contain_text("variation")
    done(tab)
    varied = newest(opened).request
    assert (varied.seed, varied.variation, varied.prompt) == (job.request.seed, 0.3, "a red car")
    with tab.expect_download() as download:
        tab.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == f"sumi-{varied.seed}-0.png"
    prompt(tab).fill("something else")
    tab.get_by_role("button", name="Use these settings").click()
    expect(prompt(tab)).to_have_value("a red car")
    listening = "for (const name of ['show', 'see', 'start-from']) addEventListener(`studio:${name}`, () => told.push(name), true)"
    tab.evaluate(f"window.told = []; {listening}")
    for name, tells in (("Image to image", "image"), ("Inpaint", "paint"), ("Enlarge", "enlarge")):
        tab.get_by_role("button", name=name, exact=True).click()
        expect(tab.locator(f"#tab-{tells}")).to_have_attribute("aria-selected", "true")
    tab.get_by_role("tab", name="Words").click()
    tab.get_by_role("button", name=re.compile("^Open the picture")).click()
    assert tab.evaluate("told") == ["start-from", "start-from", "start-from", "show"]


def test_a_run_is_seen_and_stopped(tab: Page, opened: Studio, gate: Gate) -> None:
    settings(tab)
    tab.get_by_role("spinbutton", name="Steps").fill(str(STEPS))
    expect(tab.get_by_role("button", name="Stop", exact=True)).to_be_disabled()
    prompt(tab).fill("a red fox in the snow")
    prompt(tab).press("Control+Enter")
    watched(tab, gate, 5)
    expect(tab.locator("making-stage .step")).to_contain_text(f"Step 5 of {STEPS}")
    expect(tab.locator("making-stage .step")).to_contain_text("left")
    expect(tab.locator("making-stage .frame.running img")).to_have_attribute("src", re.compile("^data:image/png"))
    frames = tab.locator("step-film li")
    expect(frames.nth(2)).to_be_visible()
    expect(tab).to_have_title(f"5/{STEPS} · sumi")
    expect(tab.locator("queue-list li.running")).to_have_count(1)
    tab.keyboard.press("Escape")
    expect(tab.locator("making-stage .step")).to_contain_text("Stopped")
    assert newest(opened).state == "cancelled"
    expect(tab.get_by_role("button", name="Stop", exact=True)).to_be_disabled()
    expect(tab.locator("queue-list")).to_be_hidden()
    seen = frames.count()
    frames.nth(1).get_by_role("button").click()
    expect(tab.locator("making-stage .step")).to_contain_text(f"Step {frames.nth(1).inner_text()}")
    frames.nth(1).get_by_role("button").press("ArrowLeft")
    expect(tab.locator("making-stage .step")).to_contain_text(f"Step {frames.nth(0).inner_text()}")
    assert frames.count() == seen


def test_the_film_stays_when_the_picture_is_done(tab: Page) -> None:
    picture = made(tab, "a yellow sun")
    frames = tab.locator("step-film li")
    expect(frames.last).to_contain_text("done")
    assert frames.count() > 2
    steps = [int(text) for text in frames.all_inner_texts()[:-1]]
    assert steps == sorted(set(steps))
    frames.first.get_by_role("button").click()
    expect(tab.locator("making-stage .frame img")).to_have_attribute("src", re.compile("^data:"))
    frames.first.get_by_role("button").press("End")
    expect(tab.locator("making-stage .frame img")).to_have_attribute("src", picture)


def test_pictures_are_walked_through_by_keys(tab: Page, opened: Studio) -> None:
    settings(tab)
    tab.get_by_role("spinbutton", name="Steps").fill("1")
    seen = []
    for words in ("a red heart", "a green heart", "a blue heart"):
        seen.append(made(tab, words))
    for key, at in (("Left", 1), ("Left", 0), ("Right", 1), ("Right", 2), ("Right", 2)):
        tab.keyboard.press(f"Alt+Arrow{key}")
        expect(tab.locator("making-stage .frame img")).to_have_attribute("src", seen[at])


def test_the_queue_is_told_and_worked(browser: Browser, begin: Callable[..., Studio], tmp_path: Path) -> None:
    studio = begin(key=None)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with tabs(browser, studio.url) as (_, opens):
        tab = opens()
        make(tab, f"steps=4 gate={gate}")
        with gate.open("wb", buffering=0) as let:
            for words in ("boom", "third"):
                make(tab, words)
            rows = tab.locator("queue-list li")
            expect(rows).to_have_count(3)
            expect(rows.nth(1)).to_contain_text("boom")
            expect(rows.nth(2)).to_contain_text("before it")
            let.write(b".")
            expect(rows.nth(0)).to_contain_text("step 1 of 4")
            tab.get_by_role("button", name="Cancel: third").click()
            expect(rows).to_have_count(2)
            let.write(b"...")
        expect(rows).to_have_count(1)
        expect(rows.first).to_have_class("failed")
        expect(rows.first).to_contain_text("defect")
        assert [job.state for job in studio.engine.list()] == ["cancelled", "failed", "done"]
        tab.get_by_role("button", name="Retry: boom").click()
        failed = studio.engine.list()[1].id
        while [event.kind for event in studio.engine.events(failed)].count("failed") < 2:
            tab.wait_for_timeout(50)
        expect(rows.first).to_have_class("failed")
        tab.get_by_role("button", name="Put away: boom").click()
        expect(tab.locator("queue-list")).to_be_hidden()


def test_failures_and_notes_are_beside_the_picture(browser: Browser, begin: Callable[..., Studio]) -> None:
    with tabs(browser, begin(key=None).url) as (_, opens):
        tab = opens()
        make(tab, "refused")
        expect(tab.locator("making-stage .failure")).to_have_text("not this: something else")
        expect(tab.locator("making-stage .notes")).to_contain_text("1 together")
        expect(tab.get_by_role("button", name="Try again")).to_be_visible()
