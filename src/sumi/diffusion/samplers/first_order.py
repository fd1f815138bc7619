"""Samplers of first order: one network call a step, exact when D does not change.

Legend: see `sumi.diffusion.samplers.step`.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from math import inf

from jaxtyping import Float
from torch import Tensor

from sumi.diffusion.guidance import Denoise
from sumi.diffusion.samplers.churn import churn
from sumi.diffusion.samplers.step import NoiseAt, Step, ancestral


def ddpm(denoise: Denoise, x: Float[Tensor, "B C H W"], sigmas: Float[Tensor, " N"], noise: NoiseAt) -> Iterator[Step]:
    """Ancestral sampling (Ho et al. 2020, algorithm 2), on any subsequence of the training steps.

    The posterior of their equations 6 and 7, divided by sqrt(abar'), has mean D + r^2 (x - D) and variance s'^2 (1 - r^2).
    """
    for i, (s, s_next) in enumerate(pairwise(sigmas)):
        d = denoise(x, s)
        r = s_next / s
        x = d + (x - d) * r**2
        if s_next > 0:
            x = x + noise(i + 1) * (s_next * (1 - r**2).sqrt())
        yield Step(i, s_next, x, d)


def ddim(denoise: Denoise, x: Float[Tensor, "B C H W"], sigmas: Float[Tensor, " N"], noise: NoiseAt, eta: float = 0.0) -> Iterator[Step]:
    """DDIM (Song et al. 2021, equations 12 and 16): predicted x0 + direction pointing to x_t + random noise.

    Divided by sqrt(abar'), their sigma_t is s' eta sqrt(1 - r^2). eta in [0, 1]: 0 is deterministic, 1 is DDPM.
    """
    for i, (s, s_next) in enumerate(pairwise(sigmas)):
        d = denoise(x, s)
        direction, random = ancestral(s, s_next, eta)
        x = d + (x - d) * (direction / s)
        if random > 0:
            x = x + noise(i + 1) * random
        yield Step(i, s_next, x, d)


def euler(
    denoise: Denoise,
    x: Float[Tensor, "B C H W"],
    sigmas: Float[Tensor, " N"],
    noise: NoiseAt,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = inf,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """Euler's method on the probability flow dx/ds = (x - D) / s (Karras et al. 2022, equation 3; algorithm 2 without its corrector).

    With s_churn above 0, each step within [s_tmin, s_tmax] begins with fresh noise: see `sumi.diffusion.samplers.churn`.
    """
    for i, (s, s_next) in enumerate(pairwise(sigmas)):
        x, s_hat = churn(x, s, partial(noise, i + 1), s_churn / (len(sigmas) - 1), s_tmin, s_tmax, s_noise)
        d = denoise(x, s_hat)
        x = d + (x - d) * (s_next / s_hat)
        yield Step(i, s_next, x, d)


def euler_ancestral(
    denoise: Denoise,
    x: Float[Tensor, "B C H W"],
    sigmas: Float[Tensor, " N"],
    noise: NoiseAt,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """An Euler step down past s', then fresh noise up to it (Song et al. 2021b, appendix F, as in k-diffusion).

    eta in [0, 1] is the share of fresh noise, which s_noise scales. In this state it is DDIM(eta), with full noise by default.
    """
    for i, (s, s_next) in enumerate(pairwise(sigmas)):
        d = denoise(x, s)
        down, up = ancestral(s, s_next, eta)
        x = d + (x - d) * (down / s)
        random = up * s_noise
        if random != 0:
            x = x + noise(i + 1) * random
        yield Step(i, s_next, x, d)
