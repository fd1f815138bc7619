"""Weights of the multistep samplers: integrals over a step of the polynomials through what the network said at its earlier ones.

A multistep method replaces a function, of which it knows values v_k at nodes u_k, by the polynomial through them, and integrates that
from 0, where the step starts and u_0 is, to h, where it ends: sum of w_k v_k, with w_k the integral of the Lagrange basis polynomial l_k
(Hairer, Norsett & Wanner 1993, Solving Ordinary Differential Equations I, sections III.1 and III.5). Newest values and nodes come first.
"""

import math
from collections.abc import Sequence

from torch import Tensor

# Adams-Bashforth on equal steps, by number of values, newest first (Hairer et al. 1993, equation III.1.5).
BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def bend(weights: Sequence[float], values: Sequence[Tensor]) -> Tensor | float:
    """sum of w_k v_k, less what v_0 alone would give: the step of first order carries that without loss at any sigma."""
    return sum((w * (v - values[0]) for w, v in zip(weights[1:], values[1:], strict=True)), start=0.0)


def polynomial(nodes: Sequence[float], h: float) -> list[float]:
    """Integrals of l_k(u) du from 0 to h."""
    return lagrange(nodes, [h ** (m + 1) / (m + 1) for m in range(len(nodes))])


def exponential(nodes: Sequence[float], h: float) -> list[float]:
    """Integrals of l_k(u) exp(u - h) du from 0 to h; the moments follow by parts. h may be negative."""
    moments = [-math.expm1(-h)]
    for m in range(1, len(nodes)):
        moments.append(h**m - m * moments[-1])
    return lagrange(nodes, moments)


def lagrange(nodes: Sequence[float], moments: Sequence[float]) -> list[float]:
    """Integrals of l_k under a measure of which the moments, the integrals of u^0, u^1, ..., are given."""
    weights = []
    for k, node in enumerate(nodes):
        basis = [1.0]  # of l_k, by power of u, lowest first
        for other in [*nodes[:k], *nodes[k + 1 :]]:
            basis = [(low - other * high) / (node - other) for low, high in zip([0.0, *basis], [*basis, 0.0], strict=True)]
        weights.append(sum(c * moment for c, moment in zip(basis, moments, strict=True)))
    return weights


def logs(levels: Sequence[float], i: int, count: int) -> list[float]:
    """The last `count` sigmas, newest first, as u = log(sigma_i / sigma): 0, then the earlier ones, which are negative."""
    return [math.log(levels[i] / levels[i - k]) for k in range(count)]
