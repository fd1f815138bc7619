"""The maker of sumi, which waits where a test wants: no step of a job is over before the page has been looked at. Imported by workers."""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

from sumi.engine import maker
from sumi.engine.job import Job
from sumi.engine.making import Happening, Moment

MAKER = "serve.gated:Gated"
WHERE = "SUMI_GATE"


class Gated(maker.Models):
    """Real pictures. While there is a named pipe at $SUMI_GATE, a job goes on from each step with a byte from it."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        maker.SELDOM = 0.0  # each step is seen, however fast they follow

    def make(self, jobs: Sequence[Job], precision: str | None, wanted: Callable[[int], bool]) -> Generator[Happening, None, None]:
        with ExitStack() as stack:
            gate = None
            for happening in stack.enter_context(closing(super().make(jobs, precision, wanted))):
                yield happening
                if gate is None and isinstance(happening, Moment):
                    with suppress(FileNotFoundError):
                        gate = stack.enter_context(open(os.environ[WHERE], "rb", buffering=0))
                if gate is not None and isinstance(happening, Moment):
                    gate.read(1)


class Gate:
    """The other end: jobs of a studio wait while it is shut."""

    def __init__(self, path: Path) -> None:
        self.path = path

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
