"""How a picture came about, seen on the page: its steps in a frame, kept for the next time."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from serve.gated import Gate

PATIENCE = 60_000
"""Milliseconds: how long a machine that does other things, too, may take for what is sure to come."""

expect.set_options(timeout=PATIENCE)

STEPS = 6

Opened = Callable[..., Page]


def asked(url: str, **body: Any) -> dict[str, Any]:
    """A job that is done."""
    job: dict[str, Any] = httpx.post(f"{url}/v1/jobs", json=body).raise_for_status().json()
    for _ in range(1800):
        job = httpx.get(f"{url}/v1/jobs/{job['id']}").json()
        if job["state"] not in ("queued", "running"):
            break
        sleep(0.1)
    assert job["state"] == "done", job["error"]
    return job


@pytest.fixture(scope="module")
def picture(opened: Any) -> str:
    """One of two pictures of a job, the second."""
    job = asked(opened.url, request={"prompt": "a red circle on a green background", "steps": STEPS, "seed": 7, "count": 2})
    return str(job["pictures"][1]["id"])


@pytest.fixture
def opens(browser: Browser, opened: Any) -> Iterator[Opened]:
    """Opens the page; in the end nothing may have gone wrong in it."""
    wrong: list[str] = []
    contexts = []

    def open_page(**how: Any) -> Page:
        context = browser.new_context(**{"reduced_motion": "reduce", "viewport": {"width": 1280, "height": 1000}, **how})
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(PATIENCE)
        tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" and "404" not in said.text else None)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(opened.url)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def see(tab: Page, picture: str) -> None:
    """As the button of a picture does."""
    tab.evaluate("(id) => document.dispatchEvent(new CustomEvent('studio:see', { detail: { id, url: `/v1/pictures/${id}` } }))", picture)


def runs(url: str, picture: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{url}/v1/jobs", params={"group": f"see-{picture}"}).json()["jobs"]
    return found


def serious(tab: Page) -> list[str]:
    found = Axe().run(tab).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found if each["impact"] in ("serious", "critical")]


def test_a_finished_picture_is_seen_step_by_step(opens: Opened, opened: Any, picture: str, artifacts: Path) -> None:
    tab = opens()
    # By clicking: the picture in the gallery, and there its button.
    tab.locator("picture-gallery").get_by_role("gridcell", name=re.compile("^a red circle")).first.click()
    tab.get_by_role("button", name="See how it came").click()
    dialog = tab.get_by_role("dialog", name="How it came about")
    expect(dialog).to_be_visible()
    story = tab.frame_locator("dialog.see iframe")
    expect(story.locator("#strip button")).to_have_count(STEPS)
    expect(story.locator("#words")).to_contain_text("circle")
    expect(tab.locator("dialog.see iframe")).to_have_attribute("sandbox", "allow-scripts")
    tab.screenshot(path=artifacts / "see.png")

    (run,) = runs(opened.url, picture)
    assert (run["request"]["first"], run["request"]["count"], run["request"]["seed"], run["see"]) == (1, 1, 7, True)
    one, other = (httpx.get(f"{opened.url}/v1/pictures/{id}").content for id in (picture, run["pictures"][0]["id"]))
    assert one[-1000:] == other[-1000:]

    # Keys are the story's as soon as it is there.
    tab.keyboard.press("End")
    expect(story.locator("#at")).to_have_text(str(STEPS))
    tab.keyboard.press("ArrowLeft")
    expect(story.locator("#at")).to_have_text(str(STEPS - 1))

    with tab.context.expect_page() as another:
        dialog.get_by_role("link", name="Open in a tab").click()
    expect(another.value.locator("#strip button")).to_have_count(STEPS)
    another.value.close()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()


def test_what_was_made_once_is_kept(opens: Opened, opened: Any, picture: str) -> None:
    tab = opens()
    for closing in ("Escape", "said"):
        see(tab, picture)
        story = tab.frame_locator("dialog.see iframe")
        expect(story.locator("#strip button")).to_have_count(STEPS)
        if closing == "Escape":
            tab.get_by_role("link", name="Open in a tab").focus()
            tab.keyboard.press("Escape")
        else:
            # What is said by the frame counts, not by others.
            tab.evaluate("window.postMessage('sumi:close', '*')")
            tab.evaluate("new Promise((resolve) => setTimeout(resolve))")
            expect(tab.locator("dialog.see")).to_be_visible()
            story.locator("body").evaluate("() => parent.postMessage('sumi:close', '*')")
        expect(tab.locator("dialog.see")).to_be_hidden()
    # Opened again before the browser has told that it was closed.
    see(tab, picture)
    tab.evaluate(
        "(id) => { document.querySelector('dialog.see').close();"
        " document.dispatchEvent(new CustomEvent('studio:see', { detail: { id } })); }",
        picture,
    )
    expect(tab.frame_locator("dialog.see iframe").locator("#strip button")).to_have_count(STEPS)
    assert len(runs(opened.url, picture)) == 1


def test_while_it_is_made_its_steps_are_told_and_it_can_be_stopped(opens: Opened, opened: Any, gate: Gate, artifacts: Path) -> None:
    gate.open()
    job = asked(opened.url, request={"prompt": "a blue star", "steps": STEPS, "seed": 1})
    gate.shut()
    picture = job["pictures"][0]["id"]
    tab = opens()
    see(tab, picture)
    dialog = tab.locator("dialog.see")
    gate.let(2)
    expect(dialog.locator(".says")).to_have_text(re.compile(f"^Step 2 of {STEPS}"))
    expect(dialog.locator("img[src^='data:image/png']")).to_be_visible(timeout=PATIENCE)
    tab.screenshot(path=artifacts / "see-waits.png")
    assert serious(tab) == []
    dialog.get_by_role("button", name="Stop").click()
    expect(dialog.get_by_role("alert")).to_have_text("It was stopped before its last step.")
    gate.let()  # of the run that was stopped
    dialog.get_by_role("button", name="Try again").click()
    gate.let(3)
    expect(dialog.locator(".says")).to_have_text(re.compile(f"^Step 3 of {STEPS}"))
    gate.let(STEPS - 3 + 2)
    expect(dialog.locator(".says")).to_have_text(re.compile(f"^Telling step 2 of {STEPS}"))
    gate.open()
    # Whoever closes it, and comes back, finds the same run.
    tab.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    see(tab, picture)
    expect(tab.frame_locator("dialog.see iframe").locator("#strip button")).to_have_count(STEPS)
    assert [run["state"] for run in runs(opened.url, picture)] == ["done", "cancelled"]


def test_what_is_not_there_is_told(opens: Opened) -> None:
    tab = opens()
    see(tab, "0" * 32)
    expect(tab.locator("dialog.see").get_by_role("alert")).to_contain_text("there is no")
    expect(tab.locator("dialog.see").get_by_role("button", name="Try again")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(opens: Opened, picture: str, artifacts: Path, scheme: str) -> None:
    tab = opens(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    see(tab, picture)
    expect(tab.frame_locator("dialog.see iframe").locator("#strip button")).to_have_count(STEPS)
    tab.screenshot(path=artifacts / f"see-{scheme}-360.png")
    assert serious(tab) == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
