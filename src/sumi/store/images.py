"""Tensors and pictures, and the text that a PNG carries. The only module that uses Pillow.

PyTorch is imported where tensors are: what only opens pictures starts without it.

Legend: B batch, H W image height and width, in pixels.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, PngImagePlugin

from sumi.errors import ImageError, OutputError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

Filter: TypeAlias = Literal["box", "bilinear", "bicubic", "lanczos"]

# Pillow reads some forty formats, not all of them hardened; these are what browsers read and people have.
FORMATS = ("PNG", "JPEG", "WEBP")
# A photograph of a telephone has 12. A picture that claims more is refused before it is decoded.
MAX_PIXELS = 16_000_000
# Noise of as many pixels, as a PNG of 8 bits, takes 48 MB.
MAX_BYTES = 64 << 20
# To read the text of a PNG is to decode it, and sumi makes pictures of up to 8192 x 8192.
MAX_MADE = 8192 * 8192
# What a file is by its first bytes, and from which of them on: of what is not read, to say so by its name.
SIGNATURES = (
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("WEBP", 8, b"WEBP"),
    ("GIF", 0, b"GIF8"),
    ("BMP", 0, b"BM"),
    ("TIFF", 0, b"II*\x00"),
    ("TIFF", 0, b"MM\x00*"),
    ("HEIC", 4, b"ftyphei"),
    ("HEIC", 4, b"ftypmif1"),
    ("AVIF", 4, b"ftypavif"),
    ("PDF", 0, b"%PDF"),
    ("PSD", 0, b"8BPS"),
)


def to_pil(image: Float[Tensor, "B 3 H W"]) -> list[Image.Image]:
    """Pictures of numbers in [-1, 1], rounded to 8 bits; beyond the ends they are clipped. ImageError if one is not finite."""
    import torch

    if not torch.isfinite(image).all():
        raise ImageError("the picture holds numbers that are not finite: run again with precision float32")
    pixels = ((image.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return [Image.fromarray(array) for array in pixels.movedim(1, -1).cpu().numpy()]


def from_pixels(pixels: np.ndarray) -> Image.Image:
    """A picture of 8-bit numbers [H W 3]."""
    return Image.fromarray(pixels)


def png_bytes(pixels: np.ndarray) -> bytes:
    """A PNG of 8-bit numbers: [H W 3], or [H W] in grey."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def webp_bytes(pixels: np.ndarray, quality: int) -> bytes:
    """A WebP file of 8-bit numbers [H W 3], of a quality up to 100, which is not without loss."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=quality)
    return file.getvalue()


def from_pil(images: Sequence[Image.Image]) -> Float[Tensor, "B 3 H W"]:
    """Numbers in [-1, 1] of pictures of one size; transparency shows white."""
    import torch

    arrays = [np.asarray(opaque(image)) for image in images]
    pixels = torch.from_numpy(np.stack(arrays)).movedim(-1, 1)
    return pixels.float() / 127.5 - 1


def resized(pixels: NDArray[np.uint8], size: tuple[int, int], filter: Filter = "bicubic") -> NDArray[np.uint8]:
    """8-bit pixels [H W 3] at another (height, width), stretched where the proportions differ."""
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling[filter.upper()]))


def open_image(path: Path) -> Image.Image:
    """A PNG, JPEG or WebP file, decoded, turned the way the camera was held. ImageError if it is not one, or too large."""
    return decoded(file_bytes(path), shown(path))


def file_bytes(path: Path) -> bytes:
    """What is in a file. ImageError if it cannot be read, or is longer than `MAX_BYTES`."""
    _check_file(path)
    try:
        with path.open("rb") as file:
            return limited(file, shown(path))
    except OSError as error:
        raise ImageError(f"{shown(path)} cannot be read: {error.strerror}") from error


def limited(file: IO[bytes], name: str) -> bytes:
    """All that a file holds. ImageError, calling it `name`, if that is more than `MAX_BYTES`."""
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name} is longer than {MAX_BYTES >> 20} MiB: make the picture smaller")
    return data


def decoded(data: bytes, name: str) -> Image.Image:
    """The picture in a PNG, JPEG or WebP file, turned the way the camera was held; `format` says which of the three.

    ImageError, calling it `name`, if it is none, cut short, animated, or of more than `MAX_PIXELS`, which is seen before it is decoded.
    """
    with _loaded(BytesIO(data), name, FORMATS, MAX_PIXELS) as image:
        # A JPEG with a second picture inside, as telephones make, shows the first and does not move.
        if getattr(image, "is_animated", False) and image.format in FORMATS:
            raise ImageError(f"{name} is animated: save the one frame of it that is meant as a picture of its own")
        upright = ImageOps.exif_transpose(image)
        upright.format = "JPEG" if image.format == "MPO" else image.format
        return upright


def plain_png(data: bytes, name: str) -> tuple[bytes, tuple[int, int]]:
    """The pixels of a PNG, JPEG or WebP file and nothing else of it, as a PNG; and its height and width. ImageError as `decoded`.

    What numbers mean is kept: grey stays grey, of as many bits, and a palette the palette that it is. What a JPEG holds becomes RGB.
    """
    image = decoded(data, name)
    if image.format == "JPEG" or image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
        image = with_alpha(image) if image.has_transparency_data else opaque(image)
    key = image.info.get("transparency")
    image.info = {} if key is None else {"transparency": key}
    if image.mode == "P":  # of a shorter palette, Pillow writes fewer bits than numbers beyond it need
        image.putpalette([*(image.getpalette() or []), *bytes(768)][:768])
    file = BytesIO()
    image.save(file, "PNG", compress_level=3)
    return file.getvalue(), (image.height, image.width)


def thumbnail(image: Image.Image, most: int) -> bytes:
    """A WebP file of a picture, neither side of which is longer than so many pixels; one that is small already is kept without loss."""
    small, file = opaque(image), BytesIO()
    large = max(small.size) > most
    if large:
        small.thumbnail((most, most), Image.Resampling.LANCZOS)
    small.save(file, "WEBP", lossless=not large, quality=85, method=2)
    return file.getvalue()


def shown(name: object) -> str:
    """A name as it fits into a message of one line."""
    text = str(name)
    text = text if len(text) <= 300 else f"{text[:300]}..."
    return text if text.isprintable() else ascii(text)


def fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture, scaled to fill (height, width) pixels and cropped in the middle: nothing is stretched."""
    height, width = size
    image = opaque(image)
    return image if image.size == (width, height) else ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def fitted_levels(levels: np.ndarray, size: tuple[int, int], *, smooth: bool = True) -> np.ndarray:
    """Numbers [h w], one a pixel, scaled and cropped to (height, width) as `fitted` does it with a picture.

    smooth: between them where they were scaled, never beyond them; otherwise each is one of the numbers given.
    """
    height, width = size
    if levels.shape == size:
        return levels
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(ImageOps.fit(Image.fromarray(levels.astype(np.float32 if smooth else np.int32)), (width, height), method))


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
    from sumi.store.checkpoint import atomic

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
    _check_file(path)
    try:
        with path.open("rb") as file, _loaded(file, shown(path), ("PNG",), MAX_MADE) as image:
            assert isinstance(image, PngImagePlugin.PngImageFile)
            return {keyword: str(value) for keyword, value in image.text.items()}
    except OSError as error:
        raise ImageError(f"{shown(path)} cannot be read: {error.strerror}") from error


