"""Passages to what a text encoder reads at once: tokens with weights, cut where the encoder's length ends."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TypeAlias

from sumi.text.bpe import END, Tokenizer
from sumi.text.placed import places
from sumi.text.prompt import Passage
from sumi.text.wordpiece import WordPiece

AnyTokenizer: TypeAlias = Tokenizer | WordPiece

BACKTRACK, OF_ROOM = 20, 75
"""A chunk that is full ends behind its last comma, if that is among its last 20 of 75 tokens; of fewer, as large a part."""


@dataclass(frozen=True)
class Token:
    """An id, the stretch of the text that it stands for, the number of its word in the passage, and where in the prompt its signs are."""

    id: int
    weight: float
    text: str
    word: int
    places: Sequence[int] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Chunk:
    """What is read at once: at most `tokenizer.length - 2` tokens."""

    tokens: tuple[Token, ...] = ()

    def ids(self, tokenizer: AnyTokenizer) -> list[int]:
        """The `length` ids that the encoder reads: begin, the tokens, end, padding."""
        padding = [tokenizer.pad_id] * (tokenizer.length - 2 - len(self.tokens))
        return [tokenizer.bos_id, *(token.id for token in self.tokens), tokenizer.eos_id, *padding]

    def weights(self, tokenizer: AnyTokenizer) -> list[float]:
        """The `length` weights of these; begin, end and padding have 1."""
        return [1.0, *(token.weight for token in self.tokens), *[1.0] * (tokenizer.length - 1 - len(self.tokens))]


def chunks(tokenizer: AnyTokenizer, passage: Passage) -> tuple[Chunk, ...]:
    """All tokens of a passage, in order, at least one chunk; PromptError if the text is not Unicode.

    As AUTOMATIC1111's web UI cuts: segments of different weights are read apart, a section's end ends the chunk (an empty section is
    one without tokens, but for the last), and so does a full one; the tokens behind a comma near its end move on to the next.
    """
    room = tokenizer.length - 2
    comma = tokenizer.vocab.get("," + END, tokenizer.vocab.get(","))
    found: list[Chunk] = []
    words = 0
    for number, section in enumerate(passage.sections, 1):
        tokens: list[Token] = []
        for segment in section:
            tokens += _spelt(tokenizer, segment.text, segment.weight, words)
            words = tokens[-1].word + 1 if tokens else words
        ends = list(_ends([token.id for token in tokens], room, comma))
        if not tokens and found and number == len(passage.sections):
            ends = []
        found += (Chunk(tuple(tokens[start:end])) for start, end in pairwise([0, *ends]))
    return tuple(found)


def _ends(ids: list[int], room: int, comma: int | None) -> Iterator[int]:
    """Where the chunks of a section end, its own end last."""
    start = 0
    while len(ids) - start > room:
        end = start + room
        near = range(end - 1, max(end - 1 - room * BACKTRACK // OF_ROOM, start - 1), -1)
        # Where a comma comes next, the words before it end there, and stay.
        behind = end if ids[end] == comma else next((i + 1 for i in near if ids[i] == comma), end)
        yield behind
        start = behind
    yield len(ids)


def _spelt(tokenizer: AnyTokenizer, text: str, weight: float, first_word: int) -> Iterator[Token]:
    """The tokens of a text. Their stretches are the whole of it, so that no sign that is read, if only as an accent, belongs to none."""
    encoding = tokenizer.encoding(text)
    starts = [0, *accumulate((start for start, _ in encoding.offsets[1:]), max), len(text)]
    word, previous, where = first_word - 1, None, places(text)
    for id, number, (start, end) in zip(encoding.ids, encoding.word_ids, pairwise(starts), strict=False):
        word += number is None or number != previous
        previous = number
        yield Token(id, weight, text[start:end], word, where[start:end])
