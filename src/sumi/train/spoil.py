"""Scenes with one thing made wrong, in its own colours and its own place: what a judge must learn not to accept.

The last thing of a scene is lifted off the picture as its ink [64 64 4]: what it adds to red, green and blue, and how much it covers.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sumi.train.scenes import Scene, Thing, group_mask, render, segmentation
from sumi.train.scenes.vocabulary import CLASS_COUNT, CLASSES, SHAPES, TINTABLE

SIZE = 64
CELLS = 16

Floats = NDArray[np.float32]


def spoil(scene: Scene, unknown: int, rng: Generator, way: str | None = None) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """The picture [64 64 3] of a scene whose last thing is spoilt, and its segmentation [16 16] in which that thing is `unknown`.

    `way` is one of `WAYS`; None draws one.
    """
    rest = replace(scene, things=scene.things[:-1])
    wrong = WAYS[way or str(rng.choice(list(WAYS)))](scene, rng)
    kinds = segmentation(rest, CELLS)
    kinds[wrong[..., 3].reshape(CELLS, SIZE // CELLS, CELLS, -1).mean((1, 3)) > 0.4] = unknown
    return np.clip(render(rest, SIZE) + wrong[..., :3] + 0.5, 0, 255).astype(np.uint8), kinds


def blurred(pixels: Floats, sigma: Floats | float) -> Floats:
    """Pictures [... S S C] convolved with a Gaussian of `sigma` pixels, [...] or one for all; the edge is extended by its own average."""
    places = np.arange(pixels.shape[-2], dtype=np.float32)
    width = np.asarray(sigma, np.float32)[..., None, None]
    kernel = np.exp(-0.5 * np.square((places[:, None] - places) / width))
    kernel /= kernel.sum(-1, keepdims=True)
    rows: Floats = np.einsum("...ij,...jkc->...ikc", kernel, pixels, optimize=True)
    both: Floats = np.einsum("...lk,...ikc->...ilc", kernel, rows, optimize=True)
    return both


def box(thing: Thing) -> tuple[slice, slice]:
    """Rows and columns of a thing's square, in pixels."""
    side = round(thing.size * SIZE)
    top, left = round(thing.y * SIZE - side / 2), round(thing.x * SIZE - side / 2)
    return slice(top, top + side), slice(left, left + side)


def _ink(scene: Scene) -> Floats:
    rest = replace(scene, things=scene.things[:-1])
    change = render(scene, SIZE).astype(np.float32) - render(rest, SIZE)
    alone = replace(scene, things=scene.things[-1:])
    return np.concatenate([change, group_mask(alone, scene.things[-1].group, SIZE)[..., None]], axis=-1)


def _scrambled(scene: Scene, rng: Generator) -> Floats:
    """Its square cut into 3 x 3 or 4 x 4 and shuffled until at least a quarter of the ink has changed."""
    ink = _ink(scene)
    place = box(scene.things[-1])
    patch = ink[place]
    side, cuts = len(patch), int(rng.integers(3, 5))
    part = -(-side // cuts)
    padded = np.pad(patch, ((0, part * cuts - side), (0, part * cuts - side), (0, 0)))
    parts = padded.reshape(cuts, part, cuts, part, 4).swapaxes(1, 2).reshape(-1, part, part, 4)
    while True:
        shuffled = rng.permutation(parts).reshape(cuts, cuts, part, part, 4).swapaxes(1, 2).reshape(padded.shape)[:side, :side]
        if np.abs(shuffled - patch).sum() >= 0.25 * np.abs(patch).sum():
            ink[place] = shuffled
            return ink


def _blob(scene: Scene, rng: Generator) -> Floats:
    """A lobed outline filled with a few of the thing's colours that run into each other."""
    ink = _ink(scene)
    place = box(scene.things[-1])
    patch = ink[place]
    side = len(patch)
    y, x = (np.indices((side, side), dtype=np.float32) + 0.5) / side * 2 - 1
    angle = np.arctan2(y, x)
    radius = rng.uniform(0.6, 0.75)
    for lobes in (2, 3, 4, 5):
        radius = radius + rng.uniform(0.04, 0.3) / lobes * np.sin(lobes * angle + rng.uniform(0, 2 * np.pi))
    mask = np.clip((radius - np.hypot(x, y)) * side / 2 + 0.5, 0, 1)[..., None]
    solid = patch[patch[..., 3] >= 0.8 * patch[..., 3].max(), :3]
    tiles = int(rng.integers(2, 6))
    colours = rng.choice(solid, (tiles, tiles))
    rows = np.minimum(np.arange(side) * tiles // side, tiles - 1)
    filling = blurred(colours[rows][:, rows], side / tiles / 2)
    ink[place] = np.concatenate([filling * mask, mask], axis=-1)
    return ink


def _smeared(scene: Scene, rng: Generator) -> Floats:
    """Blurred until the outline is gone."""
    side = scene.things[-1].size * SIZE
    return blurred(_ink(scene), max(2.5, side * rng.uniform(0.16, 0.28)))


def _merged(scene: Scene, rng: Generator) -> Floats:
    """Half one thing, half another: what an undecided generator paints."""
    thing = scene.things[-1]
    others = [
        name
        for name in CLASSES[: CLASS_COUNT[scene.vocabulary]]
        if name != thing.name and (name in SHAPES) == (thing.name in SHAPES) and (not thing.colour or name in SHAPES or name in TINTABLE)
    ]
    other = replace(thing, name=str(rng.choice(others)))
    share = np.float32(rng.uniform(0.4, 0.6))
    return share * _ink(scene) + (1 - share) * _ink(replace(scene, things=(*scene.things[:-1], other)))


WAYS: dict[str, Callable[[Scene, Generator], Floats]] = {
    "scrambled": _scrambled,
    "blob": _blob,
    "smeared": _smeared,
    "merged": _merged,
}
