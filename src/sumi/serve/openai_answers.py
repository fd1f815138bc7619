"""Orders of OpenAI's API, carried out: asked of the studio, waited for, and answered in one reply or as a stream."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import TypeVar

from anyio import CancelScope
from fastapi import Request as Asked
from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sumi.engine.job import Event, Job
from sumi.errors import SumiError
from sumi.request import FILES
from sumi.serve import problems
from sumi.serve.hub import Glimpse
from sumi.serve.openai_fields import Order, Wrong
from sumi.serve.openai_replies import Teller, Usage, cells, told
from sumi.serve.problems import Refusal
from sumi.serve.replies import picture
from sumi.serve.studio import Studio
from sumi.serve.words import read

FAMILY = "openai"
"""The group of the jobs."""
QUIET = 5.0
"""Seconds without a happening after which a stream says that it is still there."""
ALIVE = b": keep-alive\n\n"

T = TypeVar("T")


class Answers:
    """To what is asked of one studio."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def model(self, order: Order) -> str | None:
        """As the engine calls it. Wrong (404) if there is none of that name."""
        try:
            return self.studio.model(order.model)
        except Refusal as error:
            raise Wrong("model", str(error), status=error.status, code=error.code) from error

    async def to(self, asked: Asked, order: Order, kind: str) -> Response:
        """The answer to an order; `kind` is how a stream's events call what is made. SumiError for what cannot be done."""
        model = self.model(order)
        card = await self.studio.of(lambda: self.studio.catalogue.card(model))
        request = order.stepped(card.steps)
        if order.stream:
            job = await self.studio.submit(request, model=model, group=FAMILY)
            return _Stream(self._events(asked, job, order, kind), lambda: self.studio.dropped([job.id]))
        job = (await self.studio.made(asked, [request], model=model, family=FAMILY))[0]
        base = str(asked.base_url).rstrip("/")

        def replied() -> bytes:
            pngs = self._pngs(job)
            urls = [base + picture(id) for id in job.pictures]
            return told(order, pngs, urls, self._usage(job, pngs), int(job.created), self._notes(job, order))

        return Response(await self.studio.of(replied), media_type="application/json")

    async def _events(self, asked: Asked, job: Job, order: Order, kind: str) -> AsyncIterator[bytes]:
        """The stream of one job. Previews are spread over its steps; where there are several pictures, they show the first."""
        teller = Teller(kind, order, int(job.created))
        factor = (await self.studio.of(lambda: self.studio.catalogue.spec(job.model))).factor
        steps, shown = 0, 0
        try:
            async with aclosing(_beating(self.studio.watched(asked, [job.id]), QUIET)) as happenings:
                async for happening in happenings:
                    match happening:
                        case None:
                            yield ALIVE
                        case Event(kind="step", data=data):
                            steps = data["steps"]
                        case Glimpse(step=step, image=image) if shown < order.partial and step * (order.partial + 1) >= (shown + 1) * steps:
                            yield await self.studio.of(lambda: teller.shown(image, factor, shown))  # noqa: B023, awaited
                            shown += 1
            done = self.studio.whole(await self.studio.of(lambda: self.studio.engine.get(job.id)))
            pngs = await self.studio.of(lambda: self._pngs(done))
            for png in pngs:
                yield await self.studio.of(lambda: teller.completed(png, self._usage(done, [png])))  # noqa: B023, awaited
        except SumiError as error:
            yield b"event: error\ndata: " + bytes(problems.told(error).body) + b"\n\n"

    def _pngs(self, job: Job) -> list[bytes]:
        return [self.studio.engine.picture(id) for id in job.pictures]

    @staticmethod
    def _notes(job: Job, order: Order) -> list[str]:
        return [*job.notes, *(f"{name} changes nothing" for name in order.unheeded)]

    def _usage(self, job: Job, pngs: Sequence[bytes]) -> Usage:
        """Of some of a job's pictures."""
        request, known = job.request, self.studio.catalogue.known(job.model)
        texts = [text for text in (request.prompt, request.negative) if text]
        count = sum(read(known, text, emphasis=request.emphasis, steps=request.steps).count for text in texts)
        each = cells(pngs[0], known.spec.factor)
        given = [name for name in FILES if getattr(request, name) is not None]
        return Usage.of(count, each * len(given), each * len(pngs))


class _Stream(StreamingResponse):
    """Server-sent events, and what is to be done when they have ended, or nobody is there for them."""

    def __init__(self, events: AsyncIterator[bytes], after: Callable[[], Awaitable[None]]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True), suppress(SumiError):
                await self._after()


async def _beating(happenings: AsyncIterator[T], seconds: float) -> AsyncGenerator[T | None, None]:
    """The same, and None whenever nothing has come for so long."""
    end = object()
    coming = asyncio.ensure_future(anext(happenings, end))
    try:
        while True:
            await asyncio.wait({coming}, timeout=seconds)
            if not coming.done():
                yield None
                continue
            happening = coming.result()
            if happening is end:
                return
            coming = asyncio.ensure_future(anext(happenings, end))
            yield happening  # type: ignore[misc]
    finally:
        coming.cancel()
        with suppress(asyncio.CancelledError, SumiError):
            await coming
