"""How smoothly the gallery of the page scrolls 100,000 pictures, beside a page that shows nothing but a box that scrolls as far.

    python benchmarks/gallery_page.py [pictures]

The server is `sumi serve`, its pictures are rows in the engine's own file, and a few files under many names. The browser is Chromium, or
what SUMI_BROWSER names, without a graphics card. Both pages scroll in turn, and the fastest of three counts: the machine may do other
things. Figures are of the times between two animation frames, in milliseconds; late: the share of more than 16.7, and half a millisecond
for the clock; work: processor milliseconds of the page's main thread for a frame, which others on the machine do not lengthen.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from sumi.store.images import from_pixels
from sumi.train.scenes import World, render

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from serve.gallery import shelve

LATE = 16.7 + 0.5
ROUNDS = 3
HEAD = {"p50": 6, "p95": 6, "p99": 6, "most": 7, "late": 7, "a s": 7, "work": 7, "nodes": 7}
WAYS = {"a wheel, 40 pixels a frame": (40, 300), "a fling, 400 pixels a frame": (400, 300), "all of it, from end to end": (0, 300)}
"""Pixels in a frame (0: as many as it takes), and frames."""

EMPTY = "<!doctype html><title>empty</title><div id=box><div></div></div>"
STYLE = "#box { position: fixed; inset: 0; overflow: auto } #box div { height: 4000000px }"

SCROLL = """async ([selector, pixels, frames]) => {
  const box = document.querySelector(selector), most = box.scrollHeight - box.clientHeight;
  const step = pixels || most / frames, times = [];
  box.scrollTop = 0;
  await new Promise((done) => setTimeout(done, 500));
  let before = await new Promise(requestAnimationFrame), nodes = 0;
  for (let i = 1; i <= frames; i++) {
    box.scrollTop = Math.min(most, step * i);
    const now = await new Promise(requestAnimationFrame);
    times.push(now - before);
    before = now;
    nodes = Math.max(nodes, document.querySelectorAll(`${selector} *`).length);
  }
  return { times, nodes, cells: document.querySelectorAll(`${selector} [role=gridcell]`).length, at: box.scrollTop };
}"""


def files(count: int = 16) -> list[tuple[bytes, bytes]]:
    """Pictures of 64 x 64 pixels, each as a PNG and as its thumbnail."""
    world, found = World("objects"), []
    for number in range(count):
        picture, pair = from_pixels(render(world.sample(np.random.default_rng(number)), 64)), []
        for kind in ("png", "webp"):
            file = BytesIO()
            picture.save(file, kind)
            pair.append(file.getvalue())
        found.append((pair[0], pair[1]))
    return found


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Where `sumi serve` listens, on that folder."""
    command = (sys.executable, "-m", "sumi", "serve", "--folder", str(folder), "--port", "0", "--open", "--quiet")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        for line in server.stdout:
            if line.startswith("open "):
                break
        else:
            sys.exit("sumi serve did not start")
        try:
            yield line.split()[1]
        finally:
            server.terminate()


@contextmanager
def browser() -> Iterator[Browser]:
    program = shutil.which(os.environ.get("SUMI_BROWSER", "chromium"))
    if program is None:
        sys.exit("there is no chromium on the path: install one, or name it in SUMI_BROWSER")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--enable-precise-memory-info"])
        yield opened
        opened.close()


def told(name: str, found: dict[str, Any]) -> float:
    """Prints a row; gives the mean."""
    times = np.asarray(found["times"])
    p50, p95, p99 = np.percentile(times, (50, 95, 99))
    rate = 1e3 / times.mean()
    late = (times > LATE).mean()
    print(f"{name:44} {p50:6.1f} {p95:6.1f} {p99:6.1f} {times.max():7.1f} {late:7.1%} {rate:7.1f} {found['work']:7.2f} {found['nodes']:7}")
    return float(times.mean())


def scrolled(tab: Page, selector: str, pixels: int, frames: int) -> dict[str, Any]:
    """What SCROLL finds, and `work`: the main thread's milliseconds for a frame."""
    tab.bring_to_front()
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        return float(next(each["value"] for each in session.send("Performance.getMetrics")["metrics"] if each["name"] == "TaskDuration"))

    before = spent()
    found = dict(tab.evaluate(SCROLL, [selector, pixels, frames]))
    found["work"] = 1e3 * (spent() - before) / frames
    session.detach()
    return found


def heap(tab: Page) -> float:
    """MB of JavaScript's heap, after a collection."""
    session = tab.context.new_cdp_session(tab)
    session.send("HeapProfiler.collectGarbage")
    return float(session.send("Runtime.getHeapUsage")["usedSize"]) / 1e6


def main() -> None:
    pictures = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder, browser() as opened:
        shelve(Path(folder), pictures, files())
        with serving(Path(folder)) as address:
            context = opened.new_context(viewport={"width": 1400, "height": 900})
            gallery, empty = context.new_page(), context.new_page()
            empty.set_content(EMPTY)
            empty.add_style_tag(content=STYLE)
            gallery.goto(address)
            gallery.wait_for_selector("picture-gallery .thumb.here")
            print(f"{pictures:,} pictures; load of the machine {os.getloadavg()[0]:.1f}")
            head = "".join(f" {name:>{width}}" for name, width in HEAD.items())
            print(f"{'milliseconds between frames':44}{head}")
            print(f"JavaScript's heap before: {heap(gallery):.1f} MB")
            for way, (pixels, frames) in WAYS.items():
                found: dict[str, list[dict[str, Any]]] = {"nothing": [], "gallery": []}
                for _ in range(ROUNDS):
                    found["nothing"].append(scrolled(empty, "#box", pixels, frames))
                    found["gallery"].append(scrolled(gallery, "picture-gallery .box", pixels, frames))
                alone, both = (told(f"{name}: {way}", min(rounds, key=lambda one: sum(one["times"]))) for name, rounds in found.items())
                print(f"{'':44} ratio {both / alone:.2f}, {found['gallery'][-1]['cells']} cells")
            print(f"JavaScript's heap after: {heap(gallery):.1f} MB")


if __name__ == "__main__":
    main()
