"""The maker of sumi, which waits where a test wants: no step of a job is over before the page has been looked at. Imported by workers."""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

from sumi.engine import maker
from sumi.engine.job import Job
from sumi.engine.making import Happening, Made, Moment, Story, Telling

MAKER = "serve.gated:Gated"
WHERE = "../gate"
"""Seen from the folder of the engine, which workers are in."""


class Gated(maker.Models):
    """Real pictures. While there is a named pipe beside the engine's folder, a job goes on from each step with a byte from it."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        maker.SELDOM = 0.0  # each step is seen, however fast they follow

    def make(self, jobs: Sequence[Job], precision: str | None, wanted: Callable[[int], bool]) -> Generator[Happening, None, None]:
        with ExitStack() as stack:
            gate: FileIO | None = None
            for happening in stack.enter_context(closing(super().make(jobs, precision, wanted))):
                match happening:
                    case Moment():
                        yield happening
                        if gate is None:
                            with suppress(FileNotFoundError):
                                gate = stack.enter_context(open(WHERE, "rb", buffering=0))
                        if gate is not None:
                            gate.read(1)
                    case Made(story=story) if story is not None and gate is not None:
                        yield replace(happening, story=partial(_told, story, gate))
                    case _:
                        yield happening


def _told(story: Story, gate: FileIO, path: Path, say: Telling) -> None:
    """A story, which waits after each of its steps likewise."""

    def gated(step: int, steps: int) -> None:
        say(step, steps)
        gate.read(1)

    story(path, gated)


class Gate:
    """The other end: jobs of a studio wait while it is shut."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / WHERE

    def shut(self) -> None:
        os.mkfifo(self.path)
        self._end = os.open(self.path, os.O_RDWR)  # both ends, so that there is always one to write to

    def let(self, steps: int = 1) -> None:
        """As many steps go on."""
        os.write(self._end, b"." * steps)

    def open(self) -> None:
        """For good: what waits goes on to its end. Nothing happens where it is open."""
        if self.path.exists():
            self.path.unlink()
            os.close(self._end)
