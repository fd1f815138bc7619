"""Fresh noise for samplers of the probability flow: a little is added before each step, which then removes it too."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

HIGHEST = 2**0.5 - 1  # no more new noise than there is


def churn(
    x: Float[Tensor, "B C H W"],
    s: Float[Tensor, ""],
    draw: Callable[[], Tensor],
    rate: float,
    s_tmin: float,
    s_tmax: float,
    s_noise: float,
) -> tuple[Tensor, Tensor]:
    """The state and its level after the noise that Karras et al. 2022, algorithm 2, lines 5 and 6, add: from s up to s (1 + gamma).

    gamma is rate, their S_churn / N, but at most sqrt(2) - 1, and 0 where s is not in [s_tmin, s_tmax]; the noise is scaled by s_noise.
    Nothing is drawn where gamma is 0. ValueError if the rate is negative.
    """
    if rate < 0:
        raise ValueError("s_churn must not be negative")
    if rate == 0 or not s_tmin <= s <= s_tmax:
        return x, s
    gamma = min(rate, HIGHEST)
    return x + draw() * (s * (s_noise * (gamma * (2 + gamma)) ** 0.5)), s * (1 + gamma)
