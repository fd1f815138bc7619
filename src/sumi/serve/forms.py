"""Bodies in multipart/form-data (RFC 7578), read strictly: texts, and the bytes of files. What a client calls a file is not looked at.

A body is at most as long as the guard lets in, and stays in memory: nothing of it is ever written to a file.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from anyio import to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request as Asked

from sumi.errors import RequestError
from sumi.serve.problems import Refusal
from sumi.serve.reading import LARGE

MULTIPART = "multipart/form-data"
MOST_PARTS = 200
LONGEST_NAME = 100
"""Characters."""
LONGEST_TEXT = 1 << 20
"""Bytes; of the file of a part there may be as many as the body has."""


@dataclass(frozen=True)
class Form:
    """texts: each by its name, which is given once. files: the contents of all that are given by a name, in order."""

    texts: Mapping[str, str]
    files: Mapping[str, tuple[bytes, ...]]


def is_form(asked: Asked) -> bool:
    """Whether the body says that it is a form."""
    return asked.headers.get("content-type", "").partition(";")[0].strip().lower() == MULTIPART


async def form(asked: Asked) -> Form:
    """What is in the body. RequestError if that is no whole form, or has too many parts; Refusal (415) if it says that it is none."""
    if not is_form(asked):
        raise Refusal(415, "content_type", f"the body must be a form: say so with Content-Type: {MULTIPART}, and its boundary")
    data, kind = await asked.body(), asked.headers["content-type"]
    return await to_thread.run_sync(parsed, data, kind) if len(data) > LARGE else parsed(data, kind)


def parsed(data: bytes, kind: str) -> Form:
    """The form that a body holds, of that Content-Type. RequestError as `form`."""
    boundary = parse_options_header(kind)[1].get(b"boundary")
    if not boundary:
        raise RequestError(f"the body is a form without a boundary: say it, as in Content-Type: {MULTIPART}; boundary=...")
    reader = _Reader()
    try:
        reader.read(data, boundary)
    except FormParserError:
        raise _no_form() from None
    if not reader.whole:
        raise _no_form()
    return Form(reader.texts, {name: tuple(found) for name, found in reader.files.items()})


class _Reader:
    """Gathers what the parser tells: the parts, in order."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.files: dict[str, list[bytes]] = {}
        self.whole = False
        self._parts = 0
        self._header, self._value, self._disposition, self._data = bytearray(), bytearray(), b"", bytearray()

    def read(self, data: bytes, boundary: bytes) -> None:
        """All of a body. RequestError, or FormParserError, for what cannot be read."""
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._headed,
                "on_part_data": lambda data, start, end: self._data.extend(memoryview(data)[start:end]),
                "on_part_end": self._end,
                "on_end": self._ended,
            },
        )
        parser.write(data)

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise RequestError(f"the form has more than {MOST_PARTS} parts: send less")
        self._disposition, self._data = b"", bytearray()

    def _headed(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _end(self) -> None:
        kind, options = parse_options_header(self._disposition)
        try:
            name = options.get(b"name", b"").decode("utf-8")
        except UnicodeDecodeError:
            raise _no_text() from None
        if kind != b"form-data" or not name or len(name) > LONGEST_NAME:
            raise RequestError(f"a part of the form has no name, or one of more than {LONGEST_NAME} characters: name each by its field")
        if b"filename" not in options:
            self._text(name)
        elif self._data or options[b"filename"]:  # else a field of a page in which no file was chosen
            self.files.setdefault(name, []).append(bytes(self._data))

    def _text(self, name: str) -> None:
        if name in self.texts:
            raise RequestError("the form gives a field twice: give it once")
        if len(self._data) > LONGEST_TEXT:
            raise RequestError(f"a text of the form has more than {LONGEST_TEXT >> 20} MiB: send pictures as files")
        try:
            self.texts[name] = self._data.decode("utf-8")
        except UnicodeDecodeError:
            raise _no_text() from None

    def _ended(self) -> None:
        self.whole = True


def _no_form() -> RequestError:
    return RequestError(f"the body is damaged or cut short: it must be {MULTIPART}, to its last boundary")


def _no_text() -> RequestError:
    return RequestError("the form is not Unicode text: send it as UTF-8, with whole characters")
