"""What cannot be drawn, of files above all: one line that says what was wrong and what to do, and nothing is written."""

import base64
import dataclasses
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from small import NAMES, variant
from sumi.apps.cli import main
from sumi.errors import SumiError
from sumi.pipeline import generate
from sumi.request import Request
from sumi.resolve.serves import DEPENDS
from support import noisy, saved

SIZE = HEIGHT, WIDTH = 16, 24


def png(width: int, height: int) -> bytes:
    """The beginning of a file that says that it is so large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good files and bad ones, by names that say what they are."""
    at = tmp_path_factory.mktemp("files")
    hole = np.zeros(SIZE, dtype=np.uint8)
    hole[4:12, 8:20] = 255
    pixels = {
        "good": noisy(*SIZE),
        "small": noisy(4, 6),
        "hole": hole,
        "square": hole[:, :16],
        "black": np.zeros_like(hole),
        "white": np.full_like(hole, 255),
        "classes": noisy(*SIZE, None, high=len(NAMES) + 1),
        "unknown": np.full_like(hole, 255),
        "beyond": np.full_like(hole, len(NAMES) + 1),
        "grey": noisy(*SIZE, None),
    }
    for name, levels in pixels.items():
        saved(at / f"{name}.png", levels)
    Image.fromarray(pixels["good"]).save(at / "good.jpg")
    Image.fromarray(pixels["classes"]).save(at / "classes.jpg")
    (at / "cut.jpg").write_bytes((at / "good.jpg").read_bytes()[:-200])
    (at / "cut.png").write_bytes((at / "good.png").read_bytes()[:-200])
    (at / "bomb.png").write_bytes(png(60_000, 60_000))
    frames = [Image.fromarray(noisy(*SIZE, seed=seed)) for seed in range(2)]
    frames[0].save(at / "moving.png", save_all=True, append_images=frames[1:])
    frames[0].save(at / "moving.webp", save_all=True, append_images=frames[1:])
    frames[0].save(at / "picture.gif")
    (at / "empty.png").touch()
    (at / "words.png").write_text("a cat")
    (at / "folder.png").mkdir()
    return at


def url(folder: Path, cut: int = 0) -> str:
    data = (folder / "good.png").read_bytes()
    return "data:image/png;base64," + base64.b64encode(data[: len(data) - cut]).decode()


