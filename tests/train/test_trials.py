"""Tasks end to end, with makers that are known: a perfect one, and ones whose faults each cost their own score."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sumi.config import LabelConfig, MapConfig, ModelSpec
from sumi.errors import RequestError
from sumi.models.latent_diffusion import Inputs
from sumi.models.zoo import LDM_IMAGENET, LDM_INPAINT, LDM_SEMANTIC, SD15, SD15_INPAINT, SDXL
from sumi.train.data import to_pictures
from sumi.train.judge import SHIPPED, Judge, JudgeConfig, labels_of
from sumi.train.measures import mean, mean_iou
from sumi.train.metrics import ATTRIBUTES, Labels, wilson
from sumi.train.scenes import Scene, World, class_label, render, segmentation
from sumi.train.scenes.vocabulary import CLASSES
from sumi.train.trials import GIVEN, REFERENCE, TASKS, Maker, Scores, gathered, held_out, hiding, lacks, numbering, score

WORLD = World("objects")


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load(SHIPPED)


def scored(task: str, maker: Maker, judge: Judge, count: int = 24, **options: object) -> Scores:
    return score(task, maker, count=count, judge=judge, say=lambda number: None, **options)  # type: ignore[arg-type]


def scenes_of(task: str, count: int = 24) -> list[Scene]:
    return held_out(WORLD, "single" if task == "label" else None, count, 0)


def perfect(task: str, count: int = 24) -> Maker:
    return lambda prompts, inputs: [render(scene) for scene in scenes_of(task, count)]


class Asked:
    """What a task asks for, each time that it does."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], Inputs]] = []

    def __call__(self, prompts: Sequence[str], inputs: Inputs) -> Iterable[NDArray[np.uint8]]:
        self.calls.append((list(prompts), inputs))
        return [np.zeros((64, 64, 3), np.uint8) for _ in prompts]


@pytest.mark.parametrize("task", TASKS)
def test_real_renders_score_as_real(task: str, judge: Judge) -> None:
    columns = scored(task, perfect(task), judge).columns
    assert {name: columns["generated"][name] for name in columns["real"]} == columns["real"]
    assert columns["real"]["frechet"].n == 24


@pytest.mark.parametrize("task", TASKS)
def test_a_report_is_json(task: str, judge: Judge) -> None:
    report = scored(task, perfect(task, 3), judge, 3, settings={"steps": 4})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    table = json.loads(report.to_json(), parse_constant=refuse)
    kind = "single" if task == "label" else None
    assert table.pop("settings") == {"task": task, "count": 3, "vocabulary": "objects", "kind": kind, "seed": 0, "steps": 4}
    assert table.keys() == report.columns.keys()
    for row in table.values():
        for name, figure in row.items():
            assert figure.keys() == ({"value", "n"} if name == "frechet" else {"value", "low", "high", "n"})


def test_a_label_is_asked_for_without_words(judge: Judge) -> None:
    asked = Asked()
    scored("label", asked, judge)
    [(prompts, inputs)] = asked.calls
    assert set(prompts) == {""} and inputs.labels is not None
    assert inputs.labels.tolist() == [class_label(scene) for scene in scenes_of("label")]
    assert all(scene.kind == "single" for scene in scenes_of("label"))


def test_a_label_is_obeyed_by_things_of_its_class_alone(judge: Judge) -> None:
    scenes = scenes_of("label")
    rolled = [render(scene) for scene in scenes[1:] + scenes[:1]]
    right = sum(a.groups[0].name == b.groups[0].name for a, b in zip(scenes, scenes[1:] + scenes[:1], strict=True))
    generated = scored("label", lambda prompts, inputs: rolled, judge).columns["generated"]
    assert generated["class"] == generated["alone"] == generated["all"] == wilson(right, 24)
    pairs = [render(replace(scene, things=(*beside(scene), scene.things[0]))) for scene in scenes]
    generated = scored("label", lambda prompts, inputs: pairs, judge).columns["generated"]
    assert (generated["class"].value or 0) > 0.9 and (generated["alone"].value or 0) < 0.3


def beside(scene: Scene) -> list[object]:
    """Another thing in the corner that is furthest from the scene's own."""
    thing = scene.things[0]
    return [
        replace(
            thing,
            name="cat" if thing.name != "cat" else "car",
            colour=None,
            size=0.25,
            x=0.15 if thing.x > 0.5 else 0.85,
            y=0.15 if thing.y > 0.5 else 0.85,
        )
    ]


def test_unconditional_asks_for_nothing(judge: Judge) -> None:
    asked = Asked()
    columns = scored("unconditional", asked, judge).columns
    [(prompts, inputs)] = asked.calls
    assert prompts == [""] * 24 and all(value is None for value in vars(inputs).values())
    assert columns["generated"]["diversity"] == mean([0.0] * 12)
    assert columns["real"]["diversity"].value > 1 and columns["generated"]["frechet"].value > 2 * columns["real"]["frechet"].value


