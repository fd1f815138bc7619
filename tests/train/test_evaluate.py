"""Evaluation end to end, with painters that are known: a perfect one, one that paints nothing, one of another size."""

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sumi.config import AutoencoderConfig
from sumi.errors import RequestError
from sumi.nets.autoencoder import Autoencoder
from sumi.train.data import to_pictures, to_tensor
from sumi.train.evaluate import arranged, evaluate, reconstructions
from sumi.train.judge import Judge, JudgeConfig, labels_of
from sumi.train.measures import Mean
from sumi.train.metrics import ATTRIBUTES
from sumi.train.scenes import Scene, World, render
from sumi.train.trials import held_out


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.manual_seed(0)
    return Judge(JudgeConfig(channels=(8, 16, 16), layers=1), labels_of(World("shapes"))).eval()


def real(scenes: Sequence[Scene]) -> Iterator[NDArray[np.uint8]]:
    return (render(scene, 64) for scene in scenes)


def test_real_renders_score_as_real(judge: Judge) -> None:
    report = evaluate(real, count=10, vocabulary="shapes", judge=judge, say=lambda number: None)
    assert report.generated == report.real
    assert report.generated["all"].n == 10 == sum(share.n for share in report.kinds.values())


def test_nothing_scores_nothing(judge: Judge) -> None:
    blank = np.full((6, 128, 128, 3), 127, np.uint8)
    report = evaluate(lambda scenes: blank, count=6, vocabulary="shapes", kind="pair", judge=judge, say=lambda number: None)
    assert report.generated["all"].value == 0
    assert report.generated["count"].value is None


def test_the_report_is_json(judge: Judge) -> None:
    report = evaluate(real, count=4, vocabulary="shapes", seed=3, judge=judge, settings={"steps": 20}, say=lambda number: None)
    table = json.loads(report.to_json())
    assert table.keys() == {*ATTRIBUTES, "frechet", "real", "kinds", "autoencoder", "settings"}
    assert table["real"].keys() == {*ATTRIBUTES, "frechet"} and table["autoencoder"].keys() == {"kinds"}
    assert all(row.keys() == {"value", "low", "high", "n"} for row in (table["all"], table["real"]["count"]))
    assert table["settings"] == {"count": 4, "vocabulary": "shapes", "kind": None, "seed": 3, "steps": 20}


def test_an_autoencoder_is_scored_on_the_same_scenes(judge: Judge) -> None:
    report = evaluate(real, autoencoder=real, count=8, vocabulary="shapes", judge=judge, say=lambda number: None)
    assert (report.autoencoder, report.autoencoder_kinds) == (report.real, report.kinds)


def test_two_pictures_of_a_caption_are_held_against_two_scenes_that_it_fits(judge: Judge) -> None:
    painted: list[Scene] = []

    def same_again(scenes: Sequence[Scene]) -> Iterator[NDArray[np.uint8]]:
        painted.extend(scenes)
        return real(scenes)

    report = evaluate(same_again, count=5, twice=3, vocabulary="shapes", judge=judge, say=lambda number: None)
    assert painted[5:] == painted[:3] and report.generated["all"].n == 5
    assert report.generated["diversity"] == Mean(0, 0, 0, 3) and (report.real["diversity"].value or 0) > 0.01
    assert report.columns["generated"].keys() == {*report.generated, *(f"all, {kind}" for kind in report.kinds)}


@pytest.mark.parametrize("kind", ["single", "pair", "count", "mixed"])
def test_a_scene_that_is_arranged_anew_is_of_the_same_caption(kind: str) -> None:
    world, rng = World("objects"), np.random.default_rng(0)
    for scene in held_out(world, kind, 12, 0):
        other = arranged(scene, rng)
        assert (other.caption, other.background, other.groups) == (scene.caption, scene.background, scene.groups)
        assert sorted((t.name, str(t.colour), t.group) for t in other.things) == sorted(
            (t.name, str(t.colour), t.group) for t in scene.things
        )
        assert other.things != scene.things and other.seed != scene.seed
        if scene.relation in ("left", "right", "above", "below"):
            axis, sign = ("x" if scene.relation in ("left", "right") else "y"), (1 if scene.relation in ("left", "above") else -1)
            first, second = (np.mean([getattr(t, axis) for t in other.things if t.group == group]) for group in (0, 1))
            assert sign * (second - first) > 0


def test_reconstructions_are_what_the_autoencoder_makes() -> None:
    torch.manual_seed(0)
    config = AutoencoderConfig(block_channels=(8, 8), attention_levels=(False, False), latent_channels=2, norm_groups=4)
    autoencoder = Autoencoder(config).eval()
    scenes = [World("shapes").sample(np.random.default_rng(n)) for n in range(66)]  # more than go through at once
    found = list(reconstructions(autoencoder, 32)(scenes))
    with torch.inference_mode():
        last = autoencoder.decode(autoencoder.encode(to_tensor([render(scenes[-1], 32)])).mode())
    assert len(found) == 66 and np.array_equal(found[-1], to_pictures(last)[0])


def test_scenes_depend_on_the_seed_and_their_number_alone(judge: Judge) -> None:
    def captions(count: int, seed: int) -> list[str]:
        seen: list[Scene] = []

        def painter(scenes: Sequence[Scene]) -> Iterator[NDArray[np.uint8]]:
            seen.extend(scenes)
            return real(scenes)

        evaluate(painter, count=count, vocabulary="shapes", seed=seed, judge=judge, say=lambda number: None)
        return [scene.caption for scene in seen]

    assert captions(6, 0)[:3] == captions(3, 0)
    assert captions(3, 0) != captions(3, 1)


def test_progress_goes_to_stderr(judge: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(real, count=2, vocabulary="shapes", judge=judge)
    out, err = capsys.readouterr()
    assert out == "" and err.endswith("2 of 2 pictures\n")


def test_a_judge_scores_only_what_it_knows(judge: Judge) -> None:
    with pytest.raises(RequestError, match="cat"):
        evaluate(real, count=1, vocabulary="objects", judge=judge)
    with pytest.raises(ValueError):
        evaluate(lambda scenes: [], count=1, vocabulary="shapes", judge=judge)
