r"""The language of prompts: emphasis, editing on the way, alternation, breaks and composition, as AUTOMATIC1111's web UI reads them.

    (words)            weigh 1.1 times as much; brackets in brackets multiply
    [words]            weigh 1 / 1.1 times as much
    (words:1.3)        weigh 1.3 times as much
    [from:to:0.4]      the first words for 0.4 of the steps, then the second; [from:to:8] for 8 steps
    [to:0.4]           nothing, then the words
    [from::0.4]        the words, then nothing
    [one|two|]         one step each in turn; this one's third has none
    one BREAK two      what follows is read by the text encoder apart
    one AND two :0.5   two prompts, each guiding by itself, the second by half
    \( \) \[ \] \\     the sign itself; so is any character after \, and a word that holds one is neither BREAK nor AND

What can be read in two ways is read as the web UI does:

- `(cat:abc)` and `[a:b]` are words with a colon in them, weighted as any in such brackets, and so is `[a:b:c:3]`, of one text too many.
- A whole number in an edit is a step, one with a point a part of the steps. Its entry and that of an alternation is still in force at
  the step, counted from 0, that it ends at: `[a:b:3]` is a at four steps, and the first of an alternation is used twice at the start.
- White space around BREAK and AND is not part of the text.

Where it would guess, or overlook a mistake, this language refuses (PromptError, in one line, with the place, counted from 1): brackets
that are not closed, not opened or crossed, AND within brackets, a weight that changes, an edit and an alternation in one bracket, a
number that is none, <lora:...>. These readings differ: BREAK counts within brackets, too, where the web UI takes it for a word of
negative weight; a prompt without AND has no weight of its own, so that a colon and a number at its end are text (16:9); | and : that
are no signs are text, where the web UI may give up on every edit of a prompt that holds them.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import NoReturn, TypeAlias

from sumi.errors import PromptError
from sumi.text.bpe import checked
from sumi.text.placed import cut, joined, matched

STRONGER, WEAKER = 1.1, 1 / 1.1
"""What ( ) and [ ] multiply a weight by."""
DEEPEST = 100
"""How many brackets may lie in one another."""
HEAVIEST = 1000
"""The largest weight, brackets in brackets multiplied; the least is its negative."""


@dataclass(frozen=True)
class Segment:
    """Text of one weight."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class Passage:
    """What the text encoder is to read: sections, each on its own, of segments; neighbours differ in weight and none is empty."""

    sections: tuple[tuple[Segment, ...], ...] = ((),)

    @property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(segment for section in self.sections for segment in section)


@dataclass(frozen=True)
class Part:
    """A prompt among those that are composed, and how much it guides."""

    weight: float
    passage: Passage


@dataclass(frozen=True)
class Break:
    """The end of a section."""


@dataclass(frozen=True)
class Emphasis:
    nodes: "Nodes"
    weight: float


@dataclass(frozen=True)
class Edit:
    """`before` up to a step, `after` from then on; `when` is that step or, if `fraction`, its place among all."""

    before: "Nodes"
    after: "Nodes"
    when: float
    fraction: bool

    def last(self, steps: int) -> int:
        """The last step at which `before` is in force, of a run of `steps`; 0: none."""
        return int(min(max(self.when * steps if self.fraction else self.when, 0), steps))


@dataclass(frozen=True)
class Alternation:
    options: tuple["Nodes", ...]


Node: TypeAlias = str | Break | Emphasis | Edit | Alternation
Nodes: TypeAlias = tuple[Node, ...]


@dataclass(frozen=True)
class Clause:
    nodes: Nodes
    weight: float = 1.0


@dataclass(frozen=True)
class Script:
    """A prompt as it was meant, for every step of a run; `str` of it is a prompt that is read as an equal script."""

    clauses: tuple[Clause, ...]

    def at(self, step: int, steps: int) -> tuple[Part, ...]:
        """What is in force at a step, counted from 0, of a run of `steps`."""
        # Entries end at step 1 or later and are still in force there, so that step 0 is as step 1.
        return tuple(Part(clause.weight, _passage(_flat(clause.nodes, max(step, 1), steps))) for clause in self.clauses)

    def __str__(self) -> str:
        if len(self.clauses) == 1:
            return _printed(self.clauses[0].nodes)
        return " AND ".join(map(_printed_clause, self.clauses))


