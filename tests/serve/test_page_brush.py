"""Brushes, masks and maps of the page: what strokes come to, and what is written of them. In a browser, without a server."""

from base64 import b64decode
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Route

import sumi.serve
from sumi.store.inputs import Opened, grown, own_size

PAGE = Path(sumi.serve.__file__).parent / "page"
ALONE = "http://studio.invalid"
"""Where modules are served from that need no server."""

Levels = NDArray[np.uint8]
Called = Callable[..., Any]


@pytest.fixture(scope="module")
def called(browser: Browser) -> Iterator[Called]:
    """Runs the body of an asynchronous function in a page that has some of the studio's modules; bytes come back as arrays."""

    def answer(route: Route) -> None:
        name = route.request.url.removeprefix(f"{ALONE}/")
        if name:
            route.fulfill(path=PAGE / name, content_type="text/javascript")
        else:
            route.fulfill(body="<!doctype html><title>alone</title>", content_type="text/html")

    page = browser.new_page()
    page.route("**/*", answer)
    page.goto(f"{ALONE}/")

    def call(modules: str, body: str, **given: Any) -> Any:
        imports = "".join(f"Object.assign(all, await import('/{name}.js'));" for name in modules.split())
        return page.evaluate(
            f"async (given) => {{ const all = {{}}; {imports} const result = await (async (all, given) => {{ {body} }})(all, given);"
            " const base64 = (bytes) => { let text = ''; for (const byte of bytes) text += String.fromCharCode(byte); return btoa(text); };"
            " return result instanceof Uint8Array ? { bytes: base64(result) } : result; }",
            given,
        )

    def read(modules: str, body: str, **given: Any) -> Any:
        result = call(modules, body, **given)
        return np.frombuffer(b64decode(result["bytes"]), np.uint8) if isinstance(result, dict) and "bytes" in result else result

    yield read
    page.close()


def spots(seed: int, height: int, width: int) -> Levels:
    """A mask of some discs and bars."""
    image = Image.new("L", (width, height))
    draw, random = ImageDraw.Draw(image), np.random.default_rng(seed)
    for _ in range(4):
        x, y, size = (int(n) for n in random.integers((-3, -3, 1), (width, height, 12)))
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)((x, y, x + size, y + size // 2), fill=255)
    return np.asarray(image)


# What is sent


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (64, 64), (90, 700)])
def test_a_map_is_one_channel_of_its_numbers(called: Called, size: tuple[int, int]) -> None:
    """Written by the page, read by Pillow, which checks every checksum."""
    height, width = size
    levels = np.random.default_rng(height).integers(0, 256, size, np.uint8)
    data = called(
        "png",
        "const blob = await all.grey(Uint8Array.from(given.levels), given.width, given.height);"
        " if (blob.type !== 'image/png') throw new Error(blob.type); return new Uint8Array(await blob.arrayBuffer());",
        levels=levels.ravel().tolist(),
        width=width,
        height=height,
    )
    Image.open(BytesIO(data.tobytes())).verify()
    image = Image.open(BytesIO(data.tobytes()))
    assert (image.mode, image.size) == ("L", (width, height))
    np.testing.assert_array_equal(np.asarray(image), levels)


def test_levels_that_are_too_few_are_refused(called: Called) -> None:
    body = "try { await all.grey(new Uint8Array(5), 2, 3); } catch ({ name, message }) { return `${name}: ${message}`; }"
    assert called("png", body) == "RangeError: 5 levels are not 2 by 3"


# What strokes come to


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("line", [(20.5, 14.5, 20.5, 14.5), (4.5, 4.5, 33.5, 4.5), (3.5, 25.5, 36.5, 6.5), (-4.5, 28.5, 12.5, -6.5)])
def test_a_stroke_paints_what_is_within_half_its_width(called: Called, size: int, line: tuple[float, ...]) -> None:
    """Every pixel of which the middle is no farther from the way of the brush, and no other; beyond the edges, nothing."""
    width, height = 40, 30
    ends = [at if size % 2 else at + 0.5 for at in line]
    painted = called(
        "brush",
        "const f = new all.Field(given.width, given.height); const [x, y, toX, toY] = given.line;"
        " f.line({ x, y, size: given.size }, { x: toX, y: toY, size: given.size }, 9); return f.bytes;",
        width=width,
        height=height,
        line=ends,
        size=size,
    ).reshape(height, width)
    down, across = np.mgrid[:height, :width] + 0.5
    x, y, to_x, to_y = ends
    along = np.array([to_x - x, to_y - y])
    share = np.clip(((across - x) * along[0] + (down - y) * along[1]) / max(float(along @ along), 1e-9), 0, 1)
    far = np.hypot(across - x - share * along[0], down - y - share * along[1])
    clear = np.abs(far - size / 2) > 1e-6
    np.testing.assert_array_equal((painted == 9)[clear], (far < size / 2)[clear])


