"""Measures against their formulas, written otherwise, and against SciPy; and what a judge makes of pictures through them."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from sumi.train.judge import SHIPPED, Judge, JudgeConfig, labels_of
from sumi.train.measures import Mean, distances, diversity, frechet, mean, mean_iou, perceptual, pooled, psnr
from sumi.train.scenes import World, render
from sumi.train.spoil import spoil

WORLD = World("objects")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    generator = rng(seed)
    return np.stack([render(WORLD.sample(generator)) for _ in range(count)])


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.manual_seed(0)
    return Judge(JudgeConfig(channels=(8, 16, 16), layers=1), labels_of(WORLD)).eval()


@pytest.fixture(scope="module")
def shipped() -> Judge:
    return Judge.load(SHIPPED)


@pytest.mark.parametrize("apart", [1, 2, 16, 255])
def test_psnr_of_pictures_a_constant_apart(apart: int) -> None:
    black = np.zeros((3, 5, 7, 3), np.uint8)
    assert psnr(black, black + np.uint8(apart)) == pytest.approx(np.full(3, 20 * np.log10(255 / apart)))
    assert psnr(black + np.uint8(apart), black) == pytest.approx(np.full(3, 20 * np.log10(255 / apart)))


def test_psnr_is_of_each_picture() -> None:
    a, b = rng().integers(0, 256, (2, 4, 8, 8, 3)).astype(np.uint8)
    b[2] = a[2]
    found = psnr(a, b)
    assert found[2] == np.inf
    for one, other, ratio in zip(a[:2], b[:2], found, strict=False):
        error = sum((int(x) - int(y)) ** 2 for x, y in zip(one.flat, other.flat, strict=True)) / one.size
        assert ratio == pytest.approx(10 * np.log10(65025 / error))


def stacks(count: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, width, side, side, generator=generator) for width, side in ((4, 8), (6, 4), (3, 5))]


def test_perceptual_distance_is_twice_the_cosine_distance() -> None:
    """Without learned weights equation 1 is that (Zhang et al. 2018, section 3.1): by PyTorch's own cosine."""
    a, b = stacks(3, 0), stacks(3, 1)
    expected = sum((2 - 2 * F.cosine_similarity(x, y, dim=1)).mean((1, 2)) for x, y in zip(a, b, strict=True))
    torch.testing.assert_close(perceptual(a, b), expected)


def test_perceptual_distance_is_of_directions_alone() -> None:
    a = stacks(2, 0)
    assert perceptual(a, [2.5 * maps for maps in a]).max() < 1e-6
    torch.testing.assert_close(perceptual(a, [-maps for maps in a]), torch.full((2,), 4.0 * len(a)))
    assert perceptual([torch.zeros(1, 2, 3, 3)], [torch.zeros(1, 2, 3, 3)]).item() == 0


@pytest.mark.parametrize(("count", "width"), [(400, 5), (30, 12), (8, 20)])
def test_frechet_distance_by_the_root_of_the_product(count: int, width: int) -> None:
    """Equation 6 of Heusel et al. 2017 as it stands, by SciPy; with fewer vectors than numbers in them the covariances are singular."""
    generator = rng()
    a = generator.normal(size=(count, width)) @ generator.normal(size=(width, width))
    b = generator.normal(size=(count + 7, width)) @ generator.normal(size=(width, width)) + generator.normal(size=width)
    one, other = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # SciPy's root of a singular matrix is not sure; a hair on the diagonal makes it one that has a root.
    hair = 1e-9 * np.eye(width)
    root = scipy.linalg.sqrtm((one + hair) @ (other + hair)).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(one + other - 2 * root)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-3 if count < width else 1e-6)
    assert frechet(b, a) == pytest.approx(frechet(a, b), rel=1e-6)


def test_frechet_distance_of_numbers_has_a_closed_form() -> None:
    a, b = rng().normal(size=(50, 1)), 3 * rng(1).normal(size=(60, 1)) + 2
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet(a, b) == pytest.approx(expected)


def test_frechet_distance_of_a_set_from_itself_and_from_itself_moved() -> None:
    a, move = rng().normal(size=(40, 6)), np.arange(6.0)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, a + move) == pytest.approx(np.square(move).sum())


