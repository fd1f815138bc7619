"""Pictures are tensors and back, and a PNG carries its text."""

import io
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
from sumi.store.images import MAX_BYTES, fitted, fitted_levels, from_pil, opaque, open_image, read_png_text, save_png, to_pil, with_alpha

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


def png(width: int, height: int, data: bytes = b"", kind: tuple[int, int] = (1, 0), *chunks: bytes) -> bytes:
    """A PNG of that bit depth and colour type, with chunks in front of its pixels."""
    header = struct.pack(">IIBBBBB", width, height, *kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read_bytes(path: Path, data: bytes) -> Image.Image:
    path.write_bytes(data)
    return open_image(path)


def smooth(height: int = 16, width: int = 24) -> np.ndarray:
    """Colours that change slowly, so that lossy formats keep them."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), 255 - x * 255 // (width - 1)], -1).astype(np.uint8)


def assert_looks(image: Image.Image, expected: np.ndarray, tolerance: int = 0) -> None:
    assert np.abs(np.asarray(opaque(image)).astype(int) - expected).max() <= tolerance


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


# What EXIF's tag 0x0112 says: at which side of the picture as it is seen row 0 and column 0 of the file are.
TURNS = {
    1: "top left",
    2: "top right",
    3: "bottom right",
    4: "bottom left",
    5: "left top",
    6: "right top",
    7: "right bottom",
    8: "left bottom",
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_a_photograph_is_turned_upright(tmp_path: Path, kind: str, turn: int) -> None:
    picture, sides = Image.fromarray(smooth(4, 8)), TURNS[turn].split()
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    expected = np.asarray(picture) if sides[0] in ("top", "bottom") else np.asarray(picture).swapaxes(0, 1)
    expected = expected[::-1] if "bottom" in sides else expected
    expected = expected[:, ::-1] if "right" in sides else expected
    assert_looks(read_bytes(tmp_path / "photo", encoded(picture, kind, exif=exif, **options)), expected, 4 if kind == "JPEG" else 0)


def test_a_jpeg_for_printing_is_seen_as_it_is(tmp_path: Path) -> None:
    """Inks and, where Adobe's marker says so, YCCK: its first three are the inverted picture, as YCbCr."""
    seen, options = smooth(), {"quality": 100, "subsampling": 0}
    black = np.full(seen.shape[:2], 51, np.uint8)
    inks = [255 - seen[..., 0], 255 - seen[..., 1], 255 - seen[..., 2], black]
    data = encoded(Image.merge("CMYK", [Image.fromarray(ink) for ink in inks]), "JPEG", **options)
    assert b"Adobe\x00\x64" in data
    expected = np.round(seen.astype(float) * (255 - 51) / 255)
    assert_looks(read_bytes(tmp_path / "cmyk.jpg", data), expected, 5)
    # A file holds the complements of Pillow's inks.
    luma = [255 - np.asarray(band) for band in Image.fromarray(255 - seen).convert("YCbCr").split()]
    data = encoded(Image.merge("CMYK", [Image.fromarray(ink) for ink in (*luma, black)]), "JPEG", **options)
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    assert_looks(read_bytes(tmp_path / "ycck.jpg", data[:at] + b"\x02" + data[at + 1 :]), expected, 6)


def test_a_jpeg_of_grey_or_with_a_second_picture_inside(tmp_path: Path) -> None:
    grey = np.repeat(smooth()[..., :1], 3, -1)
    assert_looks(read_bytes(tmp_path / "grey.jpg", encoded(Image.fromarray(grey[..., 0]), "JPEG", quality=100)), grey, 2)
    first, second = Image.fromarray(smooth()), Image.new("RGB", (24, 16))
    both = encoded(first, "MPO", save_all=True, append_images=[second], quality=100, subsampling=0)
    image = read_bytes(tmp_path / "telephone.jpg", both)
    assert_looks(image, smooth(), 4)
    assert image.format == "JPEG"


def rows(*samples: bytes) -> bytes:
    return b"".join(b"\x00" + row for row in samples)


def key(*levels: int) -> bytes:
    return chunk(b"tRNS", struct.pack(f">{len(levels)}H", *levels))


PALETTE = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7]))
# Bit depth and colour type of a PNG, chunks, one row of samples, and the pixels that the standard says they are, with opacity.
KINDS: dict[str, tuple[tuple[int, int], list[bytes], bytes, list[tuple[int, ...]]]] = {
    "1 bit": ((1, 0), [], b"\x40", [(0, 0, 0, 255), (255, 255, 255, 255)]),
    "1 bit, key": ((1, 0), [key(1)], b"\x40", [(0, 0, 0, 255), (255, 255, 255, 0)]),
    "2 bits, key": ((2, 0), [key(2)], b"\x60", [(85, 85, 85, 255), (170, 170, 170, 0)]),
    "4 bits, key": ((4, 0), [key(5)], b"\x5a", [(85, 85, 85, 0), (170, 170, 170, 255)]),
    "8 bits, key": ((8, 0), [key(5)], bytes([5, 6]), [(5, 5, 5, 0), (6, 6, 6, 255)]),
    "16 bits": ((16, 0), [], bytes([0x12, 0x34, 0xFF, 0x80]), [(18, 18, 18, 255), (255, 255, 255, 255)]),
    "16 bits, key": ((16, 0), [key(0x1234)], bytes([0x12, 0x34, 0x12, 0x35]), [(18, 18, 18, 0), (18, 18, 18, 255)]),
    "grey, opacity": ((8, 4), [], bytes([7, 128, 9, 255]), [(7, 7, 7, 128), (9, 9, 9, 255)]),
    "grey, opacity, 16 bits": ((16, 4), [], bytes([7, 7, 128, 128, 9, 9, 0, 0]), [(7, 7, 7, 128), (9, 9, 9, 0)]),
    "colour, key": ((8, 2), [key(1, 2, 3)], bytes([1, 2, 3, 1, 2, 4]), [(1, 2, 3, 0), (1, 2, 4, 255)]),
    "colour, 16 bits": ((16, 2), [], bytes([1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]), [(1, 2, 3, 255), (4, 5, 6, 255)]),
    "colour, 16 bits, key": (
        (16, 2),
        [key(0x101, 0x202, 0x303)],
        bytes([1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]),
        [(1, 2, 3, 0), (4, 5, 6, 255)],
    ),
    "opacity, 16 bits": ((16, 6), [], bytes([1, 1, 2, 2, 3, 3, 128, 128] * 2), [(1, 2, 3, 128)] * 2),
    "palette": ((8, 3), [PALETTE], bytes([3, 1]), [(9, 8, 7, 255), (0, 255, 0, 255)]),
    "palette, opacity": ((2, 3), [PALETTE, chunk(b"tRNS", bytes([10, 0]))], b"\x10", [(255, 0, 0, 10), (0, 255, 0, 0)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_png_of_any_kind_is_seen_as_the_standard_says(tmp_path: Path, kind: str) -> None:
    form, chunks, samples, expected = KINDS[kind]
    image = read_bytes(tmp_path / "a.png", png(2, 1, rows(samples), form, *chunks))
    assert np.asarray(with_alpha(image)).tolist() == [[list(pixel) for pixel in expected]]
    white = [[round((level * pixel[3] + 255 * (255 - pixel[3])) / 255) for level in pixel[:3]] for pixel in expected]
    assert_looks(image, np.array([white]), 1)


def test_a_picture_of_several_frames_is_refused_unless_one_is_all(tmp_path: Path) -> None:
    frames = [noise(), Image.new("RGB", (5, 6))]
    for kind in ("PNG", "WEBP"):
        with pytest.raises(ImageError, match="is animated: save the one frame"):
            read_bytes(tmp_path / "film", encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    options = {"save_all": True, "append_images": frames[1:], "default_image": True}
    with pytest.raises(ImageError, match="is animated"):
        read_bytes(tmp_path / "film", encoded(frames[0], "PNG", **options))
    assert_looks(read_bytes(tmp_path / "still", encoded(frames[0], "PNG", save_all=True)), np.asarray(frames[0]))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "progressive", "WEBP", "lossless"])
def test_a_file_cut_anywhere_is_damaged_or_lacks_nothing_of_the_picture(tmp_path: Path, kind: str) -> None:
    more = {"progressive": True} if kind == "progressive" else {"lossless": True} if kind == "lossless" else {}
    data = encoded(noise(), {"progressive": "JPEG", "lossless": "WEBP"}.get(kind, kind), **more)
    whole, refused = np.asarray(read_bytes(tmp_path / "whole", data)), 0
    for end in range(len(data)):
        try:
            assert_looks(read_bytes(tmp_path / "cut", data[:end]), whole)
        except ImageError as error:
            refused += 1
            assert end < 12 or "cut" in str(error)
    assert refused > len(data) - 25  # what ends a PNG


def test_what_is_scaled_is_cropped_alike() -> None:
    """Where a picture has its white half, so has a mask of the same size, and a map."""
    levels = np.zeros((48, 90), np.uint8)
    levels[:, 45:] = levels[:11] = 255
    expected = np.asarray(fitted(Image.fromarray(levels), (16, 16)))[..., 0].astype(int)
    assert np.abs(fitted_levels(levels, (16, 16)).round() - expected).max() < 40
    near = fitted_levels(levels, (16, 16), smooth=False)
    assert set(np.unique(near)) == {0, 255} and ((near > 127) == (expected > 127)).all()
    assert fitted_levels(levels, (48, 90)) is levels


NOT_PICTURES = {
    b"": "is empty",
    b"hello": "is no picture that can be read: save it as ",
    b"<html>": "is no picture",
    b"%!PS-Adobe": "is no picture",
    b"\x89PNG\r\n\x1a\n": "is damaged or cut short",
    png(64, 64): "is damaged or cut short",
    b"GIF89a" + b"\x01\x00" * 20: "is GIF, which is not read: save it as ",
    b"\x00\x00\x00\x18ftypheic" + bytes(20): "is HEIC",
}


@pytest.mark.parametrize(("content", "words"), NOT_PICTURES.items())
@pytest.mark.parametrize("name", ["cat.png", "a\nb\x1b[31m.png"])
def test_what_is_not_a_picture_is_one_line_naming_it(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for read in (open_image, read_png_text):
        with pytest.raises(ImageError) as caught:
            read(path)
        assert (str(path) if path.name.isprintable() else ascii(str(path))) in str(caught.value)
        assert words in str(caught.value) and str(caught.value).isprintable()
    with pytest.raises(ImageError, match=r"PNG, JPEG or WebP|damaged|empty"):
        open_image(path)


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


def test_sixteen_megapixels_are_read_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    assert read_bytes(path, png(4000, 4000, bytes(501 * 4000))).size == (4000, 4000)
    path.write_bytes(png(4001, 4000, bytes(502 * 4000)))
    assert read_png_text(path) == {}  # sumi itself makes larger ones
    # What the header of the other two says, of which nothing else is true.
    jpeg, webp = bytearray(encoded(noise(), "JPEG")), bytearray(encoded(noise(), "WEBP", lossless=True))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 4000, 4001)
    assert webp[12:16] == b"VP8L"
    webp[21:25] = struct.pack("<I", 4000 | 3999 << 14)
    for data in (path.read_bytes(), bytes(jpeg), bytes(webp)):
        with pytest.raises(ImageError, match="has more than 16 megapixels: make it smaller"):
            read_bytes(path, data)


def test_a_file_is_read_only_so_far(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    path.touch()
    os.truncate(path, MAX_BYTES + 1)
    with pytest.raises(ImageError, match="is longer than 64 MiB"):
        open_image(path)


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
            except ImageError as error:
                refused += 1
                assert str(error).isprintable()
    assert 400 < refused < 1200
