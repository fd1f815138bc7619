import pytest
import torch
from torch import Tensor


def smooth(x: Tensor, t: Tensor, context: Tensor | None = None, vector: Tensor | None = None) -> Tensor:
    """A smooth, nonlinear stand-in for the UNet that listens to everything it is given; it answers in x's first four channels."""
    mix = torch.linspace(-0.6, 0.7, 16, dtype=x.dtype, device=x.device).reshape(4, 4).sin()
    out = torch.einsum("bchw,cd->bdhw", x[:, :4], mix).tanh() + 0.1 * torch.sin(t.to(x.dtype) / 100)[:, None, None, None]
    if x.shape[1] > 4:
        out = out + 0.3 * x[:, 4:].mean(1, keepdim=True)
    if context is not None:
        out = out + 0.2 * context.mean((1, 2))[:, None, None, None]
    if vector is not None:
        out = out + 0.1 * vector.to(x.dtype).reshape(len(x), -1).mean(1)[:, None, None, None]
    return out


@pytest.fixture
def network():
    return smooth
