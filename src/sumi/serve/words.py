"""How a prompt is taken, for whoever is writing it: its words, what each weighs, and how many tokens they are."""

from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from sumi.errors import CheckpointError, PromptError
from sumi.models.prompt import Emphasis
from sumi.request import FIELDS, Request
from sumi.running import script
from sumi.serve.catalogue import Known
from sumi.text.chunks import chunks
from sumi.text.prompt import Part, plain
from sumi.text.words import words


@dataclass(frozen=True)
class Piece:
    """A word or sign of a prompt. start, end: where it stands there, as JavaScript counts, by units of UTF-16; the rest as `Word`."""

    start: int
    end: int
    text: str
    weight: float
    chunk: int
    known: bool


@dataclass(frozen=True)
class Fault:
    """Why a prompt cannot be used, in one line. at: where the fault is, counted like `Piece.start`, if it is in one place."""

    message: str
    at: int | None = None


@dataclass(frozen=True)
class Words:
    """A prompt as it is taken. count: its tokens; limit: as many as fit into so many chunks, which the text encoder reads one by one."""

    count: int
    limit: int
    chunks: int
    words: tuple[Piece, ...]
    error: Fault | None = None

    def json(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return asdict(self)


def read(known: Known, prompt: str, *, emphasis: Emphasis = "mean", steps: int | None = None) -> Words:
    """A prompt as a model takes it at the first of `steps` steps (by default the model's own), which is what a run counts.

    Words that come with a later step are not among these: `b` of [a:b:0.5], and `b` of [a|b]. The parts of a prompt with AND follow one
    another, and so do the numbers of their chunks; one of no weight, which is not computed, is left out. With a `Fault` of the prompt
    its words are given as they are, as if no sign among them had a meaning. RequestError for a prompt that is too long, PromptError for
    one that is not Unicode.
    """
    FIELDS["prompt"].checked("prompt", prompt)
    if not known.card.prompt:
        return Words(0, 0, 0, (), Fault(f"{known.card.title} makes pictures without words: leave the prompt empty") if prompt else None)
    try:
        tokenizer = known.tokenizers()[0]
    except CheckpointError as error:
        return Words(0, known.card.tokens, 0, (), Fault(str(error)))
    assert known.spec.text is not None
    units = [0, *accumulate(1 + (sign > "\uffff") for sign in prompt)]
    fault = None
    try:
        parts = script(prompt, Request(emphasis=emphasis)).at(0, steps or known.spec.steps)
    except PromptError as error:
        fault = Fault(str(error), None if error.at is None else units[error.at])
        parts = (Part(1.0, plain(prompt)),)
    count, before = 0, 0
    pieces: list[Piece] = []
    for part in parts:
        if part.weight == 0:
            continue
        found = chunks(tokenizer, part.passage)
        count += sum(len(chunk.tokens) for chunk in found)
        pieces += (
            Piece(units[word.places.start], units[word.places.stop], word.text, word.weight, before + word.chunk, word.known)
            for word in words(tokenizer, known.spec.text, found)
            if word.text  # what the end of a chunk cuts off a sign of several tokens is none
        )
        before += len(found)
    return Words(count, before * known.card.tokens, before, tuple(pieces), fault)
