"""Pictures to go by, of every kind, from what is sent to what is made: the same as `sumi.generate` makes of the file itself."""

import io
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sumi
from engine.helpers import ended
from sumi.engine.engine import Engine
from sumi.errors import SumiError
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.pipeline import generate
from sumi.request import FILES, Request
from sumi.store.assembly import SHIPPED
from sumi.store.record import read
from support import noisy

CAT = Request(prompt="a cat", seed=7, steps=2)
HOLE = np.zeros((64, 64), np.uint8)
HOLE[16:48, 8:56] = 255
MAP = np.repeat(np.arange(8, dtype=np.uint8), 512).reshape(64, 64)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """With the model that comes with sumi."""
    with Engine(tmp_path_factory.mktemp("engine"), devices=("cpu",)) as begun:
        yield begun


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    return sumi.load(device="cpu")


def colour(height: int = 64, width: int = 64) -> Image.Image:
    """Smooth, as pictures are."""
    return Image.fromarray(noisy(5, 5)).resize((width, height), Image.Resampling.BICUBIC)


def indexed(numbers: np.ndarray[Any, Any]) -> Image.Image:
    image = Image.frombytes("P", numbers.shape[::-1], numbers.tobytes())
    image.putpalette(noisy(256, 1, 3).tobytes())
    return image


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


