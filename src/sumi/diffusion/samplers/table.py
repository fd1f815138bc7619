"""Every sampler by name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf

from sumi.diffusion.samplers.few_step import lcm, tcd
from sumi.diffusion.samplers.first_order import ddim, ddpm, euler, euler_ancestral
from sumi.diffusion.samplers.multistep import deis, dpmpp_2m, ipndm, lms, plms, res_multistep, unipc
from sumi.diffusion.samplers.single_step import dpm2, dpm2_ancestral, dpmpp_2s_ancestral, heun
from sumi.diffusion.samplers.step import Step
from sumi.diffusion.samplers.stochastic import dpmpp_2m_sde, dpmpp_3m_sde, dpmpp_sde, er_sde, restart, sa_solver

CHURN = {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": inf, "s_noise": 1.0}
ANCESTRAL = {"eta": 1.0, "s_noise": 1.0}


@dataclass(frozen=True)
class Sampler:
    """A row of `SAMPLERS`.

    Attributes:
        function: (denoise, x, sigmas, noise, **options) -> Iterator[Step].
        options: the names of its options, with their defaults; where that is an int, so is every value.
        order: of convergence to the probability flow on a smooth grid of sigmas, with eta, tau or gamma at 0 and the other options as they
            are; 0 if it does not go along the flow. Multistep samplers, which begin with steps of lower order, have it as far as that does
            not show: these are short, or at high sigmas, where the flow forgets.
        calls: network calls a step, before guidance.
        ends_early: whether it ends where the schedule says, which for published models is sigma(t=0). Only CompVis' own, DDIM and PLMS, do;
            every other published sampler goes on to 0.
        stochastic: whether it draws noise on the way when its options are left at their defaults.
        discards_penultimate: whether the programs that it comes from make n + 1 sigmas for n steps and leave out the last before the end.
    """

    function: Callable[..., Iterator[Step]]
    options: Mapping[str, int | float]
    order: int = 1
    calls: int = 1
    ends_early: bool = False
    stochastic: bool = False
    discards_penultimate: bool = False


SAMPLERS: dict[str, Sampler] = {
    "ddpm": Sampler(ddpm, {}, stochastic=True),
    "ddim": Sampler(ddim, {"eta": 0.0}, ends_early=True),
    "plms": Sampler(plms, {}, order=2, ends_early=True),
    "euler": Sampler(euler, CHURN),
    "euler_ancestral": Sampler(euler_ancestral, ANCESTRAL, stochastic=True),
    "heun": Sampler(heun, CHURN, order=2, calls=2),
    "lms": Sampler(lms, {"order": 4}, order=4),
    "dpm2": Sampler(dpm2, CHURN, order=2, calls=2, discards_penultimate=True),
    "dpm2_ancestral": Sampler(dpm2_ancestral, ANCESTRAL, order=2, calls=2, stochastic=True, discards_penultimate=True),
    "dpmpp_2s_ancestral": Sampler(dpmpp_2s_ancestral, ANCESTRAL, order=2, calls=2, stochastic=True),
    "dpmpp_2m": Sampler(dpmpp_2m, {}, order=2),
    "unipc": Sampler(unipc, {"order": 2, "bh": 2, "corrector": 1}, order=3),
    "deis": Sampler(deis, {"order": 3}, order=3),
    "ipndm": Sampler(ipndm, {"order": 4}, order=2),
    "res_multistep": Sampler(res_multistep, {"eta": 0.0, "s_noise": 1.0}, order=2),
    "dpmpp_sde": Sampler(dpmpp_sde, {**ANCESTRAL, "r": 0.5}, order=2, calls=2, stochastic=True),
    "dpmpp_2m_sde": Sampler(dpmpp_2m_sde, {**ANCESTRAL, "heun": 0}, order=2, stochastic=True),
    "dpmpp_3m_sde": Sampler(dpmpp_3m_sde, ANCESTRAL, order=2, stochastic=True, discards_penultimate=True),
    "sa_solver": Sampler(
        sa_solver,
        {"predictor_order": 2, "corrector_order": 2, "tau": 1.0, "s_tmin": 0.57, "s_tmax": 5.12, "s_noise": 1.0},
        order=2,
        stochastic=True,
    ),
    "er_sde": Sampler(er_sde, {"order": 3, **ANCESTRAL}, order=2, stochastic=True),
    "restart": Sampler(restart, {"low": 0.1, "high": 2.0, "steps": 9, "times": 1, "s_noise": 1.0}, order=2, calls=2, stochastic=True),
    "lcm": Sampler(lcm, {}, order=0, stochastic=True),
    "tcd": Sampler(tcd, {"gamma": 0.3}, stochastic=True),
}
