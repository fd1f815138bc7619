"""A scene to pixels, and to the maps that come free with it. Deterministic: the same scene is the same picture at every size.

Sizes are multiples of 64, at which every box begins and ends on a pixel, or divisors of it, which are averages of the picture at 64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from sumi.train.scenes.glyphs import coverage, glyph, shape_mask
from sumi.train.scenes.layout import GRID
from sumi.train.scenes.scene import Scene, Thing
from sumi.train.scenes.vocabulary import BACKGROUNDS, CLASSES, COLOURS, RGB, SHAPES, Background

Image = NDArray[np.float32]

_VARIANTS = 8  # of each landscape
_SHADE = 6.0  # how far a colour strays, of 255
_CLASS_IDS = {name: index for index, name in enumerate(CLASSES)}
_COLOUR_IDS = {name: index for index, name in enumerate(COLOURS)}


def render(scene: Scene, size: int = 64) -> NDArray[np.uint8]:
    """The picture, [size, size, 3] in 0..255."""
    drawn = _drawn(size)
    canvas = _background(scene, drawn)
    shades = _shades(scene)
    for thing in scene.things:
        rows, columns, side = _place(thing, drawn)
        patch = canvas[rows, columns]
        if thing.name in SHAPES:
            colour = np.array(COLOURS[str(thing.colour)], np.float32) + shades[1 + thing.group]
            patch += shape_mask(thing.name, side, thing.angle) * (colour - patch)
        else:
            ink = glyph(thing.name, thing.colour, side, thing.angle)
            patch *= 1 - ink[..., 3:] * np.float32(1 / 255)
            patch += ink[..., :3]
    return _pixels(canvas, size)


def background(scene: Scene, size: int = 64) -> NDArray[np.uint8]:
    """The picture without its things, [size, size, 3]."""
    return _pixels(_background(scene, _drawn(size)), size)


def segmentation(scene: Scene, size: int = 16) -> NDArray[np.uint16]:
    """Class id + 1 of the nearest thing that covers more than 0.4 of a cell, 0 where none does: [size, size]."""
    return _map(scene, size, lambda thing: _CLASS_IDS[thing.name] + 1)


def colour_map(scene: Scene, size: int = 16) -> NDArray[np.uint16]:
    """Colour id + 1 likewise; 0 also where a glyph has its own colours."""
    return _map(scene, size, lambda thing: _COLOUR_IDS[thing.colour] + 1 if thing.colour else 0)


def group_mask(scene: Scene, group: int, size: int = 64) -> Image:
    """How much of each cell the things of a group cover, hidden or not: [size, size] in 0..1."""
    mask = np.zeros((size, size), np.float32)
    for thing in scene.things:
        if thing.group == group:
            np.maximum(mask, _covered(thing, size), out=mask)
    return mask


def class_label(scene: Scene) -> int:
    """The class id of what the caption names first."""
    return _CLASS_IDS[scene.groups[0].name]


def _drawn(size: int) -> int:
    if size <= 0 or (size % GRID and GRID % size):
        raise ValueError(f"size {size} is neither a multiple nor a divisor of {GRID}")
    return max(size, GRID)


def _averaged(canvas: Image, size: int) -> Image:
    factor = len(canvas) // size
    if factor == 1:
        return canvas
    cells: Image = canvas.reshape(size, factor, size, factor, -1).mean((1, 3), dtype=np.float32)
    return cells


def _pixels(canvas: Image, size: int) -> NDArray[np.uint8]:
    return np.asarray(_averaged(np.clip(canvas, 0, 255), size) + 0.5, np.uint8)


def _place(thing: Thing, drawn: int) -> tuple[slice, slice, int]:
    side = round(thing.size * drawn)
    left, top = round(thing.x * drawn - side / 2), round(thing.y * drawn - side / 2)
    return slice(top, top + side), slice(left, left + side), side


def _covered(thing: Thing, size: int) -> Image:
    canvas = np.zeros((_drawn(size), _drawn(size), 1), np.float32)
    rows, columns, side = _place(thing, len(canvas))
    canvas[rows, columns] = coverage(thing.name, side, thing.angle)
    return _averaged(canvas, size)[..., 0]


def _map(scene: Scene, size: int, value: Callable[[Thing], int]) -> NDArray[np.uint16]:
    cells = np.zeros((size, size), np.uint16)
    for thing in scene.things:
        cells[_covered(thing, size) > 0.4] = value(thing)
    return cells


def _shades(scene: Scene) -> Image:
    """Small offsets of colour [1 + groups, 3]: of the background, then of each group."""
    rng = np.random.default_rng(scene.seed)
    return rng.uniform(-_SHADE, _SHADE, (1 + len(scene.groups), 3)).astype(np.float32)


def _background(scene: Scene, drawn: int) -> Image:
    variant = scene.seed % _VARIANTS if BACKGROUNDS[scene.background].kind == "landscape" else 0
    shaded: Image = _backdrop(scene.background, variant, drawn) + _shades(scene)[0]
    return shaded


@lru_cache(maxsize=256)
def _backdrop(name: str, variant: int, drawn: int) -> Image:
    """A background before its shade, [drawn, drawn, 3]; never written to."""
    return _PAINTERS[BACKGROUNDS[name].painter](BACKGROUNDS[name], variant, drawn)


def _axes(drawn: int) -> tuple[Image, Image]:
    """y [S 1 1] and x [1 S 1] of the pixels' centres in 0..1."""
    centres = (np.arange(drawn, dtype=np.float32) + np.float32(0.5)) / np.float32(drawn)
    return centres[:, None, None], centres[None, :, None]


