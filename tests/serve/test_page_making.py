"""The studio's page in a real browser: words in, pictures out, by clicking and typing; and what it does when the server is gone."""

import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from serve.conftest import STUB, Studio, serving
from serve.gated import Gate
from sumi.engine.job import Job
from sumi.request import Request
from sumi.store.assembly import SHIPPED

PATIENCE = 60_000
"""Milliseconds: how long a machine that does other things, too, may take for what is sure to come."""
SIZES = {"desk": (1440, 900), "tablet": (820, 1180), "phone": (360, 740)}
STEPS = 12
"""Steps of a run that waits at a gate."""

expect.set_options(timeout=PATIENCE)

STATE = "import('/page/state.js')"
"""The settings, as the page has them."""

Opens = Callable[..., Page]


@contextmanager
def tabs(browser: Browser, url: str, *, lost: bool = False, **how: Any) -> Iterator[tuple[BrowserContext, Opens]]:
    """A browser of its own. In the end nothing may have gone wrong, and nothing been asked of another origin.

    lost: the server may be away, or refuse.
    """
    wrong: list[str] = []
    asked: list[str] = []
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce", **how})
    context.set_default_timeout(PATIENCE)

    def opens(path: str = "/") -> Page:
        tab = context.new_page()
        tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(url + path)
        expect(tab.locator("#offline")).to_be_empty()
        return tab

    yield context, opens
    context.close()
    assert [problem for problem in wrong if not (lost and re.search(r"net::ERR_|status of 4\d\d", problem))] == []
    assert [address for address in asked if not address.startswith((f"{url}/", "data:", f"blob:{url}"))] == []


@pytest.fixture
def opens(browser: Browser, opened: Studio) -> Iterator[Opens]:
    """Opens the page; several tabs of one browser."""
    with tabs(browser, opened.url) as (_, opens):
        yield opens
    stop(opened)


def stop(studio: Studio) -> None:
    """What a test began is not in the way of the next."""
    for state in ("queued", "running"):
        for job in studio.engine.list(state=state):
            studio.engine.cancel(job.id)


@pytest.fixture
def tab(opens: Opens) -> Page:
    return opens()


@pytest.fixture(scope="module")
def same(browser: Browser, opened: Studio) -> Iterator[Page]:
    """One for all tests that make nothing."""
    with tabs(browser, opened.url) as (_, opens):
        yield opens()


def prompt(tab: Page) -> Any:
    return tab.get_by_role("textbox", name="Prompt", exact=True)


def watched(tab: Page, gate: Gate, steps: int) -> None:
    """Lets a job that has begun go through its first steps, as the page shows them."""
    for step in range(1, steps + 1):
        gate.let()
        expect(tab.locator("making-stage .step")).to_contain_text(f"Step {step} of")


def make(tab: Page, words: str | None = None) -> None:
    if words is not None:
        prompt(tab).fill(words)
    tab.get_by_role("button", name="Make", exact=True).click()


def done(tab: Page) -> str:
    """Waits for the picture in the middle; its address."""
    expect(tab.locator("making-stage .frame.done img")).to_have_js_property("complete", True)
    expect(tab.locator("making-stage .frame.done img")).to_have_attribute("src", re.compile("^/v1/pictures/"))
    return str(tab.locator("making-stage .frame.done img").get_attribute("src"))


def made(tab: Page, words: str | None = None) -> str:
    """Makes a picture, and waits for it; its address."""
    stage = tab.locator("making-stage")
    before = stage.get_attribute("data-job") or "none"
    make(tab, words)
    expect(stage).not_to_have_attribute("data-job", before)
    return done(tab)


def newest(studio: Studio) -> Job:
    return studio.engine.list(limit=1)[0]


def changed(job: Job) -> dict[str, Any]:
    """What was asked for beside the defaults."""
    usual = Request()
    return {name: value for name, value in vars(job.request).items() if value != getattr(usual, name)}


def settings(tab: Page) -> None:
    tab.get_by_role("button", name="All settings").click()


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


