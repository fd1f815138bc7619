"""What a model can be asked for beside words, and how well it does it: a class, anything, what belongs in a hole, where things are,
a larger picture.

A task asks a model about held-out scenes and scores what it makes; real renders of the scenes, and what the model's autoencoder makes of
these, are scored likewise. Names of tasks are those of `sumi eval --task`; words alone are `sumi.train.evaluate`.

Legend: N scenes, S height and width of their pictures.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from sumi.config import ModelSpec
from sumi.errors import RequestError
from sumi.models.latent_diffusion import Inputs
from sumi.store.composite import composite
from sumi.store.images import from_pixels
from sumi.train.contexts import smaller
from sumi.train.data import to_pictures, to_tensor
from sumi.train.judge import SHIPPED, Judge
from sumi.train.measures import Distance, Figure, distances, diversity, frechet, mean, mean_iou, pooled, psnr
from sumi.train.metrics import Labels, Share, Sight, attributes, shares, wilson
from sumi.train.scenes import Group, Scene, World, class_label, render, segmentation
from sumi.train.scenes.vocabulary import CLASS_COUNT, CLASSES
from sumi.train.spoil import CELLS

Pictures: TypeAlias = NDArray[np.uint8]
"""[N S S 3]."""
Painter = Callable[[Sequence[Scene]], Iterable[NDArray[np.uint8]]]
"""Makes one picture [height width 3] for each scene's caption, in order; all of one size."""
Maker = Callable[[Sequence[str], Inputs], Iterable[NDArray[np.uint8]]]
"""Makes one picture [S S 3] for each prompt, in order, from the row of the inputs that goes with it."""
Row: TypeAlias = dict[str, Figure]
Columns: TypeAlias = dict[str, Row]
Settings: TypeAlias = Mapping[str, str | int | float | None]

MARGIN = 2 / 64
"""How far the hole reaches beyond the box of what it hides, in pictures: no edge of it is left to tell."""
REFERENCE = 1
"""The stream of scenes that sets of pictures are held against."""


@dataclass(frozen=True)
class Scores:
    """What came of a task: figures by name, of the generated pictures and, in further columns, of what they are held against."""

    columns: Columns
    settings: dict[str, str | int | float | None]

    def to_dict(self) -> dict[str, Any]:
        """Each column's figures with their intervals and counts, and `settings`. What is not finite is None."""
        return {**{name: table(row) for name, row in self.columns.items()}, "settings": self.settings}

    def to_json(self) -> str:
        """`to_dict`, as one JSON object."""
        return json.dumps(self.to_dict(), indent=2)


@dataclass(frozen=True, eq=False)
class Trial:
    """Held-out scenes, who makes pictures of them and who judges these."""

    scenes: Sequence[Scene]
    real: Pictures
    encoded: Pictures | None
    """What the model's autoencoder makes of `real`: no model of its latents does better."""
    reference: NDArray[np.float64]
    """Features of real renders of as many other scenes, [N D]."""
    judge: Judge
    maker: Maker
    say: Callable[[int], None]

    @property
    def captions(self) -> list[str]:
        return [scene.caption for scene in self.scenes]

    @property
    def wordless(self) -> list[str]:
        return [""] * len(self.scenes)

    def made(self, prompts: Sequence[str], inputs: Inputs) -> Pictures:
        """What the model makes of its inputs, a row for each scene."""
        return gathered(self.maker(prompts, inputs), len(prompts), self.say)

    def columns(self, score: Callable[[Pictures], Row], generated: Mapping[str, Pictures]) -> Columns:
        """The scores of the pictures that were made, and of those that they are held against."""
        first_stage = {} if self.encoded is None else {"autoencoder": self.encoded}
        return {name: score(pictures) for name, pictures in {**generated, **first_stage, "real": self.real}.items()}

    def sights(self, pictures: Pictures) -> list[tuple[Sight, Scene]]:
        """What the judge saw in each picture, and what is to be there."""
        return list(zip(self.judge.look(pictures), self.scenes, strict=True))

    def frechet(self, pictures: Pictures) -> Row:
        """How far they are, as a set, from real renders of other scenes; nothing of a single picture."""
        return distance(self.judge, pictures, self.reference)


