"""Words to what the UNet is told of them.

Legend: B batch, L tokens, D width of a token's vector, P width of the pooled vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sumi.config import BertConfig
from sumi.diffusion.conditioning import Conditioning
from sumi.errors import PromptError, RequestError
from sumi.nets.bert import BertEncoder
from sumi.nets.clip import TextEncoder
from sumi.text.chunks import AnyTokenizer, Chunk, chunks
from sumi.text.prompt import Passage, plain
from sumi.text.words import Word, spells_any_word, words

Emphasis: TypeAlias = Literal["mean", "plain", "off"]

ROUNDING = 1e-6
"""A mean of float32 numbers below this part of their size is one that rounding made."""


@dataclass(frozen=True)
class Notice:
    """A word of a prompt that is not in the model's vocabulary, and the one most like it that is; a picture is made all the same."""

    word: str
    nearest: str = ""

    def __str__(self) -> str:
        return f"{self.word!r} is not in this model's vocabulary" + (f"; nearest: {self.nearest}" if self.nearest else "")


class Prompt:
    """Texts to tokens' vectors for cross-attention (`context`) and to one vector each (`vector`), whichever the UNet takes.

    A str stands for its words as they are; what its brackets mean is for `sumi.text.prompt.parse`, which makes passages. A passage
    that the encoder cannot read at once is read in chunks, each by itself, whose vectors follow one another; the vector of the whole
    is the first chunk's, whatever the weights.

    Args:
        second: reads the same texts by another encoder; its tokens' vectors lie beside the first's, its vector is added (SDXL, where
            the first has none).
        zero_null: no prompt is zeros rather than what the encoders say of the empty text (SDXL, which was trained so).
    """

    def __init__(
        self,
        tokenizer: AnyTokenizer,
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

    def __call__(self, texts: Sequence[str | Passage], *, emphasis: Emphasis = "mean", skip: int = 1) -> Conditioning:
        """Conditioning of the texts: context [B L D], where L is the encoder's length times the number of chunks, and vector [B P].

        emphasis: what a token's weight does with its vector, which it multiplies: "mean", as AUTOMATIC1111's web UI does by default,
        then brings the mean of all numbers of the chunk back to what it was, each text's by itself; "plain" leaves it at that;
        "off": nothing. skip: counts the encoder's layers back from the one that the model was trained with, which is 1.

        PromptError for a text that is not Unicode, for texts of different numbers of chunks, and for weights that leave no mean to
        restore; RequestError for a layer that the encoder does not have.
        """
        rows = [self.chunks(text) for text in texts]
        if len(counts := {len(row) for row in rows}) > 1:
            # To fill up with empty chunks would change the shorter ones' pictures: attention would see more tokens.
            raise PromptError(f"prompts of {' and '.join(map(str, sorted(counts)))} chunks cannot be read together: read each alone")
        layer = self._layer(skip)
        device = next(self.encoder.parameters()).device
        context, vector = [], None
        for number, column in enumerate(zip(*rows, strict=True)):
            ids = torch.tensor([chunk.ids(self.tokenizer) for chunk in column], device=device)
            features = self.encoder(ids) if layer is None else self.encoder(ids, layer)
            if self.context:
                context.append(features.hidden if emphasis == "off" else self._weighted(features.hidden, column, emphasis))
            if self.vector and number == 0:
                vector = features.pooled
        own = Conditioning(context=torch.cat(context, dim=1) if self.context else None, vector=vector)
        return own if self.second is None else own.beside(self.second(texts, emphasis=emphasis, skip=skip))

    def away(self, texts: Sequence[str | Passage], *, emphasis: Emphasis = "mean", skip: int = 1) -> Conditioning:
        """Conditioning that guidance leads away from: of the texts, where the empty one is no prompt. As a call, otherwise."""
        found = self(texts, emphasis=emphasis, skip=skip)
        if not self.zero_null:
            return found
        given = torch.tensor([_passage(text) != Passage() for text in texts])
        return Conditioning(
            context=None if found.context is None else found.context * given.to(found.context)[:, None, None],
            vector=None if found.vector is None else found.vector * given.to(found.vector)[:, None],
        )

    def null(self, count: int = 1, *, skip: int = 1) -> Conditioning:
        """Conditioning of no prompt, `count` times: for guidance, and for dropping the prompt in training."""
        return self.away([""] * count, skip=skip)

    def chunks(self, text: str | Passage) -> tuple[Chunk, ...]:
        """What the encoder reads at once, in order. PromptError for a text that is not Unicode."""
        return chunks(self.tokenizer, _passage(text))

    def words(self, text: str | Passage) -> tuple[Word, ...]:
        """Every word and sign of the text, as it is used, in order."""
        return words(self.tokenizer, self.encoder.config, self.chunks(text))

    def places(self, words: Sequence[Word]) -> list[range]:
        """Which of the context's tokens each of all the words of a text is, in their order."""
        found: list[range] = []
        for word in words:
            begin = word.chunk * self.tokenizer.length + 1  # behind the chunk's own beginning
            start = max(begin, found[-1].stop if found else 0)
            found.append(range(start, start + len(word.tokens)))
        return found

    def notices(self, text: str | Passage) -> list[Notice]:
        """What of the text is lost on the model: words that it does not know, in order and once each."""
        if spells_any_word(self.encoder.config):
            return []
        unknown = (self.tokenizer.unknown_words(segment.text) for segment in _passage(text).segments)
        return list(dict.fromkeys(Notice(word, nearest) for words in unknown for word, nearest in words))

    def _layer(self, skip: int) -> int | None:
        """The layer whose output to take; None: the configured one."""
        if skip == 1:
            return None
        config = self.encoder.config
        if isinstance(config, BertConfig):
            raise RequestError("this model's text encoder is no CLIP, and all its layers are needed: leave clip skip at 1")
        deepest = config.layers + config.output_layer + 1
        if not 1 <= skip <= deepest:
            raise RequestError(f"clip skip must be from 1 to {deepest}, the layers of this model's text encoder; got {skip}")
        return config.output_layer - (skip - 1)

    def _weighted(self, hidden: Float[Tensor, "B L D"], column: Sequence[Chunk], emphasis: Emphasis) -> Float[Tensor, "B L D"]:
        """Vectors times the weights of their tokens; a chunk in which all are 1 is left as it is, to the bit."""
        weights = torch.tensor([chunk.weights(self.tokenizer) for chunk in column], device=hidden.device)
        changed = (weights != 1).any(dim=1)
        if not changed.any():
            return hidden
        scaled = hidden.float() * weights[:, :, None]
        if emphasis == "mean":
            before, after, size = (z.mean(dim=(1, 2), keepdim=True) for z in (hidden.float(), scaled, scaled.abs()))
            # An encoder whose vectors have no mean, as with its first weights, leaves none but rounding errors to restore.
            lost = after.abs() <= ROUNDING * size
            none = lost & (before.abs() <= ROUNDING * size)
            if (changed & (lost & ~none).flatten()).any():
                raise PromptError("the prompt's weights cancel one another, which leaves no mean to restore: choose emphasis plain")
            scaled = scaled * torch.where(none, 1.0, before / after)
        return torch.where(changed[:, None, None], scaled.to(hidden.dtype), hidden)


def _passage(text: str | Passage) -> Passage:
    return plain(text) if isinstance(text, str) else text