def parse(text: str, name: str = "prompt") -> Script:
    """Reads the language above; PromptError, which calls the text by its name, for what is none of it."""
    return _Reader(checked(text), name).script()


def literal(text: str) -> Script:
    """The words as they are, whatever signs are among them; PromptError if the text is not Unicode."""
    return Script((Clause(_tidy([checked(text)])),))


def plain(text: str) -> Passage:
    """The words as they are, once; PromptError if the text is not Unicode."""
    return _passage([Segment(checked(text))])


# What is meant as a number, whether or not it is one.
_NUMBER = r"\s*(?P<number>[+-]?(?=\.*[0-9])[.0-9]+)\s*"
_STEP = r"\s*(?P<number>[+-]?(?=\.*[0-9])[.0-9]+(?:[eE][+-]?[0-9]+)?)\s*"
_ROUND_END = re.compile(rf"\)|:{_NUMBER}\)")
_SQUARE_END = re.compile(rf"(?P<sign>[]|])|:{_STEP}\]|(?P<colon>:)")
_FIRST_END = re.compile(rf"(?::{_NUMBER})?\b(?P<and>AND)\b")
_LATER_END = re.compile(rf"(?::{_NUMBER})?(?:\b(?P<and>AND)\b|\Z)")
_LEXEME = re.compile(r"\\(?P<escaped>\w+|.)|(?P<word>\w+)|(?P<sign>[][()<:|\\])|[^][()<:|\\\w]+", re.DOTALL)
_NETWORK = re.compile(r"<(\w+):(?!>)")
_NUMERIC = re.compile(_NUMBER)