def _blend(a: Image | RGB, b: Image | RGB, weight: Image) -> Image:
    first, second = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return first + (second - first) * weight


def _step(distance: Image, drawn: int) -> Image:
    """1 where `distance` (in pictures) is positive, 0 where negative, one pixel soft between."""
    return np.asarray(np.clip(distance * drawn + 0.5, 0, 1), np.float32)


def _plain(ground: Background, variant: int, drawn: int) -> Image:
    return np.tile(np.array(ground.colours[0], np.float32), (drawn, drawn, 1))


def _gradient(ground: Background, variant: int, drawn: int) -> Image:
    y, _ = _axes(drawn)
    return np.repeat(_blend(ground.colours[0], ground.colours[1], y), drawn, axis=1)


def _striped(ground: Background, variant: int, drawn: int) -> Image:
    _, x = _axes(drawn)
    wave = np.abs((x * 4) % 1 - 0.5) - 0.25  # in quarters of a picture: four stripes of each colour
    return np.repeat(_blend(ground.colours[0], ground.colours[1], _step(wave / 4, drawn)), drawn, axis=0)


def _dotted(ground: Background, variant: int, drawn: int) -> Image:
    y, x = _axes(drawn)
    radius = np.hypot((y * 4) % 1 - 0.5, (x * 4) % 1 - 0.5)
    return _blend(ground.colours[0], ground.colours[1], _step((0.22 - radius) / 4, drawn))


def _checked(ground: Background, variant: int, drawn: int) -> Image:
    y, x = _axes(drawn)
    return _blend(ground.colours[0], ground.colours[1], ((y * 4).astype(int) + (x * 4).astype(int)).astype(np.float32) % 2)


def _hill(x: Image, height: float, swing: float, rng: np.random.Generator) -> Image:
    """A gentle skyline: y of the ground at each x."""
    return np.asarray(height + swing * np.sin(2 * math.pi * (x * rng.uniform(0.6, 1.2) + rng.random())), np.float32)


def _specks(canvas: Image, count: int, bottom: float, radius: float, rng: np.random.Generator) -> Image:
    """White dots above `bottom`."""
    y, x = _axes(len(canvas))
    for _ in range(count):
        far = np.hypot(y - rng.uniform(0.02, bottom), x - rng.uniform(0.02, 0.98))
        canvas = _blend(canvas, (255, 255, 255), _step(rng.uniform(0.6, 1.2) * radius - far, len(canvas)))
    return canvas