def test_words_are_counted_and_marked(same: Page) -> None:
    prompt(same).fill("a (red:1.3) circle and a [small] star")
    told = same.locator("#prompt-told")
    expect(told).to_contain_text("7 / 22 tokens")
    marks = same.locator("words-box[name=prompt] mark")
    expect(marks).to_have_text(["red", "small"])
    assert marks.evaluate_all("marks => marks.map(({className}) => className)") == ["more", "less"]
    prompt(same).fill("a circle above a xylophone")
    expect(marks).to_have_text(["xylophone"])
    expect(marks).to_have_class("unknown")
    expect(told).to_contain_text("does not know “xylophone”")
    prompt(same).fill("a red circle " * 7 + "xylophone")  # which the end of the chunk cuts
    expect(marks).to_have_count(2)
    expect(told).to_contain_text("does not know “xylophone”")
    prompt(same).fill("a (circle")
    expect(told).to_contain_text("never closed")
    expect(prompt(same)).to_have_attribute("aria-invalid", "true")
    prompt(same).fill("a circle")
    expect(prompt(same)).to_have_attribute("aria-invalid", "false")
    prompt(same).fill(", ".join(["a red circle"] * 8))
    expect(told).to_contain_text("chunks")


def test_words_are_counted_as_the_settings_take_them(same: Page) -> None:
    """Without emphasis, brackets are words like any other: the count is what the server says of the settings, too."""
    prompt(same).fill("a (red:1.3) circle")
    told, marks = same.locator("#prompt-told"), same.locator("words-box[name=prompt] mark")
    expect(told).to_contain_text("3 / 22 tokens")
    same.evaluate(f"{STATE}.then(({{ settings }}) => settings.set({{ emphasis: 'off' }}))")
    expect(told).not_to_contain_text("3 / 22 tokens")
    expect(marks.filter(has_text="red")).to_have_count(0)
    same.evaluate(f"{STATE}.then(({{ settings }}) => settings.set({{ emphasis: null }}))")
    expect(told).to_contain_text("3 / 22 tokens")


def test_no_model_is_the_one_that_comes_with_sumi(same: Page) -> None:
    """A request that names no model keeps the present one; one of which the model is null was made by sumi's own."""
    prompt(same).fill("")  # of which no model is asked
    use = f"{STATE}.then(({{ settings }}) => {{ settings.set({{ model: 'other' }}); settings.use(%s); return settings.get('model'); }})"
    models = [same.evaluate(use % given) for given in ("{ steps: 3 }", "{ steps: 3, model: null }", "{ steps: 3, model: 'third' }")]
    same.evaluate(f"{STATE}.then(({{ settings }}) => settings.replace({{}}))")
    assert models == ["other", None, "third"]


def test_what_is_called_off_is_not_called_unreachable(same: Page) -> None:
    told = """import("/page/api.js").then(async ({ api }) => {
      const controller = new AbortController(), asked = api.get("/v1/status", { signal: controller.signal });
      controller.abort();
      return asked.then(() => "answered", ({ name }) => name);
    })"""
    assert same.evaluate(told) == "AbortError"


def test_a_page_from_another_machine_over_http_works(browser: Browser, opened: Studio) -> None:
    """There, browsers have neither crypto.randomUUID nor a clipboard."""
    with tabs(browser, opened.url) as (context, opens):
        context.add_init_script("delete Crypto.prototype.randomUUID; delete Navigator.prototype.clipboard;")
        tab = opens()
        assert tab.evaluate("[typeof crypto.randomUUID, typeof navigator.clipboard]") == ["undefined", "undefined"]
        made(tab, "a cat")
        copied = """(async () => {
          const text = new Promise((resolve) => document.addEventListener("copy", ({ target }) => resolve(target.value), { once: true }));
          (await import("/page/facts.js")).copy("two stars", "Prompt");
          return text;
        })()"""
        assert tab.evaluate(copied) == "two stars"
        expect(tab.get_by_text("Prompt copied")).to_be_visible()


def test_marks_lie_under_their_words(same: Page) -> None:
    prompt(same).fill("red " * 60 + "(circle:1.4)\n\n(star:0.5)")
    expect(same.locator("words-box[name=prompt] mark")).to_have_text(["circle", "star"])
    alike = """box => ["font", "letterSpacing", "lineHeight", "whiteSpace", "padding", "overflowWrap"].every((name) =>
      getComputedStyle(box.querySelector("textarea"))[name] === getComputedStyle(box.querySelector(".behind"))[name])
      && box.querySelector("textarea").value + "\\u200b" === box.querySelector(".behind").textContent
      && box.querySelector("textarea").clientWidth === box.querySelector(".behind").clientWidth
      && box.querySelector("textarea").scrollHeight === box.querySelector("textarea").clientHeight"""
    assert same.locator("words-box[name=prompt]").evaluate(alike)


