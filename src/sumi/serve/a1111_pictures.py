"""Pictures as A1111's clients send them: base64, bare or in a data: URL; and what its modes of resizing and its masks mean.

Whatever is sent is decoded by the engine's worker first; here are only the PNGs that it has made of it.

Legend: H W height and width, in pixels.
"""

import base64
import string
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumi.engine.engine import Engine
from sumi.errors import ImageError, RequestError
from sumi.request import Request
from sumi.serve.a1111_fields import STRENGTH, run
from sumi.serve.a1111_given import Given
from sumi.store.images import Filter, decoded, grey_levels, opaque, png_bytes, resized, with_alpha

STRETCH, CROP, FILL, LATENT = range(4)
"""A1111's resize_mode: what becomes of a picture that has not the proportions of what is drawn."""
ORIGINAL = 1
"""The inpainting_fill that starts from what is there."""
BLUR, EDITED = 4.0, 1.5
"""A1111's own mask_blur and image_cfg_scale."""

BLANKS = string.whitespace.encode()

Pixels = NDArray[np.uint8]


def sent(text: Any, name: str) -> bytes:
    """The file that a field holds as base64. ImageError if it does not."""
    if not isinstance(text, str):
        raise RequestError(f"{name} must be text: a picture's file as base64")
    head, comma, rest = text.partition(",")
    if not comma and "://" in text[:20]:
        raise ImageError(f"{name} is an address, and nothing is fetched: send the picture's file as base64")
    body = rest if comma and head[:5].lower() == "data:" else text
    try:
        letters = body.encode("ascii").translate(None, BLANKS).rstrip(b"=")
        return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
    except ValueError as error:
        raise ImageError(f"{name} is not base64: send the picture's file so, bare or as a data: URL") from error


def started(given: Given, request: Request, options: Mapping[str, Any], engine: Engine, *, edits: bool) -> list[dict[str, Any]]:
    """The fields of a `Request` for each picture that img2img starts from. ImageError or RequestError if there is none, or it is none.

    edits: the model is told of the picture, and does not start from it.
    """
    images = given.sequence("init_images")
    if not images:
        raise RequestError("img2img starts from a picture: send one in init_images")
    size = None if request.width is None or request.height is None else (request.height, request.width)
    mode = given.whole("resize_mode", STRETCH)
    if mode not in (STRETCH, CROP, FILL, LATENT):
        raise RequestError(f"resize_mode must be from {STRETCH} to {LATENT}; got {mode}")
    if mode == LATENT:
        given.ignore("resize_mode")
    names = [_picture(sent(image, "init_images"), size, mode, engine) for image in images]
    if edits:
        return [{"image": name, "image_guidance": given.number("image_cfg_scale", EDITED)} for name in names]
    steps, strength = run(request.steps or 0, given.number("denoising_strength", STRENGTH), fixed=options["img2img_fix_steps"])
    shared: dict[str, Any] = {
        "steps": steps,
        "strength": strength,
        "noise_multiplier": given.number("initial_noise_multiplier", options["initial_noise_multiplier"]),
    }
    if text := given.text("mask"):
        shared |= _mask(given, sent(text, "mask"), size, mode, engine)
    if "mask" in shared and strength < 1 and given.whole("inpainting_fill", 0) != ORIGINAL:
        given.ignore("inpainting_fill")  # all else than the original matters as little as that, once all of it is noise
    return [{"image": name, **shared} for name in names]


def shaped(pixels: Pixels, size: tuple[int, int], mode: int, filter: Filter = "lanczos") -> Pixels:
    """Pixels [H W 3], or [H W] in grey, of the proportions of a (height, width): stretched, or with its edges drawn out."""
    (height, width), (tall, wide) = pixels.shape[:2], size
    if mode == CROP or height * wide == width * tall:
        return pixels
    if mode != FILL:
        return resized(pixels, size, filter)
    scale = min(wide / width, tall / height)
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    lacking = [((whole - part) // 2, (whole - part + 1) // 2) for whole, part in zip(size, inner, strict=True)]
    return np.pad(resized(pixels, inner, filter), [*lacking, (0, 0)][: pixels.ndim], mode="edge")


def levels(png: bytes) -> Pixels:
    """What of a picture is to be made anew by A1111's reading of its mask, 255 where it is: what is opaque, if not all is, else its grey.

    Source: `create_binary_mask` in modules/processing.py.
    """
    image = decoded(png, "mask")
    opacity = np.asarray(with_alpha(image))[..., 3] if image.has_transparency_data else None
    if opacity is not None and opacity.min() < 255:
        return np.where(opacity > 128, 255, 0).astype(np.uint8)
    return (grey_levels(image) * 255).round().astype(np.uint8)


def _picture(data: bytes, size: tuple[int, int] | None, mode: int, engine: Engine) -> str:
    """The upload of a picture in the proportions of what is drawn."""
    upload = engine.upload(data)
    if size is None or mode == CROP or upload.height * size[1] == upload.width * size[0]:
        return upload.id
    pixels = np.asarray(opaque(decoded(engine.uploaded(upload.id), "init_images")))
    return engine.upload(png_bytes(shaped(pixels, size, mode))).id


def _mask(given: Given, data: bytes, size: tuple[int, int] | None, mode: int, engine: Engine) -> dict[str, Any]:
    """The fields of a mask; none if all of the picture is to be made anew."""
    found, invert = levels(engine.uploaded(engine.upload(data).id)), given.flag("inpainting_mask_invert", False)
    if (found.min() >= 128 and not invert) or (found.max() < 128 and invert):
        return {}
    if given.flag("inpaint_full_res", True):
        given.ignore("inpaint_full_res")
    found = found if size is None else shaped(found, size, mode, "bilinear")
    return {
        "mask": engine.upload(png_bytes(found)).id,
        "mask_invert": invert,
        "mask_blur": given.number("mask_blur", BLUR),
    }
