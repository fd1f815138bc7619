"""Noise as published programs draw it, beside the native kind, so that a picture of theirs can be made again from its seed.

| source    | draws                                                               | is the noise of                                 |
|-----------|---------------------------------------------------------------------|-------------------------------------------------|
| native    | a stream for every (seed, image, step, draw)                        | `sumi.diffusion.noise`                          |
| torch     | torch's CPU generator, one draw [count, C, H, W] after another      | diffusers with a CPU generator                  |
| a1111-cpu | torch's CPU generator for each picture, of seed + its number        | A1111, RNG CPU; diffusers with a list of those  |
| a1111-nv  | Philox 4x32 for each picture, of seed + its number                  | A1111, RNG NV, which emulates its RNG GPU       |

ComfyUI starts from the same noise as torch does here; the noise of its steps comes from a second generator, on the device that
samples, and is not offered. Nor is the Brownian tree that k-diffusion's SDE samplers draw from in both programs. All draws are float32:
pipelines that draw in half precision get other numbers.

Seeds run from 0 to 2**64 - 1; torch takes negative ones, too, and means 2**64 more. torch's CPU generator uses the lowest 32 bits alone,
so that two seeds that differ by 2**32 are one. Where seed + number passes 2**64 - 1, the programs fail, and so do these.

A variation lies `variation` of the way from the noise of a seed to that of `variation_seed`; at 0 it is the one and at 1 the other, bit
for bit.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from numpy.typing import NDArray
from torch import Tensor

from sumi.diffusion.noise import Noise
from sumi.diffusion.samplers.step import NoiseAt

_END = 2**64


@dataclass(frozen=True)
class Asked:
    """Which noise: of the pictures numbered `images` out of `count`, counted from 0, each of `shape` (C, H, W).

    ValueError: a seed out of range, a picture that is not one of them, a variation outside [0, 1] or without its seed.
    """

    seed: int
    images: Sequence[int]
    count: int
    shape: tuple[int, ...]
    device: torch.device | str = "cpu"
    variation: float = 0.0
    variation_seed: int | None = None

    def __post_init__(self) -> None:
        for name, seed in ("seed", self.seed), ("variation_seed", self.variation_seed):
            if seed is not None and not 0 <= seed < _END:
                raise ValueError(f"{name} must be from 0 to 2**64 - 1; got {seed}")
        if not all(0 <= image < self.count for image in self.images):
            raise ValueError(f"pictures are numbered from 0 to {self.count - 1}; got {list(self.images)}")
        if not 0 <= self.variation <= 1:
            raise ValueError(f"variation must be from 0 to 1; got {self.variation}")
        if self.variation and self.variation_seed is None:
            raise ValueError("a variation needs a variation_seed")


def source(
    kind: str,
    seed: int,
    images: Sequence[int],
    count: int,
    shape: tuple[int, ...],
    device: torch.device | str = "cpu",
    *,
    variation: float = 0.0,
    variation_seed: int | None = None,
) -> NoiseAt:
    """The noise of a batch of pictures, `noise(step, draw)` [len(images), *shape], always made on the CPU and then sent to the device.

    A picture's noise is the same alone and in any batch. Sources other than native are sequential (`Sequential`), and what torch draws
    after the first depends on `count` as well.

    Args:
        kind: one of SOURCES.
        seed: from 0 to 2**64 - 1.
        images: the numbers of the batch's pictures, e.g. range(4).
        count: how many pictures the whole request has.
        shape: of one picture's latent, (C, H, W).
        device: where the noise goes.
        variation: share of the way to the noise of variation_seed, from 0 to 1.
        variation_seed: like seed; required if there is a variation.

    Raises:
        KeyError: no such kind. ValueError: see `Asked`, and a seed + number past 2**64 - 1.
    """
    return SOURCES[kind](Asked(seed, images, count, shape, device, variation, variation_seed))


class Sequential:
    """Noise of generators that only go forwards: the n-th request is the n-th draw, whichever step and draw it is for.

    ValueError if asked for what it has given, or has passed.
    """

    def __init__(self, draws: Iterator[Tensor], device: torch.device | str = "cpu") -> None:
        self._draws, self._device, self._last = draws, device, (-1, 0)

    def __call__(self, step: int, draw: int = 0) -> Float32[Tensor, " B *S"]:
        if (step, draw) <= self._last:
            raise ValueError(f"this source draws in order; (step, draw) {(step, draw)} was asked for after {self._last}")
        self._last = step, draw
        return next(self._draws).to(self._device)


@dataclass(frozen=True)
class Between:
    """Noise between that of two independent sources, in every draw: each `share` of the way from low to high is standard normal.

    Spherical interpolation at a right angle, the one that independent noise has in many dimensions (White 2016, arXiv 1609.04468): nothing
    is measured, so that the result is exactly normal and the same wherever it is made.
    """

    low: NoiseAt
    high: NoiseAt
    share: float
    device: torch.device | str = "cpu"

    def __call__(self, step: int, draw: int = 0) -> Float32[Tensor, " B *S"]:
        low, high = self.low(step, draw), self.high(step, draw)
        # Both as sines: that of 0 is exactly 0, which the cosine of a right angle is not.
        return (low * math.sin((1 - self.share) * math.pi / 2) + high * math.sin(self.share * math.pi / 2)).to(self.device)


def native(asked: Asked) -> NoiseAt:
    """`Noise`; a variation of picture i lies between the i-th pictures of the two seeds, in every step."""
    noise = Noise(asked.seed, asked.images, asked.shape, asked.device)
    if not asked.variation or asked.variation_seed is None or asked.variation_seed == asked.seed:
        return noise
    low, high = (Noise(seed, asked.images, asked.shape) for seed in (asked.seed, asked.variation_seed))
    return Between(low, high, asked.variation, asked.device)


def whole_batch(asked: Asked) -> NoiseAt:
    """torch: one generator for all `count` pictures, drawn whole for any part of them; a variation as in `native`."""
    images, shape = list(asked.images), (asked.count, *asked.shape)

    def noise(seed: int, device: torch.device | str) -> NoiseAt:
        return Sequential((draw[images] for draw in torch_draws(seed, shape)), device)

    if not asked.variation or asked.variation_seed is None or (asked.variation_seed - asked.seed) % 2**32 == 0:
        return noise(asked.seed, asked.device)
    return Between(noise(asked.seed, "cpu"), noise(asked.variation_seed, "cpu"), asked.variation, asked.device)


def each_picture(stream: Callable[[int, tuple[int, ...]], Iterator[Tensor]], asked: Asked) -> NoiseAt:
    """A1111: a generator for each picture, of seed + its number.

    In a variation all pictures share the seed, and the variation seed moves on with their number. It changes the initial noise alone.

    Source: `ImageRNG` in modules/rng.py, and `process_images_inner` in modules/processing.py.
    """

    def draws(seeds: Iterator[int]) -> Iterator[Tensor]:
        return (torch.stack(pictures) for pictures in zip(*(stream(seed, asked.shape) for seed in seeds), strict=True))

    if not asked.variation or asked.variation_seed is None:
        return Sequential(draws(_numbered(asked.seed, asked.images)), asked.device)
    steps = draws(itertools.repeat(asked.seed, len(asked.images)))
    ends = zip(next(steps), next(draws(_numbered(asked.variation_seed, asked.images))), strict=True)
    first = torch.stack([slerp(low, high, asked.variation) for low, high in ends])
    return Sequential(itertools.chain([first], steps), asked.device)


def slerp(low: Float32[Tensor, "C H W"], high: Float32[Tensor, "C H W"], share: float) -> Float32[Tensor, "C H W"]:
    """From low to high along great circles, each column of a channel on its own: A1111's `slerp` (modules/rng.py).

    Where the two are nearly the same it interpolates linearly, and the wrong way round, which is kept.
    """
    units: list[Tensor] = [end / torch.linalg.vector_norm(end, dim=1, keepdim=True) for end in (low, high)]
    dot = (units[0] * units[1]).sum(1, keepdim=True)
    if dot.mean() > 0.9995:
        return low * share + high * (1 - share)
    angle = dot.acos()
    return ((1 - share) * angle).sin() / angle.sin() * low + (share * angle).sin() / angle.sin() * high


def torch_draws(seed: int, shape: tuple[int, ...]) -> Iterator[Tensor]:
    """What `torch.randn` of a CPU generator with this seed gives, time after time: the Mersenne Twister, on one thread."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(shape, generator=generator, dtype=torch.float32)