WEIGHED = [
    ("a red circle", 3, 3, 1, "a (red:1.1) circle", "red"),
    ("a (red:1.1) circle", 4, 4, 1, "a (red:1.2) circle", "red"),
    ("a (red:1.1) circle", 3, 6, -1, "a red circle", "red"),
    ("a red circle", 2, 12, -1, "a (red circle:0.9)", "red circle"),
    ("a (red) circle", 4, 4, 1, "a (red:1.2) circle", "red"),
    ("((red:1.5) circle:0.9)", 3, 3, 1, "((red:1.6) circle:0.9)", "red"),
    (r"\(red\) star", 3, 3, 1, r"\((red:1.1)\) star", "red"),
    ("red ", 4, 4, 1, "red ", ""),
]


def test_weights_by_keys(same: Page) -> None:
    words = prompt(same)
    for text, start, end, by, expected, selected in WEIGHED:
        words.fill(text)
        words.evaluate("(area, [start, end]) => area.setSelectionRange(start, end)", [start, end])
        words.press("Control+ArrowUp" if by > 0 else "Control+ArrowDown")
        expect(words).to_have_value(expected)
        if expected != text:
            assert words.evaluate("area => area.value.slice(area.selectionStart, area.selectionEnd)") == selected
            words.press("Control+z")
            expect(words).to_have_value(text)


def test_numbers_keep_all_their_digits(same: Page) -> None:
    said = {"seed": 2**64 - 1, "at": 1763768473.123456, "text": 'a "9999999999999999999" \\', "few": [1, -2.5e-9]}
    both = """async (text) => {
      const {readJson, writeJson} = await import("/page/api.js");
      return [readJson(text), writeJson({...readJson(text), variation_seed: "12"})];
    }"""
    read, written = same.evaluate(both, json.dumps(said))
    assert read == {**said, "seed": str(2**64 - 1)}
    assert json.loads(written) == {**said, "variation_seed": 12}


def test_prompts_that_were_made_come_back(tab: Page) -> None:
    settings(tab)
    tab.get_by_role("spinbutton", name="Steps").fill("1")
    for words in ("a red star", "a blue star"):
        made(tab, words)
    prompt(tab).fill("a dra")
    for key, words in (("Up", "a blue star"), ("Up", "a red star"), ("Up", "a red star"), ("Down", "a blue star"), ("Down", "a dra")):
        prompt(tab).press(f"Alt+Arrow{key}")
        expect(prompt(tab)).to_have_value(words)


def test_settings_are_those_of_the_server_and_only_changes_are_sent(tab: Page, opened: Studio) -> None:
    settings(tab)
    steps = tab.get_by_role("spinbutton", name="Steps")
    expect(steps).to_have_attribute("placeholder", "20")
    expect(steps).to_have_value("")
    offered = tab.get_by_role("combobox", name="Sampler").locator("option").all_inner_texts()
    assert offered[0] == "dpmpp_2m (default)"
    assert {"ddim", "euler", "unipc"} <= set(offered)
    steps.fill("5")
    tab.get_by_role("slider", name="Guidance").fill("4.5")
    tab.get_by_role("combobox", name="Sampler").select_option("euler")
    tab.get_by_text("How to sample", exact=True).click()
    tab.get_by_role("spinbutton", name="s_churn").fill("0.5")
    tab.get_by_text("How to guide", exact=True).click()
    tab.get_by_role("textbox", name="Guide between").fill("0.5; 10")
    tab.get_by_text("Which noise", exact=True).click()
    tab.get_by_role("spinbutton", name="First number").fill("3")
    tab.get_by_role("button", name="Negative prompt").click()
    tab.get_by_role("textbox", name="Negative prompt").fill("a tree")
    made(tab, "a cat")
    job = newest(opened)
    assert changed(job) == {
        "prompt": "a cat", "negative": "a tree", "steps": 5, "guidance": 4.5, "sampler": "euler", "options": {"s_churn": 0.5},
        "guidance_interval": (0.5, 10.0), "first": 3, "seed": job.request.seed,
    }  # fmt: skip
    tab.get_by_role("button", name="Steps: back to the default").click()
    expect(steps).to_have_value("")
    expect(tab.get_by_role("slider", name="Steps")).to_have_value("20")
    tab.get_by_role("button", name="Reset all").click()
    expect(tab.get_by_role("combobox", name="Sampler")).to_have_value("")
    expect(tab.get_by_role("button", name="Reset all")).to_be_disabled()
    expect(prompt(tab)).to_have_value("a cat")


