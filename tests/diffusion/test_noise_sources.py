"""Noise as other programs draw it: against torch, diffusers' own function, published values, and algorithms written out."""

import math

import numpy as np
import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor
from hypothesis import given, settings
from hypothesis import strategies as st

from sumi.diffusion.noise import Noise
from sumi.diffusion.noise_sources import SOURCES, source
from sumi.diffusion.samplers.step import NoiseAt

PICTURE = (4, 8, 8)
OTHERS = [kind for kind in SOURCES if kind != "native"]
# What the programs ask for: an initial draw, and further ones, of which a sampler need not use every step's.
STEPS = [(0, 0), (1, 0), (1, 1), (4, 0)]


def drawn(noise: NoiseAt) -> torch.Tensor:
    """[len(STEPS), B, C, H, W]"""
    return torch.stack([noise(step, draw) for step, draw in STEPS])


def generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shape", [PICTURE, (1, 3, 3)])  # torch fills short tensors, and the ends of others, in another way
def test_torch_is_what_diffusers_draws_from_one_generator(count, shape):
    rng = generator(42)
    expected = torch.stack([randn_tensor((count, *shape), generator=rng) for _ in STEPS])
    assert torch.equal(drawn(source("torch", 42, range(count), count, shape)), expected)


@pytest.mark.parametrize("shape", [PICTURE, (1, 3, 3)])
def test_a1111_cpu_is_what_diffusers_draws_from_a_list_of_generators(shape):
    rngs = [generator(7 + i) for i in range(3)]
    expected = torch.stack([randn_tensor((3, *shape), generator=rngs) for _ in STEPS])
    assert torch.equal(drawn(source("a1111-cpu", 7, range(3), 3, shape)), expected)


def test_torch_starts_as_the_global_generator_does():
    """As ComfyUI, and A1111 with RNG CPU, seed it; values recorded of torch 2."""
    with torch.random.fork_rng():
        torch.manual_seed(42)
        expected = torch.randn(2, *PICTURE)
    assert torch.equal(source("torch", 42, range(2), 2, PICTURE)(0), expected)
    recorded = torch.tensor([1.92691529, 1.48728406, 0.90071720, -2.10552096])
    for kind in "torch", "a1111-cpu":
        torch.testing.assert_close(source(kind, 42, [0], 1, PICTURE)(0).flatten()[:4], recorded, rtol=0, atol=1e-6)


def test_a1111_nv_has_the_published_values():
    """Of seed 0 in the head of A1111's rng_philox.py; of seed 42 what torch draws on a GPU. Those were rounded to float32 on the way."""
    zero = [-0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564]
    zero += [-0.62285122, -0.32838709, -1.07454231, -0.36314407, -1.67105067, 2.26550497]
    torch.testing.assert_close(source("a1111-nv", 0, [0], 1, (1, 3, 4))(0).flatten(), torch.tensor(zero), rtol=1e-6, atol=1e-6)
    answer = torch.tensor([0.19401887, 2.16137385, -0.17205095, 0.84905999])
    torch.testing.assert_close(source("a1111-nv", 42, [0], 1, PICTURE)(0).flatten()[:4], answer, rtol=1e-6, atol=1e-6)


def philox(seed: int, counter: list[int]) -> list[int]:
    """Philox 4x32-10 as in Salmon et al. (2011), figure 2 and table 2."""
    mask = 2**32 - 1
    k0, k1 = seed & mask, seed >> 32
    c0, c1, c2, c3 = counter
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & mask, (p0 >> 32) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return [c0, c1, c2, c3]


