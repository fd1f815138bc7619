"""The parts the networks are made of."""

import math

import pytest
import torch

from sumi.nets.layers import Downsample, ResBlock, timestep_embedding
from support import randomise


def test_timestep_embedding_is_cosines_then_sines() -> None:
    t, width = 353.8904, 320
    frequencies = [10000 ** (-i / 160) for i in range(160)]
    expected = [math.cos(t * f) for f in frequencies] + [math.sin(t * f) for f in frequencies]
    embedding = timestep_embedding(torch.tensor([t], dtype=torch.float64), width)
    torch.testing.assert_close(embedding[0], torch.tensor(expected), atol=1e-4, rtol=0)


def test_timestep_embedding_of_integers_and_of_half_precision() -> None:
    """It is computed in float32 whatever the time comes as; 999 has no place in a bfloat16 angle."""
    expected = timestep_embedding(torch.tensor([512.0]), 32)
    assert expected.dtype == torch.float32
    for dtype in (torch.long, torch.bfloat16, torch.float64):
        assert torch.equal(timestep_embedding(torch.tensor([512], dtype=dtype), 32), expected)


def test_the_autoencoder_pads_to_the_right_and_below() -> None:
    """The first output looks at the first pixel from its own centre in the UNet, from its corner in the autoencoder."""
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 0, 0] = 1
    for asymmetric, tap in ((False, (1, 1)), (True, (0, 0))):
        layer = Downsample(1, asymmetric=asymmetric)
        torch.nn.init.zeros_(layer.conv.bias)
        out = layer(image)
        assert out.shape == (1, 1, 2, 2)
        assert out[0, 0, 0, 0].item() == pytest.approx(layer.conv.weight[0, 0, *tap].item())


@pytest.mark.parametrize(("resample", "size"), [(None, 8), ("down", 4), ("up", 16)])
def test_a_residual_block_that_does_nothing_only_resamples(resample: str | None, size: int) -> None:
    block = ResBlock(8, 8, time_width=4, groups=4, resample=resample)
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    x = torch.randn(2, 8, 8, 8)
    out = block(x, torch.randn(2, 4))
    assert out.shape == (2, 8, size, size)
    assert torch.allclose(out.mean((2, 3)), x.mean((2, 3)), atol=1e-6)
    if resample is None:
        assert torch.equal(out, x)


@pytest.mark.parametrize("scale_shift", [False, True])
def test_a_residual_block_is_told_the_time(scale_shift: bool) -> None:
    block = randomise(ResBlock(8, 16, time_width=4, groups=4, scale_shift=scale_shift))
    x = torch.randn(1, 8, 4, 4)
    assert not torch.allclose(block(x, torch.zeros(1, 4)), block(x, torch.ones(1, 4)))
