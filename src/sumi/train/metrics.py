"""From what a judge saw to what was right: things, attributes of a scene, shares with intervals.

Legend: h w cells (16 by 16 over a picture), K colours, M backgrounds. Pure functions of numpy arrays and scenes; the
network that fills the arrays is `sumi.train.judge`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sumi.train.scenes import Group, Scene

UNKNOWN = "unknown"
"""The class of things that resemble nothing: scrambled, melted or smeared."""

ATTRIBUTES = ("object", "extra", "background", "colour", "relation", "count", "all")

LEAST_CELLS = 3
"""A thing of fewer cells is not seen. The thinnest of `objects`, a small carrot, covers four; flicker is of one or two."""


@dataclass(frozen=True)
class Labels:
    """The names behind a judge's numbers, in order."""

    classes: tuple[str, ...]
    colours: tuple[str, ...]
    backgrounds: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """What a cell can be: nothing (0), a class (its index + 1), unknown (last)."""
        return ("", *self.classes, UNKNOWN)


@dataclass(frozen=True)
class Seen:
    """One thing. `x` and `y` are the centre of its cells, rightwards and downwards."""

    name: str
    colour: str
    cells: int
    x: float
    y: float


@dataclass(frozen=True)
class Sight:
    """What a judge saw in one picture."""

    things: tuple[Seen, ...]
    background: str


def components(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number the connected parts of an [h w] mask from 1; 0 is outside. Cells connect by sides and corners.

    Every cell starts as its own part and takes the largest number among its neighbours until nothing changes.
    """
    height, width = inside.shape
    numbers = np.where(inside, np.arange(1, height * width + 1).reshape(height, width), 0)
    while True:
        around = np.pad(numbers, 1)
        largest = np.max([around[dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)], axis=0)
        grown = np.where(inside, largest, 0)
        if (grown == numbers).all():
            return np.searchsorted(np.unique(np.append(numbers, 0)), numbers)
        numbers = grown


def owners(kinds: NDArray[np.integer], cores: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Which thing each cell of an [h w] map belongs to: the number of the nearest core (of 1 if there is none), 0 for nothing.

    Neighbours may touch once drawn on cells, and a thing may be in pieces (a boat and its mast); their cores, connected
    by definition and far apart, tell them from one another.
    """
    numbers = components(cores)
    core_numbers = numbers[cores] if cores.any() else np.ones(1, np.int64)
    middles = np.argwhere(cores) if cores.any() else np.zeros((1, 2), np.int64)
    cells = np.argwhere(kinds > 0)
    nearest = np.square(cells[:, None] - middles[None]).sum(-1).argmin(axis=1)
    owned = np.zeros(kinds.shape, np.int64)
    owned[kinds > 0] = core_numbers[nearest]
    return owned


def see(
    kinds: NDArray[np.integer],
    cores: NDArray[np.bool_],
    colours: NDArray[np.integer],
    backgrounds: NDArray[np.integer],
    labels: Labels,
) -> Sight:
    """Read a judge's maps of one picture, each [h w].

    kinds: index in `labels.kinds`. cores: whether the cell is in the middle of a thing. colours, backgrounds: indices.
    A thing is of the kind that more than half of its cells are of, else unknown: cells are sure where a part is telling
    and unsure where it is not, and half a cat is no cat. Colours and the background go by the most votes.
    """
    owned = owners(kinds, cores)
    seen = []
    for number in range(1, int(owned.max()) + 1):
        inside = owned == number
        if (cells := int(inside.sum())) >= LEAST_CELLS:
            votes = np.bincount(kinds[inside])
            name = labels.kinds[int(votes.argmax())] if 2 * votes.max() > cells else UNKNOWN
            y, x = np.argwhere(inside).mean(axis=0)
            seen.append(Seen(name, labels.colours[_majority(colours[inside])], cells, float(x), float(y)))
    empty = backgrounds[kinds == 0]
    return Sight(tuple(seen), labels.backgrounds[_majority(empty)] if empty.size else UNKNOWN)


def attributes(sight: Sight, scene: Scene) -> dict[str, bool]:
    """Which of `ATTRIBUTES` the picture has right; those that the caption does not speak of are left out.

    object: each group of the scene is there. extra: nothing else is there, nor more of anything than was asked for.
    background, colour: as the caption says. relation: the centres of the two groups lie along the named axis, further
    apart along it than across. count: as many separate things as each group has. all: every one of these.
    """
    found = _shared_out(sight.things, scene.groups)
    pairs = list(zip(scene.groups, found, strict=True))
    right = {
        "object": all(found),
        "extra": sum(map(len, found)) == len(sight.things) and all(len(things) <= group.count for group, things in pairs),
    }
    if scene.says_background:
        right["background"] = sight.background == scene.background
    coloured = [(group, things) for group, things in pairs if group.colour is not None]
    if coloured:
        right["colour"] = all(things and all(thing.colour == group.colour for thing in things) for group, things in coloured)
    if scene.relation in ("left", "right", "above", "below"):
        right["relation"] = all(found) and _direction(found[0], found[1]) == scene.relation
    if any(group.count > 1 for group in scene.groups):
        right["count"] = all(len(things) == group.count for group, things in pairs)
    return {**right, "all": all(right.values())}


@dataclass(frozen=True)
class Share:
    """How many of `n` were right, with a 95 % interval. Nothing is known of none: `value` is None, the interval 0 to 1."""

    value: float | None
    low: float
    high: float
    n: int


def wilson(right: int, n: int) -> Share:
    """The score interval of a proportion (Wilson 1927), at 95 %."""
    if n == 0:
        return Share(None, 0.0, 1.0, 0)
    z, share = 1.959964, right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Share(share, max(0.0, middle - half), min(1.0, middle + half), n)


def shares(outcomes: Iterable[Mapping[str, bool]]) -> dict[str, Share]:
    """The share of each of `ATTRIBUTES` over many scenes, each counted where its caption speaks of it."""
    rows = list(outcomes)
    return {name: wilson(sum(row[name] for row in rows if name in row), sum(name in row for row in rows)) for name in ATTRIBUTES}


def _majority(votes: NDArray[np.integer]) -> int:
    return int(np.bincount(votes).argmax())


def _shared_out(seen: Sequence[Seen], groups: Sequence[Group]) -> list[list[Seen]]:
    """The things of each group. Groups of one name share theirs by colour; one of another colour goes where most are missing."""
    found: list[list[Seen]] = [[] for _ in groups]
    for thing in sorted(seen, key=lambda thing: all((thing.name, thing.colour) != (group.name, group.colour) for group in groups)):
        namesakes = [i for i, group in enumerate(groups) if group.name == thing.name]
        of_its_colour = [i for i in namesakes if groups[i].colour == thing.colour]
        if namesakes:
            found[max(of_its_colour or namesakes, key=lambda i: groups[i].count - len(found[i]))].append(thing)
    return found


def _direction(first: Sequence[Seen], second: Sequence[Seen]) -> str | None:
    """Where the first group lies as seen from the second: left, right, above, below, or None on a diagonal."""
    dx = sum(r.x for r in first) / len(first) - sum(r.x for r in second) / len(second)
    dy = sum(r.y for r in first) / len(first) - sum(r.y for r in second) / len(second)
    if abs(dx) == abs(dy):
        return None
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "above" if dy < 0 else "below"
