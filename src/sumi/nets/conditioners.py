"""The small networks of the latent diffusion paper that read what is not words: a class label, a segmentation map.

Legend: B batch, K classes, D context width, C channels, H W map height and width, h w latent height and width.
"""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sumi.config import LabelConfig, MapConfig


class LabelEmbedding(nn.Module):
    """A class label to one token of context: a row of a table."""

    def __init__(self, config: LabelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.classes, config.width)

    def forward(self, labels: Int[Tensor, " B"]) -> Float[Tensor, "B 1 D"]:
        out: Tensor = self.embedding(labels)[:, None]
        return out


class MapRescaler(nn.Module):
    """A one-hot segmentation map, halved to the size of the latent, each cell's mixture of classes mapped to a few channels.

    A cell of no class at all is zeros. With patches, as many cells more lie in a cell of the latent, each with channels of its own.
    """

    def __init__(self, config: MapConfig) -> None:
        super().__init__()
        self.config = config
        self.channel_mapper = nn.Conv2d(config.classes, config.channels, 1, bias=False)

    def forward(self, one_hot: Float[Tensor, "B K H W"]) -> Float[Tensor, "B C h w"]:
        for _ in range(self.config.halvings):
            one_hot = F.interpolate(one_hot, scale_factor=0.5, mode="bilinear", align_corners=False)
        return F.pixel_unshuffle(self.channel_mapper(one_hot), self.config.patch_size)
