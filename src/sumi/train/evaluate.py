"""Score a model: let it paint held-out captions, and have the judge say what came out."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from sumi.errors import RequestError
from sumi.train.judge import SHIPPED, Judge, scores
from sumi.train.metrics import Share, Sight, attributes, shares
from sumi.train.scenes import KINDS, Scene, World

Painter = Callable[[Sequence[Scene]], Iterable[NDArray[np.uint8]]]
"""Makes one picture [height width 3] for each scene's caption, in order; all of one size."""


@dataclass(frozen=True)
class Report:
    """What share of pictures has each attribute right, generated and, as the judge's ceiling, really rendered from the same scenes."""

    generated: dict[str, Share]
    real: dict[str, Share]
    kinds: dict[str, Share]
    """`all` of the generated pictures by kind of scene: single, pair, count, mixed."""
    settings: dict[str, str | int | float | None]

    def to_json(self) -> str:
        """One object: each attribute's value, low, high and n; the same under `real`; `kinds`; and `settings`."""
        tables = [{name: asdict(share) for name, share in table.items()} for table in (self.generated, self.real)]
        kinds = {kind: asdict(share) for kind, share in self.kinds.items()}
        return json.dumps({**tables[0], "real": tables[1], "kinds": kinds, "settings": self.settings}, indent=2)


def evaluate(
    painter: Painter,
    *,
    count: int = 1000,
    vocabulary: str = "objects",
    kind: str | None = None,
    seed: int = 0,
    judge: Judge | None = None,
    settings: Mapping[str, str | int | float | None] | None = None,
    say: Callable[[int], None] | None = None,
) -> Report:
    """Score what `painter` makes of the captions of `count` held-out scenes of a vocabulary, or of one kind of them.

    Scene i is drawn from `seed` and i alone, so a larger count extends a smaller one. `settings` of the painter go into the report;
    `say` is told how many pictures there are so far, by default on stderr. Raises `RequestError` if the judge (by default the one
    that comes with sumi) does not know all that the vocabulary can show.
    """
    world, judge = World(vocabulary), judge or Judge.load(SHIPPED)
    if unknown := [name for name in world.classes if name not in judge.labels.classes]:
        raise RequestError(f"the judge does not know {unknown[0]!r}: train one of {vocabulary!r}, or evaluate a smaller vocabulary")
    scenes = [world.sample(np.random.default_rng([seed, number]), kind, "held-out") for number in range(count)]
    sights = _judged(judge, painter(scenes), say or _counter(count))
    marks = [attributes(sight, scene) for sight, scene in zip(sights, scenes, strict=True)]
    by_kind = {name: [mark for mark, scene in zip(marks, scenes, strict=True) if scene.kind == name] for name in KINDS}
    return Report(
        generated=shares(marks),
        kinds={name: shares(found)["all"] for name, found in by_kind.items() if found},
        real=scores(judge, scenes),
        settings={"count": count, "vocabulary": vocabulary, "kind": kind, "seed": seed, **(settings or {})},
    )


def _judged(judge: Judge, pictures: Iterable[NDArray[np.uint8]], say: Callable[[int], None]) -> Iterator[Sight]:
    for number, picture in enumerate(pictures, start=1):
        yield from judge.look(picture[None])
        say(number)


def _counter(count: int) -> Callable[[int], None]:
    return lambda number: print(f"\r{number} of {count} pictures", end="" if number < count else "\n", file=sys.stderr, flush=True)
