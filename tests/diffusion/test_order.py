"""Each sampler along the probability flow converges at the order that the table states for it, on data whose denoiser is known exactly.

The data are a Gaussian, whose flow has a closed form, and a mixture of two, whose flow scipy integrates to twelve digits. Errors are
taken on a grid of n steps on which sigma is a smooth function of i / n, above 0, and two steps before the end of the list: UniPC ends with
steps of lower order.
"""

import math
from functools import cache
from itertools import pairwise

import pytest
import torch
from scipy.integrate import solve_ivp

from sumi.diffusion.samplers.multistep import deis, ipndm, lms, plms, unipc
from sumi.diffusion.samplers.table import SAMPLERS

HIGH, LOW = 10.0, 0.05
STARTS = 4.0 * torch.linspace(-2, 2, 8, dtype=torch.float64).reshape(1, 2, 2, 2)
TO_THE_FLOW = {"eta": 0.0, "tau": 0.0, "gamma": 0.0}
STEPS = (64, 128)


def mixture(x, sigma, means=(-0.8, 0.7), std=0.5):
    """The expected x0 under equal shares of two Gaussians; of one, where both means are the same."""
    variance = std**2 + sigma**2
    shares = torch.softmax(torch.stack([-((x - mean) ** 2) / (2 * variance) for mean in means]), 0)
    return sum(share * (std**2 * x + sigma**2 * mean) / variance for share, mean in zip(shares, means, strict=True))


def gaussian(x, sigma):
    return mixture(x, sigma, means=(0.7, 0.7))


def flow_of_gaussian(x, high, low):
    """dx / dsigma = (x - D) / sigma keeps (x - mean) / sqrt(std^2 + sigma^2)."""
    return 0.7 + (x - 0.7) * math.sqrt((0.25 + low**2) / (0.25 + high**2))


@cache
def flow_of_mixture(high, low):
    def slope(sigma, flat):
        x = torch.from_numpy(flat).reshape(STARTS.shape)
        return ((x - mixture(x, torch.tensor(sigma))) / sigma).flatten().numpy()

    solved = solve_ivp(slope, (high, low), STARTS.flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-12)
    return torch.from_numpy(solved.y[:, -1]).reshape(STARTS.shape)


def no_noise(step, draw=0):
    raise AssertionError("noise on the probability flow")


def grid(n, high=HIGH, gentle=False):
    """n steps from high to LOW evenly in sigma^(1/7), and two more; a gentle one first doubles its steps, from n^-2 of one to a whole."""
    i = [k / n for k in range(n + 3)]
    if gentle:
        i[1:1] = [2.0**-k / n for k in range(2 * round(math.log2(n)), 0, -1)]
    return torch.tensor([high ** (1 / 7) + k * (LOW ** (1 / 7) - high ** (1 / 7)) for k in i], dtype=torch.float64) ** 7


def orders(sampler, options, denoise, flow, **grids):
    """The slope of log error over log steps, from one number of steps to twice it."""
    errors = []
    for n in STEPS:
        sigmas = grid(n, **grids)
        (*_, step) = [step for step, _ in zip(sampler(denoise, STARTS, sigmas, no_noise, **options), sigmas[:-3], strict=False)]
        torch.testing.assert_close(step.sigma.item(), LOW)
        errors.append((step.x - flow(sigmas[0].item())).abs().max().item())
    return [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]


ON_THE_FLOW = {
    name: {option: TO_THE_FLOW[option] for option in row.options.keys() & TO_THE_FLOW.keys()}
    for name, row in SAMPLERS.items()
    if row.order and (not row.stochastic or row.options.keys() & TO_THE_FLOW.keys())
}


@pytest.mark.parametrize("name", ON_THE_FLOW)
@pytest.mark.parametrize("data", ["gaussian", "mixture"])
def test_every_sampler_has_the_order_that_the_table_states(name, data):
    denoise, flow = {
        "gaussian": (gaussian, lambda high: flow_of_gaussian(STARTS, high, LOW)),
        "mixture": (mixture, lambda high: flow_of_mixture(high, LOW)),
    }[data]
    slopes = orders(SAMPLERS[name].function, ON_THE_FLOW[name], denoise, flow, gentle=True)
    assert slopes == pytest.approx([SAMPLERS[name].order], abs=0.25)


def test_only_samplers_that_are_noise_through_and_through_have_no_order_here():
    assert SAMPLERS.keys() - ON_THE_FLOW.keys() == {"ddpm", "lcm", "restart"}


@pytest.mark.parametrize(
    ("sampler", "options", "order"),
    [
        (lms, {"order": 1}, 1),
        (lms, {"order": 2}, 2),
        (lms, {"order": 3}, 3),
        (deis, {"order": 1}, 1),
        (deis, {"order": 2}, 2),
        (unipc, {"order": 1}, 2),
        (unipc, {"order": 2, "bh": 1}, 3),
        (unipc, {"order": 3}, 4),
        (unipc, {"order": 3, "corrector": 0}, 3),
        (unipc, {"order": 2, "corrector": 0}, 2),
    ],
)
def test_options_give_the_order_that_they_name_and_a_corrector_one_more(sampler, options, order):
    slopes = orders(sampler, options, gaussian, lambda high: flow_of_gaussian(STARTS, high, LOW), gentle=True)
    assert slopes == pytest.approx([order], abs=0.25)


@pytest.mark.parametrize(("sampler", "order"), [(lms, 2), (deis, 2)])
def test_a_first_step_of_first_order_holds_the_whole_to_second(sampler, order):
    """Where nothing forgets it: from a sigma of the size of the data on."""
    slopes = orders(sampler, {}, gaussian, lambda high: flow_of_gaussian(STARTS, high, LOW), high=0.3)
    assert slopes == pytest.approx([order], abs=0.3)


@pytest.mark.parametrize(("sampler", "order"), [(ipndm, 2), (plms, 3)])
def test_on_equal_steps_what_is_left_is_the_order_of_the_start(sampler, order):
    """Of Euler's step, and of Heun's and the one of second order after it."""
    errors = []
    for n in STEPS:
        sigmas = torch.linspace(0.5, 0.1, n + 1, dtype=torch.float64)
        *_, step = sampler(gaussian, STARTS, sigmas, no_noise)
        errors.append((step.x - flow_of_gaussian(STARTS, 0.5, 0.1)).abs().max().item())
    assert [math.log2(coarse / fine) for coarse, fine in pairwise(errors)] == pytest.approx([order], abs=0.25)
