"""Pictures that others send to go by: opened in a process apart, and kept as a PNG of their pixels alone, by its digest.

A request names one as `upload:` and the SHA-256 of that PNG. Nothing that a client says is ever a path.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sumi.engine.files import Files
from sumi.engine.process import launch
from sumi.engine.reader import FILE, FOLDER, PLAIN, TOLD
from sumi.errors import EngineError, ImageError, JobError, OutputError, PromptError, RequestError
from sumi.request import FILES, Request
from sumi.store.data_urls import data_url
from sumi.store.images import MAX_BYTES
from sumi.store.record import Record

ID = re.compile(r"upload:([0-9a-f]{64})", re.ASCII)
DEADLINE = 10.0
"""Seconds in which a picture has to be opened."""
START = 60.0
"""Seconds in which the process that opens them has to start."""
UNUSED = 86_400.0
"""Seconds for which a picture is kept that no job names."""
SPARE = 256 << 20
"""Bytes of a disk that are left to the queue and to what is made."""
REMEMBERED = 10_000
"""Pictures of which it is known that they were sent before."""
ERRORS = {kind.__name__: kind for kind in (ImageError, RequestError, PromptError)}


@dataclass(frozen=True)
class Upload:
    """A picture to go by. id: what fields of a request take; width, height: in pixels."""

    id: str
    width: int
    height: int


class Uploads:
    """Those in an engine's folder. OutputError if it cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.files = Files(folder / FOLDER, ".png", digits=64, what="picture to go by")
        self._reader = Reader()
        self._known: dict[bytes, Upload] = {}
        """By the digest of what was sent: the same picture is often sent again, and need not be opened again."""

    def start(self) -> None:
        """Starts the process that opens pictures, so that the first need not wait for it. OSError if the system does not let it."""
        self._reader.start()

    def take(self, data: bytes) -> Upload:
        """Keeps the picture in a PNG, JPEG or WebP file. ImageError if it is none, OutputError if it cannot be written."""
        sent = hashlib.sha256(data).digest()
        with suppress(KeyError, JobError):
            known = self._known[sent]
            os.utime(self.files.path(_digest(known.id)))
            return known
        size, png = self._reader.ask(PLAIN, data)
        digest = hashlib.sha256(png).hexdigest()
        try:
            os.utime(self.files.path(digest))  # it is as good as new
        except JobError:
            if shutil.disk_usage(self.files.folder).free < SPARE + len(png):
                raise OutputError("hardly any space is left for pictures to go by: free some, and send it again") from None
            self.files.keep(digest, lambda path: path.write_bytes(png))
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[sent] = Upload(f"upload:{digest}", size["width"], size["height"])
        return self._known[sent]

    def told(self, data: bytes) -> Record:
        """What a PNG says of how it was made. ImageError if it is none or says nothing, RequestError if that cannot be followed."""
        return Record.from_json(self._reader.ask(TOLD, data)[1].decode())

    def png(self, id: str) -> bytes:
        """A picture that was kept. JobError if there is none."""
        return self.files.read(_digest(id))

    def of(self, id: str) -> Upload:
        """The same, without its pixels. RequestError if there is none."""
        try:
            with self.files.path(_digest(id)).open("rb") as file:
                head = file.read(24)
        except (JobError, OSError) as error:
            raise RequestError("there is no such upload: send the picture again") from error
        width, height = (int.from_bytes(head[at : at + 4], "big") for at in (16, 20))  # of the chunk IHDR, which comes first
        return Upload(id, width, height)

    def named(self, request: Request) -> Request:
        """The request with the ids of its pictures, which are data: URLs or ids. RequestError for any other, and as `take` and `of`."""
        ids: dict[str, Any] = {}
        for name in FILES:
            value = getattr(request, name)
            if value is not None and value.startswith("data:"):
                ids[name] = self.take(data_url(value)).id
            elif value is not None and value.startswith("upload:"):
                ids[name] = self.of(value).id
            elif value is not None:
                raise RequestError(f"{name} must be an upload or a data: URL: an engine opens no files for those who ask")
        return replace(request, digests=None, **ids)  # an id is a digest

    def sweep(self, named: Collection[str]) -> None:
        """Takes away pictures that no job names, by their ids, and that are old."""
        self.files.sweep({_digest(id) for id in named}, spared=UNUSED)

    def close(self) -> None:
        """Ends the process that opens pictures."""
        self._reader.close()


def located(request: Request) -> Request:
    """The request as a worker computes it: pictures by their paths from the engine's folder."""
    paths: dict[str, Any] = {name: f"{FOLDER}/{found[1]}.png" for name in FILES if (found := ID.fullmatch(getattr(request, name) or ""))}
    return replace(request, **paths)


def unlocated(text: str) -> str:
    """What is said of pictures to go by, without those paths: "the mask is of 8 x 8 pixels"."""
    return re.sub(rf" {FILE.pattern}", "", text)


class Reader:
    """The process that opens pictures, one at a time: started when it is first needed, and again after one that broke or stalled it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection | None = None
        self._closed = False

    def start(self) -> None:
        """Starts the process, if there is none."""
        with self._lock:
            self._started()

    def ask(self, what: bytes, data: bytes) -> tuple[dict[str, Any], bytes]:
        """What it answers. ImageError if it says so, ends or takes too long; RequestError if it says so; EngineError once it is closed."""
        if len(data) > MAX_BYTES:
            raise ImageError(f"the picture is longer than {MAX_BYTES >> 20} MiB: make it smaller")
        with self._lock:
            late = threading.Event()
            try:
                process, line = self._started()
                with _deadline(process, late):
                    line.send_bytes(what + data)
                    answer = line.recv_bytes()
            except (EOFError, OSError) as error:
                self._end()
                if self._closed:
                    raise _closing() from error
                why = f"takes more than {DEADLINE:g} s to open" if late.is_set() else "cannot be opened"
                raise ImageError(f"the picture {why}: make it smaller, or save it again with another program") from error
        head, _, rest = answer.partition(b"\n")
        header: dict[str, Any] = json.loads(head)
        if "error" in header:
            raise ERRORS.get(header["error"], ImageError)(header["message"])
        return header, rest

    def close(self) -> None:
        """Ends the process, and starts no more."""
        self._closed = True
        if (process := self._process) is not None:
            process.kill()  # whatever it is at: so that whoever waits for it gives way
        with self._lock:
            self._end()

    def _started(self) -> tuple[subprocess.Popen[bytes], Connection]:
        if self._closed:
            raise _closing()
        if self._process is None or self._line is None or self._process.poll() is not None:
            self._end()
            threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
            self._process, self._line = launch("sumi.engine.reader", str, apart=True, **threads)
            if not self._line.poll(START):
                raise EOFError
            self._line.recv_bytes()
        return self._process, self._line

    def _end(self) -> None:
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._line = None


@contextmanager
def _deadline(process: subprocess.Popen[bytes], late: threading.Event) -> Iterator[None]:
    """Kills the process, and says that it was late, unless the block ends in time."""

    def kill() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(DEADLINE, kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _closing() -> EngineError:
    return EngineError("the engine is closing: send the picture again later")


def _digest(id: str) -> str:
    """Of an upload, by its id; of what is no id, nothing that any file is called by."""
    found = ID.fullmatch(id)
    return "" if found is None else found[1]
