"""Latent diffusion (Rombach et al. 2022): the parts put together.

Legend: B batch, C latent channels, h w latent height and width, H W picture height and width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sumi.config import ModelSpec
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.denoiser import Denoiser
from sumi.diffusion.schedule import Schedule
from sumi.models.embedders import Prompt
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.unet import UNet


@dataclass(frozen=True, eq=False)
class LatentDiffusion:
    """A whole model. Its networks may be on any device and of any precision; what goes in and comes out is float32."""

    spec: ModelSpec
    unet: UNet
    autoencoder: Autoencoder
    prompt: Prompt | None
    """None: the model takes no text."""
    schedule: Schedule

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device

    def encode(self, texts: Sequence[str]) -> Conditioning:
        """What the UNet is told of each text; nothing, if the model takes no text."""
        return Conditioning() if self.prompt is None else self.prompt(texts)

    def denoiser(self) -> Denoiser:
        """(x, sigma, conditioning) -> x0, in float32, whatever the UNet's precision."""
        return Denoiser(self._predict, self.schedule, self.spec.schedule.prediction)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of a picture's latent; sides in pixels, multiples of `spec.multiple`."""
        return self.spec.autoencoder.latent_channels, height // self.spec.factor, width // self.spec.factor

    def decode(self, latent: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        """Pictures in [-1, 1], unclamped."""
        weight = self.autoencoder.post_quant_conv.weight
        return self.autoencoder.decode(latent.to(weight.device, weight.dtype)).float()

    def _predict(self, x: Tensor, t: Tensor, context: Tensor | None, vector: Tensor | None) -> Tensor:
        dtype = self.unet.conv_in.weight.dtype
        out: Tensor = self.unet(x.to(dtype), t, None if context is None else context.to(dtype), vector)
        return out.float()
