"""sumi's own routes for pictures: the gallery, and pictures to go by."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi import Request as Asked

from sumi.engine.shelf import Item
from sumi.errors import RequestError
from sumi.serve.problems import Refusal
from sumi.serve.replies import Info, ItemReply, Settings, Shelves, UploadReply
from sumi.serve.schema import takes_bytes
from sumi.serve.studio import Studio
from sumi.store.record import read as record
from sumi.store.record import to_infotext

LARGEST = 2**63 - 1
KINDS = ("image/png", "image/jpeg", "image/webp")
FOREVER = {"cache-control": "private, max-age=31536000, immutable"}
"""What an id names never changes."""


def router(studio: Studio) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1", tags=["pictures"])
    engine = studio.engine

    @routes.get("/pictures")
    async def gallery(
        search: Annotated[str, Query(max_length=1000)] = "",
        starred: bool = False,
        upto: Annotated[int | None, Query(ge=0, le=LARGEST)] = None,
        offset: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Shelves:
        """Pictures, the newest first: those in whose prompts, model or seed all words of `search` are found."""
        found = await studio.of(lambda: engine.gallery(search, starred=starred, upto=upto, offset=offset, limit=limit))
        return Shelves(total=found.total, upto=found.upto, items=[ItemReply.of(item) for item in found.items])

    @routes.get("/pictures/{id}", response_class=Response, responses={200: {"content": {"image/png": {}}}})
    async def picture(id: str, download: bool = False) -> Response:
        """The picture, as PNG."""
        data = await studio.of(lambda: engine.picture(id))
        named = {"content-disposition": f'attachment; filename="sumi-{id[:12]}.png"'} if download else {}
        return Response(data, media_type="image/png", headers=FOREVER | named)

    @routes.get("/pictures/{id}/thumbnail", response_class=Response, responses={200: {"content": {"image/webp": {}}}})
    async def thumbnail(id: str) -> Response:
        """The picture, no larger than 256 pixels, as WebP."""
        return Response(await studio.of(lambda: engine.thumbnail(id)), media_type="image/webp", headers=FOREVER)

    @routes.get("/pictures/{id}/info")
    async def info(id: str) -> Info:
        """How the picture was made, so that it can be made again."""

        def found() -> Info:
            item = engine.item(id)
            job = engine.get(item.job)
            request = replace(job.request, first=job.request.first + item.place, count=1)
            told = to_infotext(record(engine.results.path(id)))
            return Info(**ItemReply.of(item).model_dump(), request=request.to_dict(), parameters=told)

        return await studio.of(found)

    @routes.put("/pictures/{id}/star")
    async def star(id: str) -> ItemReply:
        """Marks a picture."""
        return await starred(id, True)

    @routes.delete("/pictures/{id}/star")
    async def unstar(id: str) -> ItemReply:
        """Takes the mark away."""
        return await starred(id, False)

    @routes.delete("/pictures/{id}", status_code=204)
    async def remove(id: str) -> Response:
        """Takes a picture out of the gallery. For an hour it can be restored."""
        await studio.of(lambda: engine.remove(id))
        return Response(status_code=204)

    @routes.post("/pictures/{id}/restore")
    async def restore(id: str) -> ItemReply:
        """Puts a picture that was removed back."""

        def restored() -> Item:
            engine.restore(id)
            return engine.item(id)

        return ItemReply.of(await studio.of(restored))

    @routes.post("/uploads", status_code=201, openapi_extra=takes_bytes(*KINDS))
    async def upload(asked: Asked) -> UploadReply:
        """Takes a picture to go by: PNG, JPEG or WebP. It is decoded apart, and kept as a PNG of its pixels alone."""
        data = await _file(asked)
        kept = await studio.opened(lambda: engine.upload(data))
        return UploadReply(id=kept.id, width=kept.width, height=kept.height, url=f"/v1/uploads/{kept.id.partition(':')[2]}")

    @routes.get("/uploads/{digest}", response_class=Response, responses={200: {"content": {"image/png": {}}}})
    async def uploaded(digest: str) -> Response:
        """A picture to go by, as it was kept."""
        return Response(await studio.of(lambda: engine.uploaded(f"upload:{digest}")), media_type="image/png", headers=FOREVER)

    @routes.post("/read", openapi_extra=takes_bytes("image/png"))
    async def read(asked: Asked) -> Settings:
        """What a PNG says of how it was made: of sumi's own, and of what A1111 and others like it have made."""
        data = await _file(asked)
        found = await studio.opened(lambda: engine.read(data))
        return Settings(
            request=found.request.to_dict(), model=found.model or found.name or None, program="sumi" if found.version else "a1111"
        )

    async def starred(id: str, on: bool) -> ItemReply:
        return ItemReply.of(await studio.of(lambda: engine.star(id, on)))

    return routes


async def _file(asked: Asked) -> bytes:
    kind = asked.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (*KINDS, "application/octet-stream"):
        raise Refusal(415, "content_type", f"the body must be a picture: {', '.join(KINDS)}")
    data = await asked.body()
    if not data:
        raise RequestError("the body is empty: send the picture's bytes")
    return data