def score(
    task: str,
    maker: Maker,
    *,
    autoencoder: Painter | None = None,
    size: int = 64,
    count: int = 1000,
    vocabulary: str = "objects",
    kind: str | None = None,
    seed: int = 0,
    judge: Judge | None = None,
    settings: Settings | None = None,
    say: Callable[[int], None] | None = None,
) -> Scores:
    """Score what `maker` makes, `size` pixels wide, in one of `TASKS`, of `count` held-out scenes of a vocabulary, or of one kind of them.

    Other arguments as of `sumi.train.evaluate.evaluate`. RequestError if the judge does not know all that the vocabulary can show;
    ValueError if scenes cannot be drawn in that size, or if their kind is not of the task.
    """
    if task == "label" and kind not in (None, "single"):
        raise ValueError(f"labels are of single things, not of {kind!r}")
    world, judge = World(vocabulary), known(judge, vocabulary)
    kind = "single" if task == "label" else kind
    scenes = held_out(world, kind, count, seed)
    trial = Trial(
        scenes,
        renders(scenes, size),
        None if autoencoder is None else np.stack(list(autoencoder(scenes))),
        pooled(judge, renders(held_out(world, kind, count, seed, REFERENCE), size)),
        judge,
        maker,
        say or counter(count, task),
    )
    made = {"task": task, "count": count, "vocabulary": vocabulary, "kind": kind, "seed": seed, **(settings or {})}
    return Scores(TASKS[task](trial), made)


def lacks(spec: ModelSpec, task: str, vocabulary: str, kind: str | None = None) -> str | None:
    """Why a model of this spec cannot be given a task, as one line; None if it can."""
    classes, given, (height, width) = CLASS_COUNT[vocabulary], GIVEN[task], spec.size
    if height % 64 and 64 % height:
        return f"scenes are drawn 64 pixels high, or a multiple or a divisor of it, and pictures of {spec.name} are {height}"
    if task != "text" and height != width:
        return f"scenes are square, and pictures of {spec.name} are not"
    if task == "label" and kind not in (None, "single"):
        return f"a label names a single thing, and scenes of the kind {kind!r} have more"
    few = f"knows fewer classes than the {classes} of {vocabulary}: evaluate a smaller vocabulary"
    if task == "text" and spec.text is None:
        return f"{spec.name} takes no words"
    if task == "label" and spec.label is None:
        return f"{spec.name} takes no labels"
    if missing := [name for name in given if name not in spec.concat]:
        return f"{spec.name} takes no {missing[0]}"
    if task == "label" and spec.label is not None and spec.label.classes <= classes:  # the last is no label
        return f"{spec.name} {few}"
    if task == "map" and spec.map is not None and spec.map.classes <= classes:  # the first is the background
        return f"{spec.name} {few}"
    if not spec.optional and (more := [name for name in spec.concat if name not in given]):
        return f"{spec.name} makes nothing without a {more[0]}"
    if not spec.optional and spec.label is not None and task != "label":
        return f"{spec.name} makes nothing without a label"
    return None


def held_out(world: World, kind: str | None, count: int, seed: int, *stream: int) -> list[Scene]:
    """Scenes that training never saw. Scene i is drawn from the seed, i and the stream alone: a larger count extends a smaller one."""
    return [world.sample(np.random.default_rng([seed, number, *stream]), kind, "held-out") for number in range(count)]


def renders(scenes: Sequence[Scene], size: int = 64) -> Pictures:
    """Real pictures of scenes."""
    return np.stack([render(scene, size) for scene in scenes])


def gathered(pictures: Iterable[NDArray[np.uint8]], count: int, say: Callable[[int], None]) -> Pictures:
    """`count` pictures as they come, each told by its number. ValueError if there are more or fewer."""
    found = []
    for number, (picture, _) in enumerate(zip(pictures, range(count), strict=True), start=1):
        found.append(picture)
        say(number)
    return np.stack(found)


