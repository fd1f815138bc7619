from dataclasses import replace

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sumi.config import ScheduleConfig
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.diffusion.schedule import Schedule
from sumi.diffusion.spacings import SPACINGS, spaced

# diffusers hands tensors to numpy in a way that numpy 2 is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BASE = ScheduleConfig()
SD = Schedule(BASE)
COSINE = Schedule(replace(BASE, kind="cosine"))
ZERO_SNR = Schedule(replace(BASE, zero_terminal_snr=True))
SCHEDULES = [SD, COSINE, ZERO_SNR, Schedule(replace(BASE, kind="linear", start=1e-4, end=0.02, steps=60))]
DIFFUSERS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SOME_STEPS = [1, 2, 3, 7, 10, 20, 25, 30, 50, 100, 333, 500, 999]


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


@given(st.sampled_from(SCHEDULES), st.sampled_from(sorted(SPACINGS)), st.booleans(), st.integers(0, 5), st.data())
@settings(max_examples=100, deadline=None)
def test_every_spacing_is_strictly_descending_and_ends_as_configured(schedule, spacing, to_zero, offset, data):
    total = len(schedule.sigmas)
    steps = data.draw(st.integers(1, total))
    schedule = Schedule(replace(schedule.config, final_sigma_zero=to_zero, steps_offset=offset))
    sigmas = spaced(schedule, steps, spacing)
    assert sigmas.shape == (steps + 1,)
    assert sigmas.dtype == torch.float32
    assert (sigmas.diff() < 0).all()
    assert sigmas[0] <= schedule.sigmas[-1]
    assert sigmas[-2] >= schedule.sigmas[0]
    visits_zero = sigmas[-2] == schedule.sigmas[0]
    assert sigmas[-1] == (0 if to_zero or visits_zero else schedule.sigmas[0])


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_as_many_steps_as_in_training_take_every_one(spacing):
    sigmas = spaced(SD, 1000, spacing)
    assert torch.equal(sigmas, torch.cat([SD.sigmas.flip(0), torch.zeros(1)]))


@pytest.mark.parametrize("steps", [0, -1, 1001])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_impossible_step_counts_are_refused(steps, spacing):
    with pytest.raises(ValueError, match=rf"steps must be from 1 to 1000.*got {steps}"):
        spaced(SD, steps, spacing)


@pytest.mark.parametrize(
    ("spacing", "sigmas"),
    [
        ("leading", [8.3907, 5.1344, 3.3478, 2.2929, 1.6237, 1.1682, 0.8357, 0.5741, 0.3462, 0.0413]),
        ("trailing", [14.6146, 8.3028, 5.0878, 3.3211, 2.2765, 1.6129, 1.1606, 0.8299, 0.5693, 0.3417]),
        ("linspace", [14.6146, 7.8399, 4.6092, 2.9183, 1.9502, 1.3449, 0.9324, 0.6250, 0.3687, 0.0292]),
        ("karras", [14.6146, 9.1029, 5.4784, 3.1686, 1.7494, 0.9141, 0.4469, 0.2014, 0.0819, 0.0292]),
    ],
)
def test_ten_steps_of_stable_diffusion(spacing, sigmas):
    assert spaced(SD, 10, spacing)[:-1].tolist() == pytest.approx(sigmas, abs=5e-5)


@pytest.mark.parametrize("steps", SOME_STEPS)
@pytest.mark.parametrize("offset", [0, 1])
def test_leading_is_that_of_diffusers_ddim(steps, offset):
    reference = diffusers.DDIMScheduler(**DIFFUSERS, timestep_spacing="leading", steps_offset=offset)
    reference.set_timesteps(steps)
    ours = spaced(Schedule(replace(BASE, steps_offset=offset)), steps, "leading")[:-1]
    assert torch.equal(SD.t(ours).long(), reference.timesteps)


@pytest.mark.parametrize("steps", [*SOME_STEPS, 61, 1000])
def test_trailing_is_that_of_diffusers_ddim(steps):
    reference = diffusers.DDIMScheduler(**DIFFUSERS, timestep_spacing="trailing")
    reference.set_timesteps(steps)
    # At 61 and 999, and fifty others, their floating-point arange runs over its end and adds a step at t = -1.
    assert torch.equal(SD.t(spaced(SD, steps, "trailing")[:-1]).long(), reference.timesteps[:steps])


@pytest.mark.parametrize("steps", [4, 10, 28, 38, 112])
def test_linspace_is_that_of_diffusers_euler(steps):
    reference = diffusers.EulerDiscreteScheduler(**DIFFUSERS, timestep_spacing="linspace")
    reference.set_timesteps(steps)
    # These step counts visit whole t, where their interpolation (linear in sigma) and ours (in log sigma) agree.
    torch.testing.assert_close(
        spaced(Schedule(replace(BASE, final_sigma_zero=True)), steps, "linspace"), reference.sigmas, rtol=2e-5, atol=0
    )
    torch.testing.assert_close(SD.t(spaced(SD, steps, "linspace")[:-1]), reference.timesteps, rtol=0, atol=1e-3)


@pytest.mark.parametrize("steps", [2, 3, 10, 25, 30, 100])
@pytest.mark.parametrize("reference", [diffusers.DPMSolverMultistepScheduler, diffusers.EulerDiscreteScheduler])
@pytest.mark.parametrize("ours", [SD, ZERO_SNR])
def test_karras_is_that_of_diffusers(steps, reference, ours):
    theirs = reference(**DIFFUSERS, use_karras_sigmas=True, rescale_betas_zero_snr=ours is ZERO_SNR)
    theirs.set_timesteps(steps)
    torch.testing.assert_close(spaced(ours, steps, "karras")[:-1], theirs.sigmas[:-1], rtol=2e-5, atol=0)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_only_ddim_ends_where_the_schedule_says(spacing: str) -> None:
    assert [name for name, sampler in SAMPLERS.items() if sampler.ends_early] == ["ddim"]
    early, zero = spaced(SD, 10, spacing), spaced(SD, 10, spacing, to_zero=True)
    assert early[-1] == SD.sigmas[0] and zero[-1] == 0 and torch.equal(early[:-1], zero[:-1])
