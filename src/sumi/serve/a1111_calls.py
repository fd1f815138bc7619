"""The calls of A1111's API that are being answered: how far they have come, and their end before the end."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request as Asked

from sumi.engine.job import Job
from sumi.request import Request
from sumi.serve.studio import Studio

FAMILY = "a1111"
"""The group of the jobs."""


@dataclass(eq=False)
class Call:
    """One that asked, and its jobs so far, of `count` in all."""

    count: int
    jobs: list[str] = field(default_factory=list)
    interrupted: bool = False
    began: float = field(default_factory=time.monotonic)
    at: str = field(default_factory=lambda: time.strftime("%Y%m%d%H%M%S"))


class Calls:
    """All of them, the oldest first. A1111 works at one at a time, and tells of that one; so the oldest is the one that is told of."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._open: list[Call] = []

    async def drawn(self, asked: Asked, requests: Sequence[Request], model: str | None) -> list[Job]:
        """Has requests computed, and waits: the jobs that are done, less those that were interrupted or skipped.

        Failed for the first that fails; Refusal once who asked has gone away: what has not ended then is cancelled.
        """
        studio = self._studio
        with self._call(len(requests)) as call:
            try:
                for request in requests:
                    if call.interrupted:
                        break
                    call.jobs.append((await studio.submit(request, model=model, group=FAMILY)).id)
                if call.interrupted:  # perhaps while the last of them was on its way
                    await studio.dropped(call.jobs)
                for id in list(call.jobs):
                    async for _ in studio.watched(asked, [id]):
                        pass
                jobs = [await studio.of(lambda id=id: studio.engine.get(id)) for id in call.jobs]  # type: ignore[misc]
                return [studio.whole(job) for job in jobs if job.state != "cancelled"]
            except BaseException:
                await studio.dropped(call.jobs)
                raise

    async def interrupt(self) -> None:
        """Ends every call, within a step."""
        for call in list(self._open):
            call.interrupted = True
            await self._studio.dropped(call.jobs)

    async def skip(self) -> None:
        """Ends the batch that each call is at; the next one follows."""
        for call in list(self._open):
            await self._studio.dropped([job.id for job in await self._jobs(call) if not job.ended][:1])

    async def progress(self) -> tuple[dict[str, Any], Job | None]:
        """What A1111 tells of its progress, without the picture, and the job that it is at."""
        if not self._open:
            return _told(0.0, 0.0, state()), None
        call = self._open[0]
        jobs = await self._jobs(call)
        ended = sum(job.ended for job in jobs)
        now = next((job for job in jobs if not job.ended), None)
        step, steps = (now.step or 0, now.steps or 0) if now is not None else (0, 0)
        # Batches that are alike may run at once.
        under_way = sum((job.step or 0) / job.steps for job in jobs if not job.ended and job.steps)
        share = min(1.0, 0.01 + (ended + under_way) / call.count)
        passed = time.monotonic() - call.began
        return _told(share, passed / share - passed, state(call, ended, step, steps)), now

    async def _jobs(self, call: Call) -> list[Job]:
        return [await self._studio.of(lambda id=id: self._studio.engine.get(id)) for id in list(call.jobs)]  # type: ignore[misc]

    @contextmanager
    def _call(self, count: int) -> Iterator[Call]:
        call = Call(count)
        self._open.append(call)
        try:
            yield call
        finally:
            self._open.remove(call)


def state(call: Call | None = None, ended: int = 0, step: int = 0, steps: int = 0) -> dict[str, Any]:
    """A1111's state: of a call, or of none, where `job_count` is 0."""
    return {
        "skipped": False,
        "interrupted": call is not None and call.interrupted,
        "stopping_generation": False,
        "job": FAMILY if call else "",
        "job_count": call.count if call else 0,
        "job_timestamp": call.at if call else "0",
        "job_no": ended,
        "sampling_step": step,
        "sampling_steps": steps,
    }


def _told(progress: float, left: float, state: dict[str, Any]) -> dict[str, Any]:
    return {"progress": progress, "eta_relative": left, "state": state, "current_image": None, "textinfo": None}