def test_every_setting_says_why(same: Page) -> None:
    settings(same)
    for group in same.locator("parameter-list summary").all():
        if group.is_visible():
            group.click()
    why = same.locator("parameter-list .field:visible .ask")
    assert why.count() > 15
    for button in why.all():
        button.click()
        told = same.locator(f"#{button.get_attribute('aria-controls')}")
        expect(told).to_be_visible()
        assert len(told.inner_text()) > 40
        expect(button).to_have_attribute("aria-expanded", "true")


def test_what_a_field_depends_on_is_left_out_rather_than_refused(tab: Page, opened: Studio) -> None:
    settings(tab)
    tab.evaluate(
        "import('/page/state.js').then(({settings}) => settings.set({strength: 0.4, mask_blur: 3, hires_strength: 0.2, steps: 2}))"
    )
    expect(tab.locator("[data-name=strength]")).to_be_hidden()
    made(tab, "a dog")
    assert set(changed(newest(opened))) == {"prompt", "steps", "seed"}


def test_a_refusal_is_told_where_it_belongs(browser: Browser, opened: Studio) -> None:
    with tabs(browser, opened.url, lost=True) as (_, opens):
        refused_and_mended(opens())


def refused_and_mended(tab: Page) -> None:
    settings(tab)
    tab.get_by_role("spinbutton", name="Steps").fill("9999")
    make(tab, "a dog")
    refused = tab.locator("make-row .failure")
    expect(refused).to_contain_text("steps may be 250 here at most")
    tab.get_by_role("spinbutton", name="Steps").fill("2")
    made(tab)
    expect(refused).to_be_hidden()


def test_shapes_and_sizes(tab: Page, opened: Studio) -> None:
    settings(tab)
    tab.get_by_role("spinbutton", name="Steps").fill("2")
    tab.get_by_role("radio", name="Landscape, 80 by 48").click()
    expect(tab.get_by_role("radio", name="Landscape")).to_be_checked()
    made(tab, "a boat")
    assert (newest(opened).request.width, newest(opened).request.height) == (80, 48)
    tab.get_by_role("button", name="Exchange width and height").click()
    expect(tab.get_by_role("radio", name="Portrait")).to_be_checked()
    tab.get_by_role("button", name="One more").click()
    make(tab)
    expect(tab.locator("making-stage .others button")).to_have_count(2)
    assert (newest(opened).request.width, newest(opened).request.height, newest(opened).request.count) == (48, 80, 2)
    first = done(tab)
    tab.get_by_role("button", name="Picture 2").click()
    assert done(tab) != first
    tab.get_by_role("radio", name="Portrait").press("ArrowLeft")
    expect(tab.get_by_role("radio", name="Landscape")).to_be_checked()
    tab.get_by_role("button", name="Size: back to the default").click()
    expect(tab.get_by_role("radio", name="Square")).to_be_checked()


def test_seeds_are_kept_to_the_last_digit(tab: Page, opened: Studio) -> None:
    settings(tab)
    tab.get_by_role("spinbutton", name="Steps").fill("2")
    seed = tab.get_by_role("textbox", name="Seed", exact=True)
    seed.fill(str(2**64 - 1))
    made(tab, "a fish")
    assert newest(opened).request.seed == 2**64 - 1
    tab.get_by_role("button", name="Draw a new seed each time").first.click()
    expect(seed).to_have_value("")
    tab.get_by_role("button", name="keep").first.click()
    expect(seed).to_have_value(str(2**64 - 1))
    tab.get_by_role("button", name="Draw a new seed each time").first.click()
    tab.get_by_role("button", name="Use these settings").click()
    expect(seed).to_have_value(str(2**64 - 1))


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


