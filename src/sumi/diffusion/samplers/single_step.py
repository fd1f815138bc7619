"""Samplers of higher order that look ahead within a step, and remember nothing.

Legend: see `sumi.diffusion.samplers.step`.
"""

from collections.abc import Iterator
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from sumi.diffusion.guidance import Denoise
from sumi.diffusion.samplers.step import NoiseAt, Step


def heun(denoise: Denoise, x: Float[Tensor, "B C H W"], sigmas: Float[Tensor, " N"], noise: NoiseAt) -> Iterator[Step]:
    """Heun's second-order method on the probability flow (Karras et al. 2022, algorithm 1): an Euler step, then the mean of both slopes.

    The denoiser is called twice a step, but once in a step to 0: 2n - 1 calls for n steps that end there.
    """
    for i, (s, s_next) in enumerate(pairwise(sigmas)):
        d = denoise(x, s)
        trial = d + (x - d) * (s_next / s)
        if s_next > 0:
            slope, slope_next = (x - d) / s, (trial - denoise(trial, s_next)) / s_next
            trial = trial + (slope_next - slope) * ((s_next - s) / 2)
        x = trial
        yield Step(i, s_next, x, d)
