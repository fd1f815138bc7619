"""What OpenAI's Images API takes, and what of a `Request` it comes to. A field that would change nothing, or cannot be done, is refused."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal, NoReturn, TypeAlias, get_args

from sumi.errors import RequestError
from sumi.request import FIELDS, FILES, Field, Range, Request, did_you_mean
from sumi.serve.problems import Refusal
from sumi.serve.reading import request_of

Format: TypeAlias = Literal["png", "jpeg", "webp"]
QUALITIES = {"low": 0.5, "auto": 1, "medium": 1, "standard": 1, "high": 2, "hd": 2, "xhigh": 3, "max": 4}
"""Steps of a picture, in those that its model takes."""
CALLED = {"auto": "medium", "standard": "medium", "hd": "high"}
"""What a reply calls those that it has no word for."""
FAITHFUL = 0.5
"""The strength that stands for high fidelity to the picture that is edited."""
RENAMED = {"n": "count", "negative_prompt": "negative", "num_inference_steps": "steps", "guidance_scale": "guidance"}
UNHEEDED = ("user", "safety_identifier", "moderation", "style")


def _text(doc: str, *choice: str) -> Field:
    return Field(str, True, doc, "OpenAI's", choice=choice)


def _number(doc: str, low: int, high: int) -> Field:
    return Field(int, True, doc, "OpenAI's", range=Range(low, high))


OWN: dict[str, Field] = {
    "model": _text("one of GET /v1/models (default: the one that is marked so there)"),
    "n": replace(FIELDS["count"], optional=True),
    "size": _text("WIDTHxHEIGHT in pixels, or auto, the model's own or that of the picture to edit (default: auto)"),
    "quality": _text(
        "steps, of those that the model takes: low, half; auto, medium, standard, all; high, hd, twice; xhigh, 3 times; max, 4 times",
        *QUALITIES,
    ),
    "response_format": _text("b64_json; or url, where the PNG is found by whoever has the key (default: b64_json)", "b64_json", "url"),
    "output_format": _text("of the picture's file (default: png)", *get_args(Format)),
    "output_compression": _number("quality of a jpeg or webp, from 0 to 100 (default: 100, the best)", 0, 100),
    "background": _text("pictures are opaque: auto is opaque, too", "auto", "opaque"),
    "stream": Field(bool, True, "answer with server-sent events while pictures are made", "OpenAI's"),
    "partial_images": _number("how many previews a stream shows at most (default: 0)", 0, 3),
    "input_fidelity": _text(f"high: of the picture that is edited, strength {FAITHFUL} is made anew; low: the usual", "high", "low"),
    "negative_prompt": replace(FIELDS["negative"], optional=True),
    "num_inference_steps": FIELDS["steps"],
    "guidance_scale": FIELDS["guidance"],
    "user": _text("changes nothing"),
    "safety_identifier": _text("changes nothing"),
    "moderation": _text("changes nothing: there is none", "auto", "low"),
    "style": _text("changes nothing: say it in the prompt", "vivid", "natural"),
}
"""What is not a field of a `Request` by its own name."""


@dataclass(frozen=True)
class Order:
    """A request, and how its pictures are to be given.

    model: as the client calls it. scale: of the model's own steps. quality: as replies call it. compression: of a jpeg or webp, as their
    encoders take it. partial: previews of a stream. unheeded: fields that were given and change nothing.
    """

    request: Request
    model: str | None = None
    scale: float = 1
    quality: str = "medium"
    format: Format = "png"
    compression: int = 100
    url: bool = False
    stream: bool = False
    partial: int = 0
    unheeded: tuple[str, ...] = ()

    def stepped(self, steps: int) -> Request:
        """The request with the steps that its quality stands for, of a model that takes so many."""
        return self.request if self.scale == 1 else replace(self.request, steps=ceil(self.scale * steps))


def typed(texts: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a form by their types, as JSON would have them. Wrong for a text that is none of its field's values."""
    found: dict[str, Any] = {}
    for name, text in texts.items():
        field = OWN.get(name) or FIELDS.get(name)
        if field is None:
            unknown(name)
        with _about(name):
            found[name] = field.read(name, text)
    return found


