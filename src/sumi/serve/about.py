"""sumi's own routes that tell what there is: models, samplers, fields, words of a prompt, and how the server is."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi import Request as Asked

from sumi.errors import RequestError
from sumi.serve.lists import fields, samplers
from sumi.serve.metrics import PLAIN, Metrics
from sumi.serve.problems import Refusal
from sumi.serve.reading import body, known, request_of, typed
from sumi.serve.replies import Health, Status, WorkerReply
from sumi.serve.schema import takes
from sumi.serve.studio import Studio
from sumi.version import VERSION


def router(studio: Studio, metrics: Metrics) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["about"])
    engine, limits = studio.engine, studio.settings.limits

    @routes.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The models, and what each takes. The first is the one for jobs that name none."""
        return {"object": "list", "data": await studio.of(studio.catalogue.listing)}

    @routes.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        """One of them."""
        for found in await studio.of(studio.catalogue.listing):
            if found["id"] == name:
                return found
        raise Refusal(404, "model_not_found", "there is no such model: see /v1/models")

    @routes.get("/v1/samplers")
    async def of_samplers() -> dict[str, Any]:
        """The samplers and spacings by name."""
        return await studio.of(samplers)

    @routes.get("/v1/fields")
    async def of_fields() -> dict[str, Any]:
        """The fields of a request: what a form is made of."""
        return fields()

    @routes.post("/v1/words", openapi_extra=takes("WordsRequest"))
    async def words(asked: Asked) -> dict[str, Any]:
        """How a prompt is taken: its words, what they weigh, and how many tokens they are."""
        given = await body(asked)
        known(given, ("prompt", "model", "emphasis", "steps"))
        name = studio.model(typed(given, "model", str, None))
        asked_for = request_of({field: given[field] for field in ("prompt", "emphasis", "steps") if field in given})
        if len(asked_for.prompt) > limits.prompt:
            raise RequestError(f"prompt may be {limits.prompt} characters long here: ask for less")
        return await studio.of(lambda: studio.words(asked_for, name))

    @routes.get("/v1/status")
    async def status() -> Status:
        """How the server is, and how much may be asked of it."""
        workers = [WorkerReply(device=each.device, alive=each.alive, busy=each.busy) for each in engine.health()]
        most = {name: getattr(limits, name) for name in ("side", "pixels", "steps", "count", "queue", "prompt")}
        counts = {str(state): number for state, number in (await studio.of(engine.jobs.counts)).items()}
        return Status(version=VERSION, queue=counts, workers=workers, limits=most | {"upload_bytes": limits.body})

    @routes.get("/health", responses={503: {"model": Health, "description": "no worker is there"}})
    async def health(response: Response) -> Health:
        """Whether pictures can be made."""
        alive = any(each.alive for each in engine.health())
        response.status_code = 200 if alive else 503
        return Health(status="ok" if alive else "no worker")

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def figures() -> Response:
        """Figures for Prometheus."""
        return Response(await studio.of(metrics.text), media_type=PLAIN)

    return routes
