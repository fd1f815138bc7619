"""Words to conditioning: one embedder for each kind of input, each with its own null.

Legend: B batch, L tokens, D width of a token's vector, P width of the pooled vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from sumi.config import TextConfig
from sumi.diffusion.conditioning import Conditioning
from sumi.nets.clip import TextEncoder
from sumi.text.bpe import Tokenizer


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
    """Texts to tokens' vectors for cross-attention (`context`) and to one vector each (`vector`), whichever the UNet takes."""

    def __init__(self, tokenizer: Tokenizer, encoder: TextEncoder, *, context: bool = True, vector: bool = False) -> None:
        self.tokenizer, self.encoder = tokenizer, encoder
        self.context, self.vector = context, vector

    def __call__(self, texts: Sequence[str]) -> Conditioning:
        """Conditioning of the texts: context [B L D], vector [B P]. PromptError for a text that is not Unicode."""
        device = self.encoder.text_model.embeddings.token_embedding.weight.device
        features = self.encoder(torch.tensor([self.tokenizer(text) for text in texts], device=device))
        return Conditioning(
            context=features.hidden if self.context else None,
            vector=features.pooled if self.vector else None,
        )

    def null(self, count: int = 1) -> Conditioning:
        """Conditioning of no prompt, `count` times: for guidance, and for dropping the prompt in training."""
        return self([""] * count)

    def notices(self, text: str) -> list[Notice]:
        """What of the text is lost on the model. Words are unknown only to a vocabulary of words: CLIP's spells any word."""
        found: list[Notice] = []
        if self.encoder.config.vocab_size < TextConfig.vocab_size:
            found += [Notice("unknown", (word,), nearest=nearest) for word, nearest in self.tokenizer.unknown_words(text)]
        if left_out := self.tokenizer.overflow(text):
            found.append(Notice("overflow", tuple(left_out), room=self.tokenizer.length - 2))
        return found
