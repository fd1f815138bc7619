"""One request with one, two or three of its fields varied: a sheet of pictures that differ in nothing else."""

import itertools
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from sumi.errors import RequestError
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.pipeline import Picture, generate
from sumi.request import FIELDS, Request, did_you_mean
from sumi.resolve.serves import DEPENDS
from sumi.store.sheets import sheet, stacked

if TYPE_CHECKING:
    from PIL.Image import Image

REPLACE = "replace"
"""An axis that is no field: what to look for in the prompt, and what to put in its place, the first being itself."""
Place: TypeAlias = tuple[int, int, int]

NOT_VARIED = ("count", "digests")


@dataclass(frozen=True)
class Axis:
    """A field of a request, or `REPLACE`, and the values it takes."""

    name: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if self.name != REPLACE and (self.name not in FIELDS or self.name in NOT_VARIED):
            names = [REPLACE, *(name for name in FIELDS if name not in NOT_VARIED)]
            raise RequestError(f"there is no axis {self.name!r}{did_you_mean(self.name, names)}: use {', '.join(names)}")
        if not self.values:
            raise RequestError(f"the axis {self.name} has no values: give some, as in {self.name}=...")

    @classmethod
    def read(cls, text: str) -> "Axis":
        """As a command line says it: `steps=5,10,20`; a bar parts values that have commas in them: `prompt=a cat, asleep|a dog`."""
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise RequestError(f"an axis is a field and its values, as in steps=5,10,20; got {text[:40]!r}")
        parts = [part.strip() for part in values.split("|" if "|" in values else ",")]
        if name == REPLACE or name not in FIELDS:
            return cls(name, tuple(parts))
        return cls(name, tuple(FIELDS[name].read(name, part) for part in parts if part or FIELDS[name].type is str))

    def applied(self, request: Request, value: Any) -> Request:
        """The request with the value. RequestError if it cannot have it."""
        if self.name != REPLACE:
            return replace(request, **{self.name: value})
        sought = str(self.values[0])
        if not sought or sought not in request.prompt:
            raise RequestError(f"the prompt does not say {sought!r}, which is to be replaced: let {REPLACE} begin with a part of it")
        return replace(request, prompt=request.prompt.replace(sought, str(value)))

    def label(self, value: Any) -> str:
        """What stands at the edge of the sheet."""
        shown = (
            ",".join(f"{number:g}" for number in value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else value
        )
        return str(shown) if self.name in (REPLACE, "prompt", "sampler", "spacing", "label") else f"{self.name} {shown}"


@dataclass(frozen=True, eq=False)
class Grid:
    """The sheet, what it was made of, and its pictures by the numbers of their values along x, y and z."""

    image: "Image"
    request: Request
    axes: tuple[Axis | None, ...]
    pictures: Mapping[Place, Picture]

    def texts(self) -> dict[str, str]:
        """What the sheet's file says of it: the request, and each axis with its values."""
        named = dict(zip("xyz", self.axes, strict=False))
        told = {letter: {"field": axis.name, "values": axis.values} for letter, axis in named.items() if axis is not None}
        return {"sumi-grid": json.dumps({"request": json.loads(self.request.to_json()), **told}, ensure_ascii=False)}


def grid(
    model: LatentDiffusion,
    request: Request,
    x: Axis,
    y: Axis | None = None,
    z: Axis | None = None,
    *,
    say: Callable[[int, int], None] = lambda done, total: None,
) -> Grid:
    """Pictures for each value of x (from left to right), of y (from top to bottom) and of z (sheet below sheet).

    All start from the same noise, unless an axis changes it; a seed that is left open is drawn once. `say` is told how many of how many
    are made. RequestError, before any is made, if a field is on two axes; or as `generate`.
    """
    given = [axis for axis in (x, y, z) if axis is not None]
    names = ["prompt" if axis.name == REPLACE else axis.name for axis in given]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise RequestError(f"{repeated} is on two axes: leave one of them out")
    if request.count != 1:
        raise RequestError("a grid has one picture in each place: leave count out, or let an axis be first=0,1,2")
    request = replace(request, seed=secrets.randbits(32) if request.seed is None else request.seed)
    columns, rows, sheets = (range(1 if axis is None else len(axis.values)) for axis in (x, y, z))
    wanted = {place: _at(request, (x, y, z), place) for place in itertools.product(columns, rows, sheets)}
    made: dict[Place, Picture] = {}
    for number, (place, asked) in enumerate(wanted.items(), start=1):
        (made[place],) = generate(model, asked)
        say(number, len(wanted))
    return Grid(_drawn(made, x, y, z), request, (x, y, z), made)


def _at(request: Request, axes: Sequence[Axis | None], place: Place) -> Request:
    """The request at a place. Axes that others depend on come first: a strength means nothing before there is an image."""
    pairs = [(axis, axis.values[number]) for axis, number in zip(axes, place, strict=True) if axis is not None]
    for axis, value in sorted(pairs, key=lambda pair: pair[0].name in DEPENDS):
        request = axis.applied(request, value)
    return request


def _drawn(made: Mapping[Place, Picture], x: Axis, y: Axis | None, z: Axis | None) -> "Image":
    above = [x.label(value) for value in x.values]
    beside = [] if y is None else [y.label(value) for value in y.values]
    pages = []
    for page in range(1 if z is None else len(z.values)):
        rows = [[made[i, j, page].image for i in range(len(above))] for j in range(max(1, len(beside)))]
        pages.append(sheet(rows, above, beside, "" if z is None else z.label(z.values[page])))
    return stacked(pages)
