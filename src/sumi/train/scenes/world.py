"""Scenes drawn at random: which things, where, and what a caption says of them; a tenth of all combinations is held out from training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from hashlib import blake2b
from typing import TypeVar

import numpy as np

from sumi.train.scenes.captions import caption, words
from sumi.train.scenes.layout import arrange
from sumi.train.scenes.render import blends
from sumi.train.scenes.scene import Group, Scene
from sumi.train.scenes.vocabulary import (
    BACKGROUND_COUNT,
    BACKGROUNDS,
    CLASS_COUNT,
    CLASSES,
    COLOURS,
    PLURAL_ONLY,
    SHAPES,
    TINTABLE,
    VOCABULARIES,
)

KINDS = {"single": 0.45, "pair": 0.3, "count": 0.15, "mixed": 0.1}
SPLITS = ("train", "held-out")

_MIX = {
    "shapes": {"shapes": 1.0},
    "objects": {"shapes": 1 / 3, "objects": 2 / 3},
    "world": {"shapes": 0.2, "objects": 0.3, "world": 0.5},
}
"""How much of a world is drawn by the rules of each vocabulary that it contains."""

_BACKGROUND_MIX = {
    "shapes": {"plain": 1.0},
    "objects": {"plain": 0.4, "gradient": 0.2, "landscape": 0.4},
    "world": {"plain": 0.25, "gradient": 0.15, "landscape": 0.25, "texture": 0.35},
}
"""How often each sort of background is behind a scene of each vocabulary."""

_BACKGROUNDS_BY_KIND = {
    kind: tuple(name for name, background in BACKGROUNDS.items() if background.kind == kind) for kind in _BACKGROUND_MIX["world"]
}
_GLYPHS = {rules: CLASSES[len(SHAPES) : CLASS_COUNT[rules]] for rules in VOCABULARIES}

_GLYPH = 0.85  # of the groups that may be glyphs; the others are shapes

_SALT = b"s1832"
"""Chosen so that of the small tables exactly a tenth is held out: 8 of 80 coloured shapes, at most two in any row or column."""


@cache
def _reserved(combination: tuple[str, ...]) -> bool:
    """A stable tenth of all combinations."""
    digest = blake2b("|".join(combination).encode(), digest_size=8, salt=_SALT).digest()
    return int.from_bytes(digest, "big") % 10 == 0


def combinations(groups: Sequence[Group], relation: str | None, background: str | None) -> Iterator[tuple[str, ...]]:
    """The (thing, background), (shape, colour) and (thing, thing, relation) combinations; mirrored relations are one."""
    for group in groups:
        if background:
            yield "background", group.name, background
        if group.colour and group.name in SHAPES:
            yield "colour", group.name, group.colour
    if relation:
        first, second = (group.name for group in groups)
        if relation in ("right", "below"):
            first, second, relation = second, first, {"right": "left", "below": "above"}[relation]
        elif relation == "and":
            first, second = sorted((first, second))
        yield "relation", first, second, relation


def held_out(groups: Sequence[Group], relation: str | None, background: str | None) -> bool:
    """Whether any of the combinations is kept from training."""
    return any(map(_reserved, combinations(groups, relation, background)))


T = TypeVar("T")


def _choose(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _weighted(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    marks = np.cumsum(list(weights.values()))
    return tuple(weights)[int(np.searchsorted(marks, rng.random() * marks[-1], side="right"))]


def _visible(group: Group, background: str) -> bool:
    if group.colour:
        return group.colour not in BACKGROUNDS[background].avoid
    return not blends(group.name, background)


class World:
    """An endless supply of scenes.

    vocabulary: `shapes`, `objects` or `world`; each also draws the scenes of those before it, and its tables begin with theirs.
    kinds: weights of `single`, `pair`, `count` and `mixed` scenes; default `KINDS`.
    """

    def __init__(self, vocabulary: str = "shapes", kinds: Mapping[str, float] | None = None) -> None:
        if vocabulary not in VOCABULARIES:
            raise ValueError(f"no vocabulary {vocabulary!r}; there are {', '.join(VOCABULARIES)}")
        self.vocabulary = vocabulary
        self.kinds = dict(KINDS if kinds is None else kinds)
        if unknown := self.kinds.keys() - KINDS.keys():
            raise ValueError(f"no kind {min(unknown)!r}; there are {', '.join(KINDS)}")
        self.classes = CLASSES[: CLASS_COUNT[vocabulary]]
        self.colours = tuple(COLOURS)
        self.backgrounds = tuple(BACKGROUNDS)[: BACKGROUND_COUNT[vocabulary]]
        self.words = words(vocabulary)

    def sample(self, rng: np.random.Generator, kind: str | None = None, split: str = "train") -> Scene:
        """A scene in which no combination is held out (`train`), or whose caption says at least one that is (`held-out`)."""
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}; there are {', '.join(SPLITS)}")
        if kind is not None and kind not in KINDS:
            raise ValueError(f"no kind {kind!r}; there are {', '.join(KINDS)}")
        rules = _weighted(rng, _MIX[self.vocabulary])
        kind = kind or _weighted(rng, self.kinds)
        while True:
            says_colours, says_background = rng.random(2) < (0.92, 0.9)
            background = _background(rng, rules)
            groups, relation = _subject(rng, rules, kind)
            said = groups if says_colours else _uncoloured(groups)
            if not all(_visible(group, background) for group in groups):
                continue
            if split == "train" and not held_out(groups, relation, background):
                break
            if split == "held-out" and held_out(said, relation, background if says_background else None):
                break
        return Scene(
            vocabulary=rules,
            background=background,
            groups=said,
            relation=relation,
            things=arrange(rng, groups, relation, free=rules == "world"),
            caption=caption(said, relation, background if says_background else None, rng),
            says_background=bool(says_background),
            seed=int(rng.integers(2**31)),
        )

    def describe(self, scene: Scene, rng: np.random.Generator | None = None) -> str:
        """Another wording of what the scene's caption says; without a generator the plainest one."""
        return caption(scene.groups, scene.relation, scene.background if scene.says_background else None, rng)


