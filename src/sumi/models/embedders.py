"""What a picture is to be, as the UNet is told: one embedder for each kind of input, each with its own null.

Labels and numbers are here; words are in `sumi.models.prompt`, what lies beside the latent in `sumi.models.channels`.

Legend: B batch, D width of a token's vector, V width of the vector, E width of an embedding.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sumi.config import BertConfig, ModelSpec, ScheduleConfig
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.noise import Noise
from sumi.diffusion.schedule import Schedule
from sumi.nets.conditioners import LabelEmbedding
from sumi.nets.layers import timestep_embedding

# Numbers of draws from a picture's noise that no sampler reaches, so that what they are for is independent of the sampling.
MASKED_IMAGE, LOW_RES, IMAGE_EMBEDDING = (2**32 + number for number in range(3))


@dataclass(frozen=True)
class Sizes:
    """The size that a picture has, had before it was cropped, and where it was cropped, to sinusoids (Podell et al. 2023, section 2.2).

    `numbers` is how many of them there are: 6 (SDXL: original height and width, crop top and left, target height and width) or 5
    (its refiner: the same, with an aesthetic score in place of the target's).
    """

    numbers: int

    WIDTH = 256
    """Of the sinusoids of one number."""
    SCORE, LOW_SCORE = 6.0, 2.5
    """The aesthetic score asked for, and the one that guidance leads away from."""

    def __call__(
        self,
        size: tuple[int, int],
        count: int = 1,
        *,
        original: tuple[int, int] | None = None,
        crop: tuple[int, int] = (0, 0),
        score: float = SCORE,
    ) -> Conditioning:
        """Vector [count V] of pictures of `size` (height, width), by default not cropped from anything larger."""
        values = (*(original or size), *crop, *(size if self.numbers == 6 else (score,)))
        sinusoids = timestep_embedding(torch.tensor(values), self.WIDTH)
        return Conditioning(vector=sinusoids.reshape(1, -1).expand(count, -1))

    def null(self, size: tuple[int, int], count: int = 1) -> Conditioning:
        """The same size, of a low score."""
        return self(size, count, score=self.LOW_SCORE)


class Label:
    """Class labels to one token of context each."""

    def __init__(self, table: LabelEmbedding) -> None:
        self.table = table

    def __call__(self, labels: Int[Tensor, " B"]) -> Conditioning:
        """Context [B 1 D]."""
        return Conditioning(context=self.table(labels.to(self.table.embedding.weight.device)))

    def null(self, count: int = 1) -> Conditioning:
        """Context of no label, which is the last class of a table that was trained for guidance (1000 of ImageNet's 1001)."""
        return self(torch.full((count,), self.table.config.classes - 1))


class ImageEmbedding:
    """CLIP's embedding of a picture, noised to a level, and the sinusoids of the level (Stable Diffusion 2.1 unCLIP).

    Args:
        mean: [E], of the embeddings of training; they are noised as if of zero mean
        std: [E], and unit deviation.
    """

    def __init__(self, mean: Float[Tensor, " E"], std: Float[Tensor, " E"]) -> None:
        self.mean, self.std = mean, std
        self.schedule = Schedule(ScheduleConfig(kind="cosine"))

    def __call__(self, embedding: Float[Tensor, "B E"], noise: Noise, level: int | None = None) -> Conditioning:
        """Vector [B 2E]; `level` from 0 to 999, by default 0. The noise is that of the pictures of the batch."""
        level = 0 if level is None else level
        kept = self.schedule.alphas_cumprod[level]
        mean, std = self.mean.to(embedding), self.std.to(embedding)
        noised = kept.sqrt() * (embedding - mean) / std + (1 - kept).sqrt() * drawn(noise, IMAGE_EMBEDDING, embedding)
        sinusoids = timestep_embedding(torch.full((len(embedding),), level), embedding.shape[1])
        return Conditioning(vector=torch.cat([noised * std + mean, sinusoids.to(embedding)], dim=1))

    def null(self, count: int = 1) -> Conditioning:
        """Vector of no picture: zeros."""
        return Conditioning(vector=self.mean.new_zeros(count, 2 * len(self.mean)))


def drawn(noise: Noise, number: int, like: Tensor) -> Tensor:
    """Draw `number` of the noise of a batch of pictures, with the shape, device and precision of `like`."""
    return replace(noise, shape=tuple(like.shape[1:]))(number).to(like)


def pooled_width(spec: ModelSpec) -> int | None:
    """Width of the vector that a model's words become as a whole; None where there is none."""
    text = spec.text if spec.text_2 is None else spec.text_2
    return None if text is None or isinstance(text, BertConfig) else text.projection_width or text.width


def sizes(spec: ModelSpec) -> Sizes | None:
    """The embedder of sizes, for a model whose vector has room for them behind the text's."""
    pooled, width = pooled_width(spec), spec.unet.vector_width
    if pooled is None or width is None:
        return None
    return {pooled + numbers * Sizes.WIDTH: Sizes(numbers) for numbers in (5, 6)}.get(width)


def takes_image_embedding(spec: ModelSpec) -> bool:
    """Whether the vector is neither the text's nor the text's and sizes: then it is a picture's (unCLIP)."""
    return spec.unet.vector_width not in (None, pooled_width(spec)) and sizes(spec) is None
