"""The scenes: what they say is true of where things are, what is drawn agrees with the maps, and held-out combinations stay out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import sumi.train.scenes as scenes
from sumi.train.scenes import VOCABULARIES, Group, Scene, World, background, class_label, colour_map, group_mask, render, segmentation
from sumi.train.scenes.captions import noun_phrase
from sumi.train.scenes.glyphs import COLUMNS, glyph
from sumi.train.scenes.vocabulary import BACKGROUNDS, CLASSES, OBJECTS, PLURAL_ONLY, SHAPES, TINTABLE, WORLD, plural
from sumi.train.scenes.world import held_out

vocabularies = pytest.mark.parametrize("vocabulary", VOCABULARIES)


def samples(vocabulary: str, count: int, **options: str) -> Iterator[Scene]:
    world, rng = World(vocabulary), np.random.default_rng(7)
    return (world.sample(rng, **options) for _ in range(count))


def seen(scene: Scene) -> list[Group]:
    """The groups with the colours that their things have, said or not."""
    colours = {thing.group: thing.colour for thing in scene.things}
    return [replace(group, colour=colours[index]) for index, group in enumerate(scene.groups)]


@vocabularies
def test_the_same_generator_gives_the_same_scenes_and_pictures(vocabulary: str) -> None:
    for first, second in zip(samples(vocabulary, 20), samples(vocabulary, 20), strict=True):
        assert first == second
        assert np.array_equal(render(first), render(second))


@vocabularies
def test_a_scene_is_the_same_picture_at_every_size(vocabulary: str) -> None:
    for scene in samples(vocabulary, 40):
        small = render(scene, 64).astype(float)
        for size in (128, 256):
            large = render(scene, size).astype(float).reshape(64, size // 64, 64, size // 64, 3).mean((1, 3))
            assert np.abs(large - small).mean() < 3
        tiny = small.reshape(16, 4, 16, 4, 3).mean((1, 3))
        assert np.abs(render(scene, 16) - tiny).max() <= 1


@pytest.mark.parametrize("size", [0, -64, 65, 96])
def test_a_size_off_the_grid_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="neither a multiple nor a divisor"):
        render(next(samples("shapes", 1)), size)


@vocabularies
def test_every_word_of_a_caption_is_in_the_vocabulary(vocabulary: str) -> None:
    world, rng, said = World(vocabulary), np.random.default_rng(3), set[str]()
    for scene in samples(vocabulary, 3000):
        words = scene.caption.split()
        assert len(words) <= 28
        assert scene.caption == scene.caption.lower()
        said.update(words, world.describe(scene, rng).split())
        assert scene.background in world.backgrounds
        assert {group.name for group in scene.groups} <= set(world.classes)
    assert said <= set(world.words)
    assert list(world.words) == sorted(set(world.words))
    if vocabulary == "shapes":
        assert said == set(world.words) - {"some"}


def test_each_vocabulary_begins_with_the_one_before() -> None:
    worlds = [World(vocabulary) for vocabulary in VOCABULARIES]
    for smaller, larger in pairwise(worlds):
        assert larger.classes[: len(smaller.classes)] == smaller.classes
        assert larger.backgrounds[: len(smaller.backgrounds)] == smaller.backgrounds
        assert set(smaller.words) < set(larger.words)
    assert [len(world.classes) for world in worlds] == [10, 74, 274]
    shares = [scene.vocabulary for scene in samples("objects", 3000)]
    assert 0.28 < shares.count("shapes") / 3000 < 0.38


def test_names_are_single_words_that_collide_with_nothing() -> None:
    assert len(set(CLASSES)) == len(CLASSES)
    assert not set(CLASSES) & {word for name in BACKGROUNDS for word in name.split()} - {"sea"}
    assert all(name.isalpha() and name.islower() for name in CLASSES)
    assert set(OBJECTS | WORLD) >= TINTABLE | PLURAL_ONLY


@pytest.mark.parametrize(
    ("group", "phrase"),
    [
        (Group("star", "red", "small"), "a small red star"),
        (Group("square", "orange"), "an orange square"),
        (Group("octopus"), "an octopus"),
        (Group("umbrella", None, "big"), "a big umbrella"),
        (Group("umbrella"), "an umbrella"),
        (Group("unicorn"), "a unicorn"),
        (Group("ufo"), "a ufo"),
        (Group("hourglass"), "an hourglass"),
        (Group("egg", count=2), "two eggs"),
        (Group("cherries"), "some cherries"),
        (Group("scissors", None, "small"), "some small scissors"),
        (Group("cross", "blue", count=3), "three blue crosses"),
        (Group("cactus", count=2), "two cacti"),
        (Group("strawberry", count=2), "two strawberries"),
        (Group("monkey", count=3), "three monkeys"),
        (Group("sheep", count=3), "three sheep"),
    ],
)
def test_noun_phrases_are_grammatical(group: Group, phrase: str) -> None:
    assert noun_phrase(group) == phrase


def test_every_noun_has_its_article_and_plural() -> None:
    vowels = {name for name in CLASSES if noun_phrase(Group(name)).startswith("an ")}
    assert vowels == {name for name in CLASSES if name[0] in "aeiou" and name not in ("unicorn", "ufo")} | {"hourglass"}
    unchanged = {name for name in CLASSES if plural(name) == name}
    assert unchanged == PLURAL_ONLY | {"fish", "sheep", "shrimp", "dice"}
    irregular = {name: plural(name) for name in CLASSES if not plural(name).endswith("s")}
    assert irregular.keys() == {"cactus", "goose", "mouse", "tooth", "fish", "sheep", "shrimp", "dice"}
    assert [plural(word) for word in ("leaf", "loaf", "wolf", "candy", "key", "peach", "bus", "smiley")] == [
        "leaves", "loaves", "wolves", "candies", "keys", "peaches", "buses", "smileys",
    ]  # fmt: skip


@vocabularies
def test_training_scenes_have_no_held_out_combination(vocabulary: str) -> None:
    for scene in samples(vocabulary, 5000):
        assert not held_out(seen(scene), scene.relation, scene.background)


@vocabularies
def test_held_out_scenes_say_a_held_out_combination(vocabulary: str) -> None:
    for scene in samples(vocabulary, 5000, split="held-out"):
        assert held_out(scene.groups, scene.relation, scene.background if scene.says_background else None)


def test_a_tenth_of_the_combinations_is_held_out_for_good() -> None:
    colours = {(shape, colour) for shape in SHAPES for colour in World().colours if held_out([Group(shape, colour)], None, None)}
    assert len(colours) == 8
    assert {("circle", "pink"), ("square", "white"), ("star", "red")} < colours
    pairs = [(a, b, relation) for a in CLASSES[:74] for b in CLASSES[:74] for relation in ("left", "above")]
    share = np.mean([held_out([Group(a), Group(b)], relation, None) for a, b, relation in pairs])
    assert 0.09 < share < 0.11
    for a, b, relation in pairs[:200]:
        mirrored = {"left": "right", "above": "below"}[relation]
        assert held_out([Group(a), Group(b)], relation, None) == held_out([Group(b), Group(a)], mirrored, None)
        assert held_out([Group(a), Group(b)], "and", None) == held_out([Group(b), Group(a)], "and", None)


@vocabularies
def test_things_are_inside_the_picture_and_apart(vocabulary: str) -> None:
    for scene in samples(vocabulary, 1000):
        for thing in scene.things:
            assert thing.size / 2 < min(thing.x, thing.y, 1 - thing.x, 1 - thing.y)
        if scene.vocabulary == "world" and scene.relation == "and":
            continue
        for index, a in enumerate(scene.things):
            for b in scene.things[index + 1 :]:
                assert max(abs(a.x - b.x), abs(a.y - b.y)) >= (a.size + b.size) / 2


@vocabularies
def test_groups_are_what_is_there(vocabulary: str) -> None:
    for scene in samples(vocabulary, 1000):
        assert [group.count for group in scene.groups] == [
            sum(thing.group == index for thing in scene.things) for index in range(len(scene.groups))
        ]
        for thing in scene.things:
            group = scene.groups[thing.group]
            assert thing.name == group.name
            assert thing.colour == group.colour or (group.colour is None and thing.name in SHAPES)
            assert thing.colour not in BACKGROUNDS[scene.background].avoid
            assert group.count == 1 or thing.name not in PLURAL_ONLY
        assert (scene.relation is not None) == (len(scene.groups) == 2)
        assert len({(group.name, group.colour) for group in scene.groups}) == len(scene.groups)


@vocabularies
def test_relations_are_true(vocabulary: str) -> None:
    ahead = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
    for scene in samples(vocabulary, 1500):
        if scene.relation in ahead:
            dx, dy = ahead[scene.relation]
            first, second = ([thing for thing in scene.things if thing.group == group] for group in (0, 1))
            for a in first:
                for b in second:
                    assert dx * (a.x - b.x) + dy * (a.y - b.y) >= (a.size + b.size) / 2


def test_sizes_are_three_and_do_not_meet() -> None:
    single: dict[str | None, set[float]] = {}
    for scene in samples("shapes", 1000, kind="single"):
        single.setdefault(scene.groups[0].size, set()).add(scene.things[0].size)
    assert max(single["small"]) < 0.4 < min(single[None]) <= max(single[None]) < 0.7 < min(single["big"])


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_a_kind_can_be_asked_for(kind: str) -> None:
    assert {scene.kind for scene in samples("objects", 100, kind=kind)} == {kind}
    world = World("shapes", kinds={kind: 1.0})
    assert {world.sample(np.random.default_rng(seed)).kind for seed in range(20)} == {kind}


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no vocabulary 'moon'; there are shapes, objects, world"):
        World("moon")
    with pytest.raises(ValueError, match="no kind 'crowd'"):
        World(kinds={"crowd": 1.0})
    with pytest.raises(ValueError, match="no kind 'crowd'"):
        World().sample(np.random.default_rng(0), kind="crowd")
    with pytest.raises(ValueError, match="no split 'test'"):
        World().sample(np.random.default_rng(0), split="test")


@vocabularies
def test_pixels_where_nothing_is_are_background(vocabulary: str) -> None:
    for scene in samples(vocabulary, 100):
        covered = np.max([group_mask(scene, group) for group in range(len(scene.groups))], axis=0)
        picture, behind = render(scene).astype(int), background(scene).astype(int)
        assert np.array_equal(picture[covered == 0], behind[covered == 0])
        assert np.any(picture != behind, axis=-1)[covered > 0.4].mean() > 0.8
        assert np.array_equal(segmentation(scene, 64) > 0, covered > 0.4)


@vocabularies
def test_maps_name_what_is_there(vocabulary: str) -> None:
    world = World(vocabulary)
    for scene in samples(vocabulary, 200):
        cells, colours = segmentation(scene), colour_map(scene)
        assert cells.shape == colours.shape == (16, 16)
        assert {CLASSES[value - 1] for value in np.unique(cells) if value} == {thing.name for thing in scene.things}
        assert {world.colours[value - 1] for value in np.unique(colours) if value} == {t.colour for t in scene.things if t.colour}
        assert not colours[cells == 0].any()
        assert CLASSES[class_label(scene)] == scene.groups[0].name


def test_the_nearer_thing_hides_the_farther() -> None:
    first = next(scene for scene in samples("shapes", 100, kind="pair") if scene.groups[0].name != scene.groups[1].name)
    here = tuple(replace(thing, x=0.5, y=0.5, size=0.5) for thing in first.things)
    scene = replace(first, things=here)
    assert segmentation(scene)[8, 8] == CLASSES.index(here[-1].name) + 1
    assert segmentation(replace(scene, things=here[::-1]))[8, 8] == CLASSES.index(here[0].name) + 1


def test_a_wording_without_a_generator_is_the_plainest() -> None:
    world = World("objects")
    scene = replace(
        next(samples("objects", 1)), groups=(Group("rabbit", None, "small"), Group("boat", "red")), relation="left", background="grass"
    )
    assert world.describe(replace(scene, says_background=True)) == "a small rabbit to the left of a red boat on the grass"
    assert world.describe(replace(scene, says_background=False)) == "a small rabbit to the left of a red boat"


def test_every_glyph_is_in_the_atlas_and_no_two_are_alike() -> None:
    pictures = np.stack([glyph(name, None, 32).astype(float) for name in OBJECTS | WORLD])
    assert (pictures[..., 3] > 200).mean((1, 2)).min() > 0.1
    assert len(pictures) == 264 and COLUMNS == 17
    flat = pictures.reshape(len(pictures), -1)
    squares = (flat**2).sum(1)
    distance = np.sqrt(np.maximum((squares[:, None] + squares - 2 * flat @ flat.T) / flat.shape[1], 0)) + 255 * np.eye(len(flat))
    assert distance.min() > 25


@pytest.mark.parametrize("name", sorted(TINTABLE))
def test_a_tint_changes_the_hue_and_not_the_outline(name: str) -> None:
    plain, red, blue = (glyph(name, colour, 64).astype(int) for colour in (None, "red", "blue"))
    assert np.array_equal(red[..., 3], plain[..., 3])
    changed = np.abs(red - blue).max(-1)[plain[..., 3] > 200] > 60
    assert changed.mean() > 0.3


def test_the_package_needs_numpy_and_pillow_alone() -> None:
    allowed = {"__future__", "collections", "dataclasses", "functools", "hashlib", "importlib", "math", "typing", "numpy", "PIL", "sumi"}
    for path in Path(scenes.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.module and (node.module.split(".")[0] in allowed)
                assert not node.module.startswith("sumi") or node.module.startswith("sumi.train.scenes")
            elif isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed
