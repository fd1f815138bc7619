"""Score a model: let it paint held-out captions, and have the judge say what came out."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sumi.errors import RequestError
from sumi.nets.autoencoder import Autoencoder
from sumi.train.data import to_pictures, to_tensor
from sumi.train.judge import SHIPPED, Judge, scores
from sumi.train.metrics import Share, attributes, shares
from sumi.train.scenes import KINDS, Scene, World, render

Painter = Callable[[Sequence[Scene]], Iterable[NDArray[np.uint8]]]
"""Makes one picture [height width 3] for each scene's caption, in order; all of one size."""


@dataclass(frozen=True)
class Report:
    """What share of pictures has each attribute right, generated and, as the judge's ceiling, really rendered from the same scenes."""

    generated: dict[str, Share]
    real: dict[str, Share]
    kinds: dict[str, Share]
    """`all` of the generated pictures by kind of scene: single, pair, count, mixed."""
    autoencoder: dict[str, Share]
    """The same as `real`, of real renders that went through the model's autoencoder: no model of its latents does better."""
    autoencoder_kinds: dict[str, Share]
    """The same as `kinds`, of those."""
    settings: dict[str, str | int | float | None]

    def to_json(self) -> str:
        """One object: each attribute's value, low, high and n, and `kinds`; the same under `autoencoder`; `real`; and `settings`."""

        def table(shares: Mapping[str, Share]) -> dict[str, dict[str, float | int | None]]:
            return {name: asdict(share) for name, share in shares.items()}

        first_stage = {**table(self.autoencoder), "kinds": table(self.autoencoder_kinds)}
        more = {"kinds": table(self.kinds), "autoencoder": first_stage, "real": table(self.real), "settings": self.settings}
        return json.dumps({**table(self.generated), **more}, indent=2)


def reconstructions(autoencoder: Autoencoder, size: int = 64) -> Painter:
    """What an autoencoder makes of real renders, `size` pixels wide: the best that a model of its latents can do."""

    def painter(scenes: Sequence[Scene]) -> Iterator[NDArray[np.uint8]]:
        for first in range(0, len(scenes), 64):
            pictures = to_tensor([render(scene, size) for scene in scenes[first : first + 64]])
            pictures = pictures.to(next(autoencoder.parameters(), pictures))  # there are none where latents are pixels
            with torch.inference_mode():
                yield from to_pictures(autoencoder.decode(autoencoder.encode(pictures).mode()))

    return painter


def evaluate(
    painter: Painter,
    *,
    autoencoder: Painter | None = None,
    count: int = 1000,
    vocabulary: str = "objects",
    kind: str | None = None,
    seed: int = 0,
    judge: Judge | None = None,
    settings: Mapping[str, str | int | float | None] | None = None,
    say: Callable[[int], None] | None = None,
) -> Report:
    """Score what `painter` makes of the captions of `count` held-out scenes of a vocabulary, or of one kind of them.

    Scene i is drawn from `seed` and i alone, so a larger count extends a smaller one. `autoencoder` paints the same scenes
    as `reconstructions` does. `settings` of the painter go into the report;
    `say` is told how many pictures there are so far, by default on stderr. Raises `RequestError` if the judge (by default the one
    that comes with sumi) does not know all that the vocabulary can show.
    """
    world, judge = World(vocabulary), judge or Judge.load(SHIPPED)
    if unknown := [name for name in world.classes if name not in judge.labels.classes]:
        raise RequestError(f"the judge does not know {unknown[0]!r}: train one of {vocabulary!r}, or evaluate a smaller vocabulary")
    scenes = [world.sample(np.random.default_rng([seed, number]), kind, "held-out") for number in range(count)]
    generated = _marks(judge, painter(scenes), scenes, say or _counter(count))
    first_stage = [] if autoencoder is None else _marks(judge, autoencoder(scenes), scenes, lambda number: None)
    return Report(
        generated=shares(generated),
        kinds=_by_kind(generated, scenes),
        real=scores(judge, scenes),
        autoencoder=shares(first_stage) if first_stage else {},
        autoencoder_kinds=_by_kind(first_stage, scenes) if first_stage else {},
        settings={"count": count, "vocabulary": vocabulary, "kind": kind, "seed": seed, **(settings or {})},
    )


def _marks(
    judge: Judge, pictures: Iterable[NDArray[np.uint8]], scenes: Sequence[Scene], say: Callable[[int], None]
) -> list[dict[str, bool]]:
    """What is right in each picture of each scene."""
    marks = []
    for number, (picture, scene) in enumerate(zip(pictures, scenes, strict=True), start=1):
        (sight,) = judge.look(picture[None])
        marks.append(attributes(sight, scene))
        say(number)
    return marks


def _by_kind(marks: Sequence[Mapping[str, bool]], scenes: Sequence[Scene]) -> dict[str, Share]:
    """`all` of each kind of scene that there is."""
    kinds = {kind: [mark for mark, scene in zip(marks, scenes, strict=True) if scene.kind == kind] for kind in KINDS}
    return {kind: shares(found)["all"] for kind, found in kinds.items() if found}


def _counter(count: int) -> Callable[[int], None]:
    return lambda number: print(f"\r{number} of {count} pictures", end="" if number < count else "\n", file=sys.stderr, flush=True)
