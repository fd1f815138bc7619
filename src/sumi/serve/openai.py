"""The Images API of OpenAI (platform.openai.com/docs/api-reference/images): pictures from words, edits and variations, streams included.

Beside OpenAI's fields, every field of a `Request` is taken by its own name, and negative_prompt, num_inference_steps and guidance_scale for
those that others call so. What is null is not given. A field that is neither is refused, and so is what cannot be done: pictures with
transparency, in SVG or as GIF, of more than one picture. The few fields that are taken and change nothing are named in `notes`.

Models are those of GET /v1/models by their ids, "sumi" or none being the one that comes with sumi; OpenAI's own are not among them.

A stream begins when the request is found good. It ends after its last picture's `completed`; nothing follows, since not all clients know
what OpenAI's other streams end with. A fault on the way is an event `error`. While nothing happens, comments keep the line open.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response
from fastapi import Request as Asked
from fastapi.routing import APIRoute

from sumi.serve.forms import MULTIPART, is_form
from sumi.serve.openai_answers import Answers
from sumi.serve.openai_fields import Wrong, ordered, schema
from sumi.serve.openai_given import of_form, of_json
from sumi.serve.openai_replies import Pictures
from sumi.serve.problems import reply
from sumi.serve.reading import body
from sumi.serve.studio import Studio

VARIED = 0.6
"""How much of a picture is made anew for a variation of it, by models that are not told of pictures to vary."""
EVENTS = {"text/event-stream": {"schema": {"type": "string"}}}
JSON = "application/json"


class _ByField(APIRoute):
    """Names the field that a problem is about."""

    def get_route_handler(self) -> Any:
        handle = super().get_route_handler()

        async def handled(asked: Asked) -> Response:
            try:
                answer: Response = await handle(asked)
                return answer
            except Wrong as error:
                return reply(error.status, error.code, str(error), param=error.param)

        return handled


def router(studio: Studio) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/images", tags=["images, as OpenAI has them"], route_class=_ByField)
    answers = Answers(studio)
    said: dict[str, Any] = {"response_model": Pictures, "responses": {200: {"content": EVENTS}}}

    @routes.post("/generations", openapi_extra=_takes(**{JSON: schema("prompt")}), **said)
    async def generations(asked: Asked) -> Response:
        """Pictures from words."""
        given = await body(asked)
        _needs(given, "prompt", "say what the picture shows; empty is whatever the model knows")
        return await answers.to(asked, ordered(given), "image_generation")

    @routes.post("/edits", openapi_extra=_takes(**{MULTIPART: schema("prompt", "image", form=True), JSON: _by_reference()}), **said)
    async def edits(asked: Asked) -> Response:
        """A picture made anew from another, as words say: all of it, or where a mask is transparent (without transparency: white)."""
        given = await (of_form(studio, asked) if is_form(asked) else of_json(studio, asked))
        _needs(given, "image", "send the picture to edit")
        _needs(given, "prompt", "say what the picture shows")
        return await answers.to(asked, ordered(given), "image_edit")

    @routes.post("/variations", openapi_extra=_takes(**{MULTIPART: schema("image", form=True)}), **said)
    async def variations(asked: Asked) -> Response:
        """A picture like another."""
        given = await of_form(studio, asked)
        _needs(given, "image", "send the picture to vary")
        order = ordered(given)
        if "like" in await studio.of(lambda: studio.catalogue.card(answers.model(order)).takes):
            given["like"] = given.pop("image")
        elif order.request.strength is None:
            given["strength"] = VARIED
        return await answers.to(asked, ordered(given), "image_edit")

    return routes


def _needs(given: Mapping[str, Any], name: str, hint: str) -> None:
    if given.get(name) is None:
        raise Wrong(name, f"{name} is missing: {hint}", code="missing_required_parameter")


def _by_reference() -> dict[str, Any]:
    """The schema of an edit in JSON."""
    text = {"type": "string"}
    reference = {
        "type": "object",
        "oneOf": [{"properties": {name: text}, "required": [name], "additionalProperties": False} for name in ("image_url", "file_id")],
    }
    described = schema("prompt")
    described["properties"] |= {
        "images": {"type": "array", "items": reference, "minItems": 1, "maxItems": 1},
        "mask": {"anyOf": [reference, text]},
    }
    return described


def _takes(**kinds: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema} for kind, schema in kinds.items()}}}
