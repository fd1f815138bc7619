"""Samplers: from noise to a picture, one step at a time.

A sampler is a generator over a descending list of sigmas; progress, preview and cancellation are its caller's `for` loop. It knows one
state, x = x0 + sigma * noise, and one function, denoise(x, sigma) -> x0: no alphas, no prediction type, no guidance, no masks.

In the equations D = denoise(x, s) is the expected x0, s and s' are the sigmas that a step starts from and goes to, and r = s' / s.
Updates are written as D + (x - D) * ..., which is exactly D at s' = 0 and loses nothing in float32 at the sigmas of zero-terminal-SNR
schedules.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from sumi.diffusion.guidance import Denoise

NoiseAt = Callable[[int], Tensor]
"""step -> standard normal noise like x. Step 0 is the initial noise; a sampler asks for 1, 2, ... and only when it uses them."""


@dataclass(frozen=True)
class Step:
    """What a sampler yields after each step.

    Attributes:
        index: 0, 1, ...
        sigma: the noise level that x has now.
        x: the state.
        denoised: the x0 that was predicted at the start of the step.
    """

    index: int
    sigma: Float[Tensor, ""]
    x: Float[Tensor, "B C H W"]
    denoised: Float[Tensor, "B C H W"]


def start(noise: Float[Tensor, "B C H W"], sigma: Float[Tensor, ""]) -> Float[Tensor, "B C H W"]:
    """The initial state for pure noise: with the variance that noised data of unit variance have at sigma."""
    return noise * (1 + sigma**2).sqrt()


def finish(x: Float[Tensor, "B C H W"], sigma: Float[Tensor, ""]) -> Float[Tensor, "B C H W"]:
    """The latent to decode. When sampling ends at sigma(t=0) rather than 0, the reference DDIM leaves x in its own scale."""
    return x / (1 + sigma**2).sqrt()


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
        direction, random = _split(s, s_next, eta)
        x = d + (x - d) * (direction / s)
        if random > 0:
            x = x + noise(i + 1) * random
        yield Step(i, s_next, x, d)


def euler(denoise: Denoise, x: Float[Tensor, "B C H W"], sigmas: Float[Tensor, " N"], noise: NoiseAt) -> Iterator[Step]:
    """Euler's method on the probability flow dx/ds = (x - D) / s (Karras et al. 2022, equation 3; algorithm 1 without its corrector)."""
    for i, (s, s_next) in enumerate(pairwise(sigmas)):
        d = denoise(x, s)
        x = d + (x - d) * (s_next / s)
        yield Step(i, s_next, x, d)


def euler_ancestral(
    denoise: Denoise, x: Float[Tensor, "B C H W"], sigmas: Float[Tensor, " N"], noise: NoiseAt, eta: float = 1.0
) -> Iterator[Step]:
    """An Euler step down past s', then fresh noise up to it (Song et al. 2021b, appendix F, as in k-diffusion).

    eta in [0, 1] is the share of fresh noise. In this state it is DDIM(eta), with full noise by default.
    """
    for i, (s, s_next) in enumerate(pairwise(sigmas)):
        d = denoise(x, s)
        down, up = _split(s, s_next, eta)
        x = d + (x - d) * (down / s)
        if up > 0:
            x = x + noise(i + 1) * up
        yield Step(i, s_next, x, d)


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


def _split(s: Tensor, s_next: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """s' into a deterministic and a random part, the squares of which sum to s'^2."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be from 0 to 1; got {eta}")
    r = s_next / s
    # Not sqrt(s'^2 - random^2), in which a small r drowns.
    return s_next * ((1 - eta**2) + (eta * r) ** 2).sqrt(), s_next * eta * (1 - r**2).sqrt()


@dataclass(frozen=True)
class Sampler:
    """A row of `SAMPLERS`.

    Attributes:
        function: (denoise, x, sigmas, noise, **options) -> Iterator[Step].
        options: the names of its options, with their defaults.
        calls: network calls a step, before guidance.
        ends_early: whether it ends where the schedule says, which for published models is sigma(t=0). Only the reference DDIM does;
            every other published sampler goes on to 0.
    """

    function: Callable[..., Iterator[Step]]
    options: Mapping[str, float]
    calls: int = 1
    ends_early: bool = False


SAMPLERS: dict[str, Sampler] = {
    "ddpm": Sampler(ddpm, {}),
    "ddim": Sampler(ddim, {"eta": 0.0}, ends_early=True),
    "euler": Sampler(euler, {}),
    "euler_ancestral": Sampler(euler_ancestral, {"eta": 1.0}),
    "heun": Sampler(heun, {}, calls=2),
    "dpmpp_2m": Sampler(dpmpp_2m, {}),
}
