"""Pictures as OpenAI's Images API gives them: in one reply, or as server-sent events while they are made."""

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from sumi.serve.openai_fields import Format, Order
from sumi.store.images import decoded, png_bytes, resized


class Told(BaseModel):
    """Frozen, and of nothing but its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tokens(Told):
    """How many tokens are words, and how many are pictures."""

    text_tokens: int
    image_tokens: int


class Usage(Told):
    """What was read and made: of words, tokens as the model counts them; of pictures, the cells of their latents."""

    input_tokens: int
    input_tokens_details: Tokens
    output_tokens: int
    output_tokens_details: Tokens
    total_tokens: int

    @classmethod
    def of(cls, words: int, read: int, made: int) -> "Usage":
        """Of so many tokens of words, and cells of pictures that were read and made."""
        return cls(
            input_tokens=words + read,
            input_tokens_details=Tokens(text_tokens=words, image_tokens=read),
            output_tokens=made,
            output_tokens_details=Tokens(text_tokens=0, image_tokens=made),
            total_tokens=words + read + made,
        )


class Picture(Told):
    """A picture: its file in base64, or where its PNG is."""

    b64_json: str | None = None
    url: str | None = None


class Pictures(Told):
    """What was made. notes: what there is to say of it."""

    created: int
    background: Literal["opaque"] = "opaque"
    data: list[Picture]
    output_format: Format
    quality: str
    size: str
    usage: Usage
    notes: list[str]


@dataclass(frozen=True)
class Teller:
    """Tells of the pictures of one order in events of a kind, "image_generation" or "image_edit". created: seconds since 1970."""

    kind: str
    order: Order
    created: int

    def shown(self, preview: bytes, factor: int, number: int) -> bytes:
        """The event of a preview, a PNG, as large as the picture will be: `factor` times. number: from 0."""
        pixels = np.asarray(decoded(preview, "the preview"))
        height, width = (side * factor for side in pixels.shape[:2])
        larger = png_bytes(resized(pixels, (height, width)))
        about = {"partial_image_index": number, "output_format": "png", "size": f"{width}x{height}"}
        return self._event("partial_image", larger, about)

    def completed(self, png: bytes, usage: Usage) -> bytes:
        """The event of a picture that is done."""
        about = {"output_format": self.order.format, "size": size(png), "usage": usage.model_dump()}
        return self._event("completed", encoded(png, self.order), about)

    def _event(self, what: str, file: bytes, about: Mapping[str, Any]) -> bytes:
        kind = f"{self.kind}.{what}"
        data = {
            "type": kind,
            "b64_json": base64.b64encode(file).decode(),
            "created_at": self.created,
            "background": "opaque",
            "quality": self.order.quality,
            **about,
        }
        return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def told(order: Order, pngs: Sequence[bytes], urls: Sequence[str], usage: Usage, created: int, notes: Sequence[str]) -> bytes:
    """The reply, in JSON, about pictures whose PNGs are found at `urls`."""
    if order.url:
        data = [Picture(url=url) for url in urls]
    else:
        data = [Picture(b64_json=base64.b64encode(encoded(png, order)).decode()) for png in pngs]
    reply = Pictures(
        created=created,
        data=data,
        output_format=order.format,
        quality=order.quality,
        size=size(pngs[0]),
        usage=usage,
        notes=list(notes),
    )
    return reply.model_dump_json(exclude_none=True).encode()


def encoded(png: bytes, order: Order) -> bytes:
    """A picture in the format that was asked for. A PNG stays as it is, with what it says of how it was made."""
    if order.format == "png":
        return png
    file = BytesIO()
    decoded(png, "the picture").save(file, order.format.upper(), quality=order.compression)
    return file.getvalue()


def size(png: bytes) -> str:
    """Of a PNG, by its header (PNG 3, 11.2.1): WIDTHxHEIGHT."""
    width, height = struct.unpack(">II", png[16:24])
    return f"{width}x{height}"


def cells(png: bytes, factor: int) -> int:
    """Of the latent of a picture, a PNG, that is so many times as large."""
    width, height = struct.unpack(">II", png[16:24])
    return int(width // factor) * int(height // factor)
