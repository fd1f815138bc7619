"""`python -m sumi.engine.worker`: the process that computes jobs on one device. An engine starts it, and starts another when it ends.

It may be killed at any time: what it has not finished, the engine puts back. It ends by itself when its engine does.
"""

import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from sumi.engine.job import Failure, Job
from sumi.engine.jobs import Jobs
from sumi.engine.making import Made, Maker, Moment, Note, Refused, Spoiled
from sumi.engine.results import Results
from sumi.engine.shelf import Kept
from sumi.engine.uploads import located, unlocated
from sumi.errors import EngineError, OutputError
from sumi.logs import to_stderr

QUEUE = "jobs.sqlite3"
"""In an engine's folder, which is a worker's current one."""
BUSY, IDLE, STIRRED, PREVIEW = b"b", b"i", b"s", b"p"
"""What a worker tells its engine: that it has jobs, that it has none, that something was written; and a job's id with a small PNG."""
LOOK, STOP = b"l", b"q"
"""What an engine tells a worker: that there is a job, and that it should end."""
OF_ITSELF = 75
"""The exit status of a worker that cannot go on for a reason that no job is to blame for."""
NICE = 10
"""How far behind the rest of the machine's programs a worker stands: whoever answers people goes first."""
REST = 2.0
"""Seconds after which an idle worker looks into the queue though nobody told it to: another process may have written there."""

log = logging.getLogger("sumi.engine")


@dataclass(frozen=True)
class Settings:
    """What a worker is told when it is started. maker: `module:class` of its `Maker`; most: pictures in a batch."""

    id: str
    folder: str
    fd: int
    device: str | None
    precision: str | None
    budget: int | None
    models: dict[str, str]
    maker: str
    most: int

    def to_json(self) -> str:
        """JSON on one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        return cls(**json.loads(text))


class Stopped(Exception):
    """The engine wants the worker to end."""


class Unwanted(Exception):
    """The job is not this worker's any more."""


