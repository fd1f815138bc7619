"""Batches of scenes as tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sumi.train.contexts import Example, example, jobs
from sumi.train.scenes import Group, Scene, Thing, World, render
from sumi.train.scenes.world import held_out


def to_tensor(pictures: Sequence[np.ndarray] | np.ndarray) -> Tensor:
    """uint8 pictures [H, W, 3] to one float32 tensor [B, 3, H, W] in [-1, 1]."""
    # Contiguous, or every network after it would run with channels last, where group normalisation is many times slower on a CPU.
    return torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2).contiguous().float().div_(127.5).sub_(1)


def to_pictures(images: Tensor) -> np.ndarray:
    """A tensor [B, 3, H, W] in [-1, 1] to uint8 pictures [B, H, W, 3]."""
    levels = ((images.float() + 1) * 127.5).round().clamp(0, 255)
    return levels.permute(0, 2, 3, 1).byte().cpu().numpy()


def normal(rng: np.random.Generator, like: Tensor) -> Tensor:
    """Standard normal numbers of the shape, type and place of `like`, drawn from `rng`."""
    return torch.from_numpy(rng.standard_normal(tuple(like.shape), np.float32)).to(like)


def draw(world: World, rng: np.random.Generator, count: int, size: int, split: str = "train") -> tuple[list[Scene], Tensor]:
    """`count` scenes and their pictures [count, 3, size, size]."""
    scenes = [world.sample(rng, split=split) for _ in range(count)]
    return scenes, to_tensor([render(scene, size) for scene in scenes])


def drawn(world: World, seed: Sequence[int], count: int, size: int, cells: int, split: str, weights: Mapping[str, float]) -> list[Example]:
    """`count` samples, of jobs in proportion to their weights: a function of its arguments alone, so that any process can make them."""
    rng = np.random.default_rng(seed)
    chosen = jobs(weights, np.random.default_rng([*seed, 1]), count)
    return [example(world, rng, job, size, cells, split) for job in chosen]


def crowd(world: World, rng: np.random.Generator) -> Scene:
    """A scene with five to nine things anywhere, one over another: no caption fits it, but an autoencoder learns more from it.

    Things that may not be seen before its background in training are left out.
    """
    scene = world.sample(rng)
    count = int(rng.integers(5, 10))
    moved: list[Thing] = []
    while len(moved) < count:
        thing = world.sample(rng).things[0]
        side = int(rng.integers(8, 24)) * 2
        x, y = (int(rng.integers(side // 2, 65 - side // 2)) for _ in range(2))
        if not held_out((Group(thing.name, thing.colour),), None, scene.background):
            moved.append(Thing(thing.name, thing.colour, x / 64, y / 64, side / 64))
    return replace(scene, things=tuple(moved), caption="")


def sheet(pictures: Sequence[np.ndarray] | np.ndarray, columns: int, gap: int = 2) -> np.ndarray:
    """Pictures of one size side by side on white, `columns` a row: uint8 [height, width, 3]."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    page = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        page[y : y + height, x : x + width] = picture
    return page
