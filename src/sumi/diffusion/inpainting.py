"""Inpainting with any model: what is known of the latent is put back wherever the network looks."""

import torch
from jaxtyping import Float
from torch import Tensor

from sumi.diffusion.guidance import Denoise


def keeping(
    denoise: Denoise,
    latent: Float[Tensor, "_ C h w"],
    cells: Float[Tensor, "_ 1 h w"],
    noise: Float[Tensor, "B C h w"],
    first: Float[Tensor, ""],
) -> Denoise:
    """The same, for a latent of which only the `cells` that are 1 are to be made anew.

    Elsewhere the network sees what is known, noised to the level it is asked about with the noise that sampling began with, as in RePaint
    (Lugmayr et al. 2022, equation 8a); and x0 is what is known. So every sampler arrives there, and goes the straight way to it. At
    `first`, the noise level of the first step, the network sees what the sampler has, which may be noise alone.
    """

    def kept(x: Tensor, sigma: Tensor) -> Tensor:
        seen = x if sigma >= first else torch.where(cells > 0, x, latent + sigma * noise)
        return torch.where(cells > 0, denoise(seen, sigma), latent)

    return kept