@pytest.mark.parametrize(("at", "size", "snapped"), [(7.1, 1, 7.5), (7.9, 3, 7.5), (7.4, 2, 7), (7.6, 2, 8), (0.2, 4, 0)])
def test_a_brush_is_the_same_on_all_sides(called: Called, at: float, size: int, snapped: float) -> None:
    assert called("brush", "return all.snapped(given.at, given.size)", at=at, size=size) == snapped


def test_a_rectangle_has_both_of_its_corners(called: Called) -> None:
    body = "const f = new all.Field(9, 7); f.rectangle({ x: 6.9, y: 1.2 }, { x: 2.4, y: 40 }, 3); return f.bytes;"
    wanted = np.zeros((7, 9), np.uint8)
    wanted[1:, 2:7] = 3
    np.testing.assert_array_equal(called("brush", body).reshape(7, 9), wanted)


@pytest.mark.parametrize("seed", range(6))
def test_fill_paints_what_hangs_together(called: Called, seed: int) -> None:
    """As Pillow does it."""
    levels = spots(seed, 37, 53)
    image = Image.fromarray(levels).copy()
    x, y = (int(at) for at in np.random.default_rng(seed).integers(0, (53, 37)))
    ImageDraw.floodfill(image, (x, y), 77)
    filled = called(
        "brush",
        "const f = new all.Field(53, 37); f.bytes.set(given.levels); f.fill(given.x, given.y, 77); return f.bytes;",
        levels=levels.ravel().tolist(),
        x=x,
        y=y,
    )
    np.testing.assert_array_equal(filled.reshape(37, 53), np.asarray(image))


def test_strokes_are_undone_and_done_again(called: Called) -> None:
    """Each by itself, to the byte, also after they were put away and taken out; a new one forgets those that were undone."""
    body = """
      let f = new all.Field(50, 40, 255);
      const states = [f.bytes.slice()], same = (a, b) => a.every((byte, at) => byte === b[at]), out = {};
      const strokes = [
        () => f.line({ x: 5, y: 5, size: 9 }, { x: 44, y: 33, size: 3 }, 1), () => f.rectangle({ x: 3, y: 3 }, { x: 20, y: 30 }, 2),
        () => f.fill(25, 5, 7), () => f.line({ x: -9, y: 20, size: 5 }, { x: 70, y: 20, size: 5 }, 255), () => f.invert(), () => f.clear(),
      ];
      for (const stroke of strokes) { stroke(); out.changed = f.commit(); states.push(f.bytes.slice()); }
      f.clear();
      out.nothing = f.commit();
      out.undone = strokes.map((_, i) => f.undo() && same(f.bytes, states[strokes.length - 1 - i]));
      out.first = f.undo();
      f = all.Field.kept(structuredClone(f.keep()));
      out.redone = strokes.map((_, i) => f.redo() && same(f.bytes, states[i + 1]));
      f.undo();
      f.line({ x: 1, y: 1, size: 1 }, { x: 1, y: 1, size: 1 }, 4);
      f.commit();
      out.forgotten = f.redo();
      f.rectangle({ x: 0, y: 0 }, { x: 9, y: 9 }, 8);
      f.revert();
      out.reverted = f.at(5, 5) !== 8 && !f.commit();
      return out;
    """
    assert called("brush", body) == {
        "changed": True,
        "nothing": False,
        "undone": [True] * 6,
        "first": None,
        "redone": [True] * 6,
        "forgotten": None,
        "reverted": True,
    }


