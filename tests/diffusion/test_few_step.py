"""Samplers of distilled models against diffusers and ComfyUI's rule, and against the distributions that exact students draw from."""

import math
from itertools import pairwise

import diffusers
import pytest
import torch

from sumi.config import ScheduleConfig
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.denoiser import Denoiser
from sumi.diffusion.guidance import unguided
from sumi.diffusion.noise import Noise
from sumi.diffusion.samplers.few_step import lcm, tcd
from sumi.diffusion.samplers.first_order import ddim
from sumi.diffusion.samplers.step import finish, start
from sumi.diffusion.schedule import Schedule

SCHEDULE = Schedule(ScheduleConfig())
SHAPE = (4, 8, 8)
NOISE = Noise(9, range(2), SHAPE)
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}


def no_noise(step, draw=0):
    raise AssertionError("a deterministic sampler asked for noise")


def last(steps):
    *_, step = steps
    return step


def assert_same_states(ours, theirs):
    for step, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(step, reference, rtol=0, atol=1e-5 * reference.abs().max().item())


def scheduler(kind, prediction, steps, monkeypatch):
    made = kind(**SD, prediction_type=PREDICTIONS[prediction], clip_sample=False)
    made.alphas_cumprod = SCHEDULE.alphas_cumprod  # theirs, but of float64 arithmetic
    made.set_timesteps(steps)
    draws = iter(range(1, 100))
    module = {diffusers.LCMScheduler: "scheduling_lcm", diffusers.TCDScheduler: "scheduling_tcd"}[kind]
    monkeypatch.setattr(getattr(diffusers.schedulers, module), "randn_tensor", lambda *_, **__: NOISE(next(draws)))
    return made


def diffusers_states(made, network, **options):
    x, found = NOISE(0), []
    for t in made.timesteps:
        x = made.step(network(x, t.expand(2)), t, x, **options).prev_sample
        found.append(x)
    return found


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [1, 4, 8])
def test_lcm_is_that_of_diffusers_with_its_boundary_condition_in_the_denoiser(network, prediction, steps, monkeypatch):
    """And without it, the states are nearly those: the samplers of ComfyUI and A1111 leave it out, and so does ours."""
    made = scheduler(diffusers.LCMScheduler, prediction, steps, monkeypatch)
    theirs = diffusers_states(made, network)
    sigmas = torch.cat([SCHEDULE.sigma(made.timesteps), torch.zeros(1)])
    denoise = unguided(Denoiser(network, SCHEDULE, prediction), Conditioning())

    def bounded(x, sigma):
        """Luo et al. 2023: c_skip x + c_out x0, x in alpha space, with sigma_data 0.5 and the time counted tenfold."""
        t = 10 * SCHEDULE.t(sigma)
        return 0.25 / (t**2 + 0.25) * finish(x, sigma) + t / (t**2 + 0.25).sqrt() * denoise(x, sigma)

    x = start(NOISE(0), sigmas[0])
    assert_same_states([finish(step.x, step.sigma) for step in lcm(bounded, x, sigmas, NOISE)], theirs)
    plain = last(lcm(denoise, x, sigmas, NOISE)).x
    torch.testing.assert_close(plain, theirs[-1], rtol=0, atol=1e-4 * theirs[-1].abs().max().item())


def test_lcm_renoises_the_prediction(network):
    """ComfyUI's rule: D + s' z, and D alone at the end."""
    denoise = unguided(Denoiser(network, SCHEDULE, "eps"), Conditioning())
    sigmas = torch.tensor([14.0, 3.0, 0.6, 0.0])
    x = start(NOISE(0), sigmas[0])
    for i, ((s, s_next), step) in enumerate(zip(pairwise(sigmas), lcm(denoise, x, sigmas, NOISE), strict=True)):
        d = denoise(x, s)
        assert torch.equal(step.denoised, d)
        x = d if i == 2 else d + s_next * NOISE(i + 1)
        assert torch.equal(step.x, x)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 8])
def test_tcd_is_that_of_diffusers(network, prediction, gamma, steps, monkeypatch):
    """Theirs calls gamma eta, ends at sigma(t=0), and draws nothing in its last step."""
    made = scheduler(diffusers.TCDScheduler, prediction, steps, monkeypatch)
    theirs = diffusers_states(made, network, eta=gamma)
    sigmas = SCHEDULE.sigma(torch.cat([made.timesteps, torch.zeros(1, dtype=torch.int64)]))
    denoise = unguided(Denoiser(network, SCHEDULE, prediction), Conditioning())
    ours = tcd(denoise, start(NOISE(0), sigmas[0]), sigmas, NOISE, gamma=gamma)
    assert_same_states([finish(step.x, step.sigma) for step in ours], theirs)


@pytest.mark.parametrize("end", [0.0, 0.01, 1.0])
def test_tcd_without_gamma_is_ddim_at_any_sigmas(network, end):
    denoise = unguided(Denoiser(network, SCHEDULE, "eps"), Conditioning())
    sigmas = torch.tensor([14.3, 6.1, 2.2, end])
    x = start(NOISE(0), sigmas[0])
    for a, b in zip(tcd(denoise, x, sigmas, no_noise, gamma=0.0), ddim(denoise, x, sigmas, no_noise), strict=True):
        assert torch.equal(a.x, b.x)


