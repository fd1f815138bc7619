"""Dynamic thresholding: a predicted x0 that strong guidance drove out of its range is taken back into it, at every step."""

import torch
from jaxtyping import Float
from torch import Tensor

PLANE = (2, 3)


def clamped(x0: Float[Tensor, "B C H W"], percentile: float) -> Float[Tensor, "B C H W"]:
    """Imagen's (Saharia et al. 2022, section 2.3): clamp to [-s, s] and divide by s, the percentile of |x0| of each sample, at least 1.

    For models whose latents are pixels in [-1, 1].
    """
    s = torch.stack([torch.quantile(one.abs().flatten(), percentile) for one in x0]).clamp(min=1)[:, None, None, None]
    return x0.clamp(-s, s) / s


def mimicked(guided: Float[Tensor, "B C H W"], like: Float[Tensor, "B C H W"], percentile: float) -> Float[Tensor, "B C H W"]:
    """The form that suits latents, of the extension "Dynamic Thresholding (CFG Scale Fix)": the range of values of `like`.

    `like` is what a lower scale of guidance gives. Each channel of each sample keeps its mean; its distances from there are clamped to
    their percentile, or to the largest of `like` where that is larger, and scaled to the latter.
    """
    mean = guided.mean(PLANE, keepdim=True)
    distance = guided - mean
    reach = (like - like.mean(PLANE, keepdim=True)).abs().amax(PLANE, keepdim=True)
    own = torch.stack([torch.quantile(one.abs().flatten(1), percentile, dim=1) for one in distance])[:, :, None, None]
    limit = torch.maximum(reach, own).clamp(min=torch.finfo(guided.dtype).tiny)
    return distance.clamp(-limit, limit) / limit * reach + mean
