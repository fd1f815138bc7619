"""The application: every route behind the guard, and the page."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Response
from fastapi import Request as Asked
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from sumi.engine.engine import Engine
from sumi.engine.job import Event
from sumi.errors import SumiError
from sumi.serve import a1111, about, native, openai, pictures, schema
from sumi.serve.guard import App, Guard
from sumi.serve.metrics import Metrics
from sumi.serve.page import File, page
from sumi.serve.problems import Refusal, of_defect, of_http, of_parameters, of_sumi
from sumi.serve.replies import Problems
from sumi.serve.settings import Settings
from sumi.serve.studio import Studio
from sumi.version import VERSION

WRONG: dict[int | str, dict[str, Any]] = {
    status: {"model": Problems} for status in (400, 401, 403, 404, 408, 409, 413, 415, 421, 429, 500, 503)
}


log = logging.getLogger("sumi.serve")


class Served:
    """An engine behind HTTP: an ASGI application. `end`, called in its loop, ends what would never end by itself."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.studio = Studio(engine, settings)
        self.metrics = Metrics(engine)
        self.api = _api(self.studio, self.metrics)
        self._guard: App = Guard(self.api, settings, self.metrics)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._guard(scope, receive, send)

    def end(self) -> None:
        """Ends every stream, and the opening of pictures, for which requests may wait long, in threads that cannot be ended from here."""
        self.studio.hub.end()
        threading.Thread(target=self.studio.engine.uploads.close, name="sumi-serve-end").start()


def _api(studio: Studio, metrics: Metrics) -> FastAPI:
    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        studio.hub.start()
        studio.engine.uploads.start()
        counting = asyncio.create_task(_count(studio, metrics))
        yield
        counting.cancel()
        await studio.hub.close()

    api = FastAPI(
        title="sumi",
        version=VERSION,
        description="Jobs, pictures and what there is; the images API of OpenAI; the web API of A1111.",
        docs_url=None,  # its pages would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        responses=WRONG,
        exception_handlers={
            SumiError: of_sumi,
            HTTPException: of_http,
            RequestValidationError: of_parameters,
            Exception: of_defect,
        },
    )
    for routes in (
        native.router(studio),
        pictures.router(studio),
        about.router(studio, metrics),
        openai.router(studio),
        a1111.router(studio),
    ):
        api.include_router(routes)
    _add_page(api)
    _describe(api)
    return api


async def _count(studio: Studio, metrics: Metrics) -> None:
    """Counts what happens to jobs, and logs it: their ids, and nothing that was asked for."""
    last: int | None = None
    while not studio.hub.closed:  # a stream ends as well when it is not kept up with
        async for happening in studio.hub.happenings(after=last):
            if not isinstance(happening, Event):
                continue
            last = happening.number
            metrics.happened(happening)
            if happening.kind not in ("step", "note"):
                log.info(json.dumps({"event": happening.kind, "job": happening.job, "error": happening.data.get("error")}))


def _add_page(api: FastAPI) -> None:
    """The page at /, and its files."""

    def sent(asked: Asked, file: File) -> Response:
        headers = {"etag": file.tag, "cache-control": "no-cache", "vary": "accept-encoding"}
        if file.tag in asked.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in asked.headers.get("accept-encoding", ""):
            return Response(file.packed, media_type=file.kind, headers={**headers, "content-encoding": "gzip"})
        return Response(file.data, media_type=file.kind, headers=headers)

    @api.get("/", include_in_schema=False)
    async def start(asked: Asked) -> Response:
        return sent(asked, page()["index.html"])

    @api.get("/page/{name}", include_in_schema=False)
    async def part(asked: Asked, name: str) -> Response:
        if name not in page():
            raise Refusal(404, "not_found", "the page has no such file")
        return sent(asked, page()[name])


def _describe(api: FastAPI) -> None:
    """Adds to the schema what the framework cannot see: bodies that are read by hand."""
    usual = api.openapi

    def described() -> dict[str, Any]:
        if api.openapi_schema is None:
            found = usual()
            parts = found["components"]["schemas"]
            parts |= {"Request": schema.of_request(), "JobRequest": schema.of_job(), "WordsRequest": schema.of_words()}
            found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            found["security"] = [{"key": []}]
        return api.openapi_schema or found

    api.openapi = described  # type: ignore[method-assign]
