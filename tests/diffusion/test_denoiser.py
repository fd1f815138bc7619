from typing import get_args

import diffusers
import pytest
import torch

from sumi.config import Prediction, ScheduleConfig
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.denoiser import Denoiser
from sumi.diffusion.schedule import Schedule

SCHEDULE = Schedule(ScheduleConfig())
ZERO_SNR = Schedule(ScheduleConfig(zero_terminal_snr=True))
PREDICTIONS = get_args(Prediction)
NOTHING = Conditioning()


def latents(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x0, noise = torch.randn(2, 3, 4, 8, 8, generator=generator, dtype=torch.float64)
    return x0, noise


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", [SCHEDULE, ZERO_SNR])
@pytest.mark.parametrize("t", [0, 500, 999])
def test_a_network_that_hits_the_target_gives_back_x0(prediction, schedule, t):
    x0, noise = latents()
    sigma = schedule.sigmas[t].double()
    target = Denoiser(lambda *_: x0, schedule, prediction).target(x0, noise, sigma)
    denoised = Denoiser(lambda *_: target, schedule, prediction)(x0 + sigma * noise, sigma, NOTHING)
    torch.testing.assert_close(denoised, x0, rtol=0, atol=1e-8)


def test_v_is_as_in_salimans_and_ho(network):
    x0, noise = latents()
    t = torch.tensor(500)
    sigma = SCHEDULE.sigmas[t].double()
    abar = 1 / (1 + sigma**2)
    denoiser = Denoiser(network, SCHEDULE, "v")
    x = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
    v = network(x, t.expand(3))
    torch.testing.assert_close(denoiser(x / abar.sqrt(), sigma, NOTHING), abar.sqrt() * x - (1 - abar).sqrt() * v)
    torch.testing.assert_close(denoiser.target(x0, noise, sigma), abar.sqrt() * noise - (1 - abar).sqrt() * x0)


def test_v_target_is_that_of_diffusers():
    x0, noise = (part.float() for part in latents())
    t = torch.tensor([3, 400, 999])
    theirs = diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").get_velocity(x0, noise, t)
    ours = Denoiser(lambda *_: x0, SCHEDULE, "v").target(x0, noise, SCHEDULE.sigmas[t])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sigma", [SCHEDULE.sigmas[7], SCHEDULE.sigmas[[0, 7, 999]], torch.tensor([0.5, 3.3, 1.0])])
def test_what_the_network_is_given(sigma):
    x0, noise = (part.float() for part in latents())
    seen = []
    cond = Conditioning(torch.randn(3, 5, 6), torch.randn(3, 2, 8, 8), torch.tensor([1, 2, 3]))

    def spy(*inputs):
        seen.extend(inputs)
        return noise

    Denoiser(spy, SCHEDULE, "eps").output(x0, sigma, cond)
    x, t, context, vector = seen
    scale = (1 + sigma.expand(3) ** 2).rsqrt()
    torch.testing.assert_close(x[:, :4], x0 * scale[:, None, None, None])
    assert torch.equal(x[:, 4:], cond.concat), "concatenated channels are not scaled"
    assert torch.equal(t, SCHEDULE.t(sigma).expand(3))
    assert context is cond.context
    assert vector is cond.vector


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_one_sigma_for_each_sample_is_the_same_as_one_by_one(network, prediction):
    x, noise = latents()
    sigma = SCHEDULE.sigmas[[1, 250, 999]].double()
    cond = Conditioning(torch.randn(3, 5, 6, dtype=torch.float64))
    denoiser = Denoiser(network, SCHEDULE, prediction)
    together, targets = denoiser(x, sigma, cond), denoiser.target(x, noise, sigma)
    for i in range(3):
        alone = denoiser(x[i : i + 1], sigma[i], Conditioning(cond.context[i : i + 1]))
        torch.testing.assert_close(together[i : i + 1], alone)
        torch.testing.assert_close(targets[i : i + 1], denoiser.target(x[i : i + 1], noise[i : i + 1], sigma[i]))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_state_stays_float32_when_the_network_does_not(prediction):
    x, _ = (part.float() for part in latents())
    denoiser = Denoiser(lambda x, t, context, vector: x.bfloat16(), SCHEDULE, prediction)
    assert denoiser(x, SCHEDULE.sigmas[500], NOTHING).dtype == torch.float32


@pytest.mark.parametrize(
    "slots", [(), ("concat",), ("context",), ("context", "concat"), ("context", "concat", "vector"), ("context", "vector"), ("vector",)]
)
def test_every_way_of_conditioning_is_one_call(network, slots):
    x, _ = latents()
    sigma = SCHEDULE.sigmas[300].double()
    filled = {"context": torch.randn(3, 5, 6).double(), "concat": torch.randn(3, 2, 8, 8).double(), "vector": torch.randn(3, 4).double()}
    cond = Conditioning(**{slot: filled[slot] for slot in slots})
    scaled = x / (1 + sigma**2).sqrt()
    entering = torch.cat([scaled, cond.concat], 1) if "concat" in slots else scaled
    expected = x - sigma * network(entering, torch.full((3,), 300.0), cond.context, cond.vector)
    torch.testing.assert_close(Denoiser(network, SCHEDULE, "eps")(x, sigma, cond), expected)
