"""Pictures that others send: what is kept of them, what is refused, and that none can harm the engine."""

import base64
import hashlib
import io
import os
import signal
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from engine.helpers import ended, files
from sumi.engine.engine import Engine
from sumi.engine.uploads import Reader, Upload, Uploads, located
from sumi.errors import ImageError, JobError, OutputError, RequestError
from sumi.request import FILES, Request
from sumi.store.record import Record
from support import noisy


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Uploads]:
    opened = Uploads(tmp_path_factory.mktemp("engine"))
    yield opened
    opened.close()


def file(image: Image.Image, format: str = "PNG", **how: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, format, **how)
    return written.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


GREY, COLOUR = noisy(6, 8, None), noisy(6, 8)
DEEP = (GREY.astype(np.uint16) << 8) + 17
ALPHA = np.dstack([COLOUR, GREY])


def palette(colours: int) -> Image.Image:
    """With numbers beyond the colours that there may be, 255 among them."""
    indexed = Image.frombytes("P", (8, 6), bytes([0, 1, 200, 255] * 12))
    indexed.putpalette([7, 8, 9] * colours)
    return indexed


def short(data: bytes) -> bytes:
    """A PNG's palette cut to its first two colours, which Pillow would not write."""
    at = data.index(b"PLTE") - 4
    body = b"PLTE" + data[at + 8 : at + 14]
    return data[:at] + struct.pack(">I", 6) + body + struct.pack(">I", zlib.crc32(body)) + data[at + 12 + 768 :]


def keyed(image: Image.Image, key: Any) -> Image.Image:
    image.info["transparency"] = key
    return image


KINDS: dict[str, tuple[Image.Image, str]] = {
    "1": (Image.fromarray(GREY > 99), "1"),
    "L": (Image.fromarray(GREY), "L"),
    "LA": (Image.fromarray(np.dstack([GREY, GREY[::-1]])), "LA"),
    "P": (palette(256), "P"),
    "P of two colours": (palette(256), "P"),
    "P with transparency": (keyed(palette(256), bytes([0, 128, 255])), "P"),
    "L with transparency": (keyed(Image.fromarray(GREY), int(GREY[0, 0])), "L"),
    "RGB with transparency": (keyed(Image.fromarray(COLOUR), tuple(map(int, COLOUR[0, 0]))), "RGB"),
    "I;16": (Image.fromarray(DEEP), "I;16"),
    "RGB": (Image.fromarray(COLOUR), "RGB"),
    "RGBA": (Image.fromarray(ALPHA), "RGBA"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_numbers_mean_is_kept(uploads: Uploads, kind: str) -> None:
    image, mode = KINDS[kind]
    kept = uploads.take(short(file(image)) if kind == "P of two colours" else file(image))
    data = uploads.png(kept.id)
    found = opened(data)
    assert (found.format, found.mode, found.size) == ("PNG", mode, (8, 6)) and (kept.width, kept.height) == (8, 6)
    assert np.array_equal(np.asarray(found), np.asarray(image))
    if image.has_transparency_data:
        assert np.array_equal(np.asarray(found.convert("RGBA")), np.asarray(image.convert("RGBA")))
    assert kept.id == f"upload:{hashlib.sha256(data).hexdigest()}" and uploads.of(kept.id) == kept


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_becomes_colour(uploads: Uploads, mode: str) -> None:
    """So that a map, whose numbers a JPEG alters, is refused as one in colour."""
    data = file(Image.fromarray(GREY).convert(mode), "JPEG", quality=95)
    found = opened(uploads.png(uploads.take(data).id))
    assert found.mode == "RGB" and np.array_equal(np.asarray(found), np.asarray(opened(data).convert("RGB")))


def test_a_webp(uploads: Uploads) -> None:
    for pixels, mode in ((COLOUR, "RGB"), (ALPHA, "RGBA")):
        found = opened(uploads.png(uploads.take(file(Image.fromarray(pixels), "WEBP", lossless=True, exact=True)).id))
        assert found.mode == mode and np.array_equal(np.asarray(found), pixels)


def test_nothing_else_of_the_file_is_kept(uploads: Uploads) -> None:
    """Where and by whom it was taken, and what it says of itself; but that it is upright."""
    exif, text = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x0112], exif[0x013B], exif[0x8825] = 6, "somebody", {1: "N", 2: (1.0, 2.0, 3.0)}
    text.add_text("parameters", "a secret")
    image = Image.fromarray(COLOUR)
    data = uploads.png(uploads.take(file(image, exif=exif, pnginfo=text, icc_profile=b"icc" * 50, dpi=(72, 72))).id)
    chunks, at = [], 8
    while at < len(data):
        chunks.append(data[at + 4 : at + 8])
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}
    assert np.array_equal(np.asarray(opened(data)), np.rot90(COLOUR, -1)), "turned to the right: orientation 6"
    turned = uploads.take(file(image, "JPEG", exif=exif))
    assert (turned.width, turned.height) == (6, 8)


