"""Samplers, step by step, against k-diffusion, the code that their common names come from; in float64.

Conventions where they differ:
- It draws where the noise comes to nothing: at churn 0, and at eta 0.
- Its LMS takes a step to 0 of full order, and so misses what the network predicted last; ours, as every sampler of ours, ends on that.
"""

import pytest
import torch

from published import k_diffusion_sampling
from sumi.config import ScheduleConfig
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.denoiser import Denoiser
from sumi.diffusion.guidance import unguided
from sumi.diffusion.noise import Noise
from sumi.diffusion.samplers.step import start
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.diffusion.schedule import Schedule
from sumi.diffusion.spacings import spaced

SCHEDULE = Schedule(ScheduleConfig())
CHURN = {"s_churn": 4.0, "s_tmin": 0.1, "s_tmax": 10.0, "s_noise": 1.003}
ANCESTRAL = [{}, {"eta": 0.5, "s_noise": 0.9}, {"eta": 0.0}]


def noise(step, draw=0):
    return Noise(9, range(2), (4, 8, 8))(step, draw).double()


@pytest.fixture
def published():
    return k_diffusion_sampling()


@pytest.fixture
def denoise(network):
    return unguided(Denoiser(network, SCHEDULE, "eps"), Conditioning())


def assert_same_states(function, published, denoise, sigmas, monkeypatch, **options):
    """At the start of every step and at the end. Its noise is ours: that of the step it is in."""
    x, step, theirs = start(noise(0), sigmas[0]), 0, []

    def model(x, sigma):
        assert sigma.unique().numel() == 1
        return denoise(x, sigma[0])

    def watch(state):
        nonlocal step
        theirs.append(state["denoised"])
        step = state["i"] + 1

    monkeypatch.setattr(published.torch, "randn_like", lambda like: noise(step + 1))
    if "eta" in SAMPLERS[function].options:
        options["noise_sampler"] = lambda sigma, sigma_next: noise(step)
    name = {"dpm2": "sample_dpm_2", "dpm2_ancestral": "sample_dpm_2_ancestral"}.get(function, f"sample_{function}")
    end = getattr(published, name)(model, x, sigmas, callback=watch, disable=True, **options)
    options.pop("noise_sampler", None)
    ours = list(SAMPLERS[function].function(denoise, x, sigmas, noise, **options))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.denoised, b, rtol=0, atol=1e-9)
    return ours[-1].x, end


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, options) for name in ("euler", "heun", "dpm2") for options in ({}, CHURN)),
        *((name, options) for name in ("euler_ancestral", "dpm2_ancestral", "dpmpp_2s_ancestral") for options in ANCESTRAL),
        ("dpmpp_2m", {}),
    ],
)
@pytest.mark.parametrize("spacing", ["karras", "trailing"])
def test_a_run_to_0(published, denoise, monkeypatch, name, options, spacing):
    sigmas = spaced(SCHEDULE, 9, spacing, to_zero=True).double()
    ours, theirs = assert_same_states(name, published, denoise, sigmas, monkeypatch, **options)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("end", ["above 0", "at 0"])
def test_lms(published, denoise, monkeypatch, order, end):
    sigmas = spaced(SCHEDULE, 9, "karras", to_zero=True).double()
    sigmas = sigmas if end == "at 0" else sigmas[:-1]
    ours, theirs = assert_same_states("lms", published, denoise, sigmas, monkeypatch, order=order)
    last_of_full_order = end == "at 0" and order > 1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-2 if last_of_full_order else 1e-9)