def test_tcd_keeps_to_the_noise_level_outside_the_table_of_times():
    """Below sigma(t=0) there is nowhere further down to go; above sigma(T - 1), time stands still."""
    sigmas = torch.tensor([4000.0, 100.0, 0.02, 0.0])
    draw = Noise(1, range(1), (1, 100, 100))
    levels = [step.x.std().item() for step in tcd(lambda x, s: torch.zeros_like(x), sigmas[0] * draw(0), sigmas, draw)]
    assert levels == pytest.approx([100, 0.02, 0], rel=0.03)


# Gaussian data of mean 0.7 and standard deviation 0.5, of which the probability flow is known: what an exact student has learned.
MEAN, STD, COUNT = 0.7, 0.5, 40_000
# Kolmogorov-Smirnov at a false-alarm rate of 1e-6 a test: sqrt(ln(2 / rate) / (2 n)).
CRITICAL = math.sqrt(math.log(2 / 1e-6) / (2 * COUNT))
FOUR_STEPS = torch.tensor([14.0, 4.0, 1.0, 0.3, 0.1], dtype=torch.float64)


def flow(x, sigma, sigma_end):
    return MEAN + (x - MEAN) * ((STD**2 + sigma_end**2) / (STD**2 + sigma**2)).sqrt()


def distance(x, sigma):
    """Kolmogorov's, between x and the noised data."""
    x = x.flatten().sort().values
    expected = torch.special.ndtr((x - MEAN) / (STD**2 + sigma**2).sqrt())
    empirical = torch.arange(COUNT + 1, dtype=torch.float64) / COUNT
    return max((empirical[1:] - expected).max(), (expected - empirical[:-1]).max()).item()


def drawn(sampler, denoise, scale):
    """Kolmogorov's distance after each of four steps, with the sampler's noise `scale` times what it should be."""

    def draw(step, draw=0):
        return torch.randn(COUNT, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(step)) * scale

    data = MEAN + STD * torch.randn(COUNT, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(77))
    steps = sampler(denoise, data + FOUR_STEPS[0] * draw(0) / scale, FOUR_STEPS, draw)
    return [distance(step.x, step.sigma) for step in steps]


@pytest.mark.parametrize("scale", [1.0, 1.1])
def test_lcm_with_an_exact_student_draws_from_the_distribution_of_the_data(scale):
    """The consistency function is the flow's end at 0; and noise that is a tenth too strong is seen."""
    found = drawn(lcm, lambda x, s: flow(x, s, torch.zeros_like(s)), scale)
    assert (max(found) < CRITICAL) == (scale == 1.0)


@pytest.mark.parametrize("scale", [1.0, 1.1])
def test_tcd_with_an_exact_student_draws_from_the_distribution_of_the_data(scale):
    """The trajectory function leads to the sigma at seven tenths of the time of s'; it is the x0 that a straight line there comes from."""
    after = dict(pairwise(FOUR_STEPS.tolist()))

    def student(x, s):
        s_next = torch.tensor(after[s.item()])
        down = SCHEDULE.sigma((0.7 * SCHEDULE.t(s_next)).floor()).double()
        r = down / s
        return (flow(x, s, down) - r * x) / (1 - r)

    found = drawn(tcd, student, scale)
    assert (max(found) < CRITICAL) == (scale == 1.0)


@pytest.mark.parametrize("sampler", [lcm, tcd])
def test_a_picture_of_a_batch_is_the_picture_alone(sampler):
    sigmas = torch.tensor([14.0, 4.0, 1.0, 0.3, 0.0])

    def pictures(images):
        draw = Noise(5, images, SHAPE)
        return last(sampler(lambda x, s: x / (1 + s**2) + x * x * 1e-3, start(draw(0), sigmas[0]), sigmas, draw)).x

    together = pictures(range(3))
    for i in range(3):
        assert torch.equal(pictures([i])[0], together[i])


@pytest.mark.parametrize("sampler", [lcm, tcd])
def test_it_draws_only_where_noise_is_used_and_ends_on_the_prediction(network, sampler):
    sigmas, seen = torch.tensor([9.0, 5.0, 1.0, 0.0]), []

    def spy(step, draw=0):
        seen.append((step, draw))
        return NOISE(step, draw)

    denoise = unguided(Denoiser(network, SCHEDULE, "v"), Conditioning())
    step = last(sampler(denoise, start(NOISE(0), sigmas[0]), sigmas, spy))
    assert seen == [(1, 0), (2, 0)]
    assert torch.equal(step.x, step.denoised)


@pytest.mark.parametrize("gamma", [-0.1, 1.1])
def test_gamma_out_of_range_is_refused(gamma):
    with pytest.raises(ValueError, match=f"gamma must be from 0 to 1; got {gamma}"):
        next(tcd(lambda x, s: x, NOISE(0), FOUR_STEPS, NOISE, gamma=gamma))
