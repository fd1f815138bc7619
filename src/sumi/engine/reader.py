"""`python -m sumi.engine.reader`: the process that opens pictures which others send, and nothing else of theirs.

One that breaks or stalls its decoder ends this process, which an engine replaces, and harms no other. It ends when its engine does.
"""

import json
import re
import resource
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sumi.errors import SumiError
from sumi.request import FILES, Request
from sumi.store.images import plain_png
from sumi.store.record import read

PLAIN, TOLD = b"p", b"t"
"""What is asked: a picture as a plain PNG, and what a PNG says of how it was made."""
ROOM = 2 << 30
"""Bytes of memory, a picture of the most pixels several times over."""
FOLDER = "uploads"
"""Of pictures to go by, in an engine's folder, which is the current one of its workers."""
FILE = re.compile(rf"{FOLDER}/([0-9a-f]{{64}})\.png", re.ASCII)


def plain(data: bytes) -> tuple[Mapping[str, Any], bytes]:
    """The answer to `PLAIN`: the size, and the PNG."""
    png, (height, width) = plain_png(data, "the picture")
    return {"width": width, "height": height}, png


def told(data: bytes) -> tuple[Mapping[str, Any], bytes]:
    """The answer to `TOLD`: the record, as JSON."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        path = Path(f"/dev/fd/{file.fileno()}")  # without a name, so that nothing is left whatever happens
        try:
            record = read(path)
        except SumiError as error:
            raise type(error)(str(error).replace(str(path), "the picture")) from None
    return {}, replace(record, request=portable(record.request)).to_json().encode()


def portable(request: Request) -> Request:
    """What anybody can ask for again: pictures of an engine's by their ids; without those that lie, or lay, somewhere on a disk."""
    given = {name: value for name in FILES if (value := getattr(request, name)) is not None}
    ids: dict[str, Any] = {name: f"upload:{found[1]}" if (found := FILE.fullmatch(value)) else None for name, value in given.items()}
    ids |= {name: value for name, value in given.items() if value.startswith("data:") and value != "data:"}
    return replace(request, digests=None, **ids)


ANSWERS: dict[bytes, Callable[[bytes], tuple[Mapping[str, Any], bytes]]] = {PLAIN: plain, TOLD: told}


def answer(what: bytes, data: bytes) -> tuple[Mapping[str, Any], bytes]:
    """What is asked of some bytes, or what is wrong with them."""
    try:
        return ANSWERS[what](data)
    except SumiError as error:
        return {"error": type(error).__name__, "message": str(error)}, b""
    except MemoryError:
        return {"error": "ImageError", "message": "the picture takes too much memory to open: make it smaller"}, b""


def main() -> int:
    """Answers what comes over the line whose number is the first argument, until it ends. The exit status."""
    line = Connection(int(sys.argv[1]))
    with suppress(ValueError, OSError):  # where that is counted otherwise (macOS), there is still the deadline
        resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    with suppress(EOFError, OSError):  # the engine is gone, or does not want this process any more
        line.send_bytes(b"")
        while True:
            asked = line.recv_bytes()
            header, data = answer(asked[:1], asked[1:])
            line.send_bytes(json.dumps(header).encode() + b"\n" + data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