KINDS: dict[str, tuple[dict[str, Any], dict[str, tuple[Image.Image, str, dict[str, Any]]]]] = {
    "a photograph": ({"strength": 0.6}, {"image": (colour(60, 90), "JPEG", {"exif": turned()})}),
    "grey": ({"strength": 0.6}, {"image": (colour().convert("L"), "PNG", {})}),
    "16 bits of grey": ({"strength": 0.6}, {"image": (Image.fromarray(MAP.astype(np.uint16) * 9000), "PNG", {})}),
    "with alpha": ({"strength": 0.6}, {"image": (Image.fromarray(np.dstack([np.asarray(colour()), HOLE])), "WEBP", {"lossless": True})}),
    "of a palette": ({"strength": 0.6}, {"image": (indexed(MAP), "PNG", {"transparency": 3})}),
    "CMYK": ({"strength": 0.6}, {"image": (colour().convert("CMYK"), "JPEG", {})}),
    "mask": ({}, {"image": (colour(), "PNG", {}), "mask": (Image.fromarray(HOLE), "PNG", {})}),
    "mask of 1 bit": ({}, {"image": (colour(), "PNG", {}), "mask": (Image.fromarray(HOLE > 0), "PNG", {})}),
    "mask as JPEG": ({"mask_blur": 2.0}, {"image": (colour(), "PNG", {}), "mask": (Image.fromarray(HOLE), "JPEG", {"quality": 60})}),
    "mask by alpha": (
        {},
        {"image": (colour(), "PNG", {}), "mask": (Image.fromarray(np.dstack([np.asarray(colour()), 255 - HOLE])), "PNG", {})},
    ),
    "mask of grey and alpha": ({}, {"image": (colour(), "PNG", {}), "mask": (Image.fromarray(np.dstack([HOLE, HOLE | 1])), "PNG", {})}),
    "outpaint": ({"outpaint": (16, 0, 16, 0)}, {"image": (colour(64, 32), "WEBP", {"quality": 80})}),
    "map": ({"prompt": ""}, {"map": (Image.fromarray(MAP), "PNG", {})}),
    "map of a palette": ({"prompt": ""}, {"map": (indexed(MAP), "PNG", {})}),
    "map of 16 bits": ({"prompt": ""}, {"map": (Image.fromarray(MAP.astype(np.uint16)), "PNG", {})}),
    "map with a label": ({"prompt": "", "label": "cat"}, {"map": (Image.fromarray(np.where(HOLE, MAP, 255).astype(np.uint8)), "PNG", {})}),
    "low_res": ({"prompt": "a cat"}, {"low_res": (colour(16, 16), "PNG", {})}),
    "low_res as WebP": ({"prompt": "a cat"}, {"low_res": (colour(16, 16), "WEBP", {"quality": 90})}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_as_from_the_file(engine: Engine, model: LatentDiffusion, kind: str, tmp_path: Path) -> None:
    fields, images = KINDS[kind]
    files: dict[str, Any] = {}
    for name, (image, format, how) in images.items():
        image.save(tmp_path / name, format, **how)
        files[name] = str(tmp_path / name)
    request = replace(CAT, **fields)
    wanted = generate(model, replace(request, **files))[0]
    ids: dict[str, Any] = {name: engine.upload(Path(path).read_bytes()).id for name, path in files.items()}
    job = ended(engine, engine.submit(replace(request, **ids)).id)
    assert (job.state, job.error) == ("done", None)
    made = Image.open(io.BytesIO(engine.picture(job.pictures[0])))
    assert int(abs(np.asarray(made).astype(int) - np.asarray(wanted.image).astype(int)).max()) <= 1
    # What it says of itself tells nothing of where it was made, and what is read out of it can be asked for again.
    record = read(engine.results.path(job.pictures[0]))
    assert {name: getattr(record.request, name) for name in FILES if getattr(record.request, name)} == {
        name: f"uploads/{id[7:]}.png" for name, id in ids.items()
    }
    assert record.request.digests == {name: id[7:] for name, id in ids.items()} and str(engine.folder) not in record.to_json()
    again = engine.read(engine.picture(job.pictures[0])).request
    assert (
        {name: getattr(again, name) for name in FILES if getattr(again, name)} == ids == {name: getattr(job.request, name) for name in ids}
    )
    if kind in ("mask by alpha", "map of a palette", "a photograph"):
        repeated = ended(engine, engine.submit(again).id)
        pixels = Image.open(io.BytesIO(engine.picture(repeated.pictures[0])))
        assert int(abs(np.asarray(pixels).astype(int) - np.asarray(made).astype(int)).max()) <= 1


REFUSED: dict[str, tuple[str, Image.Image, str]] = {
    "a map as JPEG": ("map", Image.fromarray(MAP), "JPEG"),
    "a map of 1 bit": ("map", Image.fromarray(HOLE > 0), "PNG"),
    "a map in colour": ("map", colour(), "PNG"),
    "a map of classes that there are not": ("map", Image.fromarray(MAP + 200), "PNG"),
    "a mask that holds nothing": ("mask", Image.fromarray(HOLE & 0), "PNG"),
    "a mask of other proportions": ("mask", Image.fromarray(HOLE[:32]), "PNG"),
    "depth, for a model that takes none": ("depth", colour().convert("L"), "PNG"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_as_the_file_is(engine: Engine, model: LatentDiffusion, kind: str, tmp_path: Path) -> None:
    """In the same words, but that there is no path; a map as JPEG, which is no JPEG any more, as one in colour."""
    name, image, format = REFUSED[kind]
    image.save(tmp_path / "file", format)
    colour().save(tmp_path / "image", "PNG")
    fields: dict[str, Any] = {"prompt": ""} if name == "map" else {"image": str(tmp_path / "image")} if name == "mask" else {}
    with pytest.raises(SumiError) as told:
        generate(model, replace(CAT, **fields, **{name: str(tmp_path / "file")}))
    if "image" in fields:
        fields["image"] = engine.upload((tmp_path / "image").read_bytes()).id
    job = ended(engine, engine.submit(replace(CAT, **fields, **{name: engine.upload((tmp_path / "file").read_bytes()).id})).id)
    assert job.state == "failed" and job.error is not None
    said = re.sub(rf" {re.escape(os.fspath(tmp_path))}/file", "", str(told.value))
    assert job.error.message == said or (kind == "a map as JPEG" and job.error.message.startswith("the map is in colour"))


def test_a_picture_does_not_tell_where_its_model_lies(tmp_path: Path) -> None:
    with Engine(tmp_path / "engine", devices=("cpu",), models={"mine": SHIPPED}) as engine:
        done = ended(engine, engine.submit(Request(prompt="a cat", steps=1), model="mine").id)
        data = engine.picture(done.pictures[0])
        path = tmp_path / "picture.png"
        path.write_bytes(data)
        assert read(path).model == "mine" and str(SHIPPED).encode() not in data and str(tmp_path).encode() not in data
