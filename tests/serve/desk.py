"""The modes that go by a picture, for their tests: what one does at an easel."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Response, expect

from serve.pages import PATIENCE
from serve.serving import Studio
from sumi.engine.job import Job

CLASSES = {"any": 255, "background": 0, "cat": 11, "tree": 47}
"""Some of the shipped model's, and their numbers in a map."""
LOADING = "Failed to load resource"
"""What the console says of a reply that is an error; the reply itself says more."""

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

    def drafted(self, painted: Levels) -> Job:
        """The draft of what is painted, once it is done; there may be others before it, of less."""
        for _ in range(PATIENCE // 50):
            job = self.made("live")
            if np.array_equal(np.asarray(self.uploaded(job.request.map)), painted):
                return job
            self.page.wait_for_timeout(50)
        raise AssertionError("what is painted is never drafted")

    def make(self, count: int = 1) -> Job:
        self.page.locator("make-row .go-make").click()
        return self.made(count=count)

    def uploaded(self, id: str | None) -> Image.Image:
        assert id is not None
        return Image.open(BytesIO(self.studio.engine.uploaded(id)))

    def picture(self, job: Job) -> Levels:
        return np.asarray(Image.open(BytesIO(self.studio.engine.picture(job.pictures[0]))).convert("RGB"))


Opens = Callable[..., Desk]


@contextmanager
def desks(browser: Browser, opened: Studio) -> Iterator[Opens]:
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

    try:
        yield open_page
    finally:
        for context in contexts:
            context.close()
    assert not wrong
    assert not elsewhere


def scene() -> Image.Image:
    """A picture of 64 x 64 in which no two rows or columns are alike."""
    down, across = np.mgrid[:64, :64]
    return Image.fromarray(np.stack([4 * across, 4 * down, 2 * (across + down)], -1).astype(np.uint8))
