import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sumi.diffusion.noise import Noise

SEEDS = st.integers(0, 2**64 - 1)
PICTURE = (4, 8, 8)


@given(SEEDS, st.lists(st.integers(0, 2**32), min_size=1, max_size=4), st.integers(0, 1000), st.sampled_from([(1,), (3, 3), PICTURE]))
@settings(max_examples=30, deadline=None)
def test_a_picture_has_the_same_noise_alone_and_in_any_batch(seed, images, step, shape):
    together = Noise(seed, images, shape)(step)
    assert together.shape == (len(images), *shape)
    for i, image in enumerate(images):
        assert torch.equal(together[i], Noise(seed, [image], shape)(step)[0])


def test_noise_does_not_depend_on_what_was_drawn_before():
    noise = Noise(7, range(2), PICTURE)
    expected = noise(3)
    noise(0), noise(5), torch.randn(4), np.random.default_rng(0).random()
    assert torch.equal(noise(3), expected)


def test_a_draw_leaves_the_global_generators_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    Noise(7, range(2), PICTURE)(3)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()


def test_a_smaller_picture_is_a_prefix_of_a_larger_one():
    assert torch.equal(Noise(1, [0], (5,))(2)[0], Noise(1, [0], (64,))(2)[0, :5])


def test_golden_values():
    noise = Noise(42, range(2), PICTURE)
    assert noise(0)[0, 0, 0, :4].tolist() == [0.6901114583015442, 1.719170093536377, -1.5858830213546753, 1.236830234527588]
    assert (
        hashlib.sha256(torch.stack([noise(0), noise(1)]).numpy().tobytes()).hexdigest()
        == "825c643b72baa032cf2c5c483decb440807b0c71edc3a87f6219f14d16ea3d79"
    )


def philox(key: tuple[int, int], counter: list[int], rounds: int = 10) -> list[int]:
    """Philox 4x64 as in Salmon et al. (2011)."""
    mask = 2**64 - 1
    k0, k1 = key
    c0, c1, c2, c3 = counter
    for _ in range(rounds):
        p0, p1 = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & mask, (p0 >> 64) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return [c0, c1, c2, c3]


def test_noise_can_be_made_again_without_numpy():
    seed, image, step = 2**64 - 3, 5, 11
    expected = []
    for block in (1, 2, 3):
        words = [(word >> 11) / 2**53 for word in philox((seed, image), [block, 0, 0, step])]
        for u, v in (words[:2], words[2:]):
            radius, angle = math.sqrt(-2 * math.log(1 - u)), 2 * math.pi * v
            expected += [radius * math.cos(angle), radius * math.sin(angle)]
    torch.testing.assert_close(Noise(seed, [image], (12,))(step)[0], torch.tensor(expected), rtol=1e-6, atol=1e-7)


def test_the_stream_is_standard_normal():
    values = Noise(0, range(4), (50_000,))(0).flatten().double().sort().values
    n = len(values)
    assert abs(values.mean()) < 4 / math.sqrt(n)
    assert abs(values.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((values**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((values**4).mean() - 3) < 4 * math.sqrt(96 / n)
    cdf, rank = torch.special.ndtr(values), torch.arange(n + 1, dtype=torch.float64) / n
    distance = torch.maximum(rank[1:] - cdf, cdf - rank[:-1]).max()  # Kolmogorov-Smirnov
    assert distance * math.sqrt(n) < 1.63  # the 1 % point
    assert values.abs().max() > 4


def test_streams_are_uncorrelated():
    shape, n = (20_000,), 20_000
    streams = [Noise(seed, [image], shape)(step)[0] for seed in (0, 1, 2**63) for image in (0, 1) for step in (0, 1, 2)]
    correlations = torch.corrcoef(torch.stack([*streams, streams[0].roll(1), streams[0].roll(2)]))
    off_diagonal = correlations - torch.eye(len(correlations))
    assert off_diagonal.abs().max() < 4.5 / math.sqrt(n)


def test_seed_zero_is_a_seed_and_seeds_run_to_the_last_of_64_bits():
    zero, last = Noise(0, [0], PICTURE), Noise(2**64 - 1, [0], PICTURE)
    assert torch.equal(zero(0), Noise(0, [0], PICTURE)(0))
    assert not torch.equal(zero(0), last(0))
    assert not torch.equal(zero(0), Noise(1, [0], PICTURE)(0))


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(ValueError, match=rf"seed must be from 0 to 2\*\*64 - 1; got {seed}"):
        Noise(seed, [0], PICTURE)
