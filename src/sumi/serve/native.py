"""sumi's own routes for jobs: ask, look, listen, cancel, try again."""

import base64
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi import Request as Asked
from fastapi.responses import HTMLResponse, StreamingResponse

from sumi.engine.job import Event, Job, State
from sumi.errors import RequestError
from sumi.serve.hub import Glimpse
from sumi.serve.problems import Refusal
from sumi.serve.reading import body, known, request_of, typed
from sumi.serve.replies import JobList, JobReply
from sumi.serve.schema import takes
from sumi.serve.studio import Studio

LARGEST = 2**63 - 1
STREAM = {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "server-sent events"}
ENDS = ("done", "failed", "cancelled")
SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
Number = Annotated[int | None, Query(ge=0, le=LARGEST)]


def router(studio: Studio) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1", tags=["jobs"])

    def told(job: Job) -> JobReply:
        return JobReply.of(job, studio.hub.eta(job.id, job.steps))

    @routes.post(
        "/jobs",
        status_code=201,
        openapi_extra=takes("JobRequest"),
        responses={200: {"model": JobReply, "description": "the job that this key was given with before"}},
    )
    async def submit(
        asked: Asked, response: Response, key: Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)] = None
    ) -> JobReply:
        """Puts a request into the queue. With a key, the same request sent again is the same job."""
        given = await body(asked)
        known(given, ("request", "model", "priority", "group", "see", "shelf"))
        request = request_of(typed(given, "request", dict, {}))
        model, group = typed(given, "model", str, None), typed(given, "group", str, None)
        begun = time.time()
        job = await studio.submit(
            request,
            model=studio.model(model),
            priority=typed(given, "priority", int, 0),
            key=key,
            group=group,
            see=typed(given, "see", bool, False),
            shelf=typed(given, "shelf", bool, True),
        )
        if job.created < begun:
            response.status_code = 200
        return told(job)

    @routes.get("/jobs")
    async def jobs(
        state: State | None = None,
        group: Annotated[str | None, Query(max_length=64)] = None,
        before: Number = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    ) -> JobList:
        """Jobs, the youngest first."""
        found = await studio.of(lambda: studio.engine.list(state=state, group=group, before=before, limit=limit))
        return JobList(jobs=[told(job) for job in found], next=found[-1].number if len(found) == limit else None)

    @routes.get("/jobs/{id}")
    async def job(id: str) -> JobReply:
        """A job as it is now."""
        return told(await studio.of(lambda: studio.engine.get(id)))

    @routes.post("/jobs/{id}/cancel")
    async def cancel(id: str) -> JobReply:
        """Stops a job within one step. One that has ended stays as it is."""
        return told(await studio.of(lambda: studio.engine.cancel(id)))

    @routes.post("/jobs/{id}/retry")
    async def retry(id: str) -> JobReply:
        """Puts a job that has failed or was cancelled back into the queue."""
        return told(await studio.of(lambda: studio.engine.retry(id)))

    @routes.get("/jobs/{id}/story", response_class=HTMLResponse)
    async def story(id: str) -> Response:
        """The page that shows every step of a job that was asked for with `see`."""
        data = await studio.of(lambda: studio.engine.story(id))
        return HTMLResponse(data, headers={"content-security-policy": _policy(data), "x-frame-options": "SAMEORIGIN"})

    @routes.get("/jobs/{id}/events", response_class=StreamingResponse, responses={200: STREAM})
    async def of_one(
        asked: Asked, id: str, after: Number = None, last: Annotated[str | None, Header(alias="Last-Event-ID")] = None
    ) -> Response:
        """What happens to a job, to its end: its states, its steps with previews, its notes."""
        job = await studio.of(lambda: studio.engine.get(id))
        return _stream(studio, job, _after(last, 0 if after is None else after))

    @routes.get("/events", response_class=StreamingResponse, responses={200: STREAM})
    async def of_all(asked: Asked, after: Number = None, last: Annotated[str | None, Header(alias="Last-Event-ID")] = None) -> Response:
        """What happens to any job, from now on, or after the event of that number."""
        return _stream(studio, None, _after(last, after))

    return routes


def _after(last: str | None, after: int | None) -> int | None:
    """Where a stream goes on: what the browser says that it has seen is later than what its address says."""
    if last is None or not last.strip():
        return after
    if not (last.isascii() and last.isdecimal()) or len(last) > 19:
        raise RequestError("Last-Event-ID must be the number of an event")
    return min(int(last), LARGEST)


def _stream(studio: Studio, job: Job | None, after: int | None) -> StreamingResponse:
    if studio.hub.closed:
        raise Refusal(503, "closing", "the server is closing: ask again later", {"Retry-After": "5"})
    return StreamingResponse(_lines(studio, job, after), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


async def _lines(studio: Studio, job: Job | None, after: int | None) -> AsyncIterator[str]:
    """The stream as browsers read it (WHATWG HTML, section 9.2)."""
    yield "retry: 1000\n\n"
    if job is not None and job.ended:
        for event in await studio.of(lambda: studio.engine.events(job.id, after=after or 0)):
            yield _line(studio, event)
        return
    async for happening in studio.hub.happenings(None if job is None else {job.id}, after):
        if happening is None:
            yield ": keep-alive\n\n"
            continue
        yield _line(studio, happening)
        if job is None or not isinstance(happening, Event) or happening.kind not in ENDS:
            continue
        if (await studio.of(lambda: studio.engine.get(job.id))).ended:  # it may be tried again by now
            return


def _line(studio: Studio, happening: Event | Glimpse) -> str:
    data: dict[str, Any]
    if isinstance(happening, Glimpse):
        image = "data:image/png;base64," + base64.b64encode(happening.image).decode()
        return f"event: preview\ndata: {json.dumps({'job': happening.job, 'step': happening.step, 'image': image})}\n\n"
    data = {"job": happening.job, "at": happening.at, **happening.data}
    if happening.kind == "step":
        data["eta"] = studio.hub.eta(happening.job, data["steps"])
    return f"id: {happening.number}\nevent: {happening.kind}\ndata: {json.dumps(data)}\n\n"


def _policy(story: bytes) -> str:
    """What a story may do: run its own script, and reach nothing."""
    sums = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in SCRIPT.findall(story)]
    scripts = " ".join(f"'sha256-{each}'" for each in sums)
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; sandbox allow-scripts; "
        "base-uri 'none'; frame-ancestors 'self'"
    )