@pytest.mark.parametrize("vocabulary", ["shapes", "objects", "world"])
@pytest.mark.parametrize("size", [64, 128])
def test_a_hole_hides_all_of_a_thing(vocabulary: str, size: int) -> None:
    for scene in held_out(World(vocabulary), None, 40, 5):
        number, mask = hiding(scene, size)
        without = replace(scene, things=tuple(thing for i, thing in enumerate(scene.things) if i != number))
        changed = (render(scene, size) != render(without, size)).any(-1)
        assert changed[mask].any() and not changed[~mask].any()
        assert mask.shape == (size, size) and mask.mean() < 0.9


def test_inpainting_is_asked_with_the_picture_the_hole_and_the_caption(judge: Judge) -> None:
    asked = Asked()
    scored("inpaint", asked, judge)
    [(prompts, inputs)] = asked.calls
    scenes = scenes_of("inpaint")
    assert prompts == [scene.caption for scene in scenes] and inputs.image is not None and inputs.mask is not None
    assert (to_pictures(inputs.image) == np.stack([render(scene) for scene in scenes])).all()
    assert inputs.mask.shape == (24, 1, 64, 64) and inputs.mask.dtype == torch.float32
    assert (inputs.mask[:, 0].numpy() == np.stack([hiding(scene, 64)[1] for scene in scenes])).all()


def holed(change: Callable[[NDArray[np.uint8], NDArray[np.bool_]], None]) -> Maker:
    """Real renders, each changed."""

    def maker(prompts: Sequence[str], inputs: Inputs) -> list[NDArray[np.uint8]]:
        found = [render(scene).copy() for scene in scenes_of("inpaint")]
        for picture, scene in zip(found, scenes_of("inpaint"), strict=True):
            change(picture, hiding(scene, 64)[1])
        return found

    return maker


def test_what_is_made_outside_the_hole_is_not_looked_at(judge: Judge) -> None:
    def change(picture: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
        picture[~mask] = 0

    columns = scored("inpaint", holed(change), judge).columns
    assert columns["generated"] == columns["real"]
    assert columns["real"]["kept"].value == 1 and (columns["real"]["completed"].value or 0) > 0.9


def test_a_hole_left_empty_is_not_completed(judge: Judge) -> None:
    def change(picture: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
        picture[mask] = 127

    generated = scored("inpaint", holed(change), judge).columns["generated"]
    assert (generated["completed"].value, generated["all"].value, generated["kept"].value) == (0, 0, 1)
    assert generated.keys() == {"completed", "kept", *ATTRIBUTES, "frechet"}


def test_the_same_thing_elsewhere_does_not_complete_a_hole(judge: Judge) -> None:
    """Where two of a name are asked for and one is hidden, the other is still seen."""
    scenes = held_out(WORLD, "count", 12, 0)

    def maker(prompts: Sequence[str], inputs: Inputs) -> list[NDArray[np.uint8]]:
        found = []
        for scene in scenes:
            number, _ = hiding(scene, 64)
            found.append(render(replace(scene, things=tuple(thing for i, thing in enumerate(scene.things) if i != number))))
        return found

    generated = scored("inpaint", maker, judge, 12, kind="count").columns["generated"]
    assert generated["completed"].value == 0 and (generated["object"].value or 0) > 0.9 and generated["count"].value == 0


def test_a_map_is_given_with_words_and_without(judge: Judge) -> None:
    asked = Asked()
    columns = scored("map", asked, judge).columns
    scenes = scenes_of("map")
    assert [prompts for prompts, _ in asked.calls] == [[scene.caption for scene in scenes], [""] * 24]
    for _, inputs in asked.calls:
        assert inputs.map is not None and inputs.map.dtype == torch.int64
        assert (inputs.map.numpy() == np.stack([segmentation(scene, 64) for scene in scenes])).all()
    assert columns.keys() == {"generated", "without words", "real"}


def test_a_map_is_obeyed_by_where_things_are(judge: Judge) -> None:
    real = np.stack([render(scene) for scene in scenes_of("map")])

    def maker(prompts: Sequence[str], inputs: Inputs) -> NDArray[np.uint8]:
        return real if prompts[0] else real[:, :, ::-1]

    columns = scored("map", maker, judge).columns
    assert columns["generated"] == columns["real"] and columns["real"]["iou"].value > 0.85
    assert columns["without words"]["iou"].value < 0.7 * columns["real"]["iou"].value


def test_the_numbers_of_a_judge_are_those_of_maps() -> None:
    labels = labels_of(WORLD)
    assert numbering(labels).tolist() == [*range(75), len(CLASSES) + 1]
    swapped = Labels(("cat", "circle"), (), ())
    assert numbering(swapped).tolist() == [0, CLASSES.index("cat") + 1, 1, len(CLASSES) + 1]
    scene = WORLD.sample(np.random.default_rng(0))
    cells = segmentation(scene, 16).astype(np.int64)
    assert mean_iou(numbering(labels)[cells], cells) == 1  # a judge that sees what there is


def test_enlarging_is_asked_of_a_quarter_and_held_against_pillows_bicubic(judge: Judge) -> None:
    asked = Asked()
    columns = scored("low_res", asked, judge).columns
    [(prompts, inputs)] = asked.calls
    assert set(prompts) == {""} and inputs.low_res is not None and inputs.low_res.shape == (24, 3, 16, 16)
    larger = [np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC)) for small in to_pictures(inputs.low_res)]
    theirs = scored("low_res", lambda prompts, inputs: larger, judge).columns["generated"]
    for name in ("psnr", "perceptual", "frechet"):
        assert theirs[name].value == pytest.approx(columns["bicubic"][name].value, rel=0.01)
    assert columns["bicubic"]["gain"] == mean([0.0] * 24)