@pytest.mark.parametrize("count", [12, 300])
def test_the_interval_of_a_mean_is_that_of_the_bootstrap(count: int) -> None:
    values = rng().gamma(2.0, size=count)
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=rng(1)).confidence_interval
    found = mean(values)
    width = theirs.high - theirs.low
    assert (found.value, found.n) == (pytest.approx(values.mean()), count)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.06 * width)


def test_a_mean_is_a_function_of_its_values() -> None:
    assert mean([1.0, 2.0, 4.0]) == mean(np.array([1.0, 2.0, 4.0]))
    assert mean([3.0]) == Mean(3.0, 3.0, 3.0, 1)
    assert mean([np.inf, np.inf]) == Mean(np.inf, np.inf, np.inf, 2)
    with pytest.raises(ValueError):
        mean([])


def test_intersection_over_union_by_hand() -> None:
    given = np.array([[0, 0, 1, 1], [0, 0, 2, 2]])
    seen = np.array([[0, 0, 1, 0], [0, 3, 1, 1]])
    # background 3 of 5, class 1 1 of 4, class 2 and class 3 none.
    assert mean_iou(seen, given) == pytest.approx((3 / 5 + 1 / 4) / 4)
    assert mean_iou(given, seen) == mean_iou(seen, given)


def test_intersection_over_union_by_the_confusion_matrix() -> None:
    seen, given = rng().integers(0, 5, (2, 16, 16))
    table = np.histogram2d(given.ravel(), seen.ravel(), bins=np.arange(6))[0]
    ious = np.diag(table) / (table.sum(0) + table.sum(1) - np.diag(table))
    assert mean_iou(seen, given) == pytest.approx(ious.mean())


def test_unknown_cells_do_not_count() -> None:
    given = np.array([[1, 1, -1, 0]])
    assert mean_iou(np.array([[1, 1, 7, 0]]), given) == 1
    assert mean_iou(np.array([[1, 2, 7, 0]]), given) == pytest.approx((1 + 1 / 2 + 0) / 3)
    with pytest.raises(ValueError):
        mean_iou(given, np.full_like(given, -1))


def test_features_do_not_depend_on_the_company(judge: Judge) -> None:
    many = pictures(70)  # more than a judge takes at once
    features = pooled(judge, many)
    assert features.shape == (70, 16) and features.dtype == np.float64
    np.testing.assert_allclose(pooled(judge, many[66:67])[0], features[66], rtol=1e-4, atol=1e-6)
    away = distances(judge, many, many[::-1].copy())
    np.testing.assert_allclose(distances(judge, many[:1], many[-1:])[0], away[0], rtol=1e-4)
    np.testing.assert_allclose(away, away[::-1], rtol=1e-4)
    assert away.shape == (70,) and distances(judge, many, many).max() < 1e-6


def test_diversity_is_over_pairs_of_which_the_same_was_asked(judge: Judge) -> None:
    found = pictures(6)
    pairs = diversity(judge, found, ["a", "b", "a", "b", "a", "c"])
    assert pairs == mean(distances(judge, found[[0, 1]], found[[2, 3]]))
    assert diversity(judge, found[[0, 0, 1, 1]], [0, 0, 1, 1]) == mean([0.0, 0.0])
    assert diversity(judge, found, range(6)) is None


def test_to_the_shipped_judge_more_noise_is_further_away(shipped: Judge) -> None:
    plain = pictures(12).astype(np.float64)
    noise = rng().normal(size=plain.shape)
    worse = [np.clip(plain + strength * noise, 0, 255).astype(np.uint8) for strength in (0, 8, 24, 64)]
    away = [distances(shipped, picture, worse[0]) for picture in worse]
    assert all((near < far).all() for near, far in pairwise(away))


def test_to_the_shipped_judge_spoilt_pictures_are_further_from_real_ones(shipped: Judge) -> None:
    generator = rng(2)
    scenes = [WORLD.sample(generator, "single") for _ in range(150)]
    spoilt = np.stack([spoil(scene, len(WORLD.classes) + 1, generator)[0] for scene in scenes])
    real, other = (np.stack([render(WORLD.sample(generator, "single")) for _ in range(150)]) for _ in range(2))
    reference = pooled(shipped, other)
    assert frechet(pooled(shipped, spoilt), reference) > 1.5 * frechet(pooled(shipped, real), reference)
