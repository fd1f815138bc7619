"""The words of a prompt as a text encoder reads them: each with its tokens, and where it stands."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby

from sumi.config import BertConfig, TextConfig
from sumi.text.chunks import AnyTokenizer, Chunk


@dataclass(frozen=True)
class Word:
    """A word or sign as it was used; one that the end of a chunk cuts is two.

    chunk: which of the pieces, from 0, that the text encoder reads at once; tokens: ids; known: is in the model's vocabulary; places: where
    it begins and ends in the prompt, with whatever signs stand within it.
    """

    text: str
    weight: float
    chunk: int
    tokens: tuple[int, ...]
    known: bool = True
    places: range = field(default=range(0), compare=False, repr=False)


def words(tokenizer: AnyTokenizer, encoder: TextConfig | BertConfig, chunks: Sequence[Chunk]) -> tuple[Word, ...]:
    """Every word and sign of a passage that is cut into chunks, in order."""
    tokens = [(number, token) for number, chunk in enumerate(chunks) for token in chunk.tokens]
    whole: dict[int, str] = {}
    for _, token in tokens:
        whole[token.word] = whole.get(token.word, "") + token.text
    knows = cache(tokenizer.knows)
    found = []
    for (chunk, word), group in groupby(tokens, key=lambda item: (item[0], item[1].word)):
        run = [token for _, token in group]
        written = "".join(token.text for token in run)
        places = [place for token in run for place in token.places]
        start, text = len(written) - len(written.lstrip()), written.strip()
        known = spells_any_word(encoder) or knows(whole[word])
        at = range(places[start], places[start + len(text) - 1] + 1) if text and places else range(0)
        found.append(Word(text, run[0].weight, chunk, tuple(token.id for token in run), known, at))
    return tuple(found)


def spells_any_word(encoder: TextConfig | BertConfig) -> bool:
    """Words are unknown only to a vocabulary of words; CLIP's has pieces for any."""
    return encoder.vocab_size >= TextConfig.vocab_size
