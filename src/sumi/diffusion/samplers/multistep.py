"""Samplers of higher order that remember what the network said at earlier steps: one call a step.

Legend: see `sumi.diffusion.samplers.step`.
"""

from collections.abc import Iterator
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from sumi.diffusion.guidance import Denoise
from sumi.diffusion.samplers.step import NoiseAt, Step


def dpmpp_2m(denoise: Denoise, x: Float[Tensor, "B C H W"], sigmas: Float[Tensor, " N"], noise: NoiseAt) -> Iterator[Step]:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2): a two-step method, exponential in log sigma, on D.

    With h = log(s / s'), x' = r x + (1 - exp(-h)) (D + (D - D_old) h / (2 h_old)); the first step, and a step to 0, are of first order.
    """
    old: tuple[Tensor, Tensor] | None = None
    for i, (s, s_next) in enumerate(pairwise(sigmas)):
        d = denoise(x, s)
        h = (s / s_next).log()
        ahead = d
        if old is not None and s_next > 0:
            d_old, h_old = old
            ahead = d + (d - d_old) * (h / (2 * h_old))
        x = ahead + (x - ahead) * (s_next / s)
        old = d, h
        yield Step(i, s_next, x, d)
