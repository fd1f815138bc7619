"""Where things go. The grid is 64 x 64 and boxes have even sides, so that a box begins and ends on whole pixels at 64, 128 and 256.

A relation splits the picture into two bands; each group is a line along its band. One group has the whole picture as its band.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sumi.train.scenes.scene import Group, Thing

GRID = 64
_JITTER = 6  # of a centre, in grid cells: about a tenth of the picture

_SINGLE: dict[str | None, tuple[int, ...]] = {"small": (22, 24), None: (36, 38), "big": (52,)}
_PAIR: dict[str | None, tuple[int, ...]] = {"small": (18,), None: (24, 26), "big": (30,)}
_COUNT = {2: (22, 24), 3: (18,)}
_MIXED = {1: (24, 26), 2: (20,), 3: (18,)}
_ANGLES = (-25.0, -12.5, 0.0, 12.5, 25.0)  # few, so that turned glyphs can be kept

Span = tuple[int, int]
Box = tuple[int, int, int]  # centre x, centre y, side


def _between(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high + 1))


def _inside(rng: np.random.Generator, span: Span, side: int, jitter: int) -> int:
    """A centre near the middle of the span, its box at least one cell inside."""
    slack = max(0, min((span[1] - span[0] - side) // 2 - 1, jitter))
    return (span[0] + span[1]) // 2 + _between(rng, -slack, slack)


def _line(rng: np.random.Generator, sides: Sequence[int], band: Span, upright: bool, jitter: int) -> list[Box]:
    """Boxes side by side over the whole picture, across it within `band`; `upright` lines run from top to bottom."""
    count = len(sides)
    across = _inside(rng, band, max(sides) + 2 * (count > 1), jitter)
    boxes = []
    for k, side in enumerate(sides):
        along = _inside(rng, (GRID * k // count, GRID * (k + 1) // count), side, jitter)
        drift = _between(rng, -1, 1) if count > 1 else 0
        boxes.append((across + drift, along, side) if upright else (along, across + drift, side))
    return boxes


def _sides(rng: np.random.Generator, group: Group, choices: Sequence[int]) -> list[int]:
    return [choices[int(rng.integers(len(choices)))]] * group.count


def _one_group(rng: np.random.Generator, group: Group, jitter: int) -> list[Box]:
    if group.count == 1:
        return _line(rng, _sides(rng, group, _SINGLE[group.size]), (0, GRID), False, jitter)
    sides = _sides(rng, group, _COUNT[group.count])
    if group.count == 3 and rng.random() < 0.5:
        top, bottom = (1, 2) if rng.random() < 0.5 else (2, 1)
        half = GRID // 2
        return [*_line(rng, sides[:top], (0, half), False, 3), *_line(rng, sides[:bottom], (half, GRID), False, 3)]
    return _line(rng, sides, (0, GRID), False, jitter)


def _two_groups(rng: np.random.Generator, groups: Sequence[Group], relation: str, jitter: int, overlap: int) -> list[list[Box]]:
    if relation == "and":
        relation = ("left", "right", "above", "below")[int(rng.integers(4))]
    low, high = (0, GRID // 2 + overlap), (GRID // 2 - overlap, GRID)
    bands = (low, high) if relation in ("left", "above") else (high, low)
    counted = max(group.count for group in groups) > 1
    choices = [_MIXED[group.count] if counted else _PAIR[group.size] for group in groups]
    upright = relation in ("left", "right")
    return [_line(rng, _sides(rng, group, sides), band, upright, jitter) for group, sides, band in zip(groups, choices, bands, strict=True)]


def arrange(rng: np.random.Generator, groups: Sequence[Group], relation: str | None, free: bool) -> tuple[Thing, ...]:
    """Things for the groups, in painter's order, inside the picture and true to the relation.

    `free` also turns them, moves them further from the middle, and lets those joined by `and` overlap a little, in any order of depth.
    """
    jitter = 2 * _JITTER if free else _JITTER
    if relation:
        lines = _two_groups(rng, groups, relation, jitter, 6 if free and relation == "and" else 0)
    else:
        lines = [_one_group(rng, groups[0], jitter)]
    things = [
        Thing(
            group.name,
            group.colour,
            x / GRID,
            y / GRID,
            side / GRID,
            _ANGLES[int(rng.integers(len(_ANGLES)))] if free else 0.0,
            index,
        )
        for index, (group, line) in enumerate(zip(groups, lines, strict=True))
        for x, y, side in line
    ]
    order = rng.permutation(len(things)) if free else range(len(things))
    return tuple(things[index] for index in order)
