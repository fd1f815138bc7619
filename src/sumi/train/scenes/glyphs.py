"""How each thing looks: masks of the plain shapes, and glyphs from the atlas, at any size, tint and angle."""

from __future__ import annotations

import math
from functools import cache, lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sumi.train.scenes.vocabulary import COLOURS, OBJECTS, RGB, SHAPES, WORLD

CELL = 96  # pixels of one glyph in the atlas
COLUMNS = 17
_DRAWN = 512  # pixels at which a shape is drawn before it is scaled down

Point = tuple[float, float]


def _polar(count: int, radius: float, turn: float = 0.0) -> list[Point]:
    """`count` points around the centre, clockwise from the top."""
    angles = [2 * math.pi * (k + turn) / count for k in range(count)]
    return [(radius * math.sin(a), -radius * math.cos(a)) for a in angles]


def _heart() -> list[Point]:
    angles = [2 * math.pi * k / 90 for k in range(90)]
    return [
        (16 * math.sin(a) ** 3 / 17, -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) / 17 - 0.1)
        for a in angles
    ]


_POLYGONS: dict[str, list[Point]] = {
    "square": [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
    "triangle": [(0, -0.95), (1, 0.85), (-1, 0.85)],
    "star": [(x, y + 0.06) for pair in zip(_polar(5, 1.0), _polar(5, 0.42, 0.5), strict=True) for x, y in pair],
    "heart": _heart(),
    "diamond": [(0, -1), (0.72, 0), (0, 1), (-0.72, 0)],
    "hexagon": _polar(6, 1.0, 0.5),
}
"""Outlines in a box from -1 to 1."""


def _shape(name: str) -> Image.Image:
    mask = Image.new("L", (_DRAWN, _DRAWN))
    draw = ImageDraw.Draw(mask)

    def box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        return left * _DRAWN, top * _DRAWN, right * _DRAWN, bottom * _DRAWN

    if name in _POLYGONS:
        draw.polygon([((1 + x) * _DRAWN / 2, (1 + y) * _DRAWN / 2) for x, y in _POLYGONS[name]], fill=255)
    elif name == "circle":
        draw.ellipse(box(0.02, 0.02, 0.98, 0.98), fill=255)
    elif name == "ring":
        draw.ellipse(box(0.02, 0.02, 0.98, 0.98), fill=255)
        draw.ellipse(box(0.28, 0.28, 0.72, 0.72), fill=0)
    elif name == "cross":
        draw.rectangle(box(0.34, 0.04, 0.66, 0.96), fill=255)
        draw.rectangle(box(0.04, 0.34, 0.96, 0.66), fill=255)
    else:  # crescent
        draw.ellipse(box(0.06, 0.02, 1.02, 0.98), fill=255)
        draw.ellipse(box(0.38, -0.06, 1.24, 0.80), fill=0)
    return mask


@cache
def _atlas() -> Image.Image:
    with resources.files(__package__).joinpath("glyphs.png").open("rb") as file:
        return Image.open(file).convert("RGBA")


@cache
def _cells() -> dict[str, tuple[int, int, int, int]]:
    corners = ((index % COLUMNS * CELL, index // COLUMNS * CELL) for index in range(len(OBJECTS) + len(WORLD)))
    return {name: (x, y, x + CELL, y + CELL) for name, (x, y) in zip(OBJECTS | WORLD, corners, strict=True)}


def _tint(glyph: Image.Image, colour: RGB) -> Image.Image:
    """Give the pixels of the glyph's main hue the hue of `colour`, keeping light and shade; leaves, windows, tyres and faces stay."""
    pixels = np.asarray(glyph).astype(np.float32)
    red, green, blue, alpha = np.moveaxis(pixels, -1, 0)
    value = pixels[..., :3].max(-1)
    saturation = 1 - pixels[..., :3].min(-1) / (value + 1)
    hue = np.stack([red - (green + blue) / 2, math.sqrt(0.75) * (green - blue)])
    hue /= np.linalg.norm(hue, axis=0) + 1
    weight = np.clip(2.5 * saturation - 0.25, 0, 1)
    main = (hue * weight * alpha).sum((1, 2))
    likeness = np.einsum("dhw,d->hw", hue, main / np.linalg.norm(main))  # cosine of the angle between hues
    weight *= np.clip((likeness - 0.5) / 0.3, 0, 1)
    shade = np.clip(0.35 + 0.65 * value / np.median(value[(weight > 0.9) & (alpha > 200)]), 0, 1.12)
    pixels[..., :3] += weight[..., None] * (np.array(colour, np.float32) * shade[..., None] - pixels[..., :3])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8), "RGBA")


def _turned(image: Image.Image, angle: float) -> Image.Image:
    """The picture rotated counter-clockwise by degrees, cropped to its ink and centred in a square."""
    turned = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    ink = turned.crop(turned.getbbox())
    side = max(ink.size)
    square = Image.new(image.mode, (side, side))
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return square


@lru_cache(maxsize=64)
def _shape_turned(name: str, angle: float) -> Image.Image:
    return _turned(_shape(name), angle) if angle else _shape(name)


@lru_cache(maxsize=4096)
def _glyph_turned(name: str, colour: str | None, angle: float) -> Image.Image:
    image = _atlas().crop(_cells()[name])
    if colour:
        image = _tint(image, COLOURS[colour])
    return _turned(image, angle) if angle else image


@lru_cache(maxsize=4096)
def shape_mask(name: str, size: int, angle: float = 0.0) -> NDArray[np.float32]:
    """Coverage [size, size, 1] in 0..1 of a plain shape that fills its box."""
    mask = _shape_turned(name, angle).resize((size, size), Image.Resampling.BOX)
    return np.asarray(mask, np.float32)[..., None] / np.float32(255)


@lru_cache(maxsize=4096)
def glyph(name: str, colour: str | None, size: int, angle: float = 0.0) -> NDArray[np.uint8]:
    """A glyph as premultiplied RGBA [size, size, 4]; `colour` replaces its hue."""
    image = _glyph_turned(name, colour, angle).resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(image).astype(np.uint16)
    pixels[..., :3] = (pixels[..., :3] * pixels[..., 3:] + 127) // 255
    return pixels.astype(np.uint8)


def coverage(name: str, size: int, angle: float = 0.0) -> NDArray[np.float32]:
    """How much of each pixel a thing covers, [size, size, 1] in 0..1."""
    if name in SHAPES:
        return shape_mask(name, size, angle)
    return np.divide(glyph(name, None, size, angle)[..., 3:], 255, dtype=np.float32)