def test_one_model_that_is_named_is_what_it_begins_with(browser: Browser, begin: Callable[..., Studio]) -> None:
    studio = begin(key=None, models={"mine": str(SHIPPED)})
    with tabs(browser, studio.url) as (_, opens):
        tab = opens()
        chosen = tab.get_by_role("combobox", name="Model")
        expect(chosen).to_have_value("mine")
        chosen.select_option("")
        tab.reload()
        expect(chosen).to_have_value("")
    assert httpx.get(f"{studio.url}/sdapi/v1/options").json()["sd_model_checkpoint"] == "mine"


def test_failures_and_notes_are_beside_the_picture(browser: Browser, begin: Callable[..., Studio]) -> None:
    with tabs(browser, begin(key=None).url) as (_, opens):
        tab = opens()
        make(tab, "refused")
        expect(tab.locator("making-stage .failure")).to_have_text("not this: something else")
        expect(tab.locator("making-stage .notes")).to_contain_text("1 together")
        expect(tab.get_by_role("button", name="Try again")).to_be_visible()


def test_state_survives_a_reload_and_is_shared_by_tabs(opens: Opens, opened: Studio, gate: Gate) -> None:
    one = opens()
    settings(one)
    one.get_by_role("spinbutton", name="Steps").fill(str(STEPS))
    make(one, "a ghost")
    watched(one, gate, 4)
    film = one.locator("step-film li").all_inner_texts()
    assert len(film) > 1
    one.reload()
    expect(prompt(one)).to_have_value("a ghost")
    expect(one.get_by_role("spinbutton", name="Steps")).to_have_value(str(STEPS))
    expect(one.locator("making-stage .step")).to_contain_text(f"of {STEPS}")
    expect(one.locator("making-stage .frame.running img")).to_have_attribute("src", re.compile("^data:"))
    expect(one.locator("step-film li")).to_have_text(film)
    two = opens()
    expect(two.locator("making-stage .step")).to_contain_text(f"of {STEPS}")
    expect(two.get_by_role("button", name="Stop", exact=True)).to_be_disabled()
    expect(prompt(two)).to_have_value("a ghost")
    prompt(two).fill("a robot")
    expect(prompt(one)).to_have_value("a robot")
    two.get_by_role("spinbutton", name="Steps").fill("3")
    expect(one.get_by_role("spinbutton", name="Steps")).to_have_value("3")
    one.get_by_role("button", name="Stop", exact=True).click()
    expect(two.locator("making-stage .step")).to_contain_text("Stopped")
    gate.open()
    picture = made(two)
    two.reload()
    assert done(two) == picture
    assert newest(opened).state == "done"


