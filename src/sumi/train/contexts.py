"""What a picture is to be made from beside words, drawn at random for training: a class label, a hole, a map, a small picture.

Every sample has one of these *jobs*; whatever its job does not need is left out of it, so that one network learns all of them and
the text-to-image that they share (the dropout of Ho and Salimans 2022, of each context by itself).

Legend: N samples, S picture height and width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sumi.store.images import Filter, resized
from sumi.train.scenes import Scene, World, class_label, render, segmentation

JOBS = ("text", "label", "inpaint", "map", "low_res")
WORDLESS = {"text": 0.0, "label": 0.75, "inpaint": 0.25, "map": 0.5, "low_res": 0.5}
"""How often a sample of a job comes without its caption, beside the share that every sample loses it in."""
SMALLER = 4
CLOSE = 0.25
"""How often a small picture is part of a scene seen from close by, rather than all of one."""
FILTERS: tuple[Filter, ...] = ("box", "bilinear", "bicubic", "lanczos")
UNKNOWN = -1


@dataclass(frozen=True)
class Example:
    """A picture, what is where in it, and what it is to be made from.

    picture [S S 3]; cells: what is where, coarsely, [c c], class id + 1 or 0. label: class id, or `UNKNOWN`. hole [S S]: where the
    picture is not given, all of it where there is none to fill in; classes [S S]: as cells, `UNKNOWN` where it is not said;
    low_res [S/4 S/4 3] or None.
    """

    caption: str
    picture: NDArray[np.uint8]
    cells: NDArray[np.int64]
    label: int
    hole: NDArray[np.bool_]
    classes: NDArray[np.int16]
    low_res: NDArray[np.uint8] | None


def example(world: World, rng: Generator, job: str, size: int, cells: int, split: str = "train") -> Example:
    """A sample of a job, of `size` pixels and `cells` cells along a side."""
    scene = world.sample(rng, "single" if job == "label" else None, split)
    wordless = WORDLESS[job] > 0 and rng.random() < WORDLESS[job]
    found = Example(
        "" if wordless else scene.caption,
        render(scene, size),
        segmentation(scene, cells).astype(np.int64),
        UNKNOWN,
        np.ones((size, size), np.bool_),
        np.full((size, size), UNKNOWN, np.int16),
        None,
    )
    match job:
        case "label":
            return replace(found, label=class_label(scene))
        case "inpaint":
            return replace(found, hole=hole(scene, rng, size))
        case "map":
            return replace(found, classes=_said(segmentation(scene, size).astype(np.int16), rng))
        case "low_res":
            if rng.random() < CLOSE:
                picture, seen = _from_close(scene, rng, size, cells)
                found = replace(found, caption="", picture=picture, cells=seen)
            return replace(found, low_res=smaller(found.picture, FILTERS[int(rng.integers(len(FILTERS)))]))
    return found


def jobs(weights: Mapping[str, float], rng: Generator, count: int) -> list[str]:
    """A job for each of `count` samples, in proportion to their weights."""
    shares = np.array(list(weights.values()), float)
    return [tuple(weights)[int(index)] for index in rng.choice(len(shares), count, p=shares / shares.sum())]


def hole(scene: Scene, rng: Generator, size: int) -> NDArray[np.bool_]:
    """Where a picture is to be filled in [size size]: over one of its things, under rectangles, under strokes, or beyond an edge."""
    kind = rng.random()
    found = np.zeros((size, size), np.bool_)
    if kind < 0.4:
        thing = scene.things[int(rng.integers(len(scene.things)))]
        reach = thing.size / 2 + rng.uniform(0, 0.08)
        _fill(found, thing.y - reach, thing.x - reach, thing.y + reach, thing.x + reach)
    elif kind < 0.65:
        for _ in range(int(rng.integers(1, 4))):
            (top, left), (tall, wide) = rng.uniform(-0.1, 0.9, 2), rng.uniform(0.15, 0.7, 2)
            _fill(found, top, left, top + tall, left + wide)
    elif kind < 0.85:
        y, x = (np.indices((size, size)) + 0.5) / size
        at, radius = rng.uniform(0.1, 0.9, 2), rng.uniform(0.05, 0.15)
        for _ in range(int(rng.integers(4, 16))):
            found |= np.hypot(y - at[0], x - at[1]) < radius
            at = np.clip(at + rng.normal(0, radius, 2), 0, 1)
    else:
        top, left, bottom, right = rng.uniform(0, 0.6, 4) * (rng.random(4) < 0.5)
        kept = np.zeros_like(found)
        _fill(kept, top, left, max(1 - bottom, top + 0.25), max(1 - right, left + 0.25))
        found = ~kept
    return found if found.any() else np.ones_like(found)


def smaller(picture: NDArray[np.uint8], filter: Filter = "bicubic") -> NDArray[np.uint8]:
    """A picture [S S 3] at a quarter of its size."""
    height, width = picture.shape[:2]
    return resized(picture, (height // SMALLER, width // SMALLER), filter)


def _fill(mask: NDArray[np.bool_], top: float, left: float, bottom: float, right: float) -> None:
    size = len(mask)
    rows, columns = (slice(max(0, round(low * size)), max(0, round(high * size))) for low, high in ((top, bottom), (left, right)))
    mask[rows, columns] = True


def _said(classes: NDArray[np.int16], rng: Generator) -> NDArray[np.int16]:
    """A map as people draw them: as often as not whole; else without the background, or without one of its classes."""
    kind = rng.random()
    if kind < 0.6:
        return classes
    left_out = 0 if kind < 0.85 else int(rng.choice(np.unique(classes)))
    return np.where(classes == left_out, np.int16(UNKNOWN), classes)


def _from_close(scene: Scene, rng: Generator, size: int, cells: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A quarter of a scene at twice the size, anywhere in it, and what is where there."""
    step = size // cells
    y, x = (int(at) for at in rng.integers(0, cells + 1, 2))
    picture = render(scene, 2 * size)[y * step : y * step + size, x * step : x * step + size]
    return picture, segmentation(scene, 2 * cells)[y : y + cells, x : x + cells].astype(np.int64)
