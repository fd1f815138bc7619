"""The gallery in a browser, for its tests: how one comes to it, and what is seen and done there again and again."""

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import httpx
import numpy as np
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from serve.gallery import prompt, seed, starred
from serve.pages import PATIENCE
from serve.serving import Studio

COUNT = 100_000
"""Of the many."""
ASKED = {"prompt": "a red circle on a green background", "negative": "two", "seed": 2**64 - 7, "count": 3, "steps": 4, "guidance": 2.5}
"""Of the few."""
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}

Visit = Callable[..., Page]


@contextmanager
def visiting(browser: Browser) -> Iterator[Visit]:
    """Opens the page, with nothing kept from before; in the end nothing may have gone wrong in it."""
    wrong: list[str] = []
    asked: list[tuple[str, str]] = []
    contexts = []

    def open_page(studio: Studio, *, empty: bool = False, **how: Any) -> Page:
        context = browser.new_context(**{"reduced_motion": "reduce", "viewport": {"width": 1400, "height": 900}, **how})
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(PATIENCE)
        tab.on(
            "console", lambda said: wrong.append(said.text) if said.type == "error" and "the server responded" not in said.text else None
        )
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda request: asked.append((studio.url, request.url)))
        tab.goto(studio.url)
        if not empty:
            expect(gallery(tab).locator(".count")).not_to_be_empty()
        return tab

    try:
        yield open_page
    finally:
        for context in contexts:
            context.close()
    assert not wrong
    assert [url for studio, url in asked if not url.startswith((studio, "blob:", "data:"))] == []


def gallery(tab: Page) -> Locator:
    return tab.locator("picture-gallery")


def view(tab: Page) -> Locator:
    return tab.locator("picture-view dialog")


def label(number: int) -> str:
    """What is told of a picture of `many`."""
    return f"{prompt(number)}, seed {seed(number)}" + (", starred" if starred(number) else "")


def total(tab: Page, text: str) -> None:
    expect(gallery(tab).locator(".count")).to_have_text(text)


def focused(tab: Page, text: str) -> None:
    expect(tab.locator(":focus")).to_have_attribute("aria-label", text)


def begin(tab: Page) -> None:
    """Goes to the first picture by keys."""
    gallery(tab).get_by_role("searchbox").focus()
    tab.keyboard.press("ArrowDown")


def tell(studio: Studio, number: int) -> httpx.Response:
    return httpx.get(f"{studio.url}/v1/pictures", params={"search": f"no{number}"})


def drop(tab: Page, data: bytes, file: str, kind: str, event: str = "drop") -> None:
    tab.evaluate(
        """([data, name, type, event]) => {
          const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0)), transfer = new DataTransfer();
          transfer.items.add(new File([bytes], name, { type }));
          const how = { bubbles: true, cancelable: true };
          document.getElementById("head").dispatchEvent(event === "paste" ? new ClipboardEvent(event, { ...how, clipboardData: transfer })
            : new DragEvent(event, { ...how, dataTransfer: transfer }));
        }""",
        [base64.b64encode(data).decode(), file, kind, event],
    )


def plain(width: int = 40, height: int = 24) -> bytes:
    """A PNG that tells nothing."""
    file = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(file, "png")
    return file.getvalue()


def pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def accessible(tab: Page, part: str) -> None:
    found = Axe().run(tab, context=part).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found if each["impact"] in ("serious", "critical")] == []
