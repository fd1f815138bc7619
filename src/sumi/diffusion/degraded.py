"""A predicted x0 made worse where the network looks, for self-attention guidance (Hong et al. 2023) to lead away from.

Legend: N heads, T cells of the map of attention, h w its height and width.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

RADIUS, WIDTH = 4, 1.0
"""Of the blur, in cells of the latent: a window of 9, and the standard deviation."""


def degraded(x0: Float[Tensor, "B C H W"], attention: Float[Tensor, "B N T T"]) -> Float[Tensor, "B C H W"]:
    """x0, blurred where more than the average attention goes to."""
    return torch.where(attended(attention, (x0.shape[2], x0.shape[3])), blurred(x0), x0)


def attended(attention: Float[Tensor, "B N T T"], size: tuple[int, int]) -> Bool[Tensor, "B 1 H W"]:
    """Where, in a latent of a size, the attention that a cell is given by all the others is above 1, its mean."""
    total = attention.mean(1).sum(1)
    cells = total.shape[1]
    # A map has the latent's proportions, but a single cell has none.
    height = 1 if cells == 1 else round(math.sqrt(cells * size[0] / size[1]))
    mask = (total > 1).view(len(total), 1, height, -1)
    return F.interpolate(mask.to(attention.dtype), size) > 0


def blurred(x0: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Gaussian blur, reflected at the edges; a side too short to be reflected so far is blurred by a shorter window."""
    channels = x0.shape[1]
    for axis in (2, 3):
        radius = min(RADIUS, x0.shape[axis] - 1)
        weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=x0.device, dtype=x0.dtype) / WIDTH) ** 2)
        shape = (1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)
        kernel = (weights / weights.sum()).view(shape).expand(channels, *[-1] * 3)
        padding = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        x0 = F.conv2d(F.pad(x0, padding, mode="reflect"), kernel, groups=channels)
    return x0
