"""A1111's web API (/sdapi/v1), as its clients speak it: pictures of text and of pictures, progress, options, and what there is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Request as Asked

from sumi.errors import RequestError
from sumi.resolve.serves import takes
from sumi.serve import a1111_lists as lists
from sumi.serve.a1111_calls import Calls
from sumi.serve.a1111_extras import Enlarger, Extras
from sumi.serve.a1111_fields import STRENGTH, larger, wish
from sumi.serve.a1111_given import Given
from sumi.serve.a1111_made import Drawn, encoded, info
from sumi.serve.a1111_options import Options
from sumi.serve.a1111_pictures import sent, started
from sumi.serve.a1111_texts import parameters, texts
from sumi.serve.problems import Refusal
from sumi.serve.reading import body
from sumi.serve.studio import Studio
from sumi.store.record import PARAMETERS

BODY = {"requestBody": {"content": {"application/json": {"schema": {"type": "object", "additionalProperties": True}}}}}
SENT = ("init_images", "mask")
"""Fields that a reply does not repeat unless it is asked to."""


def router(studio: Studio) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["a1111"])
    api = _Api(studio)
    posted: dict[str, Callable[..., Any]] = {
        "txt2img": api.txt2img,
        "img2img": api.img2img,
        "extra-single-image": api.extra_single,
        "extra-batch-images": api.extra_batch,
        "png-info": api.png_info,
        "interrogate": api.interrogate,
        "interrupt": api.interrupt,
        "skip": api.skip,
        "options": api.set_options,
        "refresh-checkpoints": api.nothing,
        "refresh-vae": api.nothing,
        "refresh-loras": api.nothing,
        "unload-checkpoint": api.nothing,
        "reload-checkpoint": api.nothing,
    }
    for path, reply in posted.items():
        routes.add_api_route(f"/sdapi/v1/{path}", reply, methods=["POST"], openapi_extra=BODY)
    for path, found in _tables(studio, api.options).items():
        routes.add_api_route(path, _constant(studio, found), methods=["GET"], name=path, description="A1111's list of that name.")
    routes.add_api_route("/sdapi/v1/progress", api.progress, methods=["GET"])
    return routes


def _tables(studio: Studio, options: Options) -> dict[str, Callable[[], Any]]:
    """What is told without being asked for anything."""
    told: dict[str, Callable[[], Any]] = {
        "options": lambda: options.all,
        "sd-models": lambda: lists.models(studio),
        "samplers": lists.samplers,
        "schedulers": lists.schedulers,
        "upscalers": lists.upscalers,
        "embeddings": lambda: {"loaded": {}, "skipped": {}},
        "scripts": lambda: {"txt2img": [], "img2img": []},
        "cmd-flags": lambda: {"api": True},
        "memory": lists.memory,
        **{name: list for name in lists.EMPTY},
    }
    controlnet: dict[str, Callable[[], Any]] = {
        "version": lambda: {"version": 2},
        "model_list": lambda: {"model_list": []},
        "module_list": lambda: {"module_list": []},
    }
    of_sdapi = {f"/sdapi/v1/{name}": found for name, found in told.items()}
    return of_sdapi | {f"/controlnet/{name}": found for name, found in controlnet.items()}


def _constant(studio: Studio, found: Callable[[], Any]) -> Callable[[], Any]:
    async def table() -> Any:
        return await studio.of(found)

    return table


class _Api:
    """The routes that do something."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.options, self.calls = studio, Options(studio), Calls(studio)
        self.enlarger = Enlarger(studio, self.calls)

    async def txt2img(self, asked: Asked) -> dict[str, Any]:
        """Pictures of a text."""
        return await self._made(asked, from_pictures=False)

    async def img2img(self, asked: Asked) -> dict[str, Any]:
        """Pictures of a text and a picture, or of a part of it."""
        return await self._made(asked, from_pictures=True)

    async def extra_single(self, asked: Asked) -> dict[str, Any]:
        """A picture made larger."""
        given = Given(await body(asked))
        made = await self.enlarger.png(asked, Extras.of(given), given.text("image"))
        return {"image": encoded(made), "html_info": ""}

    async def extra_batch(self, asked: Asked) -> dict[str, Any]:
        """Pictures made larger."""
        given = Given(await body(asked))
        extras, images = Extras.of(given), given.sequence("imageList") or given.sequence("image_list")
        if len(images) > self.studio.settings.limits.count:
            raise RequestError(f"imageList may be {self.studio.settings.limits.count} pictures here at most: send less")
        sources = [image.get("data") or image.get("image") if isinstance(image, dict) else image for image in images]
        return {"images": [encoded(await self.enlarger.png(asked, extras, source)) for source in sources], "html_info": ""}

    async def png_info(self, asked: Asked) -> dict[str, Any]:
        """What a PNG says of how it was made."""
        image = Given(await body(asked)).text("image")

        def told() -> dict[str, Any]:
            found = texts(sent(image.strip(), "image"))
            said = found.get(PARAMETERS, "")
            return {"info": said, "items": found, "parameters": parameters(said) if said else {}}

        return await self.studio.of(told)

    async def interrogate(self, asked: Asked) -> dict[str, Any]:
        """Refused: no model here says what a picture shows."""
        raise Refusal(422, "interrogate", "no model here says what a picture shows: describe it yourself, as prompt")

    async def progress(
        self,
        skip_current_image: bool = False,
        skip: Annotated[bool, Query(alias="skipCurrentImage")] = False,
    ) -> dict[str, Any]:
        """How far the oldest call has come, with a look at what it draws."""
        told, job = await self.calls.progress()
        seen = None if job is None or skip_current_image or skip else self.studio.engine.preview(job.id)
        return {**told, "current_image": None if seen is None else encoded(seen)}

    async def interrupt(self) -> dict[str, Any]:
        """Ends what this API was asked for, within a step. Jobs of others go on."""
        await self.calls.interrupt()
        return {}

    async def skip(self) -> dict[str, Any]:
        """Ends the batch that is drawn for this API; the next follows."""
        await self.calls.skip()
        return {}

    async def set_options(self, asked: Asked) -> dict[str, Any]:
        """Changes options. Those that are not here are named."""
        changes = await body(asked)
        return {"ignored": await self.studio.of(lambda: self.options.set(changes))}

    async def nothing(self) -> dict[str, Any]:
        """There is nothing to do: models are looked for, loaded and let go as they are needed."""
        return {}

    async def _made(self, asked: Asked, *, from_pictures: bool) -> dict[str, Any]:
        studio, given = self.studio, Given(await body(asked))
        options, ignored = self.options.overridden(given.mapping("override_settings"), "override_settings.")
        model = studio.model(options["sd_model_checkpoint"])
        spec = await studio.of(lambda: studio.catalogue.spec(model))
        wished = wish(given, options)
        if (count := wished.batches * wished.size) > studio.settings.limits.count:
            raise RequestError(f"n_iter times batch_size may be {studio.settings.limits.count} here at most; got {count}")
        if from_pictures:
            edits = takes(spec, "image_guidance")
            pictures = await studio.opened(lambda: started(given, wished.request, options, studio.engine, edits=edits))
            requests = wished.requests(pictures)
        else:
            wished = replace(wished, request=larger(given, wished.request, spec.size))
            requests = wished.requests()
        keep, send, whole = given.flag("save_images", False), given.flag("send_images", True), given.flag("include_init_images", False)
        strength = given.number("denoising_strength", STRENGTH) if from_pictures or wished.request.hires else None
        jobs = await self.calls.drawn(asked, requests, model)

        def told() -> dict[str, Any]:
            drawn = [
                Drawn(id, studio.engine.picture(id), job.request.first + place, job)
                for job in jobs
                for place, id in enumerate(job.pictures)
            ]
            for picture in () if keep else drawn:
                studio.engine.remove(picture.id)
            return {
                "images": [encoded(picture.png) for picture in drawn] if send else [],
                "parameters": {name: value for name, value in given.fields.items() if whole or name not in SENT},
                "info": info(wished, drawn, options, strength, [*given.ignored(), *ignored], interrupted=len(jobs) < len(requests)),
            }

        return await studio.of(told)
