"""What pictures are to be made from: each as it will be given by people."""

from collections import Counter

import numpy as np
import pytest

from sumi.train.contexts import FILTERS, JOBS, UNKNOWN, WORDLESS, example, hole, jobs, smaller
from sumi.train.data import drawn
from sumi.train.scenes import World, render, segmentation

WORLD = World("objects")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_jobs_are_drawn_in_proportion() -> None:
    found = Counter(jobs({"text": 3.0, "map": 1.0, "label": 0.0}, rng(), 4000))
    assert found["label"] == 0 and found["text"] + found["map"] == 4000
    assert abs(found["text"] / 4000 - 0.75) < 5 * (0.75 * 0.25 / 4000) ** 0.5  # one run in two million is further off


@pytest.mark.parametrize("job", JOBS)
def test_an_example_has_what_its_job_needs(job: str) -> None:
    generator = rng(1)
    found = [example(WORLD, generator, job, 64, 16) for _ in range(60)]
    for each in found:
        assert each.picture.shape == (64, 64, 3) and each.cells.shape == (16, 16) and each.hole.shape == each.classes.shape == (64, 64)
        assert (each.label != UNKNOWN) == (job == "label")
        assert (each.low_res is not None) == (job == "low_res")
        assert (each.classes != UNKNOWN).any() == (job == "map")
        assert job == "inpaint" or each.hole.all()
    wordless = sum(each.caption == "" for each in found) / 60
    assert (wordless == 0) == (WORDLESS[job] == 0) and (job == "low_res" or abs(wordless - WORDLESS[job]) < 0.25)


def test_text_alone_is_the_worlds_scenes_in_their_order() -> None:
    generator = rng([3, 4])
    scenes = [WORLD.sample(generator) for _ in range(8)]
    found = drawn(WORLD, (3, 4), 8, 64, 16, "train", {"text": 1.0})
    assert [each.caption for each in found] == [scene.caption for scene in scenes]
    assert all((each.picture == render(scene)).all() for each, scene in zip(found, scenes, strict=True))


def test_a_label_is_of_the_one_thing_there_is() -> None:
    generator = rng(2)
    for _ in range(20):
        found = example(WORLD, generator, "label", 64, 64)
        assert set(np.unique(found.cells)) <= {0, found.label + 1} and (found.cells > 0).any()


def test_a_map_says_what_is_where_or_nothing() -> None:
    generator = rng(3)
    found = [example(WORLD, generator, "map", 64, 64) for _ in range(80)]
    for each in found:
        said = each.classes != UNKNOWN
        assert (each.classes[said] == each.cells[said]).all()
    whole = sum((each.classes != UNKNOWN).all() for each in found)
    assert 0.4 * 80 < whole < 0.8 * 80


def test_holes_are_of_every_sort_and_never_nothing() -> None:
    generator = rng(4)
    scenes = [WORLD.sample(generator) for _ in range(200)]
    holes = [hole(scene, generator, 64) for scene in scenes]
    shares = np.array([each.mean() for each in holes])
    assert shares.min() > 0 and (shares < 0.2).any() and (shares > 0.6).any()
    covered = sum(bool((segmentation(scene, 64)[~each] == 0).all()) for scene, each in zip(scenes, holes, strict=True))
    assert covered > 20  # all that there is, in scenes of one thing


@pytest.mark.parametrize("filter", FILTERS)
def test_a_smaller_picture_is_a_quarter_as_large_and_as_bright(filter: str) -> None:
    picture = render(WORLD.sample(rng(5)))
    small = smaller(picture, filter)  # type: ignore[arg-type]
    assert small.shape == (16, 16, 3) and abs(small.mean() - picture.mean()) < 2
    if filter == "box":
        assert np.abs(small - picture.reshape(16, 4, 16, 4, 3).mean((1, 3))).max() <= 1