class Line:
    """Between a browser and a server: a door of its own, which can be shut, and lead to another server then."""

    def __init__(self) -> None:
        self.port = 0
        self.to: int | None = None
        self._open: list[socket.socket] = []
        self._door: socket.socket | None = None
        self._lock = threading.Lock()

    def open(self, to: int) -> None:
        self.to = to
        self._door = socket.create_server(("127.0.0.1", self.port))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._let, args=(self._door,), daemon=True).start()

    def shut(self) -> None:
        """As if a cable were pulled: what is open ends, what comes is refused."""
        assert self._door is not None
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            self._open.clear()

    def _let(self, door: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = door.accept()
                far = socket.create_connection(("127.0.0.1", self.to or 0))
                with self._lock:
                    self._open += [near, far]
                    if door.fileno() < 0:  # shut in the meantime
                        near.close()
                        far.close()
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def port(studio: Studio) -> int:
    return int(studio.url.rpartition(":")[2])


def test_a_lost_connection_is_told_and_mended(browser: Browser, opened: Studio, gate: Gate) -> None:
    line = Line()
    line.open(port(opened))
    with tabs(browser, f"http://127.0.0.1:{line.port}", lost=True) as (_, opens):
        tab = opens()
        settings(tab)
        tab.get_by_role("spinbutton", name="Steps").fill(str(STEPS))
        make(tab, "a red house")
        watched(tab, gate, 1)
        line.shut()
        expect(tab.locator("#offline")).to_contain_text("Not connected, trying again")
        prompt(tab).fill("a blue house")
        make(tab)
        expect(tab.locator("make-row .failure")).to_contain_text("cannot be reached")
        opened.engine.cancel(newest(opened).id)
        gate.open()
        line.open(port(opened))
        expect(tab.locator("#offline")).to_be_empty()
        expect(tab.locator("making-stage .step")).to_contain_text("Stopped")
        tab.get_by_role("spinbutton", name="Steps").fill("2")
        made(tab)
        assert newest(opened).request.prompt == "a blue house"
    line.shut()


def test_a_server_that_is_started_again_is_taken_up(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    line, gate, first = Line(), tmp_path / "gate", ExitStack()
    os.mkfifo(gate)
    line.open(port(first.enter_context(serving(tmp_path / "studio", key=None, maker=STUB))))
    with tabs(browser, f"http://127.0.0.1:{line.port}", lost=True) as (_, opens):
        tab = opens()
        rows = tab.locator("queue-list li")
        make(tab, f"steps=2 gate={gate}")
        expect(rows).to_have_class("running")
        make(tab, "after it")
        expect(rows).to_have_count(2)
        line.shut()
        first.close()
        expect(tab.locator("#offline")).to_contain_text("Not connected, trying again")
        with serving(tmp_path / "studio", key=None, maker=STUB) as studio:
            line.open(port(studio))
            expect(tab.locator("#offline")).to_be_empty()
            expect(rows).to_have_count(2)
            with gate.open("wb", buffering=0) as let:
                let.write(b"..")
            expect(tab.locator("queue-list")).to_be_hidden()
            assert [job.state for job in studio.engine.list()] == ["done", "done"]
            line.shut()


def test_a_new_key_is_asked_for(browser: Browser, served: Studio) -> None:
    with tabs(browser, served.url, lost=True) as (context, opens):
        tab = opens(f"/?key={quote(served.key or '')}")
        assert tab.url == f"{served.url}/"
        context.clear_cookies()
        served.served.end()
        expect(tab.locator("#offline")).to_contain_text("The key has changed")


def test_colours_are_chosen_and_kept(opens: Opens) -> None:
    tab = opens()
    paper = "getComputedStyle(document.body).backgroundColor"
    system = tab.evaluate(paper)
    tab.get_by_role("button", name="Colours: as the system").click()
    tab.get_by_role("button", name="Colours: light").click()
    tab.get_by_role("button", name="Colours: dark").focus()
    dark = tab.evaluate(paper)
    assert dark != system
    tab.reload()
    assert tab.evaluate(paper) == dark
    other = opens()
    assert other.evaluate(paper) == dark
    other.get_by_role("button", name="Colours: dark").click()
    expect(tab.get_by_role("button", name="Colours: as the system")).to_be_visible()
    assert tab.evaluate(paper) == system


def test_simple_at_first_and_all_of_it_when_asked(tab: Page) -> None:
    expect(tab.locator("#parameters")).to_be_hidden()
    expect(tab.get_by_role("button", name="Make", exact=True)).to_be_visible()
    settings(tab)
    expect(tab.locator("#parameters")).to_be_visible()
    tab.reload()
    expect(tab.locator("#parameters")).to_be_visible()
    settings(tab)
    expect(tab.locator("#parameters")).to_be_hidden()


def test_all_of_it_by_the_keyboard(tab: Page, opened: Studio) -> None:
    tab.keyboard.press("Tab")
    expect(tab.get_by_role("link", name="To the prompt")).to_be_focused()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    expect(prompt(tab)).to_be_focused()
    tab.keyboard.type("a black cat ?")
    tab.keyboard.press("Control+Enter")
    done(tab)
    assert newest(opened).request.prompt == "a black cat ?"
    expect(tab.get_by_role("dialog")).to_be_hidden()
    prompt(tab).evaluate("area => area.blur()")
    tab.keyboard.press("?")
    expect(tab.get_by_role("dialog", name="Keys")).to_be_visible()
    for keys in ("Ctrl Enter", "Esc", "Alt ↑", "Alt ←", "Ctrl ↑", "?"):
        expect(tab.get_by_role("dialog").get_by_text(keys, exact=True).first).to_be_visible()
    tab.keyboard.press("Escape")
    expect(tab.get_by_role("dialog", name="Keys")).to_be_hidden()
    tab.keyboard.press("Alt+6")
    expect(tab.get_by_role("tab", name="Grid")).to_have_attribute("aria-selected", "true")
    tab.get_by_role("tab", name="Grid").focus()
    tab.keyboard.press("ArrowRight")
    expect(tab.get_by_role("tab", name="Words")).to_be_focused()
    expect(tab.get_by_role("tab", name="Words")).to_have_attribute("aria-selected", "true")


def test_a_message_can_be_undone_and_dismissed(same: Page) -> None:
    said = """import("/page/dom.js").then(({say}) => say("gone", {action: {label: "Undo", run: () => { window.undone = true; }}}))"""
    same.evaluate(said)
    same.get_by_role("log").get_by_role("button", name="Undo").click()
    assert same.evaluate("window.undone")
    expect(same.get_by_text("gone")).to_have_count(0)
    same.evaluate(said)
    same.get_by_role("log").get_by_role("button", name="Dismiss").click()
    expect(same.get_by_text("gone")).to_have_count(0)


NARROW = """() => [...document.querySelectorAll("button, a[href], select, input:is([type=text], [type=number])")]
  .filter((one) => one.closest("#words, #modes, #ask, making-stage, queue-list, #head, #bar, #parameters") && one.checkVisibility())
  .map((one) => [one.outerHTML.slice(0, 120), one.getBoundingClientRect()])
  .filter(([, {width, height}]) => Math.min(width, height) < 43.5).map(([html]) => html)"""
"""What would be hard to hit with a finger."""


def faults(tab: Page) -> list[str]:
    """What axe finds that is serious or critical."""
    found = Axe().run(tab).response["violations"]
    return [f"{one['id']}: {[node['html'][:200] for node in one['nodes']]}" for one in found if one["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_looks_as_it_should(browser: Browser, opened: Studio, gate: Gate, artifacts: Path, scheme: str) -> None:
    with tabs(browser, opened.url, color_scheme=scheme, has_touch=True) as (_, opens):
        tab = opens()

        def seen(name: str) -> None:
            for size, (width, height) in SIZES.items():
                tab.set_viewport_size({"width": width, "height": height})
                tab.screenshot(path=artifacts / f"making-{size}-{scheme}-{name}.png")
                assert tab.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
                assert size == "tablet" or faults(tab) == []
                assert size != "phone" or tab.evaluate(NARROW) == []
            tab.set_viewport_size({"width": 1440, "height": 900})

        prompt(tab).fill("a (red:1.3) fox and a xylophone in the [white] snow")
        expect(tab.locator("words-box[name=prompt] mark")).to_have_count(3)
        tab.evaluate(f"import('/page/state.js').then(({{settings}}) => settings.set({{steps: {STEPS}}}))")
        make(tab)
        watched(tab, gate, 8)
        expect(tab.locator("step-film li").nth(3)).to_be_attached()
        seen("running")
        tab.keyboard.press("Escape")
        expect(tab.locator("making-stage .step")).to_contain_text("Stopped")
        tab.evaluate("import('/page/state.js').then(({settings}) => settings.set({steps: null, count: 3}))")
        gate.open()
        made(tab)
        expect(tab.locator("making-stage .others button")).to_have_count(3)
        settings(tab)
        tab.get_by_text("How to guide", exact=True).click()
        tab.get_by_role("button", name="What is Steps?").click()
        seen("done")
        tab.get_by_role("button", name="Help and keys").click()
        tab.screenshot(path=artifacts / f"making-desk-{scheme}-help.png")
        assert faults(tab) == []
    stop(opened)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_there_yet(browser: Browser, begin: Callable[..., Studio], artifacts: Path, scheme: str) -> None:
    with tabs(browser, begin(key=None).url, color_scheme=scheme) as (_, opens):
        tab = opens()
        expect(tab.get_by_role("region", name="To begin with").get_by_role("button")).to_have_count(3)
        expect(tab.get_by_role("radio").first).to_be_visible()
        for size, (width, height) in SIZES.items():
            tab.set_viewport_size({"width": width, "height": height})
            tab.screenshot(path=artifacts / f"making-{size}-{scheme}-begin.png")
        assert faults(tab) == []