def _night_sky(ground: Background, variant: int, drawn: int) -> Image:
    return _specks(_gradient(ground, variant, drawn), 16, 0.98, 0.012, np.random.default_rng(variant))


def _land(ground: Background, variant: int, drawn: int) -> Image:
    """Sky over rolling ground: grass, snow."""
    rng = np.random.default_rng(variant)
    y, x = _axes(drawn)
    sky, earth = (np.array(colour, np.float32) for colour in ground.colours)
    canvas = _blend(sky, np.array((250, 252, 255), np.float32), np.clip(y - 0.15, 0, 1)) * np.ones_like(x)
    if ground.painter == "snow":
        canvas = _specks(canvas, 14, 0.55, 0.013, rng)
    height = rng.uniform(0.56, 0.68)
    for rise, light in ((0.07, 0.95), (0.0, 1.0)):
        skyline = _hill(x, height - rise, 0.035, rng)
        canvas = _blend(canvas, earth * light * (1.08 - 0.14 * y), _step(y - skyline, drawn))
    return canvas


def _beach(ground: Background, variant: int, drawn: int) -> Image:
    rng = np.random.default_rng(variant)
    y, x = _axes(drawn)
    sky, water, sand = (np.array(colour, np.float32) for colour in ground.colours)
    horizon = rng.uniform(0.38, 0.46)
    canvas = _blend(sky, np.array((235, 248, 255), np.float32), y) * np.ones_like(x)
    canvas = _blend(canvas, _blend(water, (110, 205, 225), np.clip((y - horizon) * 4, 0, 1)), _step(y - horizon, drawn))
    shore = _hill(x, horizon + 0.2, 0.025, rng)
    canvas = _blend(canvas, (250, 250, 245), _step(y - shore + 0.02, drawn))
    return _blend(canvas, sand * (1.06 - 0.12 * y), _step(y - shore, drawn))


def _sunset(ground: Background, variant: int, drawn: int) -> Image:
    rng = np.random.default_rng(variant)
    y, x = _axes(drawn)
    sky, glow, land = ground.colours
    canvas = _blend(sky, glow, np.clip(y / 0.8, 0, 1)) * np.ones_like(x)
    return _blend(canvas, land, _step(y - _hill(x, rng.uniform(0.8, 0.86), 0.03, rng), drawn))


def _sea(ground: Background, variant: int, drawn: int) -> Image:
    """Under water: light from above in slanting shafts."""
    rng = np.random.default_rng(variant)
    y, x = _axes(drawn)
    shafts = np.sin(2 * math.pi * (3 * (x - 0.35 * y) + rng.random()), dtype=np.float32)
    return _gradient(ground, variant, drawn) + np.float32(16) * np.maximum(shafts, 0) * (np.float32(1) - y)


_PAINTERS: dict[str, Callable[[Background, int, int], Image]] = {
    "plain": _plain,
    "gradient": _gradient,
    "night sky": _night_sky,
    "grass": _land,
    "beach": _beach,
    "sunset": _sunset,
    "snow": _land,
    "sea": _sea,
    "striped": _striped,
    "dotted": _dotted,
    "checked": _checked,
}


@cache
def blends(name: str, behind: str) -> bool:
    """Whether a glyph in its own colours would be lost on a background: over a third of its ink is close to what lies behind it."""
    side = GRID // 2
    ink = glyph(name, None, side).astype(np.float32)
    solid = ink[..., 3] > 200
    canvas = _backdrop(behind, 0, GRID)[side // 2 : -side // 2, side // 2 : -side // 2]
    distance = np.linalg.norm(ink[..., :3] - canvas, axis=-1)[solid]
    return bool(np.mean(distance < 70) > 0.35)
