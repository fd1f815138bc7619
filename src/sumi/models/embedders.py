"""What a picture is to be, as the UNet is told: one embedder for each kind of input, each with its own null.

Words, labels and numbers are here; what lies beside the latent is in `sumi.models.channels`.

Legend: B batch, L tokens, D width of a token's vector, P width of the pooled vector, V width of the vector, E width of an embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sumi.config import BertConfig, ModelSpec, ScheduleConfig, TextConfig
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.noise import Noise
from sumi.diffusion.schedule import Schedule
from sumi.nets.bert import BertEncoder
from sumi.nets.clip import TextEncoder
from sumi.nets.conditioners import LabelEmbedding
from sumi.nets.layers import timestep_embedding
from sumi.text.bpe import Tokenizer
from sumi.text.wordpiece import WordPiece

# Numbers of draws from a picture's noise that no sampler reaches, so that what they are for is independent of the sampling.
MASKED_IMAGE, LOW_RES, IMAGE_EMBEDDING = (2**32 + number for number in range(3))


@dataclass(frozen=True)
class Notice:
    """Something in a prompt that the model cannot take as it was meant; a picture is made all the same.

    `words` are those of the prompt: "unknown", one that is not in the model's vocabulary, with the most alike one that is;
    or "overflow", those that did not fit into the `room` tokens that the model reads.
    """

    kind: Literal["unknown", "overflow"]
    words: tuple[str, ...]
    nearest: str = ""
    room: int = 0

    def __str__(self) -> str:
        words = " ".join(self.words)
        if self.kind == "unknown":
            return f"{words!r} is not in this model's vocabulary" + (f"; nearest: {self.nearest}" if self.nearest else "")
        return f"the prompt is longer than the {self.room} tokens this model reads; left out: {words!r}"


class Prompt:
    """Texts to tokens' vectors for cross-attention (`context`) and to one vector each (`vector`), whichever the UNet takes.

    Args:
        second: reads the same texts by another encoder; its tokens' vectors lie beside the first's, its vector is added (SDXL, where
            the first has none).
        zero_null: no prompt is zeros rather than what the encoders say of the empty text (SDXL, which was trained so).
    """

    def __init__(
        self,
        tokenizer: Tokenizer | WordPiece,
        encoder: TextEncoder | BertEncoder,
        *,
        context: bool = True,
        vector: bool = False,
        second: "Prompt | None" = None,
        zero_null: bool = False,
    ) -> None:
        self.tokenizer, self.encoder = tokenizer, encoder
        self.context, self.vector = context, vector
        self.second, self.zero_null = second, zero_null

    def __call__(self, texts: Sequence[str]) -> Conditioning:
        """Conditioning of the texts: context [B L D], vector [B P]. PromptError for a text that is not Unicode."""
        device = next(self.encoder.parameters()).device
        features = self.encoder(torch.tensor([self.tokenizer(text) for text in texts], device=device))
        own = Conditioning(
            context=features.hidden if self.context else None,
            vector=features.pooled if self.vector else None,
        )
        return own if self.second is None else own.beside(self.second(texts))

    def away(self, texts: Sequence[str]) -> Conditioning:
        """Conditioning that guidance leads away from: of the texts, where the empty one is no prompt."""
        found = self(texts)
        if not self.zero_null:
            return found
        given = torch.tensor([text != "" for text in texts])
        return Conditioning(
            context=None if found.context is None else found.context * given.to(found.context)[:, None, None],
            vector=None if found.vector is None else found.vector * given.to(found.vector)[:, None],
        )

    def null(self, count: int = 1) -> Conditioning:
        """Conditioning of no prompt, `count` times: for guidance, and for dropping the prompt in training."""
        return self.away([""] * count)

    def notices(self, text: str) -> list[Notice]:
        """What of the text is lost on the model. Words are unknown only to a vocabulary of words: CLIP's spells any word."""
        found: list[Notice] = []
        if self.encoder.config.vocab_size < TextConfig.vocab_size:
            found += [Notice("unknown", (word,), nearest=nearest) for word, nearest in self.tokenizer.unknown_words(text)]
        for tokenizer in (self.tokenizer,) if self.second is None else (self.tokenizer, self.second.tokenizer):
            if left_out := tokenizer.overflow(text):
                found.append(Notice("overflow", tuple(left_out), room=tokenizer.length - 2))
        return list(dict.fromkeys(found))


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