def distance(judge: Judge, pictures: Pictures, reference: NDArray[np.float64]) -> Row:
    """The row of the Fréchet distance to a reference; none of a single picture, which varies in nothing."""
    return {"frechet": Distance(frechet(pooled(judge, pictures), reference), len(pictures))} if len(pictures) > 1 else {}


def known(judge: Judge | None, vocabulary: str) -> Judge:
    """A judge, by default the one that comes with sumi. RequestError if it does not know all that the vocabulary can show."""
    judge = judge or Judge.load(SHIPPED)
    if unknown := [name for name in World(vocabulary).classes if name not in judge.labels.classes]:
        raise RequestError(f"the judge does not know {unknown[0]!r}: train one of {vocabulary!r}, or evaluate a smaller vocabulary")
    return judge


def table(row: Mapping[str, Figure]) -> dict[str, dict[str, float | int | None]]:
    """Figures as JSON has them: what is not finite is None."""
    fields = {name: asdict(figure) for name, figure in row.items()}
    return {name: {key: v if v is None or math.isfinite(v) else None for key, v in values.items()} for name, values in fields.items()}


def counter(count: int, task: str = "") -> Callable[[int], None]:
    """Tells on stderr how many pictures there are."""
    of = f"of {count} pictures" + (f" ({task})" if task else "")
    return lambda number: print(f"\r{number} {of}", end="" if number < count else "\n", file=sys.stderr, flush=True)


def _label(trial: Trial) -> Columns:
    """A label, no words. class: a thing of it is there; alone: nothing else is; diversity: between pictures of one label."""
    labels = [class_label(scene) for scene in trial.scenes]

    def scored(pictures: Pictures) -> Row:
        right = shares(attributes(sight, _named_alone(scene)) for sight, scene in trial.sights(pictures))
        named: Row = {"class": right["object"], "alone": right["extra"], "all": right["all"], **trial.frechet(pictures)}
        return named | _diversity(trial, pictures, labels)

    return trial.columns(scored, {"generated": trial.made(trial.wordless, Inputs(labels=torch.tensor(labels)))})


def _unconditional(trial: Trial) -> Columns:
    """Nothing is asked for. diversity: between any two pictures."""

    def scored(pictures: Pictures) -> Row:
        return trial.frechet(pictures) | _diversity(trial, pictures, trial.wordless)

    return trial.columns(scored, {"generated": trial.made(trial.wordless, Inputs())})


def _inpaint(trial: Trial) -> Columns:
    """A thing is hidden, and the caption says what belongs there.

    completed: a thing as hidden, of the colour that the caption says if any, is in the hole; kept: no pixel outside it has changed;
    and the attributes of the whole picture.
    """
    hidden = [hiding(scene, trial.real.shape[1]) for scene in trial.scenes]
    masks = torch.from_numpy(np.stack([mask for _, mask in hidden]))[:, None].float()

    def scored(pictures: Pictures) -> Row:
        joined = np.stack([_joined(*triple) for triple in zip(trial.real, pictures, masks, strict=True)])
        looks = trial.sights(joined)
        completed = [_completed(sight, scene, *where) for (sight, scene), where in zip(looks, hidden, strict=True)]
        kept = [bool((now == then)[~mask].all()) for now, then, (_, mask) in zip(joined, trial.real, hidden, strict=True)]
        right = shares(attributes(sight, scene) for sight, scene in looks)
        return {"completed": _share(completed), "kept": _share(kept), **right, **trial.frechet(joined)}

    inputs = Inputs(image=to_tensor(trial.real), mask=masks)
    return trial.columns(scored, {"generated": trial.made(trial.captions, inputs)})


def _map(trial: Trial) -> Columns:
    """What is where, pixel by pixel, with words and without. iou: mean IoU of the map that the judge sees and the one given, in cells."""
    maps = torch.from_numpy(np.stack([segmentation(scene, trial.real.shape[1]) for scene in trial.scenes]).astype(np.int64))
    given = [segmentation(scene, CELLS).astype(np.int64) for scene in trial.scenes]
    numbers = numbering(trial.judge.labels)

    def scored(pictures: Pictures) -> Row:
        seen = numbers[trial.judge.segment(pictures)]
        return {"iou": mean([mean_iou(*pair) for pair in zip(seen, given, strict=True)]), **trial.frechet(pictures)}

    asked = {"generated": trial.captions, "without words": trial.wordless}
    return trial.columns(scored, {name: trial.made(prompts, Inputs(map=maps)) for name, prompts in asked.items()})


