"""Every sampler by name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sumi.diffusion.samplers.first_order import ddim, ddpm, euler, euler_ancestral
from sumi.diffusion.samplers.multistep import dpmpp_2m
from sumi.diffusion.samplers.single_step import heun
from sumi.diffusion.samplers.step import Step


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
