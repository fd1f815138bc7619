"""The grammar: a scene to words.

    caption     = noun phrase [relation noun phrase] [background]
    noun phrase = (a | an | some | two | three) [size] [colour] noun

Exact, lower case, at most 28 words; every word is in `words(vocabulary)`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sumi.train.scenes.scene import Group
from sumi.train.scenes.vocabulary import (
    BACKGROUND_COUNT,
    BACKGROUNDS,
    CLASS_COUNT,
    CLASSES,
    COLOURS,
    PLURAL_ONLY,
    SYNONYMS,
    article,
    plural,
)

NUMBERS = {2: "two", 3: "three"}
SIZES = {"small": ("small", "tiny", "little"), "big": ("big", "large")}
RELATIONS = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    "and": ("and",),
}


def _vary(rng: np.random.Generator | None, options: Sequence[str], first: float) -> str:
    """The first option, or with probability 1 - `first` one of the others; without a generator always the first."""
    if rng is None or len(options) == 1 or rng.random() < first:
        return options[0]
    return options[int(rng.integers(1, len(options)))]


def noun_phrase(group: Group, rng: np.random.Generator | None = None) -> str:
    """Such as `a small red star`, `three green cats`, `some cherries`."""
    noun = _vary(rng, (group.name, SYNONYMS.get(group.name, group.name)), 0.85)
    words = [_vary(rng, SIZES[group.size], 0.7)] if group.size else []
    words += [group.colour] if group.colour else []
    words.append(plural(noun) if group.count > 1 else noun)
    phrase = " ".join(words)
    if group.count > 1:
        return f"{NUMBERS[group.count]} {phrase}"
    return f"{'some' if noun in PLURAL_ONLY else article(phrase)} {phrase}"


def caption(groups: Sequence[Group], relation: str | None, background: str | None = None, rng: np.random.Generator | None = None) -> str:
    """A sentence for what is seen; `background` None leaves it unsaid. Without a generator the plainest wording."""
    parts = [noun_phrase(groups[0], rng)]
    if relation:
        parts += [_vary(rng, RELATIONS[relation], 0.6), noun_phrase(groups[1], rng)]
    if background:
        parts.append(_vary(rng, BACKGROUNDS[background].phrases, 0.6))
    return " ".join(parts)


def words(vocabulary: str) -> tuple[str, ...]:
    """Every word that a caption of this vocabulary can contain, sorted."""
    nouns = [form for name in CLASSES[: CLASS_COUNT[vocabulary]] for form in (name, SYNONYMS.get(name, name))]
    phrases = [*nouns, *map(plural, nouns), *COLOURS, *NUMBERS.values(), "a an some"]
    phrases += [phrase for table in (SIZES, RELATIONS) for options in table.values() for phrase in options]
    for name in list(BACKGROUNDS)[: BACKGROUND_COUNT[vocabulary]]:
        phrases += BACKGROUNDS[name].phrases
    return tuple(sorted({word for phrase in phrases for word in phrase.split()}))
