"""What is asked of a model: frozen data, one definition for Python, the command line and the metadata of a picture.

Standard library alone, so that the command line can answer before anything heavy is imported.
"""

import dataclasses
import difflib
import json
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, NamedTuple, Self, get_args, get_type_hints

from sumi.errors import PromptError, RequestError


class Range(NamedTuple):
    """The smallest and the largest value of a field."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Request:
    """One run: which pictures, and how to make them.

    None stands for the model's own default, and for a seed drawn once; `pipeline.resolve` fills all of them in and refuses what
    a given model cannot serve. RequestError for a value out of its range or of another type: "20" is not 20.
    `dataclasses.replace` makes a changed one, checked again.
    """

    prompt: Annotated[str, "what the picture shows; empty: whatever the model knows"] = ""
    negative: Annotated[str, "what guidance leads away from (default: a picture of no prompt)"] = ""
    seed: Annotated[int | None, "the noise that pictures start from (default: drawn)", Range(0, 2**64 - 1)] = None
    first: Annotated[int, "number of the first picture: picture 3 of a seed is the same in any run (default: 0)", Range(0, 2**32 - 1)] = 0
    count: Annotated[int, "how many pictures (default: 1)", Range(1, 2**32 - 1)] = 1
    steps: Annotated[int | None, "sampling steps (default: the model's)", Range(1, 10_000)] = None
    guidance: Annotated[float | None, "how strictly the prompt is followed; 1: unguided (default: the model's)", Range(0, 100)] = None
    guidance_rescale: Annotated[float, "share of the contrast added by guidance to take back (default: 0)", Range(0, 1)] = 0.0
    sampler: Annotated[str | None, "how noise becomes a picture: see `sumi samplers` (default: the model's)"] = None
    spacing: Annotated[str | None, "which noise levels are visited: see `sumi samplers` (default: the model's)"] = None
    eta: Annotated[float | None, "share of fresh noise in a step, where the sampler takes it (default: the sampler's)", Range(0, 1)] = None
    width: Annotated[int | None, "of a picture, in pixels (default: the model's)", Range(1, 8192)] = None
    height: Annotated[int | None, "of a picture, in pixels (default: the model's)", Range(1, 8192)] = None

    def __post_init__(self) -> None:
        for name, field in FIELDS.items():
            object.__setattr__(self, name, field.checked(name, getattr(self, name)))

    def to_json(self) -> str:
        """The fields that are set, as JSON on one line: what a picture carries."""
        return json.dumps({name: value for name, value in dataclasses.asdict(self).items() if value is not None}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`. RequestError if the text is not a JSON object, or holds anything that is not a field."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"a request must be JSON: {error}") from error
        if not isinstance(values, dict):
            raise RequestError(f"a request must be a JSON object of fields; got {reprlib.repr(values)}")
        for name in values:
            if name not in FIELDS:
                raise RequestError(f"a request has no field {name!r}{did_you_mean(name, FIELDS)}: the fields are {', '.join(FIELDS)}")
        return cls(**values)


@dataclass(frozen=True)
class Field:
    """What `Request` says of one of its fields: `type` is str, int or float; `optional`, whether it may be None."""

    type: type
    optional: bool
    doc: str
    range: Range | None = None

    def checked(self, name: str, value: Any) -> Any:
        """The value, a whole number as float where that is the type. RequestError if it is not one."""
        if value is None and self.optional:
            return None
        kind = type(value)
        if kind is not self.type and (kind, self.type) != (int, float):
            kinds = {str: "text", int: "a whole number", float: "a number"}
            raise RequestError(f"{name} must be {kinds[self.type]}; got {reprlib.repr(value)}")
        if self.range and not self.range.low <= value <= self.range.high:
            raise RequestError(f"{name} must be from {self.range.low} to {self.range.high}; got {reprlib.repr(value)}")
        if isinstance(value, str) and not _is_unicode(value):
            raise PromptError(f"the {name} is not Unicode text: type it again, in UTF-8")
        return float(value) if self.type is float else value


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """' (did you mean ...?)', or nothing if no name is alike."""
    alike = difflib.get_close_matches(name, list(names), n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(alike)}?)" if alike else ""


def _is_unicode(text: str) -> bool:
    """Whether it can be written down: not so for half of a surrogate pair, which is also what bytes other than UTF-8 become."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fields() -> dict[str, Field]:
    """`Request`'s annotations, read once."""
    found = {}
    for name, hint in get_type_hints(Request, include_extras=True).items():
        annotated, doc, *limits = get_args(hint)
        types = [part for part in get_args(annotated) or (annotated,) if part is not NoneType]
        found[name] = Field(types[0], NoneType in get_args(annotated), doc, *limits)
    return found


FIELDS: dict[str, Field] = _fields()
"""The fields of `Request` by name, in its order: what a command line or a form is made of."""
