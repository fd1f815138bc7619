"""What is asked of a model: frozen data, one definition for Python, the command line and the metadata of a picture.

Standard library alone, so that the command line can answer before anything heavy is imported.
"""

import difflib
import json
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args, get_origin, get_type_hints

from sumi.errors import PromptError, RequestError

LONGEST = 100_000
"""The most characters of a text."""
LONGEST_FILE = 100_000_000
"""Of a data: URL."""
FILES = ("image", "mask", "map", "depth", "low_res", "like")
"""The fields that name a picture to go by."""


class Range(NamedTuple):
    """The smallest and the largest value of a field, or of each number in it."""

    low: float
    high: float


class Count(NamedTuple):
    """How many numbers a field of numbers holds."""

    numbers: int


class Group(NamedTuple):
    """The heading that fields stand under, this one and those that follow."""

    title: str


@dataclass(frozen=True, kw_only=True)
class Request:
    """One run: which pictures, and how to make them.

    None stands for the model's own default, and for a seed drawn once; `sumi.resolve.defaults.resolve` fills all of them in and refuses
    what a given model cannot serve. RequestError for a value out of its range or of another type: "20" is not 20.
    `dataclasses.replace` makes a changed one, checked again.
    """

    prompt: Annotated[str, "what the picture shows; empty: whatever the model knows", Group("what to draw")] = ""
    negative: Annotated[str, "what guidance leads away from (default: a picture of no prompt)"] = ""
    emphasis: Annotated[
        Literal["mean", "plain", "off"],
        "how (words:1.3) weigh: mean, keeping the prompt's mean; plain, not; off: brackets are words like others (default: mean)",
    ] = "mean"
    clip_skip: Annotated[int, "layer of the text encoder, from the model's own backwards (default: 1, its own)", Range(1, 64)] = 1
    width: Annotated[int | None, "of a picture, in pixels (default: the model's)", Range(1, 8192)] = None
    height: Annotated[int | None, "of a picture, in pixels (default: the model's)", Range(1, 8192)] = None
    label: Annotated[str | None, "the class of what it shows, by name or number, for models that take one"] = None
    seamless: Annotated[
        Literal["none", "x", "y", "both"], "none, x, y or both: edges that meet when pictures are laid side by side (default: none)"
    ] = "none"

    image: Annotated[
        str | None,
        "a picture to start from: a PNG, JPEG or WebP file, - for standard input, or a data: URL (default: from noise alone)",
        Group("pictures to go by (files, - for standard input, or data: URLs)"),
    ] = None
    strength: Annotated[float | None, "how much of it is made anew, up to 1 (default: 0.75; with a mask 1)", Range(0, 1)] = None
    exact: Annotated[bool, "with a picture to start from: all the steps, where else only their last ones are run"] = False
    noise_multiplier: Annotated[float, "of the noise that it starts from, for more detail or less (default: 1)", Range(0, 2)] = 1.0
    image_guidance: Annotated[
        float | None, "how strictly that picture is followed, by models that edit as they are told (default: 1.5)", Range(0, 100)
    ] = None
    mask: Annotated[str | None, "where the picture is white, the other is made anew; the rest of it stays as it is, to the bit"] = None
    mask_grow: Annotated[int, "pixels by which the mask grows; negative: shrinks (default: 0)", Range(-1024, 1024)] = 0
    mask_blur: Annotated[float, "pixels over which the new and the old blend (default: 0)", Range(0, 256)] = 0.0
    mask_invert: Annotated[bool, "black is what is made anew"] = False
    outpaint: Annotated[
        tuple[float, ...] | None, "pixels to add to the picture on its left, top, right and bottom", Range(0, 4096), Count(4)
    ] = None
    map: Annotated[
        str | None, "what is where: a picture whose grey values, or colours of its palette, are numbers of classes (255: any)"
    ] = None
    depth: Annotated[str | None, "how near everything is: a picture that is lighter where it is nearer"] = None
    low_res: Annotated[str | None, "a picture to make four times as large"] = None
    like: Annotated[str | None, "a picture to make variations of"] = None
    level: Annotated[int | None, "noise that hides details of low_res or like (default: 20 or 0)", Range(0, 999)] = None
    digests: Annotated[dict[str, str] | None, "SHA-256 of those files by field; filled in when they are read"] = None

    hires: Annotated[
        float | None, "make the picture again this many times as large, starting from it", Range(1, 8), Group("larger pictures")
    ] = None
    hires_strength: Annotated[float | None, "how much of it is made anew then (default: 0.5)", Range(0, 1)] = None
    hires_steps: Annotated[int | None, "sampling steps then (default: as many)", Range(1, 10_000)] = None
    tile: Annotated[int | None, "side of the windows in which larger pictures are made, in pixels (default: whole)", Range(8, 8192)] = None
    tile_overlap: Annotated[int | None, "pixels that windows share (default: half of tile)", Range(0, 8192)] = None

    seed: Annotated[int | None, "the noise that pictures start from (default: drawn)", Range(0, 2**64 - 1), Group("which noise")] = None
    first: Annotated[int, "number of the first picture: picture 3 of a seed is the same in any run (default: 0)", Range(0, 2**32 - 1)] = 0
    count: Annotated[int, "how many pictures (default: 1)", Range(1, 2**32 - 1)] = 1
    variation: Annotated[float, "how far towards the noise of another seed, up to 1 (default: 0)", Range(0, 1)] = 0.0
    variation_seed: Annotated[int | None, "that other seed (default: drawn)", Range(0, 2**64 - 1)] = None
    noise: Annotated[
        Literal["native", "torch", "a1111-cpu", "a1111-nv"],
        "whose noise a seed stands for: native; torch, as diffusers on a CPU; a1111-cpu; a1111-nv, as A1111 on a GPU (default: native)",
    ] = "native"

    sampler: Annotated[str | None, "how noise becomes a picture: see `sumi samplers` (default: the model's)", Group("how to sample")] = None
    spacing: Annotated[str | None, "which noise levels are visited: see `sumi samplers` (default: the model's)"] = None
    steps: Annotated[int | None, "sampling steps (default: the model's)", Range(1, 10_000)] = None
    sigmas: Annotated[tuple[float, ...] | None, "the noise levels themselves, descending, in place of steps and spacing", Range(0, 1e6)] = (
        None
    )
    eta: Annotated[float | None, "share of fresh noise in a step, where the sampler takes it (default: the sampler's)", Range(0, 1)] = None
    options: Annotated[
        dict[str, float] | None,
        "more options of the sampler or the spacing: see `sumi samplers` (default: their own)",
        Range(-1e9, 1e9),
    ] = None

    guidance: Annotated[
        float | None, "how strictly the prompt is followed; 1: unguided (default: the model's)", Range(0, 100), Group("how to guide")
    ] = None
    guidance_method: Annotated[
        Literal["cfg", "cfg++", "apg"], "cfg; cfg++, with guidance below 1; apg, less glaring at large guidance (default: cfg)"
    ] = "cfg"
    guidance_rescale: Annotated[float, "share of the contrast added by guidance to take back (default: 0)", Range(0, 1)] = 0.0
    guidance_interval: Annotated[
        tuple[float, ...] | None, "noise levels between which there is guidance (default: all)", Range(0, 1e6), Count(2)
    ] = None
    pag: Annotated[float, "scale of perturbed-attention guidance (default: 0, none)", Range(0, 100)] = 0.0
    skip: Annotated[float, "scale of skip-layer guidance (default: 0, none)", Range(0, 100)] = 0.0
    sag: Annotated[float, "scale of self-attention guidance (default: 0, none)", Range(0, 100)] = 0.0
    threshold: Annotated[float | None, "percentile at which the predicted picture is clamped (default: never)", Range(0.5, 1)] = None
    mimic: Annotated[float | None, "guidance whose range of values a thresholded latent keeps", Range(0, 100)] = None

    def __post_init__(self) -> None:
        for name, field in FIELDS.items():
            object.__setattr__(self, name, field.checked(name, getattr(self, name)))

    def __hash__(self) -> int:
        return hash(self.to_json())

    def to_dict(self) -> dict[str, Any]:
        """The fields that are set, by name."""
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}

    def to_json(self) -> str:
        """The same as JSON on one line: what a picture carries."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

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
    """What `Request` says of one of its fields.

    type: str, int, float, bool, tuple (of floats) or dict (of floats, or of texts, by name); optional: whether it may be None.
    """

    type: type
    optional: bool
    doc: str
    group: str
    range: Range | None = None
    choice: tuple[str, ...] = ()
    count: Count | None = None
    texts: bool = False

    def checked(self, name: str, value: Any) -> Any:
        """The value, whole numbers as float where that is the type. RequestError if it is not one."""
        if value is None and self.optional:
            return None
        if self.type is tuple:
            return self._numbers(name, value)
        if self.type is dict:
            return self._texts(name, value) if self.texts else self._named(name, value)
        kind = type(value)
        if kind is not self.type and (kind, self.type) != (int, float):
            kinds = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
            raise RequestError(f"{name} must be {kinds[self.type]}; got {reprlib.repr(value)}")
        self._in_range(name, value)
        longest = LONGEST_FILE if name in FILES else LONGEST
        if isinstance(value, str) and len(value) > longest:
            raise RequestError(f"{name} must be at most {longest} characters; got {len(value)}")
        if isinstance(value, str) and not _is_unicode(value):
            raise PromptError(f"the {name} is not Unicode text: type it again, in UTF-8")
        if self.choice and value not in self.choice:
            raise RequestError(f"there is no {name} {value[:80]!r}{did_you_mean(value, self.choice)}: use {', '.join(self.choice)}")
        return float(value) if self.type is float else value

    def read(self, name: str, text: str) -> Any:
        """The value that a command line says: `1,2.5` for numbers, `a=1,b=2` for numbers by name. RequestError if it is none."""
        if self.type is tuple:
            return self._numbers(name, [_number(name, part) for part in text.split(",")])
        if self.type is dict:
            pairs = [part.partition("=") for part in text.split(",")]
            return self._named(name, {key.strip(): _number(name, value) for key, _, value in pairs})
        if self.type is bool:
            return self.checked(name, {"true": True, "false": False}.get(text, text))
        try:
            return self.checked(name, text if self.type is str else self.type(text))
        except ValueError:
            return self.checked(name, text)

    def _numbers(self, name: str, value: Any) -> tuple[float, ...]:
        if not isinstance(value, list | tuple) or not all(type(number) in (int, float) for number in value):
            raise RequestError(f"{name} must be numbers, as in 14.6,3,0; got {reprlib.repr(value)}")
        if self.count and len(value) != self.count.numbers:
            raise RequestError(f"{name} must be {self.count.numbers} numbers; got {len(value)}")
        for number in value:
            self._in_range(name, number)
        return tuple(map(float, value))

    def _named(self, name: str, value: Any) -> dict[str, float]:
        if not isinstance(value, dict) or not all(type(key) is str and type(number) in (int, float) for key, number in value.items()):
            raise RequestError(f"{name} must be numbers by name, as in order=3; got {reprlib.repr(value)}")
        for key, number in value.items():
            self._in_range(f"{name} {key}", number)
        return {key: float(number) for key, number in value.items()}

    def _texts(self, name: str, value: Any) -> dict[str, str]:
        if not isinstance(value, dict) or not all(isinstance(part, str) and _is_unicode(part) for pair in value.items() for part in pair):
            raise RequestError(f"{name} must be texts by name; got {reprlib.repr(value)}")
        return dict(value)

    def _in_range(self, name: str, value: Any) -> None:
        if self.range and not self.range.low <= value <= self.range.high:
            raise RequestError(f"{name} must be from {self.range.low} to {self.range.high}; got {reprlib.repr(value)}")


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RequestError(f"{name} must be numbers; got {reprlib.repr(text)}") from None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """' (did you mean ...?)', or nothing if no name is alike."""
    return or_mean(difflib.get_close_matches(name, list(names), n=2, cutoff=0.6))


def or_mean(alike: Sequence[str]) -> str:
    """The same of names that are found already."""
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
    group = Group("")
    for name, hint in get_type_hints(Request, include_extras=True).items():
        annotated, doc, *more = get_args(hint)
        union = get_args(annotated) if NoneType in get_args(annotated) else (annotated,)
        marks = {type(mark): mark for mark in more}
        group = marks.get(Group, group)
        kind, choice = get_origin(union[0]) or union[0], ()
        if kind is Literal:
            kind, choice = str, get_args(union[0])
        found[name] = Field(
            kind,
            len(union) > 1,
            doc,
            group.title,
            range=marks.get(Range),
            choice=choice,
            count=marks.get(Count),
            texts=get_args(union[0]) == (str, str),
        )
    return found


FIELDS: dict[str, Field] = _fields()
"""The fields of `Request` by name, in its order: what a command line or a form is made of."""
