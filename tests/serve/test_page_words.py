"""Words as one types them on the page: counted, marked, weighed by keys, and found again."""

from playwright.sync_api import Page, expect

from serve.pages import STATE, made, prompt, settings


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


def test_prompts_that_were_made_come_back(tab: Page) -> None:
    settings(tab)
    tab.get_by_role("spinbutton", name="Steps").fill("1")
    for words in ("a red star", "a blue star"):
        made(tab, words)
    prompt(tab).fill("a dra")
    for key, words in (("Up", "a blue star"), ("Up", "a red star"), ("Up", "a red star"), ("Down", "a blue star"), ("Down", "a dra")):
        prompt(tab).press(f"Alt+Arrow{key}")
        expect(prompt(tab)).to_have_value(words)