GOOD, HOLE = {"image": "good.png"}, {"image": "good.png", "mask": "hole.png"}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    # Files that are no pictures
    ("plain", {"image": "nowhere.png"}, "nowhere.png is missing: check the path"),
    ("plain", {"image": "folder.png"}, "folder.png is not a file: check the path"),
    ("plain", {"image": "empty.png"}, "empty.png is empty: a PNG, JPEG or WebP picture is needed"),
    ("plain", {"image": "words.png"}, "words.png is no picture that can be read: save it as PNG, JPEG or WebP"),
    ("plain", {"image": "picture.gif"}, "picture.gif is GIF, which is not read: save it as PNG, JPEG or WebP"),
    ("plain", {"image": "cut.jpg"}, "cut.jpg is damaged or cut short: use another copy of it"),
    ("plain", {"image": "cut.png"}, "cut.png is damaged or cut short: use another copy of it"),
    ("plain", {"image": "bomb.png"}, "bomb.png has more than 16 megapixels: make it smaller"),
    ("plain", {"image": "moving.png"}, "moving.png is animated: save the one frame of it"),
    ("plain", {"image": "moving.webp"}, "moving.webp is animated: save the one frame of it"),
    ("plain", {"image": "-"}, "standard input"),
    ("plain", {"image": "-", "mask": "-"}, "standard input holds one picture: name a file for the others"),
    ("plain", {"image": "data:image/png"}, "the data URL has no comma: write it as in data:image/png;base64,iVBORw0KGgo..."),
    ("plain", {"image": "data:image/png;base64,i!"}, "the data URL is not base64, as it says: encode the file again"),
    ("plain", {"image": "CUT"}, "the data URL is damaged or cut short: use another copy of it"),
    # Masks
    ("plain", {"mask": "hole.png"}, "mask without image means nothing: give it, or leave it out"),
    ("plain", GOOD | {"mask": "square.png"}, "square.png is of 16 x 16 pixels and its picture of 24 x 16: make the mask as large as"),
    ("plain", GOOD | {"mask": "black.png"}, "black.png is white: paint so what is to be made anew"),
    ("plain", GOOD | {"mask": "white.png"}, "everything is to be made anew: leave the picture and the mask out"),
    ("plain", GOOD | {"mask": "white.png", "mask_invert": True}, "white.png is black: paint so what is to be made anew"),
    ("plain", HOLE | {"mask_grow": -30}, "is left after growing it by -30 and blurring it by 0: let more of it be"),
    ("plain", GOOD | {"mask_grow": 2}, "mask_grow without mask or outpaint means nothing: give one, or leave it out"),
    ("plain", {"mask_invert": True}, "mask_invert without mask means nothing: give it, or leave it out"),
    ("inpaint", {}, "inpaint needs a mask: give it one as mask, or use another model"),
    ("inpaint", GOOD, "inpaint needs a mask: give it one as mask, or use another model"),
    ("inpaint", HOLE | {"hires": 2.0}, "hires makes the whole picture again: leave mask, outpaint and low_res out"),
    # Sizes
    ("plain", {"outpaint": (8, 0, 0, 0)}, "outpaint without image means nothing: give it, or leave it out"),
    ("plain", GOOD | {"outpaint": (0, 0, 0, 0)}, "outpaint adds nothing: give pixels to add on the left, top, right and bottom"),
    ("plain", GOOD | {"outpaint": (8, 0, 0, 0.5)}, "outpaint must be whole pixels"),
    ("plain", GOOD | {"outpaint": (8, 8)}, "outpaint must be 4 numbers; got 2"),
    ("plain", GOOD | {"outpaint": (8, 0, 0, 0), "width": 8, "height": 8}, "outpaint leaves nothing of the picture in 8 by 8 pixels"),
    ("plain", {"tile": 12}, "tile must be a multiple of 8 with this model; got 12"),
    ("plain", {"tile": 16, "tile_overlap": 16}, "tile_overlap must be less than tile, 16; got 16"),
    ("plain", {"tile_overlap": 16}, "tile_overlap without tile means nothing: give it, or leave it out"),
    ("plain", {"hires_steps": 3}, "hires_steps without hires means nothing: give it, or leave it out"),
    ("plain", {"hires": 2.0, "hires_strength": 0.01}, "hires_strength 0.01 of 2 steps is less than one step: raise it, or hires_steps"),
    ("plain", {"hires": 2.0, "hires_steps": 1001}, "hires_steps must be at most the 1000 of this model's training; got 1001"),
    ("plain", {"hires": 8.0, "height": 1600}, "height must be from 1 to 8192; got 12800"),
    ("optional", {"low_res": "small.png", "image": "good.png"}, "image and low_res are two pictures to go by: leave one of them out"),
    # What a model does not take, or not so
    ("plain", {"depth": "grey.png"}, "plain takes no depth: use a model of depth to picture"),
    ("plain", {"map": "classes.png"}, "plain takes no map: use a model of maps to pictures"),
    ("plain", {"label": "cat"}, "plain takes no label: use a model of class labels, or say it in the prompt"),
    ("plain", {"low_res": "small.png"}, "plain takes no low_res: use a model of super-resolution"),
    ("plain", {"like": "good.png"}, "plain takes no like: use an unCLIP model, or start from the picture, as image"),
    ("plain", GOOD | {"image_guidance": 2.0}, "plain takes no image_guidance: leave it out"),
    ("plain", {"level": 3}, "level without low_res or like means nothing: give one, or leave it out"),
    ("low-res", {"low_res": "small.png", "level": 3}, "low-res takes no level: leave it out"),
    ("upscaler", {"low_res": "small.png", "level": 351}, "level of low_res must be at most 350, as in training; got 351"),
    ("edits", GOOD | {"pag": 1.0}, "pag is for guidance by the prompt alone, and edits is guided by the image, too: leave it out"),
    ("edits", GOOD | {"guidance_rescale": 0.5}, "guidance_rescale is for guidance by the prompt alone"),
    ("edits", GOOD | {"strength": 0.5}, "edits is told of the image and does not start from it: leave strength, exact and noise_multi"),
    ("edits", HOLE, "edits changes a picture as it is told to, and all of it: leave mask and outpaint out"),
    ("edits", GOOD | {"guidance": 0.0}, "at guidance 0 neither the prompt nor the image would be followed: raise guidance"),
    ("edits", {}, "edits needs a picture to change: give it one as image, or use another model"),
    ("like", {}, "like needs a picture to make variations of: give it one as like, or use another model"),
    ("depth", {}, "depth needs a depth map: give it one as depth, or use another model"),
    ("depth", {"depth": "good.png"}, "good.png is in colour: a depth map is grey, the nearer the lighter"),
    ("map", {"map": "good.png"}, "good.png is in colour or has transparency (RGB): a map has one number a pixel"),
    ("map", {"map": "classes.jpg"}, "classes.jpg is a JPEG, which alters class numbers: save it as PNG"),
    ("map", {"map": "beyond.png"}, "beyond.png says 4 at (0, 0), which is no class: there are 4, from 0 to 3"),
    ("label", {}, "label needs a class label: give it one as label, or use another model"),
    ("label", {"label": "kat"}, "there is no class 'kat' (did you mean cat?): give a name or a number from 0 to 2"),
    ("label", {"label": "3"}, "there is no class '3': give a name or a number from 0 to 2"),
    ("label", {"label": "-1"}, "there is no class '-1': give a name or a number from 0 to 2"),
    ("label", {"label": "9" * 5000}, f"there is no class '{'9' * 40}': give a name or a number from 0 to 2"),
    ("unnamed", {"label": "cat"}, "there is no class 'cat': give a number from 0 to 3"),
]