class _Reader:
    """Recursive descent. `at` is the place in the text that is read next."""

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name, self.at, self.last_angle = text, name, 0, text.rfind(">")

    def script(self) -> Script:
        clauses: list[Clause] = []
        ends = _FIRST_END
        while True:
            nodes, end = self.nodes(ends, 0)
            if end is None:
                return Script((Clause(_tidy(nodes)),))
            weight = self.number(end, HEAVIEST)
            clauses.append(Clause(_tidy(nodes, strip=True), 1.0 if weight is None else weight))
            if end["and"] is None:
                return Script(tuple(clauses))
            ends = _LATER_END

    def nodes(self, ends: re.Pattern[str], depth: int) -> tuple[list[Node], re.Match[str] | None]:
        """Reads up to what matches `ends`, and over it; no match: the text is at its end."""
        found: list[Node] = []
        while True:
            if (end := ends.match(self.text, self.at)) is not None:
                self.at = end.end()
                return found, end
            if (lexeme := _LEXEME.match(self.text, self.at)) is None:
                return found, None
            found.append(self.node(lexeme, depth))

    def node(self, lexeme: re.Match[str], depth: int) -> Node:
        sign, at = lexeme["sign"], self.at
        if sign in ("(", "["):
            if depth == DEEPEST:
                self.refuse(at, f"more than {DEEPEST} brackets lie in one another here: take some out")
            self.at += 1
            return self.round_bracket(at, depth + 1) if sign == "(" else self.square_bracket(at, depth + 1)
        if sign in (")", "]"):
            self.refuse(at, f"this {sign} closes nothing: take it out, or write \\{sign} for the sign itself")
        if sign == "\\":
            self.refuse(at, "nothing follows this \\: take it out, or write \\\\ for the sign itself")
        if sign == "<" and (network := _NETWORK.match(self.text, at)) and self.last_angle > network.end():
            self.refuse(at, f"a prompt loads no extra network (<{network[1]}:...>): take it out, or write \\< for the sign itself")
        self.at = lexeme.end()
        if lexeme["word"] == "BREAK":
            return Break()
        if lexeme["word"] == "AND" and depth:
            self.refuse(at, "AND stands in brackets, which it would cut: close them before it, or write \\AND for the word itself")
        return matched(lexeme, "escaped" if lexeme["escaped"] else 0)

    def round_bracket(self, opened: int, depth: int) -> Node:
        nodes, end = self.nodes(_ROUND_END, depth)
        if end is None:
            self.unclosed(opened)
        weight = self.number(end, HEAVIEST)
        tidy = _tidy(nodes)
        if weight is None and _ends_in_a_changing_number(tidy):
            self.refuse(opened, "the weight of this bracket would change: write the whole bracket twice, [(words:1.2):(words:0.8):0.5]")
        return self.emphasis(opened, tidy, STRONGER if weight is None else weight)

    def square_bracket(self, opened: int, depth: int) -> Node:
        fields: list[list[Node]] = []
        signs: list[str] = []
        while True:
            nodes, end = self.nodes(_SQUARE_END, depth)
            if end is None:
                self.unclosed(opened)
            fields.append(nodes)
            if not end["colon"] and end["sign"] != "|":
                break
            signs.append(matched(end))
        when = self.number(end)
        if when is not None and "|" in signs:
            self.refuse(opened, "this bracket both alternates and is edited: put one of them in brackets of its own, or write \\| or \\:")
        if when is not None and len(fields) < 3:
            fraction = "." in end["number"]
            before, after = ([], *fields)[-2:]
            return Edit(_tidy(before), _tidy(after), when if fraction else float(int(when)), fraction)
        if when is not None:
            signs, fields = [*signs, cut(self.text, end.start(), end.start() + 1)], [*fields, [matched(end, "number")]]
        options: list[list[Node]] = [[*fields[0]]]
        for sign, field in zip(signs, fields[1:], strict=True):
            if sign == "|":
                options.append([*field])
            else:
                options[-1] += [sign, *field]
        if len(options) > 1:
            return Alternation(tuple(map(_tidy, options)))
        return self.emphasis(opened, _tidy(options[0]), WEAKER)

    def emphasis(self, opened: int, nodes: Nodes, weight: float) -> Emphasis:
        if abs(weight) * _heaviest(nodes) > HEAVIEST:
            self.refuse(opened, f"the weights of the brackets from here on multiply to more than {HEAVIEST}: lower them")
        return Emphasis(nodes, weight)

    def number(self, end: re.Match[str], limit: float = math.inf) -> float | None:
        """The number in what ends a run of nodes, if there is one."""
        if (written := end["number"]) is None:
            return None
        shown = written if len(written) <= 20 else written[:20] + "..."
        try:
            value = float(written)
        except ValueError:
            self.refuse(end.start("number"), f"{shown} is not a number: write one such as 1.2, or \\: before it for text")
        if not math.isfinite(value) or abs(value) > limit:
            self.refuse(end.start("number"), f"{shown} is too large: use a number {'near 1' if limit == HEAVIEST else 'of steps'}")
        return value

    def unclosed(self, opened: int) -> NoReturn:
        sign = self.text[opened]
        close = {"(": ")", "[": "]"}[sign]
        self.refuse(opened, f"this {sign} is never closed: write {close} where it should end, or \\{sign} for the sign itself")

    def refuse(self, at: int, why: str) -> NoReturn:
        raise PromptError(f"{self.name}, character {at + 1}: {why}", at)


def _tidy(nodes: Iterable[Node], strip: bool = False) -> Nodes:
    """Texts joined, none of them empty, without the white space around breaks and, if `strip`, at both ends."""
    found: list[Node] = []
    for are_texts, run in groupby(nodes, key=lambda node: isinstance(node, str)):
        alike = list(run)
        found += [joined([text for text in alike if isinstance(text, str)])] if are_texts else alike
    edge: Node = Break() if strip else ""
    for i, (before, node, after) in enumerate(zip([edge, *found], found.copy(), [*found[1:], edge], strict=False)):
        if isinstance(node, str):
            start = len(node) - len(node.lstrip()) if isinstance(before, Break) else 0
            end = len(node.rstrip()) if isinstance(after, Break) else len(node)
            found[i] = cut(node, start, end)
    return tuple(node for node in found if node != "")


