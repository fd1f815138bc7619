"""Score a model: let it paint held-out captions, and have the judge say what came out. Tasks other than words: `sumi.train.trials`."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sumi.nets.autoencoder import Autoencoder
from sumi.train.data import to_pictures, to_tensor
from sumi.train.judge import Judge
from sumi.train.measures import Figure, distances, mean, pooled
from sumi.train.metrics import Share, attributes, shares
from sumi.train.scenes import KINDS, Scene, World, render
from sumi.train.scenes.layout import arrange
from sumi.train.trials import REFERENCE, Columns, Painter, Settings, counter, distance, gathered, held_out, known, renders, table

ANEW = 2
"""The stream of random numbers by which scenes are arranged anew."""


@dataclass(frozen=True)
class Report:
    """What share of pictures has each attribute right, generated and, as the judge's ceiling, really rendered from the same scenes.

    Beside the attributes: `frechet`, how far they are, as a set, from real renders of as many other scenes (unless there is one picture
    alone); and of generated and real ones `diversity`, how unlike two pictures of one caption are (if any were made twice).
    """

    generated: dict[str, Figure]
    real: dict[str, Figure]
    kinds: dict[str, Share]
    """`all` of the generated pictures by kind of scene: single, pair, count, mixed."""
    autoencoder: dict[str, Figure]
    """The same as `real`, of real renders that went through the model's autoencoder: no model of its latents does better."""
    autoencoder_kinds: dict[str, Share]
    """The same as `kinds`, of those."""
    settings: dict[str, str | int | float | None]

    @property
    def columns(self) -> Columns:
        """The figures by column and row, those by kind among them."""
        kinds, coded = ({f"all, {kind}": share for kind, share in found.items()} for found in (self.kinds, self.autoencoder_kinds))
        return {"generated": {**self.generated, **kinds}, "autoencoder": {**self.autoencoder, **coded}, "real": self.real}

    def to_dict(self) -> dict[str, Any]:
        """Each figure's value, interval and n, and `kinds`; the same under `autoencoder`; `real`; and `settings`."""
        first_stage = {**table(self.autoencoder), "kinds": table(self.autoencoder_kinds)}
        more = {"kinds": table(self.kinds), "autoencoder": first_stage, "real": table(self.real), "settings": self.settings}
        return {**table(self.generated), **more}

    def to_json(self) -> str:
        """`to_dict`, as one JSON object."""
        return json.dumps(self.to_dict(), indent=2)


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
    twice: int = 0,
    vocabulary: str = "objects",
    kind: str | None = None,
    seed: int = 0,
    judge: Judge | None = None,
    settings: Settings | None = None,
    say: Callable[[int], None] | None = None,
) -> Report:
    """Score what `painter` makes of the captions of `count` held-out scenes of a vocabulary, or of one kind of them.

    Scene i is drawn from `seed` and i alone, so a larger count extends a smaller one. The first `twice` captions, at most all, are
    painted a second time after the last. `autoencoder` paints the same scenes as `reconstructions` does. `settings` of the painter go
    into the report; `say` is told how many pictures there are so far, by default on stderr. Raises `RequestError` if the judge (by
    default the one that comes with sumi) does not know all that the vocabulary can show.
    """
    world, judge = World(vocabulary), known(judge, vocabulary)
    scenes = held_out(world, kind, count, seed)
    asked = [*scenes, *scenes[:twice]]
    painted = gathered(painter(asked), len(asked), say or counter(len(asked)))
    pictures, again, real = painted[:count], painted[count:], renders(scenes)
    reference = pooled(judge, renders(held_out(world, kind, count, seed, REFERENCE)))

    def marked(pictures: NDArray[np.uint8]) -> list[dict[str, bool]]:
        return [attributes(sight, scene) for sight, scene in zip(judge.look(pictures), scenes, strict=True)]

    marks, first_stage = marked(pictures), None if autoencoder is None else np.stack(list(autoencoder(scenes)))
    generated, rendered = ({**shares(m), **distance(judge, p, reference)} for m, p in ((marks, pictures), (marked(real), real)))
    if len(again):
        anew = [arranged(scene, np.random.default_rng([seed, number, ANEW])) for number, scene in enumerate(asked[count:])]
        generated["diversity"] = mean(distances(judge, pictures[: len(again)], again))
        rendered["diversity"] = mean(distances(judge, real[: len(again)], renders(anew)))
    coded = [] if first_stage is None else marked(first_stage)
    return Report(
        generated=generated,
        kinds=_by_kind(marks, scenes),
        real=rendered,
        autoencoder={} if first_stage is None else {**shares(coded), **distance(judge, first_stage, reference)},
        autoencoder_kinds={} if first_stage is None else _by_kind(coded, scenes),
        settings={"count": count, "vocabulary": vocabulary, "kind": kind, "seed": seed, **(settings or {})},
    )


def arranged(scene: Scene, rng: np.random.Generator) -> Scene:
    """Another scene that the caption fits: the same things in the same colours, elsewhere and shaded otherwise."""
    colours = {thing.group: thing.colour for thing in scene.things}
    groups = [replace(group, colour=colours[number]) for number, group in enumerate(scene.groups)]
    things = arrange(rng, groups, scene.relation, free=scene.vocabulary == "world")
    return replace(scene, things=things, seed=int(rng.integers(2**31)))


def _by_kind(marks: Sequence[Mapping[str, bool]], scenes: Sequence[Scene]) -> dict[str, Share]:
    """`all` of each kind of scene that there is."""
    kinds = {kind: [mark for mark, scene in zip(marks, scenes, strict=True) if scene.kind == kind] for kind in KINDS}
    return {kind: shares(found)["all"] for kind, found in kinds.items() if found}
