"""How alike pictures are, sets of pictures, and maps; and how sure a mean is.

Legend: n pictures, H W height and width in pixels, h w cells, D width of a feature vector. Pictures are of 8 bits, [n H W 3].
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from sumi.train.judge import Judge
from sumi.train.metrics import Share

RESAMPLES = 2000


@dataclass(frozen=True)
class Mean:
    """Of `n` numbers, with a 95 % interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Distance:
    """Between two sets of `n` each. It has a bias that shrinks as n grows: only distances of one n compare."""

    value: float
    n: int


Figure: TypeAlias = Share | Mean | Distance


def mean(values: Sequence[float] | NDArray[np.floating], seed: int = 0) -> Mean:
    """The mean, with the interval of the percentile bootstrap (Efron 1979) by resamples of a fixed seed. ValueError for no values."""
    found, rng = np.asarray(values, np.float64), np.random.default_rng(seed)
    if not found.size:
        raise ValueError("there is no mean of nothing")
    # By rank rather than interpolated: among infinite means there is nothing between.
    means = np.sort([found[rng.integers(found.size, size=found.size)].mean() for _ in range(RESAMPLES)])
    rank = round(0.025 * RESAMPLES)
    return Mean(float(found.mean()), float(means[rank]), float(means[-rank - 1]), found.size)


def psnr(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio in decibels, [n], of the peak 255; infinite for pictures that are the same."""
    error = np.square(first.astype(np.float64) - second).mean((1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255**2 / error))


def perceptual(first: Sequence[Float[Tensor, "n _ _ _"]], second: Sequence[Float[Tensor, "n _ _ _"]]) -> Float[Tensor, " n"]:
    """The distance of LPIPS (Zhang et al. 2018, equation 1) between two stacks of feature maps, without its learned weights.

    Each position's channels are scaled to unit length; squared differences are summed over channels and layers, averaged over positions.
    """
    layers = []
    for a, b in zip(first, second, strict=True):
        unit = [maps.float() / (maps.float().norm(dim=1, keepdim=True) + 1e-10) for maps in (a, b)]
        layers.append((unit[0] - unit[1]).square().sum(1).mean((1, 2)))
    return torch.stack(layers).sum(0)


def frechet(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The squared Fréchet distance between normal distributions fitted to two sets of vectors [n D] (Heusel et al. 2017, equation 6).

    At least two vectors each. With S the root of one covariance, the trace of the root of the product is that of the root of S C S,
    which is symmetric.
    """
    one, other = (np.atleast_2d(np.cov(vectors, rowvar=False)) for vectors in (first, second))
    apart = np.square(first.mean(0) - second.mean(0)).sum()
    values, vectors = np.linalg.eigh(one)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ other @ root).clip(0)).sum()
    return max(0.0, float(apart + np.trace(one) + np.trace(other) - 2 * shared))


def mean_iou(seen: NDArray[np.integer], given: NDArray[np.integer]) -> float:
    """Intersection over union of two maps [h w] of one picture, averaged over the classes in either; the background, 0, is one.

    Cells that `given` does not know, -1, are left out. ValueError if it knows none.
    """
    known = given >= 0
    seen, given = seen[known], given[known]
    if not given.size:
        raise ValueError("the map knows no cell")
    classes = np.union1d(seen, given)
    return float(np.mean([((seen == c) & (given == c)).sum() / ((seen == c) | (given == c)).sum() for c in classes]))


@torch.inference_mode()
def pooled(judge: Judge, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What a judge goes by in each picture, [n D]: the vectors that `frechet` compares."""
    return np.concatenate([judge.features(image).pooled.double().cpu().numpy() for image in judge.batches(pictures)])


@torch.inference_mode()
def distances(judge: Judge, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How unlike pictures are to a judge, one by one, [n]: `perceptual` of its feature maps."""
    pairs = zip(judge.batches(first), judge.batches(second), strict=True)
    found = [perceptual(judge.features(a).maps, judge.features(b).maps) for a, b in pairs]
    return torch.cat(found).double().cpu().numpy()


def diversity(judge: Judge, pictures: NDArray[np.uint8], asked: Sequence[Hashable]) -> Mean | None:
    """How unlike pictures are of which the same was asked: `asked` says what of each. None if no two are of the same.

    Each picture is in one pair at most, so that the distances are independent.
    """
    waiting: dict[Hashable, int] = {}
    pairs = []
    for number, what in enumerate(asked):
        if what in waiting:
            pairs.append((waiting.pop(what), number))
        else:
            waiting[what] = number
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    return mean(distances(judge, pictures[first], pictures[second])) if pairs else None
