"""What a judge saw, against what a scene says: with perfect sight every scene is right, and each fault costs its own attribute."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from sumi.train.judge import core_map, labels_of
from sumi.train.metrics import ATTRIBUTES, LEAST_CELLS, UNKNOWN, Seen, Sight, attributes, components, owners, see, shares, wilson
from sumi.train.scenes import Group, Scene, World, colour_map, segmentation

WORLD = World("objects")
LABELS = labels_of(WORLD)


def scene_of(*groups: Group, relation: str | None = None, background: str = "white") -> Scene:
    return Scene("objects", background, groups, relation, (), "", True, 0)


def thing(name: str, colour: str = "red", x: float = 8, y: float = 8) -> Seen:
    return Seen(name, colour, 9, x, y)


def perfect_sight(scene: Scene) -> Sight:
    kinds = segmentation(scene).astype(np.int64)
    colours = np.maximum(colour_map(scene).astype(np.int64) - 1, 0)
    backgrounds = np.full_like(kinds, LABELS.backgrounds.index(scene.background))
    return see(kinds, core_map(scene) > 0, colours, backgrounds, LABELS)


@pytest.mark.parametrize("kind", ["single", "pair", "count", "mixed"])
def test_perfect_sight_finds_every_scene_right(kind: str) -> None:
    rng = np.random.default_rng(0)
    scenes = [WORLD.sample(rng, kind, split) for split in ("train", "held-out") for _ in range(150)]
    wrong = [scene.caption for scene in scenes if not attributes(perfect_sight(scene), scene)["all"]]
    assert len(wrong) <= 3, wrong


def test_attributes_are_those_that_the_caption_speaks_of() -> None:
    single = scene_of(Group("cat"))
    assert attributes(Sight((), "white"), single).keys() == {"object", "extra", "background", "all"}
    assert "background" not in attributes(Sight((), "white"), replace(single, says_background=False))
    pair = scene_of(Group("circle", "red", count=2), Group("star", "blue"), relation="left")
    assert attributes(Sight((), "white"), pair).keys() == set(ATTRIBUTES)
    assert "relation" not in attributes(Sight((), "white"), replace(pair, relation="and"))


SAME = scene_of(Group("circle", "red"), Group("circle", "blue"), relation="left")
RED, BLUE = thing("circle", "red", x=4), thing("circle", "blue", x=12)
TWO = scene_of(Group("star", "pink", count=2))


@pytest.mark.parametrize(
    ("scene", "seen", "background", "wrong"),
    [
        (SAME, [RED, BLUE], "white", set()),
        (SAME, [RED, BLUE], "black", {"background"}),
        (SAME, [RED], "white", {"object", "relation", "colour"}),
        (SAME, [RED, replace(BLUE, name="square")], "white", {"object", "extra", "relation", "colour"}),
        (SAME, [RED, BLUE, thing(UNKNOWN)], "white", {"extra"}),
        (SAME, [RED, BLUE, thing("circle", "blue", x=12, y=14)], "white", {"extra"}),
        (SAME, [RED, replace(BLUE, colour="green")], "white", {"colour"}),
        (SAME, [replace(RED, x=12), replace(BLUE, x=4)], "white", {"relation"}),
        (SAME, [RED, replace(BLUE, x=4, y=16)], "white", {"relation"}),
        (SAME, [RED, replace(BLUE, x=12, y=16)], "white", {"relation"}),
        (TWO, [thing("star", "pink"), thing("star", "pink")], "white", set()),
        (TWO, [thing("star", "pink")], "white", {"count"}),
        (TWO, [thing("star", "pink")] * 3, "white", {"count", "extra"}),
        (TWO, [thing("star", "pink"), thing("star", "red")], "white", {"colour"}),
        (TWO, [], "white", {"object", "colour", "count"}),
    ],
)
def test_each_fault_costs_its_own_attributes(scene: Scene, seen: list[Seen], background: str, wrong: set[str]) -> None:
    right = attributes(Sight(tuple(seen), background), scene)
    assert {name for name, value in right.items() if not value} == (wrong | {"all"} if wrong else set())


@pytest.mark.parametrize(("relation", "x", "y"), [("left", 4, 8), ("right", 12, 8), ("above", 8, 4), ("below", 8, 12)])
def test_relations_are_of_the_first_to_the_second(relation: str, x: float, y: float) -> None:
    seen = Sight((thing("cat", x=x, y=y), thing("dog")), "white")
    for said in ("left", "right", "above", "below"):
        assert attributes(seen, scene_of(Group("cat"), Group("dog"), relation=said))["relation"] is (said == relation)


def test_components_touch_by_sides_and_corners() -> None:
    assert components(np.zeros((3, 4), bool)).max() == 0
    numbers = components(np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]], bool))
    assert len(set(numbers[numbers > 0].tolist())) == numbers.max() == 4
    assert numbers[0, 0] == numbers[1, 1] and numbers[0, 3] == numbers[1, 3] and numbers[3, 0] == numbers[3, 1]


def test_a_winding_component_is_one() -> None:
    spiral = np.ones((16, 16), bool)
    spiral[1::2] = False
    spiral[1::4, -1] = spiral[3::4, 0] = True
    assert components(spiral).max() == 1


def test_cores_part_what_touches_and_join_what_does_not() -> None:
    kinds, cores = np.zeros((2, 16, 16), np.int64)
    kinds[4:8, 0:8] = 1  # two things side by side
    kinds[12, 12] = kinds[14, 12:14] = 1  # one in pieces
    cores[5:7, 1:3] = cores[5:7, 5:7] = cores[13, 12] = 1
    owned = owners(kinds, cores > 0)
    assert len(set(owned[kinds > 0].tolist())) == 3
    assert (owned[4:8, 0:4] == owned[4, 0]).all() and (owned[4:8, 4:8] == owned[4, 7]).all() and owned[12, 12] == owned[14, 13]
    assert (owners(kinds, np.zeros_like(kinds, bool)) == (kinds > 0)).all()


def seen_by(kinds: NDArray[np.int64]) -> Sight:
    return see(kinds, kinds > 0, np.zeros_like(kinds), np.zeros_like(kinds), LABELS)


def test_small_regions_are_not_seen() -> None:
    kinds = np.zeros((16, 16), np.int64)
    kinds[0, :LEAST_CELLS] = 1
    assert [r.name for r in seen_by(kinds).things] == ["circle"]
    kinds[0, 0] = 0
    assert seen_by(kinds).things == ()
    assert seen_by(np.full((16, 16), len(LABELS.classes) + 1)).background == UNKNOWN


def test_a_thing_is_what_most_of_it_is() -> None:
    kinds = np.zeros((16, 16), np.int64)
    kinds[4:8, 4:8] = 1
    kinds[7, 4:8] = 2
    assert [thing.name for thing in seen_by(kinds).things] == ["circle"]
    kinds[6, 4:8] = 2
    assert [thing.name for thing in seen_by(kinds).things] == [UNKNOWN]


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(0, 10, 0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1), (970, 1000, 0.9575, 0.9789)]
)
def test_wilson(right: int, n: int, low: float, high: float) -> None:
    share = wilson(right, n)
    assert (share.value, share.n) == (right / n, n)
    assert (share.low, share.high) == pytest.approx((low, high), abs=1e-4)


def test_shares_count_what_was_spoken_of() -> None:
    table = shares([{"object": True, "all": True}, {"object": False, "relation": False, "all": False}])
    assert tuple(table) == ATTRIBUTES
    assert (table["object"].value, table["object"].n) == (0.5, 2)
    assert (table["relation"].value, table["relation"].n) == (0, 1)
    assert (table["count"].value, table["count"].low, table["count"].high, table["count"].n) == (None, 0, 1, 0)
