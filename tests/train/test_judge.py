"""The judge: its shapes and file, what it is taught on, and how the shipped one scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sumi.errors import CheckpointError
from sumi.train.judge import (
    IGNORED,
    SHIPPED,
    Judge,
    JudgeConfig,
    JudgeTask,
    core_map,
    fooled,
    gathering,
    judge_batch,
    judge_loss,
    labels_of,
    scores,
)
from sumi.train.metrics import UNKNOWN, Labels, components
from sumi.train.scenes import World, render, segmentation
from sumi.train.spoil import CELLS, SIZE, WAYS, blurred, box, spoil

WORLD = World("objects")
LABELS = labels_of(WORLD)
TINY = JudgeConfig(channels=(8, 16, 16), layers=1, norm_groups=4)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_size() -> None:
    with torch.device("meta"):
        judge = Judge(JudgeConfig(), LABELS)
    assert sum(parameter.numel() for parameter in judge.parameters()) <= 2_000_000


def test_marks_answer_in_every_cell() -> None:
    marks = Judge(TINY, LABELS)(torch.zeros(2, 3, SIZE, SIZE))
    counts = (len(LABELS.classes) + 2, len(LABELS.colours), len(LABELS.backgrounds))
    answers = (marks.kinds, marks.colours, marks.backgrounds)
    assert [tuple(answer.shape) for answer in answers] == [(2, count, CELLS, CELLS) for count in counts]
    assert marks.cores.shape == (2, CELLS, CELLS)


def test_it_goes_by_its_features() -> None:
    torch.manual_seed(0)
    judge = Judge(TINY, LABELS).eval()
    image = torch.randn(2, 3, SIZE, SIZE)
    features, marks = judge.features(image), judge(image)
    shapes = [(2, 8, 32, 32), (2, 16, 16, 16), (2, 16, 8, 8), (2, 16, 16, 16)]
    assert [tuple(maps.shape) for maps in features.maps] == shapes
    torch.testing.assert_close(judge.kinds(features.maps[-1]), marks.kinds)
    torch.testing.assert_close(features.pooled, features.maps[-1].flatten(2).mean(-1))


def test_it_says_what_is_in_every_cell_of_pictures_of_any_number_and_size() -> None:
    torch.manual_seed(0)
    judge = Judge(TINY, LABELS).eval()
    pictures = np.stack([render(WORLD.sample(rng()), SIZE)] * 66)
    cells = judge.segment(pictures)
    assert cells.shape == (66, CELLS, CELLS) and cells.dtype == np.int64
    (image,) = judge.batches(pictures[:1])
    assert (cells == judge(image).kinds.argmax(1).numpy()).all()
    assert (judge.segment(pictures[:1].repeat(2, axis=1).repeat(2, axis=2)) == cells[:1]).all()


def test_a_saved_judge_sees_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    judge = Judge(TINY, LABELS)
    judge.load_state_dict({name: weight.half().float() for name, weight in judge.state_dict().items()})
    judge.save(tmp_path / "judge.safetensors")
    loaded = Judge.load(tmp_path / "judge.safetensors")
    assert (loaded.config, loaded.labels) == (judge.config, judge.labels)
    pictures = np.stack([render(WORLD.sample(rng()), SIZE)] * 3)
    assert loaded.look(pictures) == judge.look(pictures)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_file_that_is_no_judge_is_refused(tmp_path: Path) -> None:
    from sumi.store.checkpoint import save

    with pytest.raises(CheckpointError):
        Judge.load(tmp_path / "missing.safetensors")
    save(tmp_path / "other.safetensors", {"weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="not a judge"):
        Judge.load(tmp_path / "other.safetensors")


def test_other_sizes_are_averaged_first() -> None:
    torch.manual_seed(0)
    judge = Judge(TINY, LABELS)
    pictures = np.stack([render(WORLD.sample(rng()), SIZE)])
    large = pictures.repeat(2, axis=1).repeat(2, axis=2)
    assert judge.look(large) == judge.look(pictures)


def test_a_batch_is_a_function_of_its_generator() -> None:
    first, second = (judge_batch(WORLD, rng(), 12) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert first.images.shape == (12, 3, SIZE, SIZE) and first.images.abs().max() <= 1


def test_a_batch_asks_only_what_has_an_answer() -> None:
    batch = judge_batch(WORLD, rng(), 48)
    unknown = len(LABELS.classes) + 1
    assert ((batch.backgrounds == IGNORED) == (batch.kinds > 0)).all()
    assert (batch.colours[batch.kinds == 0] == IGNORED).all() and (batch.colours[batch.kinds == unknown] == IGNORED).all()
    assert batch.kinds.max() == unknown and batch.colours.max() < len(LABELS.colours) and batch.backgrounds.max() < len(LABELS.backgrounds)


def test_gathered_things_are_apart() -> None:
    generator = rng()
    for _ in range(20):
        scene = gathering(WORLD, generator)
        owned = np.zeros((SIZE, SIZE), int)
        for thing in scene.things:
            owned[box(thing)] += 1
        assert owned.max() == 1
        assert components(core_map(scene) > 0).max() == len(scene.things)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vocabulary", ["shapes", "world"])
def test_spoiling_one_thing_leaves_the_rest(way: str, vocabulary: str) -> None:
    world, generator = World(vocabulary), rng()
    unknown = len(world.classes) + 1
    for _ in range(8):
        scene = world.sample(generator, "pair")
        picture, kinds = spoil(scene, unknown, generator, way)
        rest = replace(scene, things=scene.things[:-1])
        assert picture.dtype == np.uint8 and (kinds == unknown).any()
        assert (kinds[kinds != unknown] == segmentation(rest, CELLS)[kinds != unknown]).all()
        changed = np.abs(picture.astype(int) - render(scene, SIZE)).max(-1)
        inside = changed[box(scene.things[-1])]
        assert inside.max() > 40
        if way in ("scrambled", "blob"):
            assert changed.sum() == inside.sum()


def test_blurring_keeps_the_mean_and_spreads_by_sigma() -> None:
    dot = np.zeros((SIZE, SIZE, 1), np.float32)
    dot[32, 32] = 1
    spread = blurred(dot, 3.0)[..., 0]
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert np.sqrt((spread.sum(0) * (np.arange(SIZE) - 32) ** 2).sum()) == pytest.approx(3, rel=0.01)
    both = blurred(np.stack([dot, dot]), np.array([0.1, 3.0], np.float32))
    assert np.allclose(both[0], dot, atol=1e-6) and np.allclose(both[1, ..., 0], spread, atol=1e-6)


def test_the_task_learns() -> None:
    torch.manual_seed(0)
    world = World("shapes")
    judge = Judge(JudgeConfig(channels=(16, 32, 32), layers=1), labels_of(world))
    batch = judge_batch(world, rng(), 8)
    optimiser = torch.optim.AdamW(judge.parameters(), 3e-3)
    losses = []
    for _ in range(16):
        loss, figures = judge_loss(judge, batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert figures.keys() == {"kinds", "cores", "colours", "backgrounds"}


def test_the_task_keeps_the_loops_protocol(tmp_path: Path) -> None:
    task = JudgeTask(TINY, vocabulary="shapes", batch=4)
    task.held_out = task.held_out[:12]
    loss, _ = task.loss(0, rng())
    assert loss.ndim == 0 and loss.requires_grad
    figures = task.validate()
    assert figures == task.validate() and {"all", *WAYS} <= figures.keys()
    assert all(picture.dtype == np.uint8 and picture.ndim == 3 for picture in task.pictures().values())
    task.export(tmp_path)
    assert Judge.load(tmp_path / "judge.safetensors").labels == labels_of(World("shapes"))
    assert all(isinstance(module, nn.Module) for module in task.modules.values())


def test_kinds_begin_with_nothing_and_end_with_unknown() -> None:
    assert Labels(("cat", "dog"), (), ()).kinds == ("", "cat", "dog", UNKNOWN)


def test_the_shipped_judge_knows_real_from_spoilt() -> None:
    judge, generator = Judge.load(SHIPPED), rng()
    vocabulary = next(name for name in ("world", "objects", "shapes") if labels_of(World(name)) == judge.labels)
    scenes = [World(vocabulary).sample(generator, split="held-out") for _ in range(120)]
    for name, share in scores(judge, scenes).items():
        assert share.high >= 0.97, (name, share)
    for way in ("scrambled", "blob"):
        assert fooled(judge, [scene for scene in scenes if scene.kind in ("single", "pair")], way, generator).low <= 0.05, way
