"""What every route has at hand: the engine, its happenings, what there is to choose from, and how much may be asked."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from math import ceil, sqrt
from typing import Any, TypeVar, Unpack

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request as Asked

from sumi.engine.engine import Engine
from sumi.engine.job import Event, Failure, Job, Terms
from sumi.request import Request
from sumi.serve import words
from sumi.serve.catalogue import OWN, Catalogue
from sumi.serve.hub import Glimpse, Hub
from sumi.serve.problems import Failed, Refusal
from sumi.serve.settings import Settings

log = logging.getLogger("sumi.serve")

T = TypeVar("T")
ENDED = Event(0, "", 0.0, "", {})
"""In place of an event: a stream is at its end."""
LEADING = ("low_res", "image", "map", "depth")
"""The fields by whose picture the size goes, as `sumi.resolve.given` does it."""
THREADS = 8
"""That look at the disk at a time: more would only take turns."""
OPENERS = 2
"""That wait for pictures to be opened, which is done one at a time."""
GONE = 0.25
"""Seconds between two looks whether the one who asked is still there."""


class Studio:
    """One engine, served. models: paths by the names that clients may give."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings
        self.hub = Hub(engine)
        self.catalogue = Catalogue(engine.models)
        self._threads, self._openers = CapacityLimiter(THREADS), CapacityLimiter(OPENERS)

    async def of(self, called: Callable[[], T]) -> T:
        """What a function gives that looks at the disk, without keeping anyone waiting for it."""
        return await to_thread.run_sync(called, limiter=self._threads)

    async def opened(self, called: Callable[[], T]) -> T:
        """As `of`, of what waits for pictures to be opened: it keeps only others like it waiting."""
        return await to_thread.run_sync(called, limiter=self._openers)

    async def submit(self, request: Request, **terms: Unpack[Terms]) -> Job:
        """Puts a request into the queue, if it is within the limits and the model can serve it. RequestError, or Refusal (429)."""
        taken = await self.opened(lambda: self.engine.taken(request))

        def submitted() -> Job:
            self.check(taken, terms.get("model"))
            if self.engine.jobs.waiting() >= self.settings.limits.queue:
                most = self.settings.limits.queue
                raise Refusal(429, "queue_full", f"{most} jobs are waiting already: ask again later", {"Retry-After": "10"})
            return self.engine.submit(taken, **terms)

        job = await self.of(submitted)
        said = {"prompt": job.request.prompt, "negative": job.request.negative} if self.settings.prompts else {}
        about = {"job": job.id, "group": job.group, "model": job.model, "pictures": request.count}
        log.info(json.dumps({"event": "submitted", **about, **said}))
        return job

    def model(self, id: str | None) -> str | None:
        """The engine's name of the model that a client calls so: None is the one that comes with sumi. Refusal (404) if there is none."""
        if id is None or id == OWN:
            return None
        if id not in self.catalogue.names:
            raise Refusal(404, "model_not_found", f"there is no model {id[:80]!a}: use {', '.join(self.catalogue.names)}")
        return id

    def words(self, request: Request, model: str | None) -> dict[str, Any]:
        """How a model takes the prompt of a request: `sumi.serve.words.Words`, as JSON has it."""
        return words.read(self.catalogue.known(model), request.prompt, emphasis=request.emphasis, steps=request.steps).json()

    def check(self, request: Request, model: str | None) -> None:
        """RequestError for what is beyond the limits, or cannot be served by the model. Its pictures are uploads."""
        card = self.catalogue.card(model)
        self.settings.limits.check(request, self._size(request, (card.height, card.width)), card.steps)
        self.catalogue.check(request, model)

    def _size(self, request: Request, own: tuple[int, int]) -> tuple[int, int]:
        """Height and width that a request's pictures will have, or a little more: where it says less than both, a picture leads."""
        if request.width and request.height:
            return request.height, request.width
        leading = next((value for name in LEADING if (value := getattr(request, name)) is not None), None)
        if leading is None:
            return request.height or own[0], request.width or own[1]
        upload = self.engine.upload_of(leading)
        if request.width:
            return ceil(request.width * upload.height / upload.width), request.width
        if request.height:
            return request.height, ceil(request.height * upload.width / upload.height)
        if request.low_res is not None:
            return 4 * upload.height, 4 * upload.width
        left, top, right, bottom = map(int, request.outpaint or (0, 0, 0, 0))
        larger = sqrt(own[0] * own[1] / (upload.height * upload.width))
        return ceil(upload.height * larger) + top + bottom, ceil(upload.width * larger) + left + right

    async def made(self, asked: Asked, requests: Sequence[Request], *, model: str | None, family: str) -> list[Job]:
        """Has several requests computed, and waits; when who asked goes away, they are cancelled. Failed for the first that fails.

        family: the group that the jobs are of.
        """
        jobs: list[Job] = []
        before = await self.of(self.engine.jobs.latest)
        try:
            for request in requests:
                jobs.append(await self.submit(request, model=model, group=family))
            async for _ in self.watched(asked, [job.id for job in jobs], before):
                pass
        except BaseException:
            await self.dropped([job.id for job in jobs])
            raise
        return [self.whole(await self.of(lambda job=job: self.engine.get(job.id))) for job in jobs]  # type: ignore[misc]

    async def watched(self, asked: Asked, ids: Collection[str], after: int = 0) -> AsyncIterator[Event | Glimpse]:
        """What happens to jobs, after the event of that number, until all have ended. Refusal (499) once who asked has gone away."""
        left = set(ids)
        gone = asyncio.create_task(self._gone(asked))
        told = self.hub.happenings(ids, after)
        coming: asyncio.Future[Event | Glimpse | None] | None = None
        try:
            while left:
                coming = asyncio.ensure_future(anext(told, ENDED))
                await asyncio.wait({coming, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    raise Refusal(499, "gone", "who asked has gone away")
                happening = coming.result()
                if self.hub.closed:
                    raise Refusal(503, "closing", "the server is closing: ask again later", {"Retry-After": "10"})
                if happening is ENDED:  # who asked reads too slowly to be told of all
                    told = self.hub.happenings(ids, after)
                    continue
                if not isinstance(happening, Event | Glimpse):
                    jobs = [await self.of(lambda id=id: self.engine.get(id)) for id in left]  # type: ignore[misc]
                    left -= {job.id for job in jobs if job.ended}
                    continue
                yield happening
                if isinstance(happening, Event):
                    after = happening.number
                    left -= {happening.job} if happening.kind in ("done", "failed", "cancelled") else set()
        finally:
            gone.cancel()
            if coming is not None:
                coming.cancel()
                await asyncio.wait({coming})  # a generator that is being asked cannot be closed
            await told.aclose()  # type: ignore[attr-defined]

    async def dropped(self, ids: Collection[str]) -> None:
        """Cancels what has not ended."""
        for id in ids:
            await self.of(lambda id=id: self.engine.cancel(id))  # type: ignore[misc]

    @staticmethod
    def whole(job: Job) -> Job:
        """The job, if it is done. Failed if it is not."""
        if job.state == "done":
            return job
        raise Failed(job.error or Failure("cancelled", "the job was cancelled"))

    async def _gone(self, asked: Asked) -> None:
        while not await asked.is_disconnected():
            await asyncio.sleep(GONE)
