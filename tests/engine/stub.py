"""A maker that makes no pictures: words of a prompt say what becomes of a job. Imported by workers, so without torch and pytest."""

import hashlib
import os
import signal
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

from sumi.engine.job import Failure, Job
from sumi.engine.making import Drawn, Happening, Made, Moment, Note, Refused, Spoiled, Telling
from sumi.errors import RequestError

MAKER = "engine.stub:Stub"


def content(job: Job, number: int) -> bytes:
    """What a job's file holds: who made it, and a sum by which damage is seen."""
    text = f"{job.id} {job.request.seed} {job.request.first + number} ".encode() * 50
    return hashlib.sha256(text).hexdigest().encode() + text


def is_whole(data: bytes) -> bool:
    return hashlib.sha256(data[64:]).hexdigest().encode() == data[:64] and len(data) > 64


class Stub:
    """Words: steps=3; gate=PATH, a named pipe of which each step reads a byte, wait=PATH, of which the first does; and those of `_fate`."""

    def __init__(self, device: str | None, precision: str | None, budget: int | None, models: Mapping[str, str]) -> None:
        self.freed = 0

    def make(self, jobs: Sequence[Job], precision: str | None, wanted: Callable[[int], bool]) -> Generator[Happening, None, None]:
        words = dict(word.partition("=")[::2] for job in jobs for word in job.request.prompt.split())
        places, steps = tuple(range(len(jobs))), int(words.get("steps", jobs[0].request.steps or 2))
        yield Note(0, f"{len(jobs)} together")
        yield Moment(places, 0, steps)
        gate = open(words["gate"], "rb", buffering=0) if "gate" in words else None  # noqa: SIM115, closed with the job
        for step in range(1, steps + 1):
            if gate is not None:
                gate.read(1)
            for job in jobs:
                self._fate(job.request.prompt.split(), len(jobs))
            yield Moment(places, step, steps, {0: b"preview"})
            if not any(map(wanted, places)):
                return
        for place, job in enumerate(jobs):
            named = job.request.prompt.split()
            if "refused" in named:
                yield Refused(place, Failure.of(RequestError("not this: something else")))
            elif "nan32" in named or ("nan" in named and precision is None):
                yield Spoiled(place)
            else:
                story = None if not job.see else lambda path, say, job=job, words=words: _story(job, words, path, say)
                yield Made(place, tuple(self._drawn(job, number) for number in range(job.request.count)), story)

    def free(self) -> None:
        self.freed += 1

    def _fate(self, words: Sequence[str], together: int) -> None:
        if "oom" in words or ("oom-together" in words and together > 1) or ("oom-once" in words and not self.freed):
            raise MemoryError
        if "boom" in words:
            raise ValueError(" ".join(words))
        if "die" in words:
            os.kill(os.getpid(), signal.SIGKILL)
        if "freeze" in words:
            os.kill(os.getpid(), signal.SIGSTOP)

    @staticmethod
    def _drawn(job: Job, number: int) -> Drawn:
        def save(path: Path) -> None:
            if "full" in job.request.prompt.split() and number:
                path /= "no folder"
            path.write_bytes(content(job, number))

        return Drawn(8, 6, save, lambda path: path.write_bytes(content(job, number)[::-1]))


def _story(job: Job, words: Mapping[str, str], path: Path, say: Telling) -> None:
    """Half of it, a step, and the other half."""
    whole = content(job, 0)
    with open(path, "wb", buffering=0) as file:
        file.write(whole[: len(whole) // 2])
        if "story-gate" in words:
            with open(words["story-gate"], "rb", buffering=0) as gate:
                gate.read(1)
        say(1, 1)
        file.write(whole[len(whole) // 2 :])