def _background(rng: np.random.Generator, rules: str) -> str:
    return _choose(rng, _BACKGROUNDS_BY_KIND[_weighted(rng, _BACKGROUND_MIX[rules])])


def _group(rng: np.random.Generator, rules: str, sizes: bool, count: int) -> Group:
    if rules == "shapes" or rng.random() >= _GLYPH:
        name = _choose(rng, SHAPES)
        colour: str | None = _choose(rng, tuple(COLOURS))
    else:
        name = _choose(rng, _GLYPHS[rules])
        while count > 1 and name in PLURAL_ONLY:
            name = _choose(rng, _GLYPHS[rules])
        colour = _choose(rng, tuple(COLOURS)) if name in TINTABLE and rng.random() < 0.6 else None
    size = _choose(rng, (None, None, "small", "big")) if sizes else None
    return Group(name, colour, size, count)


def _distinct(a: Group, b: Group) -> bool:
    """Whether the words tell the groups apart: a thing in its own colour is not told from a tinted one."""
    return a.name != b.name or (None not in (a.colour, b.colour) and a.colour != b.colour)


def _uncoloured(groups: tuple[Group, ...]) -> tuple[Group, ...]:
    """The groups without the colours of their shapes, if they can still be told apart."""
    if len({group.name for group in groups}) < len(groups):
        return groups
    return tuple(replace(group, colour=None) if group.name in SHAPES else group for group in groups)


def _subject(rng: np.random.Generator, rules: str, kind: str) -> tuple[tuple[Group, ...], str | None]:
    """Groups with all their colours, and their relation."""
    if kind == "single":
        return (_group(rng, rules, True, 1),), None
    if kind == "count":
        return (_group(rng, rules, False, int(rng.integers(2, 4))),), None
    relations = ("left", "right", "above", "below", "and")
    counts = (1, 1) if kind == "pair" else _choose(rng, ((2, 1), (1, 2), (3, 1), (1, 3), (2, 2), (2, 3)))
    while True:
        groups = tuple(_group(rng, rules, kind == "pair", count) for count in counts)
        if _distinct(*groups):
            return groups, _choose(rng, relations if kind == "pair" else relations[:4])