def nv_draws(seed: int, shape: tuple[int, ...]) -> Iterator[Tensor]:
    """What A1111's emulation of `torch.randn` on a GPU gives, time after time."""
    for draw in itertools.count():
        yield torch.from_numpy(nv_normal(seed, draw, math.prod(shape))).reshape(shape)


def nv_normal(seed: int, draw: int, count: int) -> NDArray[np.float32]:
    """The first `count` < 2**32 numbers of one draw, standard normal.

    Philox 4x32-10 (Salmon et al. 2011) with the seed as its key and (draw, 0, i, 0) as the counter of number i, as CUDA's threads count;
    of its four words two are used, and of the two numbers that Box & Muller (1958) make of these, one. Source: modules/rng_philox.py of
    A1111, float64 until the end as there.
    """
    low, half = np.uint64(2**32 - 1), np.uint64(32)
    counter = np.zeros((4, count), np.uint64)
    counter[0], counter[2] = draw, np.arange(count)
    c0, c1, c2, c3 = counter
    for i in range(10):
        k0, k1 = np.uint64((seed + i * 0x9E3779B9) % 2**32), np.uint64(((seed >> 32) + i * 0xBB67AE85) % 2**32)
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ k0, p1 & low, (p0 >> half) ^ c3 ^ k1, p0 & low
    turn = float(np.float32(2 * math.pi * 2**-32))
    radius, angle = np.sqrt(-2 * np.log(c0 * 2.0**-32 + 2.0**-33)), c1 * turn + turn / 2
    normal: NDArray[np.float32] = (radius * np.sin(angle)).astype(np.float32)
    return normal


def _numbered(seed: int, images: Sequence[int]) -> Iterator[int]:
    """Each picture's own seed. ValueError past the last of 64 bits."""
    if seed + max(images) >= _END:
        raise ValueError(f"the seed of picture {max(images)} is {seed} + {max(images)}, past the last, 2**64 - 1")
    return (seed + image for image in images)


SOURCES: dict[str, Callable[[Asked], NoiseAt]] = {
    "native": native,
    "torch": whole_batch,
    "a1111-cpu": lambda asked: each_picture(torch_draws, asked),
    "a1111-nv": lambda asked: each_picture(nv_draws, asked),
}
