"""A1111's extras: a picture made larger, by interpolation or by the model that comes with sumi.

Source: `ScriptPostprocessingUpscale` in scripts/postprocessing_upscale.py.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from fastapi import Request as Asked

from sumi.errors import RequestError
from sumi.models.channels import ENLARGEMENT
from sumi.request import Request, did_you_mean
from sumi.serve.a1111_calls import Calls
from sumi.serve.a1111_given import Given
from sumi.serve.a1111_pictures import Pixels, sent
from sumi.serve.studio import Studio
from sumi.store.images import Filter, decoded, opaque, png_bytes, resized

NONE, MODEL = "None", f"sumi {ENLARGEMENT}x"
FILTERS: dict[str, Filter] = {"Lanczos": "lanczos", "Bicubic": "bicubic"}
UPSCALERS: Final = (NONE, *FILTERS, MODEL)
"""By name; "None" leaves a picture as it is."""
BY_FACTOR, TO_SIZE = 0, 1
LARGER, SIDE = 2.0, 512
"""A1111's upscaling_resize, upscaling_resize_w and upscaling_resize_h, where they are not given."""


MOST = 1_000_000
"""Times, or pixels: what is too large for the server is refused once the picture is known."""


@dataclass(frozen=True)
class Extras:
    """What is to become of pictures. second: another upscaler, whose picture is blended in by `share`."""

    first: str
    second: str
    share: float
    factor: float | None
    size: tuple[int, int]
    crop: bool

    @classmethod
    def of(cls, given: Given) -> "Extras":
        """RequestError for upscalers that there are not, and for faces that are to be restored."""
        for name in ("gfpgan_visibility", "codeformer_visibility"):
            if given.number(name, 0.0):
                raise RequestError(f"{name} must be 0: faces are not restored here")
        mode = given.whole("resize_mode", BY_FACTOR)
        factor, width = given.number("upscaling_resize", LARGER), given.whole("upscaling_resize_w", SIDE)
        height, share = given.whole("upscaling_resize_h", SIDE), given.number("extras_upscaler_2_visibility", 0.0)
        if mode not in (BY_FACTOR, TO_SIZE) or factor <= 0 or min(width, height) < 1 or not 0 <= share <= 1:
            raise RequestError("resize_mode must be 0 or 1, sizes above 0, and extras_upscaler_2_visibility from 0 to 1")
        if max(factor, width, height) > MOST:
            raise RequestError("upscaling_resize and its sizes are too large: ask for less")
        names = [given.text(name) or NONE for name in ("upscaler_1", "upscaler_2")]
        for name in names:
            if name not in UPSCALERS:
                raise RequestError(f"there is no upscaler {name[:80]!a}{did_you_mean(name[:80], UPSCALERS)}: use {', '.join(UPSCALERS)}")
        crop = given.flag("upscaling_crop", True)
        return cls(names[0], names[1], share, factor if mode == BY_FACTOR else None, (height, width), crop)

    def target(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that a picture is scaled to, before it is cropped: to fill the size that was asked for."""
        factor = self.factor or max(self.size[0] / size[0], self.size[1] / size[1])
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


class Enlarger:
    """Makes pictures larger."""

    def __init__(self, studio: Studio, calls: Calls) -> None:
        self._studio, self._calls = studio, calls

    async def png(self, asked: Asked, extras: Extras, image: Any) -> bytes:
        """A picture that was sent, larger. RequestError if it would be larger than pictures may be."""
        studio = self._studio
        upload = await studio.opened(lambda: studio.engine.upload(sent(image, "image")))
        size = extras.target((upload.height, upload.width)) if extras.first != NONE else (upload.height, upload.width)
        studio.settings.limits.check(Request(height=size[0], width=size[1], steps=1), size, 1)
        pixels = await studio.of(lambda: np.asarray(opaque(decoded(studio.engine.uploaded(upload.id), "image"))))
        found = await self._by(asked, extras.first, pixels, upload.id, size)
        if extras.second != NONE and extras.share and extras.first != NONE:
            other = await self._by(asked, extras.second, pixels, upload.id, size)
            found = np.round(found * (1 - extras.share) + other * extras.share).astype(np.uint8)
        if extras.factor is None and extras.crop and extras.first != NONE:
            found = _cropped(found, extras.size)
        return await studio.of(lambda: png_bytes(found))

    async def _by(self, asked: Asked, name: str, pixels: Pixels, upload: str, size: tuple[int, int]) -> Pixels:
        if name == NONE:
            return pixels
        if name in FILTERS:
            return await self._studio.of(lambda: resized(pixels, size, FILTERS[name]))
        cell = max(1, self._studio.catalogue.card(None).multiple // ENLARGEMENT)
        height, width = (ENLARGEMENT * cell * max(1, round(side / cell)) for side in pixels.shape[:2])
        jobs = await self._calls.drawn(asked, [Request(low_res=upload, height=height, width=width)], None)
        if not jobs:
            raise RequestError("enlarging was interrupted: ask again")
        made = await self._studio.of(lambda: self._studio.engine.picture(jobs[0].pictures[0]))
        return await self._studio.of(lambda: resized(np.asarray(opaque(decoded(made, "picture"))), size, "lanczos"))


def _cropped(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The middle, of a (height, width)."""
    top, left = (pixels.shape[0] - size[0]) // 2, (pixels.shape[1] - size[1]) // 2
    return np.ascontiguousarray(pixels[top : top + size[0], left : left + size[1]])