class Line:
    """The way to the engine and back. When the engine is gone, so is this process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.look, self.stopping = threading.Event(), threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def tell(self, *parts: bytes) -> None:
        """Says one thing to the engine."""
        try:
            self._connection.send_bytes(b"".join(parts))
        except OSError:
            os._exit(0)

    def _listen(self) -> None:
        while True:
            try:
                said = self._connection.recv_bytes()
            except (EOFError, OSError):
                os._exit(0)  # at once: another engine may be at work already
            if said == STOP:
                self.stopping.set()
            self.look.set()


class Worker:
    """Computes jobs, one lot after the other."""

    def __init__(self, id: str, jobs: Jobs, results: Results, maker: Maker, line: Line, most: int) -> None:
        self.id, self.jobs, self.results, self.maker, self.line, self.most = id, jobs, results, maker, line, most

    def serve(self) -> None:
        """Until the engine says to stop. EngineError if the queue cannot be used, or another worker is in the place of this one."""
        idle = False
        while not self.line.stopping.is_set():
            idle = idle and not self.line.look.is_set()
            self.line.look.clear()
            if jobs := self.jobs.claim(self.id, self.most):
                idle = False
                self.line.tell(BUSY)
                try:
                    self.run(jobs)
                except Stopped:
                    return
            else:
                if not idle:
                    self.line.tell(IDLE)
                idle = not self.line.look.wait(REST)

    def run(self, jobs: Sequence[Job], *, retried: bool = False, precision: str | None = None) -> None:
        """Computes jobs of one shape, each to one of its ends; whatever goes wrong with several is tried with each alone.

        `retried`: there was not enough memory before. `precision`: in which what was spoiled is computed again.
        """
        left, spoiled = {place: job for place, job in enumerate(jobs)}, list[Job]()
        try:
            self._attempt(jobs, precision, left, spoiled)
        except (Stopped, EngineError):
            raise
        except Exception as error:
            log.warning("jobs %s: %s", ", ".join(job.id for job in left.values()), type(error).__name__)
            self._mend(list(left.values()), error, retried, precision, alone=len(jobs) == 1)
        for job in spoiled:
            if precision is not None:
                self.jobs.fail(
                    self.id, job.id, Failure("nan", f"the picture is black or not finite in {precision}, too: ask for less guidance")
                )
                continue
            self.jobs.note(self.id, job.id, "computed again in float32: the picture was black or not finite before")
            self.run([job], retried=retried, precision="float32")

    def _mend(self, left: Sequence[Job], error: Exception, retried: bool, precision: str | None, *, alone: bool) -> None:
        """What to do for those that an error has kept from their end."""
        short = isinstance(error, MemoryError)
        # Its frames hold on to what was being computed, and its message may be about what was asked.
        frames = "".join(traceback.format_tb(error.__traceback__))
        error.__traceback__ = error.__cause__ = error.__context__ = None
        self.maker.free()
        if not alone:
            for job in left:
                self.run([job], retried=retried or short, precision=precision)
        elif short and not retried:
            self.jobs.note(self.id, left[0].id, "computed again: there was not enough memory before")
            self.run(left, retried=True, precision=precision)
        else:
            why = Failure("memory", "there is not enough memory: ask for smaller or fewer pictures") if short else Failure.of(error)
            if why.kind == "defect":
                log.error("%s\n%s", type(error).__name__, frames)
            for job in left:
                self.jobs.fail(self.id, job.id, why)
        self.line.tell(STIRRED)

    def _attempt(self, jobs: Sequence[Job], precision: str | None, left: dict[int, Job], spoiled: list[Job]) -> None:
        """Computes jobs together; takes out of `left` which have come to an end, or go on in `spoiled`. Stopped if the engine says so."""
        asked = [replace(job, request=located(job.request)) for job in jobs]
        with closing(self.maker.make(asked, precision, left.__contains__)) as happenings:
            for event in happenings:
                match event:
                    case Moment(places, step, steps, previews):
                        own = self.jobs.progress(self.id, [left[place].id for place in places if place in left], step, steps)
                        for place in places:
                            if place in left and left[place].id not in own:
                                del left[place]
                        for place, preview in previews.items():
                            if place in left:
                                self.line.tell(PREVIEW, left[place].id.encode(), preview)
                    case Note(place, text):
                        self.jobs.note(self.id, jobs[place].id, text)
                    case Made(place) if place in left:
                        self._keep(left[place], event)
                        del left[place]
                    case Spoiled(place) if place in left:
                        spoiled.append(left.pop(place))
                    case Refused(place, why) if place in left:
                        self.jobs.fail(self.id, left.pop(place).id, replace(why, message=unlocated(why.message)))
                self._stirred()
                if not left:
                    return

    def _keep(self, job: Job, made: Made) -> None:
        """What was made onto the disk, then the job is done; neither, if it is not this worker's any more."""
        kept: list[Kept] = []
        finished = False

        def still(step: int, steps: int) -> None:
            if not self.jobs.progress(self.id, [job.id], step, steps):
                raise Unwanted
            self._stirred()

        try:
            for drawn in made.pictures:
                kept.append(self.results.keep(drawn))
            if (story := made.story) is not None:
                self.results.tell(kept[0], lambda path: story(path, still))
            finished = self.jobs.finish(self.id, job.id, kept)
        except OutputError as error:
            self.jobs.fail(self.id, job.id, Failure.of(error))
        except Unwanted:
            pass
        finally:
            if not finished:
                self.results.remove(each.id for each in kept)

    def _stirred(self) -> None:
        """A sign of life. Stopped if the engine wants the worker to end."""
        self.line.tell(STIRRED)
        if self.line.stopping.is_set():
            raise Stopped


def main() -> int:
    """A worker, by its `Settings` as JSON in the first argument. The exit status."""
    told = Settings.from_json(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM):  # which may be sent to all processes: the engine ends this one
        signal.signal(number, signal.SIG_IGN)
    to_stderr(logging.WARNING)
    line = Line(Connection(told.fd))
    os.nice(NICE)
    os.chdir(told.folder)  # what is made of an upload tells its path from here, and not where the folder lies
    try:
        Worker(told.id, Jobs(Path(QUEUE)), Results(Path()), _maker(told), line, told.most).serve()
    except EngineError as error:
        log.error("%s", error)
        return OF_ITSELF
    return 0


def _maker(told: Settings) -> Maker:
    module, _, name = told.maker.partition(":")
    made: Any = getattr(import_module(module), name)
    maker: Maker = made(told.device, told.precision, told.budget, told.models)
    return maker


if __name__ == "__main__":
    sys.exit(main())
