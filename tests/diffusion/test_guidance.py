"""Guidance against the equations of the papers, written out here as they are there; what is evaluated, how often and together."""

import math
from itertools import pairwise
from typing import get_args

import pytest
import torch

from sumi.config import Prediction, ScheduleConfig
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.degraded import attended, blurred, degraded
from sumi.diffusion.denoiser import Denoiser
from sumi.diffusion.guidance import Guidance, cfg, guide, plus_plus, three_way, unguided
from sumi.diffusion.samplers.step import finish
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.diffusion.schedule import Schedule
from sumi.diffusion.thresholds import clamped, mimicked

SCHEDULE = Schedule(ScheduleConfig())
SIGMA = SCHEDULE.sigmas[500].double()
PREDICTIONS = get_args(Prediction)
SIGMAS = torch.cat([SCHEDULE.sigmas[[900, 500, 100]], torch.zeros(1)]).double()


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


class Counting:
    """A network, and how many samples it was given at each call."""

    def __init__(self, network):
        self.network, self.sizes = network, []

    def __call__(self, x, t, context, vector):
        self.sizes.append(len(x))
        return self.network(x, t, context, vector)


def no_noise(step, draw=0):
    raise AssertionError("a deterministic sampler asked for noise")


def told(seed, tokens=5, batch=2):
    return Conditioning(4 * torch.randn(batch, tokens, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def worse(network):
    """Another network that listens to the same."""
    return lambda x, t, context, vector: 0.7 * network(x.flip(3), t, context, vector)


def looking(see):
    """A network is watched: what it looks at, on a map of 4 x 4 cells, depends on what it is given."""

    def show(x):
        cells = x[:, :4, ::2, ::2].flatten(2)
        see((cells[:, :, :, None] * cells[:, :, None]).reshape(len(x), 4, 16, 16).softmax(3))

    return show


def watching(denoiser):
    def watched(see):
        def network(x, t, context, vector):
            looking(see)(x)
            return denoiser.network(x, t, context, vector)

        return Denoiser(network, denoiser.schedule, denoiser.prediction)

    return watched


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("scale", "rescale"), [(7.5, 0.0), (7.5, 0.7), (0.0, 0.0)])
def test_one_part_is_classifier_free_guidance_bit_for_bit(network, x, prediction, scale, rescale):
    cond, uncond = told(1), told(2)
    denoiser = Denoiser(network, SCHEDULE, prediction)
    without, given = denoiser.output(torch.cat([x, x]), SIGMA, uncond.cat(cond)).chunk(2)
    output = without + scale * (given - without)
    if rescale > 0:
        ratio = given.std((1, 2, 3), keepdim=True) / output.std((1, 2, 3), keepdim=True)
        output = output * (rescale * ratio + 1 - rescale)
    guided = guide(denoiser, [(1.0, cond)], uncond, Guidance(scale, rescale=rescale), SIGMAS)(x, SIGMA)
    assert torch.equal(guided, denoiser.denoised(output, x, SIGMA))


@pytest.mark.parametrize("method", ["cfg", "cfg++", "apg"])
def test_away_from_the_prompt_itself_leads_nowhere(network, x, method):
    counting = Counting(network)
    denoiser = Denoiser(counting, SCHEDULE, "eps")
    guided = guide(denoiser, [(1.0, told(1))], told(1), Guidance(0.6 if method == "cfg++" else 7.5, method, rescale=0.7), SIGMAS)(x, SIGMA)
    assert counting.sizes == [2]
    assert torch.equal(guided, denoiser(x, SIGMA, told(1)))


def test_an_interval_of_everything_is_no_interval(network, x):
    denoiser = Denoiser(network, SCHEDULE, "v")
    always = guide(denoiser, [(1.0, told(1))], told(2), Guidance(5.0, interval=(0.0, math.inf)), SIGMAS)
    assert torch.equal(always(x, SIGMA), cfg(denoiser, told(1), told(2), 5.0)(x, SIGMA))


def test_outside_the_interval_only_what_is_asked_for_is_evaluated(network, x):
    counting = Counting(network)
    denoiser = Denoiser(counting, SCHEDULE, "eps")
    low, high = SIGMAS[2].item(), SIGMAS[1].item()
    guidance = Guidance(5.0, interval=(low, high), pag=2.0, sag=1.0, threshold=0.9)
    denoise = guide(denoiser, [(1.0, told(1))], told(2), guidance, SIGMAS, perturbed=denoiser, attention=watching(denoiser))
    for sigma in (SIGMAS[0], SIGMAS[2]):
        counting.sizes.clear()
        assert torch.equal(denoise(x, sigma), denoiser(x, sigma, told(1)))
        assert counting.sizes == [2, 2]
    counting.sizes.clear()
    denoise(x, SIGMAS[1])
    assert counting.sizes == [4, 2, 2]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_composed_parts_add_up(network, x, prediction):
    """Liu et al. 2022, with weights of their own; the number of tokens may differ."""
    denoiser = Denoiser(network, SCHEDULE, prediction)
    away, one, two = told(1), told(2), told(3, tokens=9)
    base = denoiser(x, SIGMA, away)
    expected = base + 0.7 * 5 * (denoiser(x, SIGMA, one) - base) - 0.2 * 5 * (denoiser(x, SIGMA, two) - base)
    composed = guide(denoiser, [(0.7, one), (-0.2, two)], away, Guidance(5.0), SIGMAS)(x, SIGMA)
    torch.testing.assert_close(composed, expected)


def test_conditionings_of_one_shape_share_a_call_and_equal_ones_a_sample(network, x):
    counting = Counting(network)
    away, one, two, three = told(1), told(2), told(3, tokens=9), told(4)
    parts = [(1.0, one), (0.5, two), (0.5, told(2)), (0.0, told(5)), (2.0, three)]
    denoise = guide(Denoiser(counting, SCHEDULE, "eps"), parts, away, Guidance(5.0), SIGMAS)
    denoise(x, SIGMA)
    assert counting.sizes == [6, 2]
    merged = guide(Denoiser(network, SCHEDULE, "eps"), [(1.5, one), (0.5, two), (2.0, three)], away, Guidance(5.0), SIGMAS)
    torch.testing.assert_close(denoise(x, SIGMA), merged(x, SIGMA))


def test_composed_at_scale_one_weights_that_sum_to_one_need_no_negative(network, x):
    counting = Counting(network)
    denoiser = Denoiser(counting, SCHEDULE, "v")
    parts = [(0.1, told(1)), (0.2, told(2)), (0.7, told(3))]
    mixed = guide(denoiser, parts, told(4), Guidance(1.0), SIGMAS)(x, SIGMA)
    assert counting.sizes == [6]
    torch.testing.assert_close(mixed, sum(weight * denoiser(x, SIGMA, cond) for weight, cond in parts))
    counting.sizes.clear()
    guide(denoiser, parts[:2], told(4), Guidance(1.0), SIGMAS)(x, SIGMA)
    assert counting.sizes == [6]


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("image_scale", [1.5, 7.5, 0.0])
def test_three_ways_are_equation_3_of_brooks(network, x, prediction, image_scale):
    denoiser = Denoiser(network, SCHEDULE, prediction)
    neither, image, both = told(1), told(2), told(3)
    d, d_image, d_both = (denoiser(x, SIGMA, cond) for cond in (neither, image, both))
    expected = d + image_scale * (d_image - d) + 7.5 * (d_both - d_image)
    guided = guide(denoiser, three_way([(1.0, both)], image, 7.5, image_scale), neither, Guidance(7.5), SIGMAS)(x, SIGMA)
    torch.testing.assert_close(guided, expected)


def test_three_ways_need_a_scale():
    with pytest.raises(ValueError, match="scale above 0"):
        three_way([(1.0, told(1))], told(2), 0.0, 1.5)


@pytest.mark.parametrize("to_zero", [True, False])
@pytest.mark.parametrize("sampler", ["euler", "ddim"])
def test_cfg_plus_plus_is_algorithm_2_of_chung(network, x, sampler, to_zero):
    """x' = sqrt(abar') x0(D_u + lambda (D_c - D_u)) + sqrt(1 - abar') eps_u, on the paper's own state and noise predictions."""
    cond, uncond, lam = told(1), told(2), 0.6
    times = torch.arange(901, 0, -100)
    sigmas = SCHEDULE.sigmas[times].double()
    bars = 1 / (1 + sigmas**2)
    if to_zero:
        sigmas, bars = torch.cat([sigmas, torch.zeros(1)]), torch.cat([bars, torch.ones(1)])
    state = x * bars[0].sqrt()
    for i, (bar, bar_next) in enumerate(pairwise(bars)):
        t = times[i].expand(2)
        without, given = network(state, t, uncond.context), network(state, t, cond.context)
        mixed = without + lam * (given - without)
        clean = (state - (1 - bar).sqrt() * mixed) / bar.sqrt()
        state = bar_next.sqrt() * clean + (1 - bar_next).sqrt() * without
    denoise = guide(Denoiser(network, SCHEDULE, "eps"), [(1.0, cond)], uncond, Guidance(lam, "cfg++"), sigmas)
    *_, step = SAMPLERS[sampler].function(denoise, x, sigmas, no_noise)
    torch.testing.assert_close(finish(step.x, step.sigma), state, rtol=0, atol=1e-9)


def test_cfg_plus_plus_goes_by_the_step_that_sigma_lies_in():
    sigmas = torch.tensor([10.0, 5.0, 4.0, 0.0])
    expected = {20.0: 1.2, 10.0: 1.2, 7.0: 1.2, 5.0: 3.0, 4.5: 3.0, 4.0: 0.6, 1.0: 0.6, 0.0: 0.6}
    for sigma, scale in expected.items():
        assert plus_plus(0.6, torch.tensor(sigma), sigmas) == pytest.approx(scale)
    assert plus_plus(0.6, torch.tensor(4.0), sigmas[:3]) == pytest.approx(3.0)


def test_a_lambda_of_one_is_what_is_asked_for_in_a_step_to_zero(network, x):
    counting = Counting(network)
    denoiser = Denoiser(counting, SCHEDULE, "eps")
    denoise = guide(denoiser, [(1.0, told(1))], told(2), Guidance(1.0, "cfg++"), SIGMAS)
    assert torch.equal(denoise(x, SIGMAS[2]), denoiser(x, SIGMAS[2], told(1)))
    denoise(x, SIGMAS[1])
    assert counting.sizes == [2, 2, 4]


def test_apg_with_all_of_the_update_is_plain_guidance(network, x):
    denoiser = Denoiser(network, SCHEDULE, "v")
    whole = Guidance(5.0, "apg", apg_eta=1.0, apg_norm=math.inf, apg_momentum=0.0)
    denoise = guide(denoiser, [(1.0, told(1))], told(2), whole, SIGMAS)
    for sigma in SIGMAS[:3]:
        torch.testing.assert_close(denoise(x, sigma), cfg(denoiser, told(1), told(2), 5.0)(x, sigma))


def test_apg_adds_nothing_along_what_is_asked_for_and_no_more_than_its_norm(network, x):
    denoiser = Denoiser(network, SCHEDULE, "eps")
    given = denoiser(x, SIGMA, told(1))
    added = guide(denoiser, [(1.0, told(1))], told(2), Guidance(5.0, "apg", apg_norm=0.1), SIGMAS)(x, SIGMA) - given
    assert (added * given).sum((1, 2, 3)).abs().max() < 1e-9
    lengths = added.flatten(1).norm(dim=1)
    assert (lengths <= 4 * 0.1).all() and (lengths > 0.1).all()


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("method", ["cfg", "apg"])
def test_weakened_networks_add_what_they_lack(network, x, method, prediction):
    cond, uncond = told(1), told(2)
    denoiser, weak = Denoiser(network, SCHEDULE, prediction), Denoiser(worse(network), SCHEDULE, prediction)
    weaker = Denoiser(lambda *inputs: 0.5 * network(*inputs), SCHEDULE, prediction)
    parts, guidance = [(1.0, cond)], Guidance(5.0, method, pag=3.0, skip=2.0)
    given = denoiser(x, SIGMA, cond)
    expected = guide(denoiser, parts, uncond, Guidance(5.0, method), SIGMAS)(x, SIGMA)
    expected = expected + 3 * (given - weak(x, SIGMA, cond)) + 2 * (given - weaker(x, SIGMA, cond))
    denoise = guide(denoiser, parts, uncond, guidance, SIGMAS, perturbed=weak, skipped=weaker)
    torch.testing.assert_close(denoise(x, SIGMA), expected)


def test_a_weakened_network_is_told_only_what_is_asked_for(network, x):
    counting, weak = Counting(network), Counting(worse(network))
    guidance = Guidance(1.0, pag=3.0)
    denoise = guide(
        Denoiser(counting, SCHEDULE, "eps"),
        [(1.0, told(1))],
        told(2),
        guidance,
        SIGMAS,
        perturbed=Denoiser(weak, SCHEDULE, "eps"),
        skipped=Denoiser(weak, SCHEDULE, "eps"),
    )
    denoise(x, SIGMA)
    assert (counting.sizes, weak.sizes) == ([2], [2])


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_self_attention_guidance_is_of_the_noise(network, x, scale):
    """Hong et al. 2023: eps + scale * (eps(x) - eps(x')), x' being what is blurred, noised by the same eps."""
    cond, uncond = told(1), told(2)
    denoiser = Denoiser(network, SCHEDULE, "eps")
    base = cond if scale == 1 else uncond
    maps = []
    looking(maps.append)(x / (1 + SIGMA**2).sqrt())
    eps = denoiser.output(x, SIGMA, base)
    changed = degraded(x - SIGMA * eps, maps[0]) + SIGMA * eps
    plain = (x - cfg(denoiser, cond, uncond, scale)(x, SIGMA)) / SIGMA
    expected = plain + 0.75 * (eps - denoiser.output(changed, SIGMA, base))
    denoise = guide(denoiser, [(1.0, cond)], uncond, Guidance(scale, sag=0.75), SIGMAS, attention=watching(denoiser))
    torch.testing.assert_close(denoise(x, SIGMA), x - SIGMA * expected)
    assert (changed - x).abs().max() > 0.1


def test_only_what_is_looked_at_is_blurred():
    x0 = torch.randn(1, 3, 12, 8, generator=torch.Generator().manual_seed(0))
    attention = torch.zeros(1, 2, 6, 6)
    attention[:, :, :, 3] = 1  # all look at the second cell of the second row, out of three rows of two
    mask = attended(attention, (12, 8))
    expected = torch.zeros(1, 1, 12, 8, dtype=torch.bool)
    expected[:, :, 4:8, 4:] = True
    assert torch.equal(mask, expected)
    made = degraded(x0, attention)
    assert torch.equal(made[:, :, :4], x0[:, :, :4])
    assert torch.equal(made[:, :, 4:8, 4:], blurred(x0)[:, :, 4:8, 4:])


def test_a_map_of_one_cell_is_looked_at_no_more_than_the_average():
    for size in ((16, 64), (64, 16), (8, 8)):
        assert not attended(torch.ones(2, 1, 1, 1), size).any()


def test_a_blur_keeps_what_is_flat_at_any_size():
    for height, width in ((16, 16), (3, 5), (1, 2)):
        flat = torch.full((1, 2, height, width), 3.0)
        torch.testing.assert_close(blurred(flat), flat)


def wave(step):
    return (torch.arange(2 * 3 * 4 * 5, dtype=torch.float64) * step).sin().reshape(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("percentile", "mimic", "row", "total"),
    [
        (1.0, 3.0, [-1.254405, -2.579892, -3.008644, 0.566512, 6.615521], 453.18236),
        (0.9, 3.0, [-1.74911, -3.271339, -3.763732, 0.342089, 7.288958], 514.65275),
        (0.9, 20.0, [-10.051382, -14.875414, -16.435833, -3.424256, 18.590766], 1600.4774),
    ],
)
def test_mimicking_a_scale_gives_the_numbers_of_the_published_extension(percentile, mimic, row, total):
    """Recorded from sd-dynamic-thresholding: separate channels, from the mean, by absolute distance, which are its defaults."""
    cond, uncond = 2 * wave(0.7), wave(1.3)
    guided, like = uncond + 10 * (cond - uncond), uncond + mimic * (cond - uncond)
    found = mimicked(guided, like, percentile)
    torch.testing.assert_close(found[1, 2, 1], torch.tensor(row, dtype=torch.float64), rtol=0, atol=1e-6)
    assert found.abs().sum().item() == pytest.approx(total)


def test_mimicking_a_flat_channel_leaves_it_flat():
    flat = torch.ones(1, 1, 4, 4)
    assert torch.equal(mimicked(2 * flat, flat, 0.9), 2 * flat)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_thresholds_are_of_the_guided_x0(network, x, prediction):
    cond, uncond = told(1), told(2)
    denoiser = Denoiser(network, SCHEDULE, prediction)
    plain, like = (cfg(denoiser, cond, uncond, scale)(x, SIGMA) for scale in (9.0, 3.0))
    for guidance, expected in (
        (Guidance(9.0, threshold=0.8), clamped(plain, 0.8)),
        (Guidance(9.0, threshold=0.8, mimic=3.0), mimicked(plain, like, 0.8)),
    ):
        torch.testing.assert_close(guide(denoiser, [(1.0, cond)], uncond, guidance, SIGMAS)(x, SIGMA), expected)


EVERYTHING = {
    "cfg": Guidance(5.0, pag=2.0, skip=1.0, sag=0.75, threshold=0.9),
    "cfg++": Guidance(0.6, "cfg++", pag=2.0, sag=0.75, threshold=0.9, mimic=3.0),
    "apg": Guidance(5.0, "apg", rescale=0.5, skip=1.0, sag=0.75, apg_norm=0.5, threshold=0.95, mimic=4.0),
}


def meaning(network, prediction):
    """A denoiser, of a network of any prediction, that says x0 = `network`."""

    def says(scaled, t, context, vector):
        sigma = SCHEDULE.sigma(t).double()
        noised = scaled * (1 + sigma**2).sqrt()[:, None, None, None]
        x0 = network(scaled, t, context, vector)
        return Denoiser(network, SCHEDULE, prediction).target(x0, (noised - x0) / sigma[:, None, None, None], sigma)

    return Denoiser(says, SCHEDULE, prediction)


@pytest.mark.parametrize("name", EVERYTHING)
def test_networks_that_mean_the_same_are_guided_the_same(network, x, name):
    results = []
    for prediction in PREDICTIONS:
        denoiser, weak = meaning(network, prediction), meaning(worse(network), prediction)
        parts = [(1.0, told(1)), (-0.3, told(2, tokens=7))]
        denoise = guide(denoiser, parts, told(3), EVERYTHING[name], SIGMAS, perturbed=weak, skipped=weak, attention=watching(denoiser))
        results.append(torch.stack([denoise(x, sigma) for sigma in SIGMAS[:3]]))
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(results[0], results[2])


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_sample_is_guided_as_if_it_were_alone(network, x, name):
    """Over several steps, as some guidance remembers."""
    denoiser, weak = Denoiser(network, SCHEDULE, "v"), Denoiser(worse(network), SCHEDULE, "v")

    def run(rows):
        def of(seed, tokens=5):
            return Conditioning(told(seed, tokens).context[rows])

        parts = [(1.0, of(1)), (0.4, of(2, 7))]
        given = {"perturbed": weak, "skipped": weak, "attention": watching(denoiser)}
        denoise = guide(denoiser, parts, of(3), EVERYTHING[name], SIGMAS, **given)
        return torch.stack([denoise(x[rows], sigma) for sigma in SIGMAS[:3]])

    together = run(slice(0, 2))
    for row in range(2):
        torch.testing.assert_close(run(slice(row, row + 1))[:, 0], together[:, row], rtol=0, atol=1e-12)


def test_guidance_of_one_run_says_nothing_of_the_next(network, x):
    denoiser = Denoiser(network, SCHEDULE, "eps")

    def start():
        return guide(denoiser, [(1.0, told(1))], told(2), Guidance(5.0, "apg", apg_eta=1.0, apg_norm=math.inf), SIGMAS)

    denoise = start()
    first, second = denoise(x, SIGMA), denoise(x, SIGMA)
    assert torch.equal(start()(x, SIGMA), first)
    torch.testing.assert_close(second - denoiser(x, SIGMA, told(1)), 0.5 * (first - denoiser(x, SIGMA, told(1))))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale": -1.0}, "scale must be 0 or more; got -1.0"),
        ({"scale": math.nan}, "scale must be 0 or more"),
        ({"scale": 1.0, "method": "cgf"}, "no guidance method 'cgf': use cfg, cfg\\+\\+, apg"),
        ({"scale": 1.0, "rescale": 1.5}, "rescale must be from 0 to 1"),
        ({"scale": 1.0, "interval": (3.0, 2.0)}, "two noise levels, the lower one first"),
        ({"scale": 1.0, "interval": (3.0,)}, "two noise levels"),
        ({"scale": 1.0, "pag": -0.5}, "pag must be 0 or more"),
        ({"scale": 1.0, "threshold": 99.5}, "percentile above 0, as a share of at most 1"),
        ({"scale": 1.0, "mimic": 7.0}, "beside a threshold"),
        ({"scale": 1.0, "apg_norm": 0.0}, "norm above 0"),
        ({"scale": 1.0, "apg_momentum": -1.0}, "momentum between -1 and 1"),
    ],
)
def test_guidance_that_cannot_be_is_refused_in_one_line(fields, message):
    with pytest.raises(ValueError, match=message) as error:
        Guidance(**fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["pag", "skip", "sag"])
def test_guidance_by_a_network_needs_one(network, name):
    with pytest.raises(ValueError, match=f"guidance by {name} needs a network"):
        guide(Denoiser(network, SCHEDULE, "eps"), [(1.0, told(1))], told(2), Guidance(1.0, **{name: 1.0}), SIGMAS)


def test_cfg_plus_plus_needs_the_noise_levels(network):
    with pytest.raises(ValueError, match="needs the noise levels of the run"):
        guide(Denoiser(network, SCHEDULE, "eps"), [(1.0, told(1))], told(2), Guidance(0.6, "cfg++"), torch.zeros(1))
