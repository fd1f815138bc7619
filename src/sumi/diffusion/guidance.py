"""Guidance: evaluate the denoiser at several conditionings and combine; what is left is a function of (x, sigma) alone."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.denoiser import Denoiser

Denoise: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""What a sampler sees: (x [B C H W], sigma []) -> x0 [B C H W]."""


def unguided(denoiser: Denoiser, cond: Conditioning) -> Denoise:
    """The denoiser at one conditioning."""
    return lambda x, sigma: denoiser(x, sigma, cond)


def cfg(denoiser: Denoiser, cond: Conditioning, uncond: Conditioning, scale: float, rescale: float = 0.0) -> Denoise:
    """Classifier-free guidance: uncond + scale * (cond - uncond) (Ho & Salimans 2022, equation 6 with scale = 1 + w).

    Both are evaluated in one network call on the batch [uncond, cond]; at scale 1 only cond is. The formula is the same on eps, v and x0,
    as its weights sum to 1.

    Args:
        rescale: the factor phi in [0, 1] that draws the standard deviation of each sample's network output back towards that of cond
            alone (Lin et al. 2023, section 3.4).
    """
    if scale == 1:
        return unguided(denoiser, cond)
    both = uncond.cat(cond)

    def denoise(x: Float[Tensor, "B C H W"], sigma: Float[Tensor, ""]) -> Float[Tensor, "B C H W"]:
        without, given = denoiser.output(torch.cat([x, x]), sigma, both).chunk(2)
        output = without + scale * (given - without)
        if rescale > 0:
            ratio = given.std((1, 2, 3), keepdim=True) / output.std((1, 2, 3), keepdim=True)
            output = output * (rescale * ratio + 1 - rescale)
        return denoiser.denoised(output, x, sigma)

    return denoise
