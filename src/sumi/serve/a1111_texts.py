"""What stands beside the pixels of a PNG, read without decoding them: what A1111 shows as its info."""

import struct
from collections.abc import Iterator

from sumi.errors import ImageError
from sumi.store import infotext

PNG, OTHERS = b"\x89PNG\r\n\x1a\n", (b"\xff\xd8\xff", b"RIFF")
MOST_CHUNKS, LONGEST = 1000, 1 << 20
"""Of a file; bytes of a text."""


def texts(data: bytes) -> dict[str, str]:
    """The texts of a PNG by keyword, as far as they are not compressed; of a JPEG or a WebP none. ImageError for anything else."""
    if data.startswith(OTHERS):
        return {}
    if not data.startswith(PNG):
        raise ImageError("the picture is none that can be read: send a PNG")
    found: dict[str, str] = {}
    for kind, content in _chunks(data):
        keyword, _, rest = content.partition(b"\0")
        name = keyword.decode("latin-1")
        if kind == b"tEXt":
            found[name] = rest.decode("latin-1")
        elif kind == b"iTXt" and rest[:1] == b"\0":  # language and translated keyword stand between
            found[name] = rest[2:].split(b"\0", 2)[-1].decode("utf-8", "replace")
    return found


def size(png: bytes) -> tuple[int, int]:
    """Height and width of a PNG, in pixels."""
    width, height = struct.unpack(">II", png[16:24])
    return height, width


def parameters(info: str) -> dict[str, str]:
    """The fields of A1111's text, with the prompts among them, and the size in two."""
    found = infotext.read(info)
    wide, _, tall = found.fields.get("Size", "").partition("x")
    sides = {"Size-1": wide, "Size-2": tall} if tall else {}
    return {"Prompt": found.prompt, "Negative prompt": found.negative, **found.fields, **sides}


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk of text; a file that is cut short ends it (PNG specification, 5.3)."""
    at = len(PNG)
    for _ in range(MOST_CHUNKS):
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        if at + 12 + length > len(data):
            return
        if kind in (b"tEXt", b"iTXt") and length <= LONGEST:
            yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length