def test_the_same_picture_is_one_file(uploads: Uploads) -> None:
    image = Image.fromarray(noisy(9, 9))
    one, other = uploads.take(file(image)), uploads.take(file(image, "WEBP", lossless=True))
    path = uploads.files.path(one.id.partition(":")[2])
    assert one == other and len([each for each in path.parent.iterdir() if each.stat().st_size == path.stat().st_size]) == 1
    os.utime(path, (0, 0))
    uploads.take(file(image))
    assert path.stat().st_mtime > time.time() - 1000, "it is as good as new"


def bomb(width: int, height: int) -> bytes:
    """A PNG of so many black pixels, in few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def animated() -> bytes:
    frames = [Image.fromarray(noisy(8, 8, seed=seed)) for seed in range(2)]
    return file(frames[0], "WEBP", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the picture is empty: a PNG, JPEG or WebP picture is needed"),
        (b"no picture", "the picture is no picture that can be read: save it as PNG, JPEG or WebP"),
        (file(Image.fromarray(COLOUR), "GIF"), "the picture is GIF, which is not read: save it as PNG, JPEG or WebP"),
        (file(Image.fromarray(COLOUR), "TIFF"), "the picture is TIFF, which is not read: save it as PNG, JPEG or WebP"),
        (file(Image.fromarray(COLOUR))[:-60], "the picture is damaged or cut short: use another copy of it, or another picture"),
        (bomb(4001, 4000), "the picture has more than 16 megapixels: make it smaller"),
        (bomb(2**31 - 1, 2**31 - 1), "the picture has more than 16 megapixels: make it smaller"),
        (animated(), "the picture is animated: save the one frame of it that is meant as a picture of its own"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "the picture is no picture that can be read: save it as PNG, JPEG or WebP"),
    ],
    ids=["empty", "text", "GIF", "TIFF", "cut", "large", "huge", "animated", "SVG"],
)
def test_what_is_refused(uploads: Uploads, data: bytes, said: str) -> None:
    with pytest.raises(ImageError) as told:
        uploads.take(data)
    assert str(told.value) == said


def test_what_is_too_long_is_not_even_opened(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    with pytest.raises(ImageError, match="the picture is longer than 64 MiB: make it smaller"):
        uploads.take(bytes((64 << 20) + 1))
    assert uploads._reader._process is None
    uploads.close()


def test_a_process_that_breaks_or_stalls_is_replaced(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []
    for number, end in enumerate((signal.SIGKILL, signal.SIGSTOP, None)):
        uploads.take(file(Image.new("L", (8, 8), number)))
        process = uploads._reader._process
        assert process is not None
        pids.append(process.pid)
        if end is None:
            break
        monkeypatch.setattr("sumi.engine.uploads.DEADLINE", 0.2)
        process.send_signal(end)
        if end == signal.SIGSTOP:
            with pytest.raises(
                ImageError, match=r"the picture takes more than 0\.2 s to open: make it smaller, or save it again with another"
            ):
                uploads.take(file(Image.new("L", (8, 8), 99)))
            assert process.returncode == -signal.SIGKILL
        else:
            process.wait()
        monkeypatch.undo()
    assert len(set(pids)) == 3


def test_it_may_take_no_more_memory_than_some(uploads: Uploads) -> None:
    """As the system says; and it has not imported what takes long and much."""
    uploads.start()
    process = uploads._reader._process
    assert process is not None
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert any(line.split()[:4] == ["Max", "address", "space", str(2 << 30)] for line in limits.splitlines())
    assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = Uploads(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a picture to go by cannot be written \(No space left on device\): free some space"):
        uploads.take(file(Image.fromarray(COLOUR)))
    uploads.close()
    assert list(uploads.files.folder.iterdir()) == []


@pytest.mark.parametrize(
    "id", ["", "upload:", "0" * 64, f"upload:{'0' * 64}", f"upload:{'A' * 64}", "upload:../jobs", f"upload:{'0' * 64}\n"]
)
def test_unknown_ids(uploads: Uploads, id: str) -> None:
    with pytest.raises(JobError, match="there is no such picture to go by: it may have been removed"):
        uploads.png(id)
    with pytest.raises(RequestError, match="there is no such upload: send the picture again"):
        uploads.of(id)


# What a PNG says of itself


def told(record: Record | str) -> bytes:
    text = PngImagePlugin.PngInfo()
    for keyword, value in record.texts().items() if isinstance(record, Record) else [("parameters", record)]:
        text.add_text(keyword, value)
    return file(Image.fromarray(COLOUR), pnginfo=text)


COMPLETE = Request(prompt="ein Bäumchen", seed=7, steps=3, width=64, height=64, sampler="ddim", spacing="trailing", guidance=3.0)


def test_a_picture_says_how_it_was_made(uploads: Uploads) -> None:
    record = Record(COMPLETE, model="m", name="n", version="1")
    assert uploads.told(told(record)) == record
    found = uploads.told(told("a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x32"))
    assert (found.request.prompt, found.request.seed, found.request.width, found.version) == ("a cat", 1, 64, "")


def test_pictures_that_it_went_by_are_an_engines_or_left_out(uploads: Uploads) -> None:
    digest, data = "a" * 64, "data:image/png;base64,AAAA"
    went: dict[str, Any] = {
        "image": f"uploads/{digest}.png",
        "mask": "/home/me/mask.png",
        "depth": data,
        "like": "data:",
        "map": "../x.png",
    }
    asked = uploads.told(told(Record(Request(**went, digests={"mask": "0"}, seed=1, sampler="ddim", guidance=1.0)))).request
    kept = {name: getattr(asked, name) for name in FILES if getattr(asked, name) is not None}
    assert kept == {"image": f"upload:{digest}", "depth": data} and asked.digests is None


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (file(Image.fromarray(COLOUR)), ImageError, "the picture does not say how it was made: it has neither sumi's text nor A1111's"),
        (file(Image.fromarray(COLOUR), "JPEG"), ImageError, "the picture is JPEG, which is not read: save it as PNG"),
        (b"", ImageError, "the picture is empty: a PNG picture is needed"),
        (told("a cat\nSteps: 20, Sampler: Nobody's, CFG scale: 7, Seed: 1, Size: 64x32"), RequestError, None),
    ],
    ids=["silent", "JPEG", "empty", "foreign"],
)
def test_what_says_nothing(uploads: Uploads, data: bytes, error: type[Exception], said: str | None) -> None:
    with pytest.raises(error) as refused:
        uploads.told(data)
    assert type(refused.value) is error and "\n" not in str(refused.value) and said in (None, str(refused.value))


# Of requests


def test_a_worker_goes_by_paths_in_its_folder() -> None:
    digest = "0123456789abcdef" * 4
    request = Request(prompt=f"upload:{digest}", **dict.fromkeys(FILES, f"upload:{digest}"))  # type: ignore[arg-type]
    found = located(request)
    assert {getattr(found, name) for name in FILES} == {f"uploads/{digest}.png"} and found.prompt == request.prompt
    assert located(Request(prompt="a")) == Request(prompt="a")


def test_data_urls_are_uploaded(begin: Callable[..., Engine]) -> None:
    engine, data = begin(), file(Image.fromarray(COLOUR))
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    for name in FILES:
        job = engine.submit(Request(**{name: url, "digests": {name: "0" * 64}}))
        id = getattr(job.request, name)
        assert engine.upload_of(id) == Upload(id, 8, 6) == engine.upload(data) and job.request.digests is None
        assert engine.submit(job.request).request == job.request == engine.taken(job.request)
        assert engine.submit(Request(**{name: url}), key=name).id == engine.submit(Request(**{name: id}), key=name).id
        for wrong in ("data:", "data:image/png;base64,", "data:image/png;base64,!"):
            with pytest.raises(ImageError):
                engine.submit(Request(**{name: wrong}))


def test_what_no_job_names_is_swept_when_it_is_old(begin: Callable[..., Engine]) -> None:
    engine = begin()
    named, old, young = (engine.upload(file(Image.fromarray(noisy(4, 4, seed=seed)))).id for seed in range(3))
    ended(engine, engine.submit(Request(image=named)).id)
    for id in (named, old):
        os.utime(engine.folder / "uploads" / f"{id[7:]}.png", (0, time.time() - 2 * 86_400))
    engine.close()
    engine = begin()
    assert {name for name in files(engine) if name.startswith("uploads")} == {f"uploads/{id[7:]}.png" for id in (named, young)}
    with pytest.raises(JobError):
        engine.uploaded(old)


def test_what_was_sent_before_is_not_opened_again(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    data = file(Image.fromarray(COLOUR))
    first = uploads.take(data)
    monkeypatch.setattr(Reader, "ask", lambda *_: pytest.fail("it was opened again"))
    assert uploads.take(data) == first
    monkeypatch.undo()
    uploads.files.path(first.id.partition(":")[2]).unlink()
    assert uploads.take(data) == first and uploads.png(first.id)


def test_the_last_of_the_disk_is_left(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sumi.engine.uploads.SPARE", 1 << 62)
    with pytest.raises(OutputError, match="hardly any space"):
        uploads.take(file(Image.new("L", (8, 8), 7)))
