"""What the networks are made of.

Legend: B batch, C channels, H W height and width, D width of an embedding.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn


def timestep_embedding(t: Shaped[Tensor, " B"], width: int) -> Float[Tensor, "B D"]:
    """Sinusoids of the time, cosines first (Ho et al. 2020, after Vaswani et al. 2017, section 3.5).

    `width` is even in every published model; the frequencies fall from 1 to nearly 1/10000. Computed in float32.
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=t.device, dtype=torch.float32) * (-math.log(10000) / half))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class Perceptron(nn.Module):
    """Two linear layers and a SiLU between: makes embeddings of the time and of conditioning vectors."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_width, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B _"]) -> Float[Tensor, "B D"]:
        out: Tensor = self.linear_2(F.silu(self.linear_1(x)))
        return out


class Downsample(nn.Module):
    """Half the resolution by a strided convolution.

    The UNet pads by 1 on all sides, the autoencoder only to the right and below: the same shapes, other pictures.
    """

    def __init__(self, channels: int, *, asymmetric: bool = False) -> None:
        super().__init__()
        self.asymmetric = asymmetric
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if asymmetric else 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H2 W2"]:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)) if self.asymmetric else x)
        return out


class Upsample(nn.Module):
    """Twice the resolution: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H2 W2"]:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class ResBlock(nn.Module):
    """Two convolutions around which the input is added (He et al. 2016), told the time in between.

    `time_width` None is the autoencoder's form. `resample` halves ("down") or doubles ("up") the resolution of both
    branches between the first activation and the first convolution (Song et al. 2021, BigGAN's block).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        time_width: int | None = None,
        groups: int = 32,
        eps: float = 1e-5,
        scale_shift: bool = False,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = resample
        self.norm1 = nn.GroupNorm(groups, in_channels, eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = None if time_width is None else nn.Linear(time_width, out_channels * (2 if scale_shift else 1))
        self.norm2 = nn.GroupNorm(groups, out_channels, eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = None if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "B C H W"], time: Float[Tensor, "B D"] | None = None) -> Float[Tensor, "B C2 H2 W2"]:
        h = F.silu(self.norm1(x))
        x, h = self._resampled(x), self._resampled(h)
        h = self.conv1(h)
        if self.time_emb_proj is not None and time is not None:
            shift = self.time_emb_proj(F.silu(time))[:, :, None, None]
            if self.scale_shift:
                scale, shift = shift.chunk(2, dim=1)
                h = self.norm2(h) * (1 + scale) + shift
            else:
                h = self.norm2(h + shift)
        else:
            h = self.norm2(h)
        h = self.conv2(F.silu(h))
        out: Tensor = h + (x if self.conv_shortcut is None else self.conv_shortcut(x))
        return out

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return x