def _low_res(trial: Trial) -> Columns:
    """A picture a quarter as large, no words, beside bicubic interpolation of it.

    psnr: in decibels; perceptual: distance from the real picture; gain: how much nearer to it than the bicubic one, which is not 0 by
    chance if its interval does not hold 0.
    """
    small = to_tensor([smaller(picture) for picture in trial.real])
    # With antialiasing PyTorch's kernel is that of Pillow and MATLAB (a = -0.5), without it another (a = -0.75).
    larger = F.interpolate(small, trial.real.shape[1:3], mode="bicubic", antialias=True)
    bicubic = to_pictures(larger)
    plain = distances(trial.judge, bicubic, trial.real)

    def scored(pictures: Pictures) -> Row:
        away = distances(trial.judge, pictures, trial.real)
        return {"psnr": mean(psnr(pictures, trial.real)), "perceptual": mean(away), "gain": mean(plain - away), **trial.frechet(pictures)}

    generated = trial.made(trial.wordless, Inputs(low_res=small))
    columns = trial.columns(scored, {"generated": generated, "bicubic": bicubic})
    return columns | {"real": trial.frechet(trial.real)}


TASKS: dict[str, Callable[[Trial], Columns]] = {
    "label": _label,
    "unconditional": _unconditional,
    "inpaint": _inpaint,
    "map": _map,
    "low_res": _low_res,
}
GIVEN: dict[str, tuple[str, ...]] = {
    "text": (),
    "label": (),
    "unconditional": (),
    "inpaint": ("mask", "masked_image"),
    "map": ("map",),
    "low_res": ("low_res",),
}
"""What lies beside the noised latent in each task: entries of `ModelSpec.concat`."""


def hiding(scene: Scene, size: int) -> tuple[int, NDArray[np.bool_]]:
    """The number of one of a scene's things, and a hole [size size] over all of its box."""
    number = scene.seed % len(scene.things)
    thing = scene.things[number]
    reach = thing.size / 2 + MARGIN
    mask = np.zeros((size, size), np.bool_)
    rows, columns = (slice(max(0, math.floor((at - reach) * size)), math.ceil((at + reach) * size)) for at in (thing.y, thing.x))
    mask[rows, columns] = True
    return number, mask


def numbering(labels: Labels) -> NDArray[np.int64]:
    """For each of a judge's kinds, its number in maps of scenes: class id + 1; of what it does not know, one that no class has."""
    return np.array([0, *(CLASSES.index(name) + 1 for name in labels.classes), len(CLASSES) + 1])


def _joined(original: NDArray[np.uint8], made: NDArray[np.uint8], mask: torch.Tensor) -> NDArray[np.uint8]:
    """The made picture in the hole, the original around it, as a picture that is written to a file is put together."""
    return np.asarray(composite(from_pixels(original), from_pixels(made), mask[None]))


def _completed(sight: Sight, scene: Scene, number: int, mask: NDArray[np.bool_]) -> bool:
    """Whether the judge saw, with its centre in the hole, a thing such as the one that was hidden there."""
    thing = scene.things[number]
    colour = scene.groups[thing.group].colour
    cell = len(mask) / CELLS
    return any(
        seen.name == thing.name and colour in (None, seen.colour) and mask[int((seen.y + 0.5) * cell), int((seen.x + 0.5) * cell)]
        for seen in sight.things
    )


def _named_alone(scene: Scene) -> Scene:
    """The scene as a label describes it: the name, and nothing else."""
    return replace(scene, groups=(Group(scene.groups[0].name),), says_background=False)


def _share(right: Sequence[bool]) -> Share:
    return wilson(sum(right), len(right))


def _diversity(trial: Trial, pictures: Pictures, asked: Sequence[str | int]) -> Row:
    found = diversity(trial.judge, pictures, asked)
    return {} if found is None else {"diversity": found}
