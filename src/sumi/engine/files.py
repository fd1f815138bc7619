"""Files in a folder by opaque names: each is whole and on the disk before it has its name. No other path is made of what is asked for."""

import os
import re
import time
import uuid
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path

from sumi.errors import JobError, OutputError

UNFINISHED = ".part-"
"""Begins the name of a file that is being written."""
OTHERS = ".sumi-"
"""The same, of what the rest of sumi writes."""


class Files:
    """Those in a folder that end alike, which is made if there is none. OutputError if it cannot be.

    ending: of their names, ".png". digits: hexadecimal ones, of which the rest of a name is. what: one of them is called, in an error.
    """

    def __init__(self, folder: Path, ending: str, *, digits: int = 32, what: str = "picture") -> None:
        self.folder, self.ending, self.what = folder, ending, what
        self._name = re.compile(f"[0-9a-f]{{{digits}}}", re.ASCII)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make {folder}: {error.strerror}; choose another folder") from error

    def keep(self, name: str, save: Callable[[Path], object]) -> None:
        """Makes a file, which `save` writes to the path that it is given, or replaces it. Of one that cannot be written nothing is left."""
        temporary = self.folder / f"{UNFINISHED}{uuid.uuid4().hex}{self.ending}"
        try:
            save(temporary)
            _flush(temporary)
            os.replace(temporary, self.folder / f"{name}{self.ending}")
            _flush(self.folder)
        except OSError as error:
            raise OutputError(f"a {self.what} cannot be written ({error.strerror}): free some space, and try again") from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """Of a file that is there. JobError if there is none of that name, and for anything that cannot be one."""
        path = self.folder / f"{name}{self.ending}" if self._name.fullmatch(name) else None
        if path is None or path.is_symlink() or not path.is_file():
            raise JobError(f"there is no such {self.what}: it may have been removed")
        return path

    def read(self, name: str) -> bytes:
        """What is in a file. JobError as `path`."""
        try:
            return self.path(name).read_bytes()
        except OSError as error:
            raise JobError(f"the {self.what} cannot be read ({error.strerror}): it may have been removed") from error

    def remove(self, names: Iterable[str]) -> None:
        """Takes files away, those of them that there are."""
        for name in names:
            with suppress(OSError, JobError):
                self.path(name).unlink()

    def sweep(self, known: Collection[str], *, spared: float = 0.0) -> int:
        """Takes away what is not known, and what was being written when a process was killed. How many files that were.

        spared: seconds for which what is not known is left, too.
        """
        gone, now = 0, time.time()
        for entry in list(os.scandir(self.folder)):
            stem, ending = os.path.splitext(entry.name)
            unknown = ending == self.ending and self._name.fullmatch(stem) and stem not in known
            with suppress(OSError):
                if entry.name.startswith((UNFINISHED, OTHERS)) or (unknown and now - entry.stat().st_mtime >= spared):
                    os.unlink(entry.path)
                    gone += 1
        return gone


def _flush(path: Path) -> None:
    """Sees a file, or a folder's list of files, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