def _heaviest(nodes: Nodes) -> float:
    """The largest magnitude of a weight that any text among the nodes, at any step, may have."""
    weights = [0.0]
    for node in nodes:
        match node:
            case Emphasis(inner, weight):
                weights.append(abs(weight) * _heaviest(inner))
            case Edit(before, after):
                weights += [_heaviest(before), _heaviest(after)]
            case Alternation(options):
                weights += map(_heaviest, options)
            case _:
                weights.append(1.0)
    return max(weights)


def _ends_in_a_changing_number(nodes: Nodes) -> bool:
    match nodes[-2:]:
        case (str(text), Edit() | Alternation() as last) if text.rstrip().endswith(":"):
            options = (last.before, last.after) if isinstance(last, Edit) else last.options
            return all(len(option) == 1 and isinstance(option[0], str) and _NUMERIC.fullmatch(option[0]) for option in options)
    return False


def _flat(nodes: Nodes, step: int, steps: int) -> Iterator[Segment | Break]:
    """What is in force at a step, counted from 1, in order."""
    for node in nodes:
        match node:
            case str():
                yield Segment(node)
            case Break():
                yield node
            case Emphasis(inner, weight):
                for part in _flat(inner, step, steps):
                    yield part if isinstance(part, Break) else Segment(part.text, part.weight * weight)
            case Edit():
                yield from _flat(node.before if step <= node.last(steps) else node.after, step, steps)
            case Alternation(options):
                yield from _flat(options[(step - 1) % len(options)], step, steps)


def _passage(parts: Iterable[Segment | Break]) -> Passage:
    sections: list[list[Segment]] = [[]]
    for part in parts:
        if isinstance(part, Break):
            sections.append([])
        elif part.text:
            sections[-1].append(part)
    alike = [groupby(section, key=lambda segment: segment.weight) for section in sections]
    return Passage(tuple(tuple(Segment(joined([each.text for each in run]), weight) for weight, run in runs) for runs in alike))


def _printed(nodes: Nodes, square: bool = False) -> str:
    """`square`: directly within square brackets, where : and | are signs."""
    return "".join(_printed_node(node, square) for node in nodes)


def _printed_node(node: Node, square: bool) -> str:
    match node:
        case str():
            return _escaped(node, square)
        case Break():
            return " BREAK "
        case Emphasis(inner, weight):
            return f"({_printed(inner)}:{_decimal(weight)})"
        case Edit(before, after, when, fraction):
            number = _decimal(when) if fraction else str(int(when))
            number += ".0" * (fraction and "." not in number)
            return f"[{_printed(before, True)}:{_printed(after, True)}:{number}]"
        case Alternation(options):
            return "[" + "|".join(_printed(option, True) for option in options) + "]"


def _printed_clause(clause: Clause) -> str:
    text = _printed(clause.nodes)
    ends_as_if_weighted = re.search(rf":{_NUMBER}\Z", text)
    return f"{text} :{_decimal(clause.weight)}" if clause.weight != 1 or ends_as_if_weighted else text


def _escaped(text: str, square: bool) -> str:
    text = re.sub(r"[][()\\:|]" if square else r"[][()\\]", r"\\\g<0>", text)
    text = re.sub(r"<(?=\w+(?::|\Z))", r"\\<", text)
    # The web UI, too, reads these as words.
    return re.sub(r"\b(?:A(?=ND\b)|BR(?=EAK\b))", r"\g<0>\\", text)


def _decimal(number: float) -> str:
    """The shortest digits that are read as this number, without an exponent."""
    return format(Decimal(repr(number)), "f").removesuffix(".0")
