"""Pictures are tensors and back, and a PNG carries its text."""

import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sumi.errors import ImageError, OutputError
from sumi.store.images import from_pil, open_image, read_png_text, save_png, to_pil

TEXT = {
    "sumi": '{"prompt": "a red circle", "seed": 18446744073709551615}',
    "parameters": "a café\nNegative prompt: 日本語 😀\nSteps: 20, Sampler: DDIM",
    "latin": "naïve\u00a0ÿ",
    "empty": "",
    "long": "x" * 100_000,
}


def noise(height: int = 6, width: int = 5, mode: str = "RGB") -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    array = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(array.squeeze(-1) if channels == 1 else array)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_every_level_of_grey_comes_back() -> None:
    levels = torch.arange(256.0) / 127.5 - 1
    image = levels.expand(2, 3, 4, 256)
    pictures = to_pil(image)
    assert [(p.size, p.mode) for p in pictures] == [((256, 4), "RGB")] * 2
    assert np.asarray(pictures[1])[0].tolist() == [[n, n, n] for n in range(256)]
    assert torch.allclose(from_pil(pictures), image, atol=1e-6)


def test_channels_rows_and_rounding_are_in_their_places() -> None:
    image = torch.zeros(1, 3, 2, 3)
    image[0, 0, 0, 2], image[0, 1, 1, 0], image[0, 2, 1, 0] = 1.0, -1.0, 9.0
    (picture,) = to_pil(image)
    assert picture.getpixel((2, 0)) == (255, 128, 128)
    assert picture.getpixel((0, 1)) == (128, 0, 255)
    assert to_pil(torch.full((1, 3, 1, 1), 0.0019))[0].getpixel((0, 0)) == (128, 128, 128)
    assert to_pil(torch.full((1, 3, 1, 1), 0.0079, dtype=torch.float16))[0].getpixel((0, 0)) == (129, 129, 129)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_tensor_is_no_black_picture(value: float) -> None:
    image = torch.zeros(1, 3, 4, 4)
    image[0, 1, 2, 3] = value
    with pytest.raises(ImageError, match="not finite"):
        to_pil(image)


def test_other_modes_and_transparency() -> None:
    clear = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    clear.putpixel((1, 0), (255, 0, 0, 255))
    assert from_pil([clear])[0, :, 0].tolist() == [[1, 1], [1, -1], [1, -1]]
    assert from_pil([noise(mode="L")]).shape == (1, 3, 6, 5)
    assert from_pil([clear.convert("P"), noise(1, 2)]).shape == (2, 3, 1, 2)


def test_a_png_keeps_its_pixels_and_its_text(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    save_png(noise(), path, TEXT)
    assert read_png_text(path) == TEXT
    assert np.array_equal(np.asarray(open_image(path)), np.asarray(noise()))
    assert b"tEXtsumi" in path.read_bytes() and b"iTXtparameters" in path.read_bytes()
    assert list(tmp_path.iterdir()) == [path]
    save_png(noise(), path, {})
    assert read_png_text(path) == {}


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        save_png(noise(), tmp_path / "file" / "cat.png", {})
    with pytest.raises(OutputError, match="sumi is not Unicode"):
        save_png(noise(), tmp_path / "cat.png", {"sumi": "\ud800"})
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    picture = noise(4, 8)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "photo.webp", exif=exif, lossless=True)
    assert np.array_equal(np.asarray(open_image(tmp_path / "photo.webp")), np.rot90(np.asarray(picture), -1))


NOT_PICTURES = [b"", b"hello", b"<html>", b"\x89PNG\r\n\x1a\n", png(64, 64), b"GIF89a" + b"\x01\x00" * 20, b"%!PS-Adobe"]


@pytest.mark.parametrize("content", NOT_PICTURES)
def test_what_is_not_a_picture_is_one_line_naming_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(content)
    for read in (open_image, read_png_text):
        with pytest.raises(ImageError) as caught:
            read(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_and_other_formats(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="missing"):
        open_image(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match="not a file"):
        open_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a file"):
        open_image(tmp_path / "pipe.png")
    noise().save(tmp_path / "cat.jpg")
    assert open_image(tmp_path / "cat.jpg").size == (5, 6)
    with pytest.raises(ImageError, match="PNG"):
        read_png_text(tmp_path / "cat.jpg")


@pytest.mark.parametrize("side", [9_000, 10_000, 40_000])  # below Pillow's warning, above it, above its error
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side, b"\x00" * ((side // 8 + 1) * side) if side < 20_000 else b""))
    for read in (open_image, read_png_text):
        with pytest.raises(ImageError, match="megapixels"):
            read(path)


def test_random_damage_is_an_error_or_a_picture(tmp_path: Path) -> None:
    draw = random.Random(0)
    save_png(noise(), tmp_path / "0", TEXT)
    noise().save(tmp_path / "1", format="JPEG")
    noise().save(tmp_path / "2", format="WEBP")
    path, refused = tmp_path / "damaged", 0
    for turn in range(600):
        data = bytearray((tmp_path / str(turn % 3)).read_bytes())
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(min(len(data), 400))] = draw.randrange(256)
        del data[draw.randint(1, 2 * len(data)) :]
        path.write_bytes(data)
        for read in (open_image, read_png_text):
            try:
                read(path)
            except ImageError:
                refused += 1
    assert 400 < refused < 1200
