"""What happens in the engine, told to everyone who listens: read once, however many they are."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from dataclasses import dataclass

from anyio import to_thread

from sumi.engine.engine import Engine
from sumi.engine.job import Event
from sumi.errors import EngineError

log = logging.getLogger("sumi.serve")

QUIET = 10.0
"""Seconds after which one who listens is told that nothing happened."""
PAUSE = 1.0
"""Seconds before what could not be read is read again."""
HELD = 2000
"""Happenings that wait for one who listens slowly; beyond that, its stream ends, and it may come again."""
FRAMES = 32
"""Of a running job that are kept for one who comes later, at most: where there are more, every other one."""


@dataclass(frozen=True)
class Glimpse:
    """A small PNG of what a running job will show, after a step. Told at once, and to who comes later, until the job ends."""

    job: str
    step: int
    image: bytes


@dataclass(frozen=True)
class Pace:
    """How fast a job goes: its step at a time, in seconds since 1970."""

    at: float
    step: int


class Hub:
    """Reads the engine's events as they come. `start` it in the loop in which it is listened to."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.number = 0
        """Of the last event that was told."""
        self._queues: set[asyncio.Queue[Event | Glimpse | None]] = set()
        self._paces: dict[str, tuple[Pace, Pace]] = {}
        self._films: dict[str, list[Glimpse]] = {}
        self._stirred = asyncio.Event()
        self.closed = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins with what happens from now on."""
        loop = asyncio.get_running_loop()
        self.number = self.engine.jobs.latest()
        self._unlisten = self.engine.jobs.listen(lambda: loop.call_soon_threadsafe(self._stirred.set))
        self._task = asyncio.create_task(self._read())

    def end(self) -> None:
        """Ends every stream; to be called in the loop."""
        self.closed = True
        for queue in list(self._queues):
            _put(queue, None)

    async def close(self) -> None:
        """Reads no more."""
        self.end()
        if self._task is not None:
            self._unlisten()
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def eta(self, job: str, steps: int | None) -> float | None:
        """Seconds that a running job has still to go, by its steps so far; None while nothing can be told."""
        if job not in self._paces or steps is None:
            return None
        first, last = self._paces[job]
        if last.step <= first.step:
            return None
        return max(0.0, (steps - last.step) * (last.at - first.at) / (last.step - first.step) - (time.time() - last.at))

    async def happenings(self, jobs: Collection[str] | None = None, after: int | None = None) -> AsyncIterator[Event | Glimpse | None]:
        """What happens to these jobs, or to any, after the event of that number, or from now on. None: nothing for some seconds.

        Of those that run, what was seen of them so far is told, too. It ends when the server does, and for one who is too slow; whoever
        comes again says what was the last of the events.
        """
        queue: asyncio.Queue[Event | Glimpse | None] = asyncio.Queue()
        self._queues.add(queue)
        films = [glimpse for job, film in self._films.items() if jobs is None or job in jobs for glimpse in film]
        try:
            last = self.number if after is None else after
            while last < self.number:
                one = next(iter(jobs)) if jobs is not None and len(jobs) == 1 else None
                found = await to_thread.run_sync(lambda: self.engine.events(one, after=last))  # noqa: B023, awaited
                if not found:
                    break
                for event in found:
                    last = event.number
                    if jobs is None or event.job in jobs:
                        yield event
            for glimpse in films:
                yield glimpse
            loop = asyncio.get_running_loop()
            said = loop.time()
            while not self.closed:
                try:
                    happening = await asyncio.wait_for(queue.get(), max(0.0, said + QUIET - loop.time()))
                except TimeoutError:
                    said = loop.time()
                    yield None
                    continue
                if happening is None:
                    return
                if jobs is not None and happening.job not in jobs:
                    continue
                if isinstance(happening, Event):
                    if happening.number <= last:
                        continue
                    last = happening.number
                said = loop.time()
                yield happening
        finally:
            self._queues.discard(queue)

    async def _read(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            try:
                while found := await to_thread.run_sync(lambda: self.engine.events(after=self.number)):
                    for event in found:
                        self.number = event.number
                        self._tell(event)
            except EngineError:  # of the disk: what is written then is read when it is stirred again
                await asyncio.sleep(PAUSE)
            except Exception:  # a defect, over which those who listen are not left alone
                log.exception("what happened could not be told")
                await asyncio.sleep(PAUSE)

    def _tell(self, event: Event) -> None:
        happenings: list[Event | Glimpse] = [event]
        if event.kind == "step":
            pace = Pace(event.at, event.data["step"])
            first = self._paces.get(event.job, (pace, pace))[0]
            self._paces[event.job] = (first if first.step <= pace.step else pace, pace)
            image = self.engine.preview(event.job)
            film = self._films.setdefault(event.job, [])
            if image is not None and not (film and film[-1].image == image):
                film.append(Glimpse(event.job, pace.step, image))
                happenings.append(film[-1])
                if len(film) > FRAMES:
                    del film[-2::-2]
        elif event.kind != "note":
            self._paces.pop(event.job, None)
            self._films.pop(event.job, None)
        for queue in list(self._queues):
            for happening in happenings:
                if queue.qsize() >= HELD:
                    self._queues.discard(queue)
                    _put(queue, None)
                    break
                queue.put_nowait(happening)


def _put(queue: asyncio.Queue[Event | Glimpse | None], end: None) -> None:
    """Makes the end of a stream the next thing that is read."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(end)
