from dataclasses import replace

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sumi.config import ScheduleConfig
from sumi.diffusion.schedule import Schedule

# diffusers hands tensors to numpy in a way that numpy 2 is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BASE = ScheduleConfig()
SD = Schedule(BASE)
COSINE = Schedule(replace(BASE, kind="cosine"))
ZERO_SNR = Schedule(replace(BASE, zero_terminal_snr=True))
SCHEDULES = [SD, COSINE, ZERO_SNR, Schedule(replace(BASE, kind="linear", start=1e-4, end=0.02, steps=60))]
DIFFUSERS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize(
    ("start", "end", "first", "last", "smallest", "largest"),
    [
        (0.00085, 0.0120, 0.99915, 0.0046600985, 0.0291672, 14.6146412),  # Stable Diffusion 1, 2, XL
        (0.0015, 0.0195, 0.9985, 0.0001423040, 0.0387589, 83.8224945),  # latent diffusion: faces, bedrooms, classes
        (0.0015, 0.0155, 0.9985, 0.0006686652, 0.0387589, 38.6589808),  # latent diffusion: churches, super-resolution
        (0.0015, 0.0205, 0.9985, 0.0000969109, 0.0387589, 101.5763764),  # latent diffusion: inpainting, semantic maps
        (0.0001, 0.02, 0.9999, 0.0007334125, 0.0100005, 36.9119120),  # x4 upscaler
        (0.0015, 0.015, 0.9985, 0.0008125185, 0.0387589, 35.0676668),  # retrieval-augmented
    ],
)
def test_published_schedules(start, end, first, last, smallest, largest):
    schedule = Schedule(replace(BASE, start=start, end=end))
    close = {"rel": 1e-7, "abs": 5e-8}
    assert schedule.alphas_cumprod[0].item() == pytest.approx(first, **close)
    assert schedule.alphas_cumprod[-1].item() == pytest.approx(last, rel=1e-7, abs=5e-11)
    assert schedule.sigmas[0].item() == pytest.approx(smallest, **close)
    assert schedule.sigmas[-1].item() == pytest.approx(largest, **close)


@pytest.mark.parametrize(("kind", "theirs"), [("scaled_linear", "scaled_linear"), ("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_alphas_cumprod_are_those_of_diffusers(kind, theirs):
    reference = diffusers.DDPMScheduler(**DIFFUSERS | {"beta_schedule": theirs}).alphas_cumprod
    # Theirs are computed in float32.
    torch.testing.assert_close(Schedule(replace(BASE, kind=kind)).alphas_cumprod, reference, rtol=3e-5, atol=0)


def test_tables_are_float32_of_float64_arithmetic():
    schedule = Schedule(BASE)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    exact = (1 / torch.cumprod(1 - betas, 0) - 1).sqrt()
    assert schedule.sigmas.dtype == schedule.alphas_cumprod.dtype == torch.float32
    torch.testing.assert_close(schedule.sigmas.double(), exact, rtol=6e-8, atol=0)


def test_zero_terminal_snr_keeps_the_first_step_and_clamps_the_last():
    torch.testing.assert_close(ZERO_SNR.alphas_cumprod[0], SD.alphas_cumprod[0], rtol=1e-7, atol=0)
    assert ZERO_SNR.alphas_cumprod[-1] == 2**-24
    assert ZERO_SNR.sigmas[-1].item() == pytest.approx(4096, rel=1e-6)
    reference = diffusers.EulerDiscreteScheduler(**DIFFUSERS, rescale_betas_zero_snr=True).alphas_cumprod
    # Theirs go through betas in float32, which costs digits towards the end.
    torch.testing.assert_close(ZERO_SNR.alphas_cumprod, reference, rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_sigmas_are_strictly_increasing_and_finite(schedule):
    assert (schedule.sigmas.diff() > 0).all()
    assert schedule.sigmas.isfinite().all()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sigma_and_t_are_exact_at_table_entries(schedule, dtype):
    t = torch.arange(len(schedule.sigmas))
    assert torch.equal(schedule.sigma(t), schedule.sigmas)
    assert torch.equal(schedule.sigma(t.to(dtype)), schedule.sigmas.to(dtype))
    assert torch.equal(schedule.t(schedule.sigmas.to(dtype)), t.to(dtype))


def test_t_of_sigma_one_interpolates_log_sigma():
    assert SD.t(torch.tensor(1.0)).item() == pytest.approx(353.8904, abs=1e-4)
    low, high = SD.sigmas[353].log(), SD.sigmas[354].log()
    torch.testing.assert_close(SD.sigma(torch.tensor(353.25)).log(), low + 0.25 * (high - low), rtol=1e-6, atol=1e-7)


def test_t_and_sigma_are_clamped_at_the_ends():
    assert SD.t(torch.tensor([0.0, 1e-9, 1e9])).tolist() == [0, 0, 999]
    assert torch.equal(SD.sigma(torch.tensor([-3.0, 1e6])), SD.sigmas[[0, -1]])


@given(st.floats(0, 999), st.sampled_from([SD, COSINE, ZERO_SNR]))
@settings(max_examples=50, deadline=None)
def test_t_inverts_sigma(t, schedule):
    t = torch.tensor(t, dtype=torch.float64)
    torch.testing.assert_close(schedule.t(schedule.sigma(t)), t, rtol=0, atol=2e-5)
    # The last digit of a float32 sigma, counted in steps.
    torch.testing.assert_close(schedule.t(schedule.sigma(t.float())), t.float(), rtol=0, atol=1e-3)
