"""The noise predictor f(x, t, y): a U-Net (Ronneberger et al. 2015) that is told the time and a context.

Legend: B batch, C channels, H W latent height and width, L tokens, D width of the time embedding, E context width.

One class serves every model of the family; what differs is `UNetConfig`. Parameter names are those of published
folders, so a published state dict loads without a map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from sumi.config import UNetConfig
from sumi.nets.attention import AttentionBlock, SpatialTransformer
from sumi.nets.layers import Downsample, Perceptron, ResBlock, Upsample, timestep_embedding


@dataclass(frozen=True)
class Residuals:
    """What a side network adds: one tensor to each skip connection, in order from the input, and one to the middle."""

    skips: Sequence[Float[Tensor, "B _ _ _"]] = ()
    middle: Float[Tensor, "B _ _ _"] | None = None


class Block(nn.Module):
    """One level, down or up, or the middle: residual blocks, a transformer after each if the level has attention."""

    def __init__(self, resnets: Sequence[nn.Module], attentions: Sequence[nn.Module]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList(attentions) if attentions else None
        self.downsamplers: nn.ModuleList | None = None
        self.upsamplers: nn.ModuleList | None = None

    def attend(self, layer: int, x: Tensor, context: Tensor | None) -> Tensor:
        """Apply the attention that follows residual block `layer`, where there is one."""
        if self.attentions is None or layer >= len(self.attentions):
            return x
        attention = self.attentions[layer]
        out: Tensor = attention(x) if context is None else attention(x, context)
        return out


class UNet(nn.Module):
    """The noise predictor.

    `forward` takes x [B C H W] (noisy latent, scaled by c_in, with any concatenated channels behind), t [B] (time, 0 to
    999, fractions allowed), context [B L E] if the configuration has a context width, vector [B V] or integer labels [B]
    if it has an embedding for them, and optional residuals of a side network. It returns eps, v or x0 [B C H W],
    whichever the model was trained to predict. H and W must be multiples of 2 ** (levels - 1).
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.block_channels
        time_width = 4 * channels[0]
        top = len(channels) - 1

        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_embedding = Perceptron(channels[0], time_width)
        if config.label_classes is not None:
            self.class_embedding: nn.Module = nn.Embedding(config.label_classes, time_width)
        if config.vector_width is not None:
            setattr(self, config.vector_name, Perceptron(config.vector_width, time_width))

        def resnet(in_channels: int, out_channels: int, resample: str | None = None) -> ResBlock:
            return ResBlock(
                in_channels,
                out_channels,
                time_width=time_width,
                groups=config.norm_groups,
                scale_shift=config.scale_shift,
                resample=resample,
            )

        def attention(level: int, depth: int) -> nn.Module:
            width, heads = channels[level], config.heads_at(level)
            if config.context_width is None:
                return AttentionBlock(width, heads, groups=config.norm_groups, eps=1e-5)
            return SpatialTransformer(
                width,
                config.context_width,
                heads,
                depth,
                linear=config.linear_projection,
                cross_only=level >= 0 and config.cross_only[level],
                groups=config.norm_groups,
            )

        self.down_blocks = nn.ModuleList()
        skips, width = [channels[0]], channels[0]
        for level, out in enumerate(channels):
            ins = [width] + [out] * (config.layers_per_block - 1)
            depth = config.attention_depth[level]
            block = Block([resnet(i, out) for i in ins], [attention(level, depth) for _ in ins] if depth else [])
            skips += [out] * len(ins)
            if level < top:
                block.downsamplers = nn.ModuleList([resnet(out, out, "down") if config.residual_resampling else Downsample(out)])
                skips.append(out)
            self.down_blocks.append(block)
            width = out

        middle = [attention(-1, config.middle_depth)] if config.middle_depth else []
        self.mid_block = Block([resnet(width, width), resnet(width, width)], middle)

        self.up_blocks = nn.ModuleList()
        for level in reversed(range(len(channels))):
            out, depth = channels[level], config.attention_depth[level]
            resnets = []
            for _ in range(config.layers_per_block + 1):
                resnets.append(resnet(width + skips.pop(), out))
                width = out
            block = Block(resnets, [attention(level, depth) for _ in resnets] if depth else [])
            if level > 0:
                block.upsamplers = nn.ModuleList([resnet(out, out, "up") if config.residual_resampling else Upsample(out)])
            self.up_blocks.append(block)

        self.conv_norm_out = nn.GroupNorm(config.norm_groups, channels[0], eps=1e-5)
        self.conv_out = nn.Conv2d(channels[0], config.out_channels, 3, padding=1)

    def forward(
        self,
        x: Float[Tensor, "B _ H W"],
        t: Shaped[Tensor, " B"],
        context: Float[Tensor, "B L E"] | None = None,
        vector: Float[Tensor, "B V"] | Int[Tensor, " B"] | None = None,
        residuals: Residuals | None = None,
    ) -> Float[Tensor, "B _ H W"]:
        if (context is None) != (self.config.context_width is None):
            wants = "needs" if context is None else "takes no"
            raise ValueError(f"this UNet {wants} context")
        time = self._time(t, vector, x.dtype)

        h = self.conv_in(x)
        skips = [h]
        for block in cast(list[Block], self.down_blocks):
            for layer, resnet in enumerate(block.resnets):
                h = block.attend(layer, resnet(h, time), context)
                skips.append(h)
            if block.downsamplers is not None:
                h = self._resample(block.downsamplers[0], h, time)
                skips.append(h)
        if residuals is not None:
            skips = [skip + extra for skip, extra in zip(skips, residuals.skips, strict=True)] if residuals.skips else skips

        h = self.mid_block.resnets[0](h, time)
        h = self.mid_block.resnets[1](self.mid_block.attend(0, h, context), time)
        if residuals is not None and residuals.middle is not None:
            h = h + residuals.middle

        for block in cast(list[Block], self.up_blocks):
            for layer, resnet in enumerate(block.resnets):
                h = block.attend(layer, resnet(torch.cat([h, skips.pop()], dim=1), time), context)
            if block.upsamplers is not None:
                h = self._resample(block.upsamplers[0], h, time)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(h)))
        return out

    def _time(self, t: Tensor, vector: Tensor | None, dtype: torch.dtype) -> Float[Tensor, "B D"]:
        """The embedding of the time, and of the label or vector where the model has one."""
        config = self.config
        time: Tensor = self.time_embedding(timestep_embedding(t, config.block_channels[0]).to(dtype))
        if config.label_classes is None and config.vector_width is None:
            if vector is not None:
                raise ValueError("this UNet takes no label or vector")
            return time
        if vector is None:
            raise ValueError(f"this UNet needs a {'label' if config.label_classes is not None else 'vector'}")
        if config.label_classes is not None:
            extra: Tensor = self.class_embedding(vector)
        else:
            extra = getattr(self, config.vector_name)(vector.to(dtype))
        return time + extra

    def _resample(self, layer: nn.Module, h: Tensor, time: Tensor) -> Tensor:
        out: Tensor = layer(h, time) if self.config.residual_resampling else layer(h)
        return out
