"""What tests of networks and of pictures share."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter away from its usual initial value, zeros and ones included, so that none can be left out unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scales = parameter.ndim == 1 and name.endswith("weight")  # of a normalisation
            parameter.copy_(0.1 * noise if parameter.ndim > 1 else float(scales) + 0.3 * noise)
    return module.eval()


def assert_agree(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    """Equal shapes, and a largest difference below `tolerance` times the largest magnitude."""
    assert ours.shape == theirs.shape
    assert theirs.std() > 0, "a constant agrees with anything"
    error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    assert error < tolerance, f"relative error {error:.2e}"


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def assert_same_norms(ours: nn.Module, theirs: nn.Module) -> None:
    """Equal epsilons: at usual variances a wrong one hides below any tolerance, on flat pictures it does not."""
    found = {name: module.eps for name, module in ours.named_modules() if isinstance(module, nn.GroupNorm | nn.LayerNorm)}
    expected = {name: module.eps for name, module in theirs.named_modules() if isinstance(module, nn.GroupNorm | nn.LayerNorm)}
    assert found == expected


def noisy(height: int, width: int, channels: int | None = 3, seed: int = 0, low: int = 0, high: int = 256) -> np.ndarray[Any, Any]:
    """8-bit pixels, of every value from `low` on and below `high`."""
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(low, high, shape, dtype=np.uint8)


def saved(path: Path, pixels: np.ndarray[Any, Any]) -> str:
    """The path, as a request names it, where there are now these pixels."""
    Image.fromarray(pixels).save(path)
    return str(path)