def named(folder: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """With the files' paths."""
    return {
        name: str(folder / value) if isinstance(value, str) and value.endswith((".png", ".jpg", ".webp", ".gif")) else value
        for name, value in fields.items()
    } | ({"image": url(folder, cut=200)} if fields.get("image") == "CUT" else {})


@pytest.mark.parametrize(("name", "fields", "message"), REFUSED, ids=[message[:50] for *_, message in REFUSED])
def test_what_cannot_be_drawn_is_one_line(
    folder: Path,
    tmp_path: Path,
    model_for: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    fields: dict[str, Any],
    message: str,
) -> None:
    fields = {"seed": 3, "steps": 2, **named(folder, fields)}
    with pytest.raises(SumiError) as caught:
        generate(variant(name), Request(prompt="a cat"), **fields)
    said = str(caught.value)
    assert message in said and said.isprintable()
    monkeypatch.chdir(tmp_path)
    words = {field: ",".join(map(str, value)) if isinstance(value, tuple) else value for field, value in fields.items()}
    flags = [f"--{field.replace('_', '-')}{'' if value is True else f'={value}'}" for field, value in words.items()]
    assert main(["a cat", "-m", str(model_for(name)), "-q", *flags]) == 2
    captured = capsys.readouterr()
    # Of what argparse reads, it says so.
    assert captured.out == "" and captured.err.count("\n") == 1 and said in captured.err and captured.err.startswith("sumi: ")
    assert list(tmp_path.iterdir()) == []


NEEDED = {"edits": ["image"], "inpaint": ["image", "mask"], "like": ["like"]}
FOREIGN = {"optional": {"depth", "like", "level", "image_guidance"}, "edits": {"map", "depth", "low_res", "like", "level", "label"}}
"""What a model takes never."""


def requests(folder: Path, name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Fields for a model of `VARIANTS`, a few of them, each sensible or not, beside those that it needs."""
    files = {
        "image": ["good.png", "good.jpg", "hole.png"],
        "mask": ["hole.png", "hole.png", "square.png"],
        "map": ["classes.png", "unknown.png"],
        "depth": ["grey.png"],
        "low_res": ["small.png", "small.png", "good.png"],
        "like": ["good.png"],
    }
    bad = [str(path) for path in sorted(folder.iterdir())] + ["-", "data:,", url(folder)]
    sides = st.sampled_from([8, 16, 24, 20])
    each: dict[str, st.SearchStrategy[Any]] = {
        "negative": st.just("a tree"),
        "label": st.sampled_from(["cat", "2", "3", "zebra", ""]),
        "width": sides,
        "height": sides,
        "seamless": st.sampled_from(["none", "x", "y", "both"]),
        "strength": st.sampled_from([1.0, 0.5, 0.0]),
        "exact": st.booleans(),
        "noise_multiplier": st.sampled_from([1.0, 0.0, 1.5]),
        "image_guidance": st.sampled_from([1.5, 0.0]),
        "mask_grow": st.integers(-3, 20),
        "mask_blur": st.sampled_from([0.0, 2.0, 200.0]),
        "mask_invert": st.booleans(),
        "outpaint": st.tuples(*[st.sampled_from([8.0, 0.0, 3.0])] * 4),
        "level": st.sampled_from([0, 20, 999]),
        "hires": st.sampled_from([1.4, 1.0, 2.0]),
        "hires_strength": st.sampled_from([1.0, 0.5]),
        "hires_steps": st.sampled_from([1, 1001]),
        "tile": st.sampled_from([16, 8, 20]),
        "tile_overlap": st.sampled_from([0, 3, 8, 16]),
        "noise": st.sampled_from(["native", "torch", "a1111-cpu", "a1111-nv"]),
        "sampler": st.sampled_from(["ddim", "dpmpp_2m", "heun"]),
        "sigmas": st.sampled_from([(3.0, 0.0), (3.0, 1.0)]),
        "guidance": st.sampled_from([4.0, 0.0, 1.0]),
        "guidance_method": st.sampled_from(["cfg", "apg", "cfg++"]),
        "sag": st.sampled_from([0.0, 1.0]),
    }
    kinds = st.sampled_from(["good", "good", "good", "bad"])
    each |= {
        field: kinds.flatmap(lambda kind, good=good: st.sampled_from([str(folder / file) for file in good] if kind == "good" else bad))
        for field, good in files.items()
    }
    foreign = FOREIGN.get(name, set())
    pool = [field for field in each for _ in range(1 if field in foreign else 4)]

    def drawn(names: list[str], whole: bool) -> st.SearchStrategy[dict[str, Any]]:
        for field in list(names) if whole else ():  # what one means nothing without
            for other in (DEPENDS.get(field, ())[:1], DEPENDS.get(DEPENDS.get(field, ("",))[0], ())[:1]):
                names += other
        return st.fixed_dictionaries({field: each[field] for field in dict.fromkeys([*NEEDED.get(name, []), *names])})

    chosen, whole = st.lists(st.sampled_from(pool), unique=True, max_size=5), st.sampled_from([True, True, True, False])
    return st.tuples(chosen, whole).flatmap(lambda drawing: drawn(*drawing))


@pytest.mark.parametrize("name", ["optional", "edits"])
def test_any_request_makes_a_picture_or_is_refused_in_one_line(folder: Path, name: str) -> None:
    made: list[str] = []
    model = variant(name)
    model = dataclasses.replace(model, spec=dataclasses.replace(model.spec, size=(8, 16)))

    @settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(requests(folder, name))
    def check(fields: dict[str, Any]) -> None:
        try:
            steps = None if "sigmas" in fields else 2 if "image" in fields or "hires" in fields else 1
            (picture,) = generate(model, Request(prompt="a cat", seed=1, steps=steps), **fields)
        except SumiError as error:
            assert str(error).isprintable() and len(str(error)) > 10
        else:
            made.extend(fields)
            assert picture.request.count == 1 and np.asarray(picture.image).std() > 0

    check()
    assert len(set(made)) >= 12, "fields that a picture was made with"
