"""A scene as data: what is said (groups, relation, background) and where each thing is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """What the caption says of things that it names together: `count` of the same name and colour."""

    name: str
    colour: str | None = None  # unsaid; the things have one all the same
    size: str | None = None  # "small", "big" or unsaid
    count: int = 1


@dataclass(frozen=True)
class Thing:
    """One thing in the picture: centre and side of its tight square box in fractions of the picture, angle in degrees."""

    name: str
    colour: str | None
    x: float
    y: float
    size: float
    angle: float = 0.0
    group: int = 0


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn. `things` are in painter's order: a later one is nearer."""

    vocabulary: str
    background: str
    groups: tuple[Group, ...]
    relation: str | None  # "left", "right", "above", "below" (of group 0 to group 1), "and", or None for one group
    things: tuple[Thing, ...]
    caption: str
    says_background: bool
    seed: int  # of what the scene does not say: shades, stars, waves

    @property
    def kind(self) -> str:
        """`single`, `pair`, `count` or `mixed`."""
        counted = any(group.count > 1 for group in self.groups)
        if self.relation:
            return "mixed" if counted else "pair"
        return "count" if counted else "single"
