"""What the page looks like, on a desk and on a phone, in the dark and by day; and that it can be used by the keyboard and by all."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from serve.gated import Gate
from serve.pages import STEPS, done, faults, made, make, newest, prompt, settings, stop, tabs, watched
from serve.serving import Studio

SIZES = {"desk": (1440, 900), "tablet": (820, 1180), "phone": (360, 740)}


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
