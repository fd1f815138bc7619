"""Pieces of a prompt that know where in it they stand, so that what becomes of them can be shown there."""

import re
from collections.abc import Sequence
from itertools import chain
from typing import Self


class Text(str):
    """Words, equal to any str of the same; `places` are those of its characters in the prompt, counted from 0."""

    places: Sequence[int]

    def __new__(cls, text: str, places: Sequence[int] = ()) -> Self:
        self = super().__new__(cls, text)
        self.places = places
        return self


def places(text: str) -> Sequence[int]:
    """Where in the prompt each character of a text is; where in the text, if that is none of a prompt's."""
    return text.places if isinstance(text, Text) else range(len(text))


def matched(match: re.Match[str], group: str | int = 0) -> Text:
    """What was matched in a prompt."""
    return Text(match[group], range(*match.span(group)))


def cut(text: str, start: int, end: int) -> Text:
    """The characters from `start` to `end`, which is not among them."""
    return Text(text[start:end], places(text)[start:end])


def joined(texts: Sequence[str]) -> str:
    """One after the other."""
    return texts[0] if len(texts) == 1 else Text("".join(texts), tuple(chain.from_iterable(map(places, texts))))