def ordered(given: Mapping[str, Any]) -> Order:
    """What the fields of a body come to. Null is as good as none. Wrong, or RequestError, for what cannot be done.

    Any field of a `Request` may be among them, by its own name or by one of `RENAMED`.
    """
    values = {name: value for name, value in given.items() if value is not None}
    own: dict[str, Any] = {}
    for name in values:
        if name in OWN:
            with _about(name):
                own[name] = OWN[name].checked(name, values[name])
        elif name not in FIELDS:
            unknown(name)
    fields = {name: value for name, value in values.items() if name not in OWN}
    for name, other in RENAMED.items():
        if name in own:
            _once(name, other, fields)
            fields[other] = own[name]
    _size(own.get("size", "auto"), fields)
    quality = own.get("quality", "auto")
    if QUALITIES[quality] != 1 and ("steps" in fields or "sigmas" in fields):
        wrong("quality", f"quality {quality} is a number of steps, and they are given too: leave one of them out")
    if "input_fidelity" in own and "image" not in fields:
        wrong("input_fidelity", "input_fidelity without an image means nothing: leave it out")
    if own.get("input_fidelity") == "high":
        _once("input_fidelity", "strength", fields)
        fields["strength"] = FAITHFUL
    return Order(
        request=request_of(fields),
        model=own.get("model"),
        scale=QUALITIES[quality],
        quality=CALLED.get(quality, quality),
        unheeded=tuple(name for name in UNHEEDED if name in own),
        **_given_as(own),
    )


class Wrong(Refusal):
    """What a field says cannot be taken. param: the field, as the client calls it."""

    def __init__(self, param: str, message: str, *, status: int = 400, code: str = "invalid_value") -> None:
        super().__init__(status, code, message)
        self.param = param


def wrong(name: str, message: str) -> NoReturn:
    """Wrong, of what a field says."""
    raise Wrong(name, message)


def unknown(name: str) -> NoReturn:
    """Wrong, of a field that there is not."""
    alike = did_you_mean(name[:80], [*OWN, *FIELDS])
    raise Wrong(name[:80], f"there is no field {name[:80]!a} here{alike}: see /openapi.json", code="unknown_parameter")


def schema(*needed: str, form: bool = False) -> dict[str, Any]:
    """JSON Schema of a body with these fields at least; in a `form`, pictures are files."""
    described: dict[str, Any] = {name: _described(field) for name, field in OWN.items()}
    if form:
        file = {"type": "string", "format": "binary"}
        described |= {name: file for name in (*FILES, "image[]")}
    reference = {"$ref": "#/components/schemas/Request/properties/{}"}
    described |= {name: {"$ref": reference["$ref"].format(name)} for name in FIELDS if name not in described}
    return {"type": "object", "properties": described, "required": list(needed), "additionalProperties": False}


def _given_as(own: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an order that is about how pictures are given."""
    format, url = own.get("output_format", "png"), own.get("response_format") == "url"
    stream, partial = own.get("stream", False), own.get("partial_images", 0)
    if "output_compression" in own and format == "png":
        wrong("output_compression", "output_compression is for jpeg and webp: a png keeps every pixel")
    if url and format != "png":
        wrong("response_format", f"a url tells where the png is: take b64_json for a {format}")
    if url and stream:
        wrong("response_format", "a stream holds the pictures themselves: take b64_json, or leave stream out")
    if partial and not stream:
        wrong("partial_images", "partial_images are part of a stream: set stream, too")
    return {"format": format, "compression": own.get("output_compression", 100), "url": url, "stream": stream, "partial": partial}


def _size(size: str, fields: dict[str, Any]) -> None:
    """Sets width and height."""
    if size == "auto":
        return
    sides = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", size, re.ASCII)
    if sides is None:
        wrong("size", "size must be as 512x512, width first, in pixels; or auto")
    for side, value in zip(("width", "height"), sides.groups(), strict=True):
        _once("size", side, fields)
        with _about("size"):
            fields[side] = FIELDS[side].checked(side, int(value))


def _once(name: str, other: str, fields: Mapping[str, Any]) -> None:
    if other in fields:
        wrong(name, f"{name} and {other} say the same: leave one of them out")


@contextmanager
def _about(name: str) -> Iterator[None]:
    """Says of a RequestError inside which field, as the client calls it, it is about."""
    try:
        yield
    except RequestError as error:
        raise Wrong(name, str(error)) from error


def _described(field: Field) -> dict[str, Any]:
    kind = {str: "string", int: "integer", float: "number", bool: "boolean"}[field.type]
    told: dict[str, Any] = {"description": field.doc, "type": [kind, "null"]}
    if field.range is not None:
        told |= {"minimum": field.range.low, "maximum": field.range.high}
    return told | ({"enum": [*field.choice, None]} if field.choice else {})
