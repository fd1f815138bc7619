from typing import get_args

import pytest
import torch

from sumi.config import Prediction, ScheduleConfig
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.denoiser import Denoiser
from sumi.diffusion.guidance import cfg, unguided
from sumi.diffusion.schedule import Schedule

SCHEDULE = Schedule(ScheduleConfig())
SIGMA = SCHEDULE.sigmas[500].double()
PREDICTIONS = get_args(Prediction)


@pytest.fixture
def x():
    return 3 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def conditionings() -> tuple[Conditioning, Conditioning]:
    generator = torch.Generator().manual_seed(1)
    context = 4 * torch.randn(2, 2, 5, 6, generator=generator, dtype=torch.float64)
    concat = torch.randn(2, 2, 3, 8, 8, generator=generator, dtype=torch.float64)
    vector = torch.randn(2, 2, 9, generator=generator, dtype=torch.float64)
    return Conditioning(context[0], concat[0], vector[0]), Conditioning(context[1], concat[1], vector[1])


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0, 7.5])
def test_guidance_commutes_with_the_prediction(network, x, prediction, scale):
    """Guiding what the network says is guiding the x0 that it means: the weights, 1 - scale and scale, sum to 1."""
    cond, uncond = conditionings()
    denoiser = Denoiser(network, SCHEDULE, prediction)
    on_x0 = (1 - scale) * denoiser(x, SIGMA, uncond) + scale * denoiser(x, SIGMA, cond)
    torch.testing.assert_close(cfg(denoiser, cond, uncond, scale)(x, SIGMA), on_x0)


def test_guidance_is_one_network_call_uncond_first(x):
    cond, uncond = conditionings()
    calls = []

    def spy(x, t, context, vector):
        calls.append((x, t, context, vector))
        return x[:, :4]

    cfg(Denoiser(spy, SCHEDULE, "eps"), cond, uncond, 7.5)(x, SIGMA)
    ((seen, t, context, vector),) = calls
    assert len(seen) == len(t) == 4
    assert torch.equal(seen[:2, :4], seen[2:, :4])
    assert torch.equal(seen[:, 4:], torch.cat([uncond.concat, cond.concat]))
    assert torch.equal(context, torch.cat([uncond.context, cond.context]))
    assert torch.equal(vector, torch.cat([uncond.vector, cond.vector]))


@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_scale_one_evaluates_cond_alone(network, x, rescale):
    cond, uncond = conditionings()
    sizes = []

    def spy(x, t, context, vector):
        sizes.append(len(x))
        return network(x, t, context, vector)

    denoiser = Denoiser(spy, SCHEDULE, "eps")
    guided = cfg(denoiser, cond, uncond, 1.0, rescale)(x, SIGMA)
    assert sizes == [2]
    assert torch.equal(guided, unguided(denoiser, cond)(x, SIGMA))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("rescale", [0.3, 1.0])
def test_rescale_is_equations_14_to_16_of_lin(network, x, prediction, rescale):
    cond, uncond = conditionings()
    denoiser = Denoiser(network, SCHEDULE, prediction)
    positive, negative = denoiser.output(x, SIGMA, cond), denoiser.output(x, SIGMA, uncond)
    guided = negative + 7.5 * (positive - negative)
    final = [rescale * (g * p.std() / g.std()) + (1 - rescale) * g for g, p in zip(guided, positive, strict=True)]
    expected = denoiser.denoised(torch.stack(final), x, SIGMA)
    torch.testing.assert_close(cfg(denoiser, cond, uncond, 7.5, rescale)(x, SIGMA), expected)


def test_full_rescale_restores_the_standard_deviation_of_each_sample(network, x):
    cond, uncond = conditionings()
    denoiser = Denoiser(network, SCHEDULE, "x0")
    rescaled = cfg(denoiser, cond, uncond, 7.5, 1.0)(x, SIGMA)
    torch.testing.assert_close(rescaled.std((1, 2, 3)), denoiser(x, SIGMA, cond).std((1, 2, 3)))
