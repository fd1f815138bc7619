"""The fields of an edit's body, a form or JSON, with its pictures uploaded: what comes in is decoded elsewhere, under limits."""

from typing import Any

import numpy as np
from starlette.requests import Request as Asked

from sumi.request import FILES, Request
from sumi.serve.forms import Form, form
from sumi.serve.openai_fields import typed, wrong
from sumi.serve.reading import body
from sumi.serve.studio import Studio
from sumi.store.images import decoded, png_bytes, with_alpha


async def of_form(studio: Studio, asked: Asked) -> dict[str, Any]:
    """The fields of a form, its pictures uploaded."""
    found = await form(asked)
    given = typed(found.texts)
    for name, data in _files(found).items():
        if name in given:
            wrong(name, f"{name} is given twice: give it once")
        given[name] = await _kept(studio, data)
    if "mask" in found.files:
        given["mask"] = await _mask(studio, given["mask"])
    return given


def _files(found: Form) -> dict[str, bytes]:
    """The pictures of a form, by their fields. Wrong for a field that takes none, or one only."""
    files: dict[str, bytes] = {}
    for called, contents in found.files.items():
        name = called.removesuffix("[]")
        if name not in FILES:
            wrong(name, f"{name[:80]!a} is no picture: send it as text")
        if len(contents) > 1 or name in files:
            wrong(name, f"{name} is one picture, and more were sent: send one")
        files[name] = contents[0]
    return files


async def of_json(studio: Studio, asked: Asked) -> dict[str, Any]:
    """The fields of a body in JSON, where pictures are references: {"image_url": "data:..."} or {"file_id": "upload:..."}."""
    given = {name: value for name, value in (await body(asked)).items() if value is not None}
    if "images" in given:
        images = given.pop("images")
        if not isinstance(images, list) or len(images) != 1:
            wrong("images", "images must be a list of one reference: sumi edits one picture at a time")
        if "image" in given:
            wrong("images", "images and image say the same: leave one of them out")
        given["image"] = await _referred(studio, "images", images[0])
    if isinstance(given.get("mask"), dict):
        given["mask"] = await _mask(studio, await _referred(studio, "mask", given["mask"]))
    return given


async def _referred(studio: Studio, name: str, reference: object) -> str:
    """The upload that a reference stands for."""
    match reference:
        case {"file_id": str(id), **more} if not more:
            return id
        case {"image_url": str(url), **more} if not more:
            if not url.lower().startswith("data:"):
                wrong(name, "an image_url must be a data: URL: nothing is fetched from elsewhere")
            return str((await studio.opened(lambda: studio.engine.taken(Request(image=url)))).image)
    wrong(name, f'{name} must be a reference, as {{"image_url": "data:image/png;base64,..."}} or {{"file_id": "upload:..."}}')


async def _kept(studio: Studio, data: bytes) -> str:
    return (await studio.opened(lambda: studio.engine.upload(data))).id


async def _mask(studio: Studio, id: str) -> str:
    """The upload that says in black and white what a mask says by what is transparent; itself, if nothing of it is.

    A file that is read as any other mask may mean its colours, too; here they mean nothing.
    """

    def told() -> str:
        opacity = np.asarray(with_alpha(decoded(studio.engine.uploaded(id), "the mask")))[..., 3]
        return id if opacity.min() == 255 else studio.engine.upload(png_bytes(255 - opacity)).id

    return await studio.opened(told)