def opaque(image: Image.Image) -> Image.Image:
    """In red, green and blue of 8 bits; transparency shows white."""
    if image.has_transparency_data:
        image = with_alpha(image)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return _eight_bits(image).convert("RGB")


def with_alpha(image: Image.Image) -> Image.Image:
    """In red, green, blue and opacity of 8 bits."""
    if not (image.mode.startswith("I") and image.has_transparency_data):
        return _eight_bits(image).convert("RGB" if image.mode == "CMYK" else "RGBA").convert("RGBA")
    visible = Image.fromarray(((np.asarray(image) != image.info["transparency"]) * 255).astype(np.uint8))
    grey = _eight_bits(image)
    return Image.merge("RGBA", (grey, grey, grey, visible))


def grey_levels(image: Image.Image) -> np.ndarray:
    """How light each pixel is, [H W], float32 from 0 to 1: 16 bits as they are, colours by ITU-R BT.601, without regard to transparency."""
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.float32) / 65535
    return np.asarray(with_alpha(image).convert("RGB").convert("L")).astype(np.float32) / 255


def _check_file(path: Path) -> None:
    """ImageError unless there is a file."""
    try:
        missing = None if path.is_file() else "not a file" if path.exists() else "missing"
    except OSError as error:
        missing = f"not to be read ({error.strerror})"
    if missing:  # a pipe would hang
        raise ImageError(f"{shown(path)} is {missing}: check the path")


@contextmanager
def _loaded(file: IO[bytes], name: str, formats: tuple[str, ...], most: int) -> Iterator[ImageFile.ImageFile]:
    """The picture in a file, of at most so many pixels; whatever is wrong with it is an ImageError."""
    start = file.read(32)
    file.seek(0)
    *others, last = ("WebP" if known == "WEBP" else known for known in formats)
    read = f"{', '.join(others)} or {last}" if others else last
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are looked at here, and of metadata
            with Image.open(file, formats=formats) as image:
                if image.width * image.height > most:
                    raise Image.DecompressionBombError
                _mend_transparency(image)
                image.load()
                yield image
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} has more than {most // 1_000_000} megapixels: make it smaller") from error
    except Exception as error:  # decoders raise whatever they like
        known = next((kind for kind, at, signature in SIGNATURES if start.startswith(signature, at)), None)
        if not start:
            raise ImageError(f"{name} is empty: a {read} picture is needed") from error
        if known in formats:
            raise ImageError(f"{name} is damaged or cut short: use another copy of it, or another picture") from error
        what = f"is {known}, which is not read" if known else "is no picture that can be read"
        raise ImageError(f"{name} {what}: save it as {read}") from error


def _mend_transparency(image: ImageFile.ImageFile) -> None:
    """The colour that stands for transparency in a PNG (chunk tRNS), made as deep as Pillow makes the pixels."""
    key = image.info.get("transparency")
    depth = image.tile[0][3] if image.tile else None
    if isinstance(key, int) and depth in ("L;2", "L;4"):
        image.info["transparency"] = key * (85 if depth == "L;2" else 17)
    if isinstance(key, tuple) and depth == "RGB;16B":
        image.info["transparency"] = tuple(level >> 8 for level in key)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A picture of 16 bits in 8; any other as it is."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray(((np.asarray(image).astype(np.int64) + 128) // 257).clip(0, 255).astype(np.uint8))  # Pillow would clip 16 to 8