def test_the_philox_written_out_here_gives_the_known_answers():
    """Random123's kat_vectors."""
    assert philox(0, [0] * 4) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    key, counter = 0x299F31D0_A4093822, [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    assert philox(key, counter) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


@pytest.mark.parametrize("seed", [5, 2**32 + 5, 2**64 - 4])
def test_a1111_nv_is_the_algorithm_written_out(seed):
    found = drawn(source("a1111-nv", seed, [0, 3], 4, (1, 2, 5)))
    for place, image in enumerate((0, 3)):
        for draw in range(len(STEPS)):
            expected = []
            for i in range(10):
                x, y, _, _ = philox(seed + image, [draw, 0, i, 0])
                u, v = (x + 0.5) / 2**32, (y + 0.5) / 2**32 * 2 * math.pi
                expected.append(math.sqrt(-2 * math.log(u)) * math.sin(v))
            torch.testing.assert_close(found[draw, place].flatten(), torch.tensor(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("variation", [{}, {"variation": 0.3, "variation_seed": 9}], ids=["plain", "varied"])
@given(st.integers(0, 2**64 - 8), st.permutations(range(5)), st.integers(1, 5), st.sampled_from([PICTURE, (1, 3, 3)]))
@settings(max_examples=10, deadline=None)
def test_a_picture_has_the_same_noise_alone_and_in_any_batch(kind, variation, seed, order, size, shape):
    whole = drawn(source(kind, seed, range(5), 5, shape, **variation))
    images = order[:size]
    assert torch.equal(drawn(source(kind, seed, images, 5, shape, **variation)), whole[:, images])
    alone = drawn(source(kind, seed, [images[0]], 5, shape, **variation))
    assert torch.equal(alone, whole[:, images[:1]])


@pytest.mark.parametrize("kind", SOURCES)
def test_the_number_of_threads_changes_nothing(kind):
    shape, threads = (4, 96, 96), torch.get_num_threads()
    expected = source(kind, 3, range(2), 2, shape, variation=0.2, variation_seed=4)(0)
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        assert torch.equal(source(kind, 3, range(2), 2, shape, variation=0.2, variation_seed=4)(0), expected)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", SOURCES)
def test_the_global_generators_are_neither_used_nor_touched(kind):
    options = {"variation": 0.5, "variation_seed": 9}
    expected = drawn(source(kind, 3, range(2), 2, PICTURE, **options))
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    noise = source(kind, 3, range(2), 2, PICTURE, **options)
    drawn(noise)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        torch.rand(5)
        assert torch.equal(drawn(source(kind, 3, range(2), 2, PICTURE, **options)), expected)


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_is_standard_normal_float32_and_serves_a_sampler(kind):
    noise = source(kind, 1, range(4), 4, (4, 64, 64))
    assert isinstance(noise, NoiseAt)
    values = noise(0)
    assert values.dtype == torch.float32 and values.shape == (4, 4, 64, 64)
    n = values.numel()
    assert abs(values.mean()) < 4 / math.sqrt(n) and abs(values.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((values.double() ** 4).mean() - 3) < 4 * math.sqrt(96 / n)
    assert source(kind, 1, [0], 1, PICTURE, "meta")(0).device.type == "meta"


def test_native_is_the_noise_there_was_before():
    found = source("native", 42, range(2), 2, PICTURE)
    assert found == Noise(42, range(2), PICTURE)
    assert found(0)[0, 0, 0, :2].tolist() == [0.6901114583015442, 1.719170093536377]
    assert torch.equal(found(3), Noise(42, range(2), PICTURE)(3))


@pytest.mark.parametrize("kind", OTHERS)
def test_the_nth_request_is_the_nth_draw_whichever_step_asks(kind):
    every, some = source(kind, 5, [0], 1, PICTURE), source(kind, 5, [0], 1, PICTURE)
    assert torch.equal(torch.stack([every(step) for step in range(4)]), drawn(some))


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("again", [(2, 1), (2, 0), (0, 5)])
def test_a_sequential_source_cannot_go_back(kind, again):
    noise = source(kind, 5, [0], 1, PICTURE)
    noise(0), noise(2, 1)
    with pytest.raises(ValueError, match=r"draws in order; \(step, draw\) .* was asked for after \(2, 1\)"):
        noise(*again)


@pytest.mark.parametrize("kind", SOURCES)
def test_no_variation_is_bit_for_bit_the_seed_and_a_whole_one_starts_as_its_own_seed(kind):
    seed, other = source(kind, 3, range(2), 2, PICTURE), source(kind, 8, range(2), 2, PICTURE)
    expected, end = drawn(seed), drawn(other)
    assert torch.equal(drawn(source(kind, 3, range(2), 2, PICTURE, variation=0.0, variation_seed=8)), expected)
    whole = drawn(source(kind, 3, range(2), 2, PICTURE, variation=1.0, variation_seed=8))
    assert torch.equal(whole[0], end[0])
    if not kind.startswith("a1111"):
        assert torch.equal(whole, end)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("variation", [0.05, 0.5, 0.9])
def test_a_variation_has_variance_one_and_lies_between_its_seeds(kind, variation):
    shape = (4, 64, 64)
    first, last = source(kind, 3, [0], 1, shape)(0), source(kind, 8, [0], 1, shape)(0)
    found = source(kind, 3, [0], 1, shape, variation=variation, variation_seed=8)(0)
    n = found.numel()
    assert abs(found.mean()) < 4 / math.sqrt(n) and abs(found.var() - 1) < 4 * math.sqrt(2 / n)
    towards = [torch.corrcoef(torch.stack([found.flatten(), end.flatten()]))[0, 1] for end in (first, last)]
    expected = math.cos(variation * math.pi / 2), math.sin(variation * math.pi / 2)
    assert np.allclose(towards, expected, atol=0.03)


@pytest.mark.parametrize("kind", SOURCES)
def test_a_variation_towards_the_seed_itself_is_the_seed(kind):
    found = source(kind, 3, [0], 1, PICTURE, variation=0.4, variation_seed=3)(0)
    torch.testing.assert_close(found, source(kind, 3, [0], 1, PICTURE)(0), rtol=1e-6, atol=1e-6)


def test_torch_has_no_more_seeds_than_32_bits():
    assert torch.equal(source("torch", 2**32 + 3, [0], 1, PICTURE)(0), source("torch", 3, [0], 1, PICTURE)(0))
    found = source("torch", 3, [0], 1, PICTURE, variation=0.4, variation_seed=2**32 + 3)(0)
    assert torch.equal(found, source("torch", 3, [0], 1, PICTURE)(0))


@pytest.mark.parametrize("kind", ["a1111-cpu", "a1111-nv"])
def test_a1111_varies_one_picture_by_consecutive_seeds_in_its_initial_noise_alone(kind):
    """By hand: each column of each channel turns by its own angle."""
    found = drawn(source(kind, 3, range(2), 2, PICTURE, variation=0.3, variation_seed=8))
    plain = drawn(source(kind, 3, [0], 1, PICTURE))
    assert torch.equal(found[1:], plain[1:].expand_as(found[1:]))
    low = plain[0, 0].double()
    for i in range(2):
        high = source(kind, 8 + i, [0], 1, PICTURE)(0)[0].double()
        for channel in range(PICTURE[0]):
            for column in range(PICTURE[2]):
                a, b = low[channel, :, column], high[channel, :, column]
                angle = torch.acos(a @ b / a.norm() / b.norm())
                expected = (torch.sin(0.7 * angle) * a + torch.sin(0.3 * angle) * b) / torch.sin(angle)
                torch.testing.assert_close(found[0, i, channel, :, column].double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_out_of_range_are_refused(kind, seed):
    with pytest.raises(ValueError, match=rf"^seed must be from 0 to 2\*\*64 - 1; got {seed}"):
        source(kind, seed, [0], 1, PICTURE)
    with pytest.raises(ValueError, match=r"^variation_seed must be"):
        source(kind, 0, [0], 1, PICTURE, variation=0.5, variation_seed=seed)


@pytest.mark.parametrize("kind", ["a1111-cpu", "a1111-nv"])
def test_a_picture_whose_own_seed_passes_64_bits_is_refused(kind):
    source(kind, 2**64 - 2, range(2), 2, PICTURE)
    with pytest.raises(ValueError, match=r"the seed of picture 2 is 18446744073709551614 \+ 2, past the last"):
        source(kind, 2**64 - 2, range(3), 3, PICTURE)
    with pytest.raises(ValueError, match="past the last"):
        source(kind, 0, range(3), 3, PICTURE, variation=0.5, variation_seed=2**64 - 2)


@pytest.mark.parametrize("kind", SOURCES)
def test_what_was_asked_wrongly_is_refused(kind):
    with pytest.raises(ValueError, match=r"pictures are numbered from 0 to 1; got \[1, 2\]"):
        source(kind, 0, [1, 2], 2, PICTURE)
    with pytest.raises(ValueError, match=r"variation must be from 0 to 1; got 1.5"):
        source(kind, 0, [0], 1, PICTURE, variation=1.5, variation_seed=1)
    with pytest.raises(ValueError, match="a variation needs a variation_seed"):
        source(kind, 0, [0], 1, PICTURE, variation=0.5)
