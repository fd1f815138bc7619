"""The page in a browser, for its tests: how it is opened, and what is done with it again and again."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from serve.gated import Gate
from serve.serving import Studio
from sumi.engine.job import Job
from sumi.request import Request

PATIENCE = 60_000
"""Milliseconds: how long a machine that does other things, too, may take for what is sure to come."""
STEPS = 12
"""Of a run that waits at a gate."""
STATE = "import('/page/state.js')"
"""The settings, as the page has them."""

expect.set_options(timeout=PATIENCE)


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

    try:
        yield context, opens
    finally:
        context.close()
    assert [problem for problem in wrong if not (lost and re.search(r"net::ERR_|status of 4\d\d", problem))] == []
    assert [address for address in asked if not address.startswith((f"{url}/", "data:", f"blob:{url}"))] == []


def stop(studio: Studio) -> None:
    """What a test began is not in the way of the next."""
    for state in ("queued", "running"):
        for job in studio.engine.list(state=state):
            studio.engine.cancel(job.id)


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


def faults(tab: Page) -> list[str]:
    """What axe finds that is serious or critical."""
    found = Axe().run(tab).response["violations"]
    return [f"{one['id']}: {[node['html'][:200] for node in one['nodes']]}" for one in found if one["impact"] in ("serious", "critical")]