def test_a_stroke_goes_on_while_the_work_is_kept(called: Called) -> None:
    """What is kept is as it was before; what is painted stays."""
    body = """
      const f = new all.Field(9, 9);
      f.rectangle({ x: 0, y: 0 }, { x: 3, y: 3 }, 1);
      f.commit();
      f.rectangle({ x: 5, y: 5 }, { x: 8, y: 8 }, 2);
      const kept = all.Field.kept(structuredClone(f.keep()));
      return [kept.at(1, 1), kept.at(6, 6), f.at(1, 1), f.at(6, 6), f.commit(), f.past.length, kept.past.length];
    """
    assert called("brush", body) == [1, 0, 1, 2, True, 2, 1]


@pytest.mark.parametrize("radius", [-6, -1, 0, 1, 4, 60])
def test_a_mask_is_shown_grown_as_the_server_grows_it(called: Called, radius: int) -> None:
    levels = spots(3, 41, 29)
    shown = called(
        "brush", "return all.grown(Uint8Array.from(given.levels), 29, 41, given.radius)", levels=levels.ravel().tolist(), radius=radius
    )
    wanted = grown(torch.from_numpy(levels / 255)[None, None].float(), radius)[0, 0].numpy()
    np.testing.assert_array_equal(shown.reshape(41, 29), (255 * wanted).astype(np.uint8))


@pytest.mark.parametrize("seed", range(4))
def test_the_edge_goes_between_what_is_painted_and_what_is_not(called: Called, seed: int) -> None:
    """Every side of a pixel where the two meet, once."""
    levels = spots(seed, 24, 33)
    lines = called("brush", "return all.border(Uint8Array.from(given.levels), 33, 24)", levels=levels.ravel().tolist())
    upright, level = np.zeros((24, 34), int), np.zeros((25, 33), int)
    for x, y, to_x, to_y in lines:
        if x == to_x:
            upright[y:to_y, x] += 1
        else:
            level[y, x:to_x] += 1
    painted = levels > 127
    np.testing.assert_array_equal(upright[:, 1:-1], painted[:, 1:] != painted[:, :-1])
    np.testing.assert_array_equal(level[1:-1], painted[1:] != painted[:-1])
    assert not upright[:, [0, -1]].any() and not level[[0, -1]].any()


def test_a_name_stands_where_there_is_room(called: Called) -> None:
    """In each part of a map that hangs together, at a pixel that is as far from its border as any."""
    levels = np.full((20, 30), 255, np.uint8)
    levels[2:11, 3:12] = 4
    levels[5:8, 20:29] = 4
    found = called("regions", "return all.regions(Uint8Array.from(given.levels), 30, 20)", levels=levels.ravel().tolist())
    four = sorted((part for part in found if part["value"] == 4), key=lambda part: part["size"])
    assert [(part["size"], part["reach"]) for part in four] == [(27, 2), (81, 5)]
    assert (four[1]["x"], four[1]["y"]) == (7.5, 6.5)
    assert sum(part["size"] for part in found) == 600


# What a model draws


@pytest.mark.parametrize("area", [None, 64 * 64, 512 * 512])
@pytest.mark.parametrize("multiple", [4, 16])
def test_a_picture_is_taken_at_the_size_that_the_server_takes_it_at(called: Called, area: int | None, multiple: int) -> None:
    sizes = [(64, 64), (1, 1), (500, 333), (4000, 30), (31, 2048), (1023, 1025), (72, 40)]
    body = (
        "return given.sizes.map(([height, width]) => all.nearest(width, height, given.multiple, given.area))"
        ".map(({ height, width }) => [height, width]);"
    )
    found = called("taken", body, sizes=sizes, multiple=multiple, area=area)
    files = (Opened(Image.new("L", (width, height)), "", "") for height, width in sizes)
    assert [tuple(size) for size in found] == [own_size(file, multiple, area) for file in files]


def test_classes_have_colours_of_their_own(called: Called) -> None:
    """Told apart by more than a few levels, and dark words can be read on each; `any` is the ground."""
    pixels = np.array(called("classes", "return [...all.colours(75)]"), np.uint32)
    assert pixels[255] == 0 and pixels[75] == 0
    colours = pixels[:75].view(np.uint8).reshape(-1, 4)[:, :3].astype(int)
    apart = np.abs(colours[:, None] - colours[None]).max(-1) + 255 * np.eye(75, dtype=int)
    assert apart.min() >= 8
    linear = np.where(colours <= 10, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
    light = linear @ [0.2126, 0.7152, 0.0722]
    assert ((light + 0.05) / 0.06).min() > 4.5
