"""Tensors and pictures, and the text that a PNG carries. The only module that uses Pillow.

Legend: B batch, H W image height and width, in pixels.
"""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, PngImagePlugin
from torch import Tensor

from sumi.errors import ImageError, OutputError
from sumi.store.checkpoint import atomic

# Pillow reads some forty formats, not all of them hardened; these are what people have.
FORMATS = ("PNG", "JPEG", "WEBP")
# A large photograph of a telephone; decoded it is 200 MB. A picture that claims more is refused before it is decoded.
MAX_PIXELS = 1 << 26


def to_pil(image: Float[Tensor, "B 3 H W"]) -> list[Image.Image]:
    """Pictures of numbers in [-1, 1], rounded to 8 bits; beyond the ends they are clipped. ImageError if one is not finite."""
    if not torch.isfinite(image).all():
        raise ImageError("the picture holds numbers that are not finite: run again with precision float32")
    pixels = ((image.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return [Image.fromarray(array) for array in pixels.movedim(1, -1).cpu().numpy()]


def from_pixels(pixels: np.ndarray) -> Image.Image:
    """A picture of 8-bit numbers [H W 3]."""
    return Image.fromarray(pixels)


def from_pil(images: Sequence[Image.Image]) -> Float[Tensor, "B 3 H W"]:
    """Numbers in [-1, 1] of pictures of one size; transparency shows white."""
    arrays = [np.asarray(_opaque(image)) for image in images]
    pixels = torch.from_numpy(np.stack(arrays)).movedim(-1, 1)
    return pixels.float() / 127.5 - 1


def open_image(path: Path) -> Image.Image:
    """A PNG, JPEG or WebP file, decoded, turned the way the camera was held. ImageError if it is not one, or too large."""
    with _decoded(path, FORMATS) as image:
        return ImageOps.exif_transpose(image)


def fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture, scaled to fill (height, width) pixels and cropped in the middle: nothing is stretched."""
    height, width = size
    image = _opaque(image)
    return image if image.size == (width, height) else ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits. ImageError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error


def save_png(image: Image.Image, path: Path, text: Mapping[str, str]) -> None:
    """Writes a PNG with a text chunk for each entry, whole or not at all; OutputError if it cannot.

    Text is kept exactly: as tEXt where Latin-1 can spell it, else as iTXt.
    """
    chunks = PngImagePlugin.PngInfo()
    for keyword, value in text.items():
        try:
            chunks.add_text(keyword, value)
        except UnicodeEncodeError as error:
            raise OutputError(f"cannot write {path}: its {keyword} is not Unicode text") from error
    with atomic(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=chunks)


def read_png_text(path: Path) -> dict[str, str]:
    """The text chunks of a PNG; empty if it has none. ImageError if it is not a PNG."""
    with _decoded(path, ("PNG",)) as image:
        assert isinstance(image, PngImagePlugin.PngImageFile)
        return {keyword: str(value) for keyword, value in image.text.items()}


@contextmanager
def _decoded(path: Path, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """The picture in a file; whatever is wrong with it is an ImageError."""
    try:
        missing = None if path.is_file() else "not a file" if path.exists() else "missing"
    except OSError as error:
        missing = error.strerror or "not to be read"
    if missing:  # a pipe would hang
        raise ImageError(f"{path} is {missing}: check the path")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=formats)
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.load()
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{path} is larger than {MAX_PIXELS >> 20} megapixels: make it smaller") from error
    except Exception as error:  # decoders raise whatever they like
        raise ImageError(f"{path} cannot be read as {' or '.join(formats)}: use another picture, or save this one again") from error


def _opaque(image: Image.Image) -> Image.Image:
    """In red, green and blue of 8 bits; transparency shows white."""
    if image.mode.startswith("I"):  # Pillow would clip 16 bits to 8
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
