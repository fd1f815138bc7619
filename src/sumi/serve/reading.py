"""Bodies in JSON, read strictly: what is not plain JSON of Unicode text and finite numbers is refused, in one line."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from anyio import to_thread
from starlette.requests import Request as Asked

from sumi.errors import RequestError
from sumi.request import FIELDS, Request, did_you_mean
from sumi.serve.problems import Refusal

LARGE = 100_000
"""Bytes from which reading is left to a thread."""
MOST_VALUES = 100_000
"""In a body, about: a hundred thousand empty lists are quickly sent, and take hundreds of times as much memory, and long, to read."""


async def body(asked: Asked) -> dict[str, Any]:
    """The JSON object in a body; an empty body is an empty one. RequestError, or Refusal (415), for anything else."""
    data = await asked.body()
    if not data:
        return {}
    kind = asked.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Refusal(415, "content_type", "the body must be JSON: say so with Content-Type: application/json")
    return await to_thread.run_sync(parsed, data) if len(data) > LARGE else parsed(data)


def parsed(data: bytes) -> dict[str, Any]:
    """The object that JSON in UTF-8 holds. RequestError for anything else, and for one of more than `MOST_VALUES`."""
    if len(data) > MOST_VALUES and sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise RequestError("the body holds too many values: send less")
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_infinite, parse_float=_finite, object_pairs_hook=_once)
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        raise RequestError("the body is not Unicode text: send it as UTF-8, with whole characters") from None
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise RequestError(f"the body is not JSON{where}: send one object") from None
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object")
    return value


def known(given: Mapping[str, Any], names: Sequence[str]) -> None:
    """RequestError for a name that is not among these."""
    for name in given:
        if name not in names:
            raise RequestError(f"there is no field {name[:80]!a}{did_you_mean(name[:80], names)}: use {', '.join(names)}")


def typed(given: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    """The value of a name, of a type; null, or none at all, is the default. RequestError for another type."""
    value = given.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        said = {str: "text", int: "a whole number", bool: "true or false", dict: "an object"}[kind]
        raise RequestError(f"{name} must be {said}")
    return value


def request_of(fields: Mapping[str, Any]) -> Request:
    """A `Request` of the fields in a JSON object. A seed may be a text of digits: JavaScript's numbers are not exact beyond 2^53."""
    known(fields, list(FIELDS))
    values = dict(fields)
    for name in ("seed", "variation_seed"):
        if isinstance(text := values.get(name), str) and re.fullmatch(r"[0-9]{1,20}", text, re.ASCII):
            values[name] = int(text)
    for name, field in FIELDS.items():
        if name in values and values[name] is None and not field.optional:
            del values[name]
    return Request(**values)


def _infinite(name: str) -> NoReturn:
    raise RequestError("the body holds a number that is not finite: leave it out")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _infinite(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RequestError("the body gives a field twice: give it once")
    return found
