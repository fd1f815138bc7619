"""What lies beside the noised latent: pictures, masks and maps to channels of its size.

Guidance leaves it on both sides; an embedder with a `null` may also be led away from.

Legend: B batch, C Z picture and latent channels, H W picture height and width, h w latent height and width.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from sumi.config import Concat, ModelSpec, ScheduleConfig
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.noise import Noise
from sumi.diffusion.schedule import Schedule
from sumi.models.embedders import LOW_RES, MASKED_IMAGE, drawn
from sumi.nets.autoencoder import Autoencoder, Posterior
from sumi.nets.conditioners import MapRescaler

ENLARGEMENT = 4
"""How many times as large super-resolution makes a picture, along each side, in every published model."""


@dataclass(frozen=True)
class Mask:
    """What is to be made anew, by cells of the latent.

    signed: 1 and -1 rather than 1 and 0 (the latent diffusion paper's own inpainting).
    """

    signed: bool = False

    def __call__(self, mask: Float[Tensor, "B 1 H W"], cells: tuple[int, int]) -> Conditioning:
        """Channels [B 1 h w] of a mask that is 1 where the picture is to be made anew; from 0.5 counts as 1."""
        small = F.interpolate(_hole(mask).float(), size=cells)
        return Conditioning(concat=small * 2 - 1 if self.signed else small)


@dataclass(frozen=True, eq=False)
class MaskedImage:
    """The latent of a picture with a hole in it.

    black: the hole is -1 rather than 0, mid-grey, and the latent is not scaled (the latent diffusion paper's own inpainting).
    """

    autoencoder: Autoencoder
    black: bool = False

    def __call__(self, image: Float[Tensor, "B C H W"], mask: Float[Tensor, "B 1 H W"], noise: Noise) -> Conditioning:
        """Channels [N Z h w] of a picture in [-1, 1] for each of those of the noise, or of one for all of them.

        The hole is where `mask` is at least 0.5.
        """
        posterior = _encoded(self.autoencoder, image.masked_fill(_hole(mask), -1.0 if self.black else 0.0))
        count = len(noise.images)
        posterior = replace(posterior, **{name: getattr(posterior, name).expand(count, -1, -1, -1) for name in ("mean", "logvar")})
        latent = posterior.sample(drawn(noise, MASKED_IMAGE, posterior.mean))
        return Conditioning(concat=latent / posterior.scale if self.black else latent)


@dataclass(frozen=True, eq=False)
class Source:
    """The latent of a picture to be changed, at the mode and not scaled (Brooks et al. 2023)."""

    autoencoder: Autoencoder

    def __call__(self, image: Float[Tensor, "B C H W"]) -> Conditioning:
        """Channels [B Z h w] of a picture in [-1, 1]."""
        return Conditioning(concat=_encoded(self.autoencoder, image).mean)

    def null(self, given: Float[Tensor, "B Z h w"]) -> Conditioning:
        """Channels of no picture, in place of those given: zeros."""
        return Conditioning(concat=torch.zeros_like(given))


@dataclass(frozen=True)
class LowRes:
    """A picture to be enlarged, itself as large as the latent, or `patch_size` times as large: a cell has the channels of its pixels."""

    patch_size: int = 1

    def __call__(self, image: Float[Tensor, "B C H W"]) -> Conditioning:
        """Channels [B C*patch_size^2 h w] of a picture in [-1, 1]."""
        return Conditioning(concat=F.pixel_unshuffle(image, self.patch_size))


class NoisyLowRes:
    """A picture to be enlarged, as large as the latent, noised to a level that the UNet is told as a label (x4-upscaler)."""

    def __init__(self) -> None:
        self.schedule = Schedule(ScheduleConfig(start=0.0001, end=0.02))

    def __call__(self, image: Float[Tensor, "B C h w"], noise: Noise, level: int | None = None) -> Conditioning:
        """Channels [B C h w] of a picture in [-1, 1], and labels [B]; `level` from 0 to 350, as in training, by default 20."""
        level = 20 if level is None else level
        kept = self.schedule.alphas_cumprod[level]
        noised = kept.sqrt() * image + (1 - kept).sqrt() * drawn(noise, LOW_RES, image)
        return Conditioning(concat=noised, vector=torch.full((len(image),), level, device=image.device))


class Depth:
    """How near everything is, on each picture's own scale."""

    def __call__(self, depth: Float[Tensor, "B 1 H W"], cells: tuple[int, int]) -> Conditioning:
        """Channels [B 1 h w], from -1 to 1 in each picture, of a depth map of any size and unit that grows towards the eye."""
        small = F.interpolate(depth, size=cells, mode="bicubic", align_corners=False)
        low, high = small.amin((1, 2, 3), keepdim=True), small.amax((1, 2, 3), keepdim=True)
        # A wall has one depth: the clamp makes it -1 all over.
        return Conditioning(concat=2 * (small - low) / (high - low).clamp(min=1e-9) - 1)


class Segmentation:
    """Which class is where."""

    def __init__(self, rescaler: MapRescaler) -> None:
        self.rescaler = rescaler

    def __call__(self, labels: Int[Tensor, "B H W"]) -> Conditioning:
        """Channels [B C h w] of a map of class numbers, as large as the picture; -1 where the class is not known."""
        one_hot = F.one_hot(labels + 1, self.rescaler.config.classes + 1)[..., 1:].movedim(-1, 1)
        return Conditioning(concat=self.rescaler(one_hot.to(self.rescaler.channel_mapper.weight)).float())


def channels(spec: ModelSpec) -> dict[Concat, int]:
    """How many channels each entry of a model's `concat` has, in order."""
    pixels = spec.autoencoder.image_channels
    latent = spec.autoencoder.latent_channels
    maps = 0 if spec.map is None else spec.map.channels * spec.map.patch_size**2
    every: dict[Concat, int] = {"mask": 1, "depth": 1, "masked_image": latent, "image": latent, "map": maps}
    every["low_res"] = pixels * enlarged_patch(spec) ** 2
    return {name: every[name] for name in spec.concat}


def enlarged_patch(spec: ModelSpec) -> int:
    """Pixels of a picture to be enlarged along one side of a cell of the latent."""
    return max(1, spec.factor // ENLARGEMENT)


def left_out(spec: ModelSpec, name: Concat, count: int, cells: tuple[int, int]) -> Conditioning:
    """Channels [count C h w] of an input that is not given, for a model that was trained so: zeros, and of a mask, all to be made anew."""
    return Conditioning(concat=torch.full((count, channels(spec)[name], *cells), float(name == "mask")))


def _hole(mask: Tensor) -> Tensor:
    return mask >= 0.5


def _encoded(autoencoder: Autoencoder, image: Tensor) -> Posterior:
    """The posterior, in float32, of an autoencoder of any device and precision."""
    found = autoencoder.encode(image.to(next(autoencoder.parameters(), image)))
    return Posterior(found.mean.float(), found.logvar.float(), found.scale)
