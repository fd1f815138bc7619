"""Pixels and latents: the first stage of latent diffusion (Rombach et al. 2022, section 3.1; Esser et al. 2021).

Legend: B batch, C image channels, Z latent channels, H W picture height and width, h w latent height and width.

The autoencoder owns its latent scale: what `encode` returns and `decode` takes is what the noise predictor sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sumi.config import AutoencoderConfig
from sumi.nets.attention import AttentionBlock
from sumi.nets.layers import Downsample, ResBlock, Upsample


@dataclass(frozen=True)
class Posterior:
    """A diagonal Gaussian over latents, one a picture. `mean` and `logvar` are the encoder's; `scale` is applied on the way out."""

    mean: Float[Tensor, "B Z h w"]
    logvar: Float[Tensor, "B Z h w"]
    scale: float

    def mode(self) -> Float[Tensor, "B Z h w"]:
        """The most likely latent, scaled."""
        return self.mean * self.scale

    def sample(self, noise: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B Z h w"]:
        """The latent that standard normal `noise` picks, scaled."""
        return (self.mean + torch.exp(0.5 * self.logvar) * noise) * self.scale

    def kl(self) -> Float[Tensor, " B"]:
        """Divergence from the standard normal in nats a picture (Kingma and Welling 2014, appendix B)."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar).sum((1, 2, 3))


class Level(nn.Module):
    """Residual blocks at one resolution, attention after each if asked for, and a way to the next resolution."""

    def __init__(self, resnets: Sequence[nn.Module], attentions: Sequence[nn.Module]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList(attentions) if attentions else None
        self.downsamplers: nn.ModuleList | None = None
        self.upsamplers: nn.ModuleList | None = None

    def forward(self, h: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        for layer, resnet in enumerate(self.resnets):
            h = resnet(h)
            if self.attentions is not None:
                h = self.attentions[layer](h)
        for resampler in (self.downsamplers, self.upsamplers):
            if resampler is not None:
                h = resampler[0](h)
        return h


class Middle(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, channels: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResBlock(channels, channels, groups=groups, eps=1e-6) for _ in range(2)])
        self.attentions = nn.ModuleList([AttentionBlock(channels, groups=groups)]) if attention else None

    def forward(self, h: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        h = self.resnets[0](h)
        if self.attentions is not None:
            h = self.attentions[0](h)
        out: Tensor = self.resnets[1](h)
        return out


class Encoder(nn.Module):
    def __init__(self, config: AutoencoderConfig, out_channels: int) -> None:
        super().__init__()
        channels, groups = config.block_channels, config.norm_groups
        self.patch_size = config.patch_size
        self.conv_in = nn.Conv2d(config.image_channels * config.patch_size**2, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        width = channels[0]
        for level, out in enumerate(channels):
            ins = [width] + [out] * (config.layers_per_block - 1)
            attentions = [AttentionBlock(out, groups=groups) for _ in ins] if config.attention_levels[level] else []
            block = Level([ResBlock(i, out, groups=groups, eps=1e-6) for i in ins], attentions)
            if level < len(channels) - 1:
                block.downsamplers = nn.ModuleList([Downsample(out, asymmetric=True)])
            self.down_blocks.append(block)
            width = out
        self.mid_block = Middle(width, groups, config.middle_attention)
        self.conv_norm_out = nn.GroupNorm(groups, width, eps=1e-6)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B _ h w"]:
        h = self.conv_in(F.pixel_unshuffle(image, self.patch_size))
        for block in self.down_blocks:
            h = block(h)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(self.mid_block(h))))
        return out


class Decoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        channels, groups = config.block_channels, config.norm_groups
        width = channels[-1]
        self.conv_in = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        self.mid_block = Middle(width, groups, config.middle_attention)
        self.up_blocks = nn.ModuleList()
        for level in reversed(range(len(channels))):
            out = channels[level]
            ins = [width] + [out] * config.layers_per_block
            attentions = [AttentionBlock(out, groups=groups) for _ in ins] if config.attention_levels[level] else []
            block = Level([ResBlock(i, out, groups=groups, eps=1e-6) for i in ins], attentions)
            if level > 0:
                block.upsamplers = nn.ModuleList([Upsample(out)])
            self.up_blocks.append(block)
            width = out
        self.conv_norm_out = nn.GroupNorm(groups, width, eps=1e-6)
        self.patch_size = config.patch_size
        self.conv_out = nn.Conv2d(width, config.image_channels * config.patch_size**2, 3, padding=1)

    def forward(self, latent: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B C H W"]:
        h = self.mid_block(self.conv_in(latent))
        for block in self.up_blocks:
            h = block(h)
        return F.pixel_shuffle(self.conv_out(F.silu(self.conv_norm_out(h))), self.patch_size)


class Codebook(nn.Module):
    """Vector quantisation (van den Oord et al. 2017): each latent cell becomes its nearest entry."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, width)
        nn.init.uniform_(self.embedding.weight, -1 / size, 1 / size)

    def nearest(self, latent: Float[Tensor, "B Z h w"]) -> Int[Tensor, "B h w"]:
        """Index of the entry closest to each cell (L2)."""
        cells = latent.movedim(1, -1)
        table = self.embedding.weight
        # |c - e|^2 without the |c|^2 that is the same for every entry.
        return (table.square().sum(1) - 2 * cells @ table.t()).argmin(-1)

    def forward(self, latent: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B Z h w"]:
        """The quantised latent; its gradient passes straight through to `latent` (section 3.2)."""
        quantised: Tensor = self.embedding(self.nearest(latent)).movedim(-1, 1)
        return latent + (quantised - latent).detach() if latent.requires_grad else quantised


class Autoencoder(nn.Module):
    """Pictures in [-1, 1] to latents and back, KL-regularised or vector-quantised (`codebook_size`).

    A picture's sides must be multiples of `config.factor`. Without blocks nothing is learnt: latents are pixels.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        if config.identity:
            return
        channels = config.latent_channels
        moments = channels if config.codebook_size is not None else 2 * channels
        self.encoder = Encoder(config, moments)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(moments, moments, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)
        self.quantize = None if config.codebook_size is None else Codebook(config.codebook_size, channels)

    def encode(self, image: Float[Tensor, "B C H W"]) -> Posterior:
        """The posterior over latents. A vector-quantising autoencoder gives the latent before quantisation, with no spread."""
        if self.config.identity:
            return Posterior(image, torch.full_like(image, -torch.inf), self.config.latent_scale)
        moments = self.quant_conv(self.encoder(image))
        if self.quantize is not None:
            return Posterior(moments, torch.full_like(moments, -torch.inf), self.config.latent_scale)
        mean, logvar = moments.chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(-30, 20), self.config.latent_scale)

    def decode(self, latent: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B C H W"]:
        """The picture of a scaled latent; quantised first where there is a codebook."""
        if self.config.identity:
            return latent
        latent = latent / self.config.latent_scale
        if self.quantize is not None:
            latent = self.quantize(latent)
        out: Tensor = self.decoder(self.post_quant_conv(latent))
        return out
