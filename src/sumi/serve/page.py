"""The files of the page: read once, by their names in the package. A name that a client gives is only looked up among them."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}


@dataclass(frozen=True)
class File:
    """A file as it is sent. tag: changes when it does."""

    data: bytes
    packed: bytes
    kind: str
    tag: str


@cache
def page() -> dict[str, File]:
    """The files by name."""
    found = {}
    for entry in files("sumi.serve").joinpath("page").iterdir():
        ending = "." + entry.name.rpartition(".")[2]
        if ending in KINDS:
            data = entry.read_bytes()
            found[entry.name] = File(data, gzip.compress(data, mtime=0), KINDS[ending], f'"{hashlib.sha256(data).hexdigest()[:16]}"')
    return found