def test_enlarging_gains_what_bicubic_lacks(judge: Judge) -> None:
    columns = scored("low_res", perfect("low_res"), judge).columns
    best, bicubic = columns["generated"], columns["bicubic"]
    assert best["perceptual"].value == pytest.approx(0, abs=1e-6) and best["psnr"].value == np.inf
    assert best["gain"].value == pytest.approx(bicubic["perceptual"].value) and columns["real"].keys() == {"frechet"}
    worse = scored("low_res", Asked(), judge).columns["generated"]["gain"]
    assert worse.value < 0 < bicubic["psnr"].value  # black is further away


def test_an_autoencoder_is_scored_on_the_same_scenes(judge: Judge) -> None:
    columns = scored("inpaint", perfect("inpaint", 6), judge, 6, autoencoder=lambda scenes: [render(scene) for scene in scenes]).columns
    assert list(columns) == ["generated", "autoencoder", "real"] and columns["autoencoder"] == columns["real"]


def test_a_single_picture_has_no_distance(judge: Judge) -> None:
    assert scored("unconditional", perfect("unconditional", 1), judge, 1).columns == {"generated": {}, "real": {}}
    with pytest.raises(ValueError):
        gathered([], 1, lambda number: None)


def test_scenes_depend_on_the_seed_their_number_and_the_stream() -> None:
    assert held_out(WORLD, None, 6, 0)[:3] == held_out(WORLD, None, 3, 0)
    assert len({scene.seed for stream in ((), (REFERENCE,)) for seed in (0, 1) for scene in held_out(WORLD, None, 3, seed, *stream)}) == 12
    rng = np.random.default_rng([0, 0])
    assert held_out(WORLD, "pair", 1, 0) == [WORLD.sample(rng, "pair", "held-out")]  # those of earlier releases


def test_what_cannot_be_scored_is_refused(judge: Judge) -> None:
    with pytest.raises(ValueError, match="single"):
        scored("label", Asked(), judge, kind="pair")
    with pytest.raises(ValueError, match="size"):
        scored("map", Asked(), judge, 2, size=96)
    small = Judge(JudgeConfig(channels=(8, 16, 16), layers=1), labels_of(World("shapes")))
    with pytest.raises(RequestError, match="cat"):
        scored("map", Asked(), small)


ALL = replace(
    SD15,
    name="all",
    size=(64, 64),
    concat=("mask", "masked_image", "map", "low_res"),
    map=MapConfig(classes=75),
    label=LabelConfig(classes=75),
    optional=True,
)


@pytest.mark.parametrize(
    ("spec", "tasks"),
    [
        (ALL, set(GIVEN)),
        (replace(ALL, map=MapConfig(classes=74), label=LabelConfig(classes=74)), set(GIVEN) - {"map", "label"}),
        (replace(ALL, size=(64, 128)), {"text"}),
        (replace(ALL, size=(96, 96)), set()),
        (SD15, {"text", "unconditional"}),
        (SDXL, {"text", "unconditional"}),
        (SD15_INPAINT, {"inpaint"}),
        (LDM_INPAINT, {"inpaint"}),
        (LDM_SEMANTIC, {"map"}),
        (LDM_IMAGENET, {"label"}),
    ],
)
def test_what_a_model_takes_says_which_tasks_it_can_be_given(spec: ModelSpec, tasks: set[str]) -> None:
    reasons = {task: lacks(spec, task, "objects") for task in GIVEN}
    assert {task for task, reason in reasons.items() if reason is None} == tasks
    assert all(reason.isprintable() for reason in reasons.values() if reason)
    assert GIVEN.keys() == {"text", *TASKS}


def test_a_label_needs_single_things() -> None:
    assert lacks(ALL, "label", "objects", "single") is None and "single" in str(lacks(ALL, "label", "objects", "pair"))
    assert lacks(ALL, "map", "objects", "pair") is None
    assert "smaller vocabulary" in str(lacks(ALL, "map", "world"))
