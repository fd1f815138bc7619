"""Each task from the outside: a request that names files, on tiny random models, to pictures."""

import base64
import dataclasses
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from small import NAMES, VARIANTS, variant
from sumi import running
from sumi.diffusion.noise import Noise
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.errors import ImageError, RequestError
from sumi.models.latent_diffusion import Inputs, LatentDiffusion
from sumi.models.seamless import Axes, seamless
from sumi.pipeline import Encoded, Picture, Step, again, generate, stream
from sumi.request import FILES, Request
from sumi.store.images import to_pil
from support import noisy, saved

Pixels: TypeAlias = np.ndarray[Any, Any]

CAT = Request(prompt="a cat", seed=7, steps=2)
SIZE = HEIGHT, WIDTH = 24, 32
HOLE = np.zeros(SIZE, dtype=np.uint8)
HOLE[7:18, 9:22] = 255  # across the cells of the latent
WHITE = HOLE == 255


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A file for each field that names one, and `other`, another picture."""
    pixels = {
        "image": noisy(*SIZE),
        "other": noisy(*SIZE, seed=1),
        "mask": HOLE,
        "map": noisy(*SIZE, None, high=len(NAMES) + 1),
        "depth": noisy(*SIZE, None),
        "low_res": noisy(HEIGHT // 4, WIDTH // 4),
        "like": noisy(40, 30),
    }
    return {name: saved(tmp_path / f"{name}.png", levels) for name, levels in pixels.items()}


TASKS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "from a picture": ("plain", ("image",), {"strength": 0.5}),
    "inpainting": ("plain", ("image", "mask"), {"mask_blur": 1.0}),
    "inpainting by channels": ("inpaint", ("image", "mask"), {}),
    "inpainting, if it can": ("optional", ("image", "mask"), {"strength": 0.5}),
    "outpainting": ("plain", ("image",), {"outpaint": (8, 0, 0, 8)}),
    "depth": ("depth", ("depth",), {}),
    "map": ("map", ("map",), {}),
    "label": ("label", (), {"label": "cat"}),
    "enlarged": ("low-res", ("low_res",), {}),
    "enlarged by the upscaler": ("upscaler", ("low_res",), {"level": 60}),
    "told to edit": ("edits", ("image",), {}),
    "variations": ("like", ("like",), {"level": 100}),
    "all at once": ("optional", ("image", "mask", "map"), {"label": "tree"}),
    "larger": ("plain", (), {"hires": 1.5}),
    "larger, by a map": ("optional", ("map",), {"hires": 2.0}),
    "in windows": ("plain", (), {"width": 64, "tile": 24}),
    "seamless": ("plain", ("image",), {"seamless": "both", "strength": 0.5}),
}


def asked(files: dict[str, str], task: str) -> tuple[LatentDiffusion, dict[str, Any]]:
    """The model of a task, and the fields of its request."""
    name, named, fields = TASKS[task]
    return variant(name), {field: files[field] for field in named} | fields


def pixels(picture: Picture | Image.Image) -> Pixels:
    return np.asarray(picture.image if isinstance(picture, Picture) else picture).astype(np.int16)


def alike(one: Picture, other: Picture) -> bool:
    """The same to float rounding."""
    return torch.allclose(one.latent, other.latent, atol=1e-4) and int(abs(pixels(one) - pixels(other)).max()) <= 1


def drawn(model: LatentDiffusion, **fields: Any) -> Picture:
    (picture,) = generate(model, CAT, **fields)
    return picture


def encoded(model: LatentDiffusion, **fields: Any) -> Encoded:
    event = next(stream(model, dataclasses.replace(CAT, **fields)))
    assert isinstance(event, Encoded)
    return event


def told(model: LatentDiffusion, **fields: Any) -> list[str]:
    return [str(notice) for notice in encoded(model, **fields).notices]


# Of every task


@pytest.mark.parametrize("task", TASKS)
def test_a_picture_is_the_same_alone_and_among_others(files: dict[str, str], task: str) -> None:
    model, fields = asked(files, task)
    pictures = generate(model, CAT, count=3, **fields)
    alone = drawn(model, first=1, **fields)
    assert alike(alone, pictures[1]) and not alike(alone, pictures[2])


@pytest.mark.parametrize("task", TASKS)
def test_a_picture_is_made_again_to_the_bit_unless_a_file_has_changed(files: dict[str, str], task: str, tmp_path: Path) -> None:
    model, fields = asked(files, task)
    generate(model, CAT, count=2, **fields)[1].save(tmp_path / "one.png")
    again(model, tmp_path / "one.png").save(tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    for name in fields.keys() & set(FILES):
        was = Path(fields[name]).read_bytes()
        Path(fields[name]).write_bytes(was + b"\0")  # which no decoder would notice
        with pytest.raises(RequestError, match=r"^\S+ is not the picture that it was: its SHA-256 is "):
            again(model, tmp_path / "one.png")
        Path(fields[name]).write_bytes(was)


@pytest.mark.parametrize("task", TASKS)
def test_a_run_takes_the_steps_and_calls_that_it_tells_of(files: dict[str, str], task: str) -> None:
    model, fields = asked(files, task)
    seen: list[int] = []
    hook = model.unet.conv_in.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    encoded, *events = stream(model, dataclasses.replace(CAT, **fields))
    hook.remove()
    assert isinstance(encoded, Encoded)
    steps = [event for event in events if isinstance(event, Step)]
    assert [(step.index, step.total) for step in steps] == [(n, encoded.plan.steps) for n in range(1, encoded.plan.steps + 1)]
    assert sum(seen) == encoded.plan.samples


def test_a_file_standard_input_and_a_data_url_are_one(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = variant("plain"), Path(files["image"]).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    ways = (files["image"], "-", "data:image/png;base64," + base64.b64encode(data).decode())
    pictures = [drawn(model, image=way) for way in ways]
    assert all(torch.equal(picture.latent, pictures[0].latent) for picture in pictures)
    assert all(picture.request.digests == pictures[0].request.digests for picture in pictures)


def test_a_long_data_url_has_to_be_given_again(tmp_path: Path) -> None:
    model, path = variant("plain"), saved(tmp_path / "large.png", noisy(200, 200))
    picture = drawn(model, image="data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode())
    picture.save(tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size < 20_000
    with pytest.raises(ImageError, match="does not keep a data URL as long as that which it was made from: give it again"):
        again(model, tmp_path / "one.png")
    assert (pixels(again(model, tmp_path / "one.png", image=path)) == pixels(picture)).all()


# Inpainting


def is_put_together(model: LatentDiffusion, picture: Picture, white: Pixels, old: Pixels) -> bool:
    """Whether a picture is, but for rounding, its latent decoded where it is white, and elsewhere the old pixels to the bit."""
    made = pixels(to_pil(model.decode(picture.latent[None]))[0])
    return bool((pixels(picture) == old)[~white].all()) and int(abs(pixels(picture) - made)[white].max()) <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", ["plain", "optional"])
def test_what_is_kept_is_the_files_own_to_the_bit_whatever_the_sampler(files: dict[str, str], name: str, sampler: str) -> None:
    picture = drawn(variant(name), image=files["image"], mask=files["mask"], sampler=sampler)
    assert is_put_together(variant(name), picture, WHITE, noisy(*SIZE)) and torch.isfinite(picture.latent).all()


@pytest.mark.parametrize("name", ["plain", "inpaint"])
@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize(
    "change", [{}, {"mask_grow": 2}, {"mask_grow": -2}, {"mask_invert": True}, {"mask_invert": True, "mask_grow": 1}], ids=str
)
def test_a_mask_is_what_is_made_anew(files: dict[str, str], name: str, strength: float, change: dict[str, Any]) -> None:
    picture = drawn(variant(name), image=files["image"], mask=files["mask"], strength=strength, **change)
    white, grow = WHITE ^ change.get("mask_invert", False), change.get("mask_grow", 0)
    # All within a distance of something white; or farther than it from everything black.
    white = ndimage.distance_transform_edt(~white) <= grow if grow >= 0 else ndimage.distance_transform_edt(white) > -grow
    assert is_put_together(variant(name), picture, white, noisy(*SIZE)) and 0 < white.sum() < white.size


def test_a_blurred_mask_blends(files: dict[str, str]) -> None:
    picture = drawn(variant("plain"), image=files["image"], mask=files["mask"], mask_blur=1.5)
    share = ndimage.gaussian_filter(WHITE.astype(float), 1.5, mode="nearest")[..., None]
    made = pixels(to_pil(variant("plain").decode(picture.latent[None]))[0])
    expected = (1 - share) * noisy(*SIZE) + share * made
    assert abs(pixels(picture) - expected).max() < 3 and ((share > 0.1) & (share < 0.9)).any()
    far = ndimage.distance_transform_edt(~WHITE) > 9
    assert (pixels(picture)[far] == noisy(*SIZE)[far]).all() and far.any()


@pytest.mark.parametrize("name", ["plain", "inpaint", "optional"])
@pytest.mark.parametrize("grow", [0, 2])
def test_what_is_under_the_mask_does_not_show_where_all_of_it_is_made_anew(
    files: dict[str, str], tmp_path: Path, name: str, grow: int
) -> None:
    changed = np.where(WHITE[..., None], noisy(*SIZE, seed=9), noisy(*SIZE))
    pair = files["image"], saved(tmp_path / "changed.png", changed)
    fields = {"mask": files["mask"], "mask_grow": grow}
    one, other = (drawn(variant(name), image=image, **fields) for image in pair)
    assert torch.equal(one.latent, other.latent) and (pixels(one) == pixels(other)).all()
    one, other = (drawn(variant(name), image=image, strength=0.5, **fields) for image in pair)
    assert not alike(one, other)  # but where it is gone on from, it does


@pytest.mark.parametrize("name", ["plain", "inpaint"])
def test_what_is_kept_is_what_the_rest_is_made_to_fit(files: dict[str, str], tmp_path: Path, name: str) -> None:
    changed = np.where(WHITE[..., None], noisy(*SIZE), noisy(*SIZE, seed=9))
    one, other = (
        drawn(variant(name), image=image, mask=files["mask"]) for image in (files["image"], saved(tmp_path / "changed.png", changed))
    )
    assert abs(pixels(one) - pixels(other))[WHITE].max() > 2


def test_of_a_mask_every_pixel_is_made_anew(files: dict[str, str], tmp_path: Path) -> None:
    """A single one, too, which is not the one by which its cell of the latent is known."""
    model, dot = variant("plain"), np.zeros_like(HOLE)
    dot[10, 15] = 255
    mask = saved(tmp_path / "dot.png", dot)
    one, other = (drawn(model, image=files["image"], mask=mask, seed=seed) for seed in (1, 2))
    differs = (one.latent != other.latent).any(0)
    assert differs.nonzero().tolist() == [[10 // 4, 15 // 4]]


def test_below_full_strength_what_is_made_anew_begins_with_what_is_there(files: dict[str, str]) -> None:
    model, start = variant("pixels"), noisy(*SIZE)
    distances = [
        abs(pixels(drawn(model, image=files["image"], mask=files["mask"], steps=10, strength=strength)) - start)[WHITE].mean()
        for strength in (0.1, 0.5, 1.0)
    ]
    assert distances == sorted(distances) and distances[0] < distances[2] / 2


def test_noise_is_multiplied_with_a_mask_too(files: dict[str, str]) -> None:
    for fields in ({}, {"strength": 0.5}):
        one, other = (drawn(variant("plain"), image=files["image"], mask=files["mask"], noise_multiplier=k, **fields) for k in (1.0, 1.2))
        assert not alike(one, other)


# Outpainting


@pytest.mark.parametrize("name", ["plain", "inpaint", "optional"])
@pytest.mark.parametrize(
    ("sides", "added", "notice"),
    [
        ((8, 0, 16, 8), (8, 0, 16, 8), []),
        ((5, 0, 0, 3), (8, 0, 0, 8), ["outpaint adds 8,0,0,8: sides are multiples of 8"]),
        ((4, 1, 3, 1), (5, 1, 3, 7), ["outpaint adds 5,1,3,7: sides are multiples of 8"]),
    ],
)
def test_a_picture_grows_and_stays_as_it_is_in_its_place(
    files: dict[str, str], name: str, sides: tuple[int, ...], added: tuple[int, ...], notice: list[str]
) -> None:
    model, (left, top, right, bottom) = variant(name), added
    picture = drawn(model, image=files["image"], outpaint=sides)
    assert picture.image.size == (left + WIDTH + right, top + HEIGHT + bottom) and picture.request.outpaint == added
    assert told(model, image=files["image"], outpaint=sides) == notice
    white = np.pad(np.zeros(SIZE, dtype=bool), ((top, bottom), (left, right)), constant_values=True)
    old = np.pad(noisy(*SIZE), ((top, bottom), (left, right), (0, 0)))
    assert is_put_together(model, picture, white, old)
    assert alike(drawn(model, image=files["image"], outpaint=added), picture)


def test_a_mask_goes_with_outpainting(files: dict[str, str]) -> None:
    picture = drawn(variant("plain"), image=files["image"], outpaint=(8, 0, 0, 0), mask=files["mask"])
    white = np.pad(WHITE, ((0, 0), (8, 0)), constant_values=True)
    old = np.pad(noisy(*SIZE), ((0, 0), (8, 0), (0, 0)))
    assert is_put_together(variant("plain"), picture, white, old)


def test_outpainting_in_a_size_that_is_asked_for(files: dict[str, str]) -> None:
    model, fields = variant("plain"), {"image": files["image"], "outpaint": (8, 8, 8, 0)}
    picture = drawn(model, width=48, height=32, **fields)
    assert picture.image.size == (48, 32) and (pixels(picture)[8:, 8:40] == noisy(*SIZE)).all()
    with pytest.raises(
        RequestError, match="outpaint leaves nothing of the picture in 16 by 32 pixels: raise width and height, or add less"
    ):
        drawn(model, width=16, height=32, **fields)
    with pytest.raises(RequestError, match="outpaint says how large the picture becomes: give width and height both, or neither"):
        drawn(model, width=48, **fields)


# From a picture


def test_less_noise_stays_nearer_to_the_picture(files: dict[str, str]) -> None:
    start = noisy(*SIZE)
    distances = [
        abs(pixels(drawn(variant("pixels"), image=files["image"], steps=10, strength=0.2, noise_multiplier=multiplier)) - start).mean()
        for multiplier in (0.0, 1.0, 2.0)
    ]
    assert distances == sorted(distances) and distances[0] < 0.8 * distances[1] < 0.6 * distances[2]


@pytest.mark.parametrize(
    ("height", "width", "fields", "size"),
    [
        (24, 32, {}, (32, 24)),
        (12, 16, {}, (16, 16)),  # never larger than it is, but for the multiple
        (48, 64, {}, (32, 24)),
        (60, 20, {}, (16, 48)),
        (48, 64, {"width": 64}, (64, 48)),
        (48, 64, {"height": 16}, (24, 16)),
        (48, 64, {"width": 16, "height": 32}, (16, 32)),
    ],
)
def test_a_picture_to_start_from_gives_its_size(
    tmp_path: Path, height: int, width: int, fields: dict[str, int], size: tuple[int, int]
) -> None:
    model, path = variant("plain"), saved(tmp_path / "x.png", noisy(height, width))
    assert drawn(model, image=path, **fields).image.size == size
    heard = told(model, image=path, **fields)
    assert [notice.split(":")[0] for notice in heard] == (
        [] if size == (width, height) else [f"the picture of {width} x {height} is taken at {size[0]} x {size[1]}"]
    )


# Larger pictures


def test_a_second_pass_begins_with_the_first() -> None:
    model, fields = variant("pixels"), {"steps": 4, "width": 16, "height": 8}
    first, larger = drawn(model, **fields), drawn(model, **fields, hires=2, hires_steps=1000, hires_strength=0.001)
    assert larger.image.size == (32, 16) and (larger.request.width, larger.request.height) == (16, 8)

    def unlike(other: Picture) -> float:
        """How far the two are apart in their low frequencies."""
        small = (pixels(picture.image.resize((4, 2), Image.Resampling.BOX)) for picture in (first, other))
        return float(abs(next(small) - next(small)).mean())

    assert unlike(larger) < 3 < unlike(drawn(model, **fields, hires=2, hires_strength=1.0)) / 4


def test_the_noise_of_a_second_pass_is_its_own() -> None:
    """With that of the first, scale 1 and strength 1 would be the same picture twice."""
    once, twice = drawn(variant("plain")), drawn(variant("plain"), hires=1, hires_strength=1.0)
    assert not alike(once, twice)


def test_a_second_pass_is_told_what_the_first_was(files: dict[str, str], tmp_path: Path) -> None:
    other = saved(tmp_path / "other map.png", noisy(*SIZE, None, seed=3, high=len(NAMES) + 1))
    one, two = (drawn(variant("optional"), map=path, hires=2, hires_strength=1.0) for path in (files["map"], other))
    assert not alike(one, two)


def test_windows_cover_what_is_larger_than_they_are() -> None:
    model, fields = variant("plain"), {"width": 64, "height": 48, "tile": 24, "tile_overlap": 8}
    plan = encoded(model, **fields).plan
    down, across = (-(-(cells - 2) // (6 - 2)) for cells in (12, 16))  # windows of 6 cells, 4 apart at the most
    assert plan.samples == 2 * 2 * down * across  # two predictions in each of two steps
    assert drawn(model, **fields).image.size == (64, 48)
    assert not alike(drawn(model, width=64, height=48), drawn(model, **fields))


@pytest.mark.parametrize("tile", [32, 64])
def test_a_picture_no_larger_than_a_window_is_the_same_to_the_bit(tile: int) -> None:
    one, other = drawn(variant("plain")), drawn(variant("plain"), tile=tile)
    assert torch.equal(one.latent, other.latent) and (pixels(one) == pixels(other)).all()


@pytest.mark.parametrize(("axes", "dims"), [("x", (-1,)), ("y", (-2,)), ("both", (-2, -1))])
@pytest.mark.parametrize(
    "fields", [{}, {"tile": 16, "tile_overlap": 8}, {"image": "image", "strength": 0.5}], ids=["plain", "tile", "image"]
)
def test_rolled_noise_makes_a_rolled_picture_where_it_is_seamless(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axes: Axes, dims: tuple[int, ...], fields: dict[str, Any]
) -> None:
    """So no place of it is an edge. Rolled by two cells, the network's stride and what windows here are apart."""
    model, source, cells = variant("plain"), running.source, [2] * len(dims)
    fields = {"width": 32, "height": 32, **fields}
    rolled = dict(fields)
    if "image" in fields:
        start = noisy(32, 32)
        fields["image"] = saved(tmp_path / "start.png", start)
        rolled["image"] = saved(tmp_path / "rolled.png", np.roll(start, [8] * len(dims), [dim + 2 for dim in dims]))
    pictures, others = drawn(model, seamless=axes, **fields), drawn(model, **fields)

    def moved(*given: Any, **named: Any) -> Callable[..., Tensor]:
        drawing = source(*given, **named)
        return lambda step, draw=0: drawing(step, draw).roll(cells, dims)

    monkeypatch.setattr(running, "source", moved)
    turned = drawn(model, seamless=axes, **rolled)
    assert torch.allclose(turned.latent, pictures.latent.roll(cells, dims), atol=1e-4)
    shifted = np.roll(pixels(pictures), [8] * len(dims), [dim + 2 for dim in dims])
    assert abs(pixels(turned) - shifted).max() <= 1
    assert not torch.allclose(drawn(model, **rolled).latent, others.latent.roll(cells, dims), atol=1e-2)
    closed = seamless(model.autoencoder, axes)
    assert abs(pixels(to_pil(closed.decode(pictures.latent[None]))[0]) - pixels(pictures)).max() <= 1


# What a model is told beside words


def test_a_class_has_a_name_and_a_number() -> None:
    model = variant("label")
    one, *others = (drawn(model, label=label) for label in ("tree", "Tree", " tree ", "1"))
    assert all(torch.equal(one.latent, other.latent) for other in others)
    assert not alike(one, drawn(model, label="cat"))


def test_guidance_leads_away_from_no_label() -> None:
    model, fields = variant("unnamed"), {"prompt": "", "steps": 1}
    given, away, guided = (
        drawn(model, **fields, label=label, guidance=guidance).latent for label, guidance in (("1", 1.0), ("3", 1.0), ("1", 5.0))
    )
    assert torch.allclose(guided, away + 5 * (given - away), atol=1e-4) and not torch.allclose(given, away, atol=1e-2)


@pytest.mark.parametrize("name", ["low-res", "upscaler", "optional"])
def test_a_picture_becomes_four_times_as_large(files: dict[str, str], tmp_path: Path, name: str) -> None:
    picture = drawn(variant(name), low_res=files["low_res"])
    assert picture.image.size == (WIDTH, HEIGHT) and told(variant(name), low_res=files["low_res"]) == []
    small = saved(tmp_path / "small.png", noisy(5, 9))
    assert drawn(variant(name), low_res=small).image.size == (40, 24)
    assert told(variant(name), low_res=small) == [
        "the picture of 9 x 5 is taken at 10 x 6: scaled to 120 % and cropped by 1 pixel of its width; sides are multiples of 2"
    ]
    other = saved(tmp_path / "other.png", noisy(HEIGHT // 4, WIDTH // 4, seed=3))
    assert not alike(picture, drawn(variant(name), low_res=other))


def test_more_noise_hides_more_of_what_is_enlarged_or_varied(files: dict[str, str], tmp_path: Path) -> None:
    # Of a picture to enlarge, even the highest level leaves four fifths; of an embedding, nothing.
    for name, field, pair, levels, left in (
        ("upscaler", "low_res", noisy(6, 8, seed=5), (0, 150, 350), 0.95),
        ("like", "like", noisy(40, 30, low=200), (0, 400, 999), 0.25),
    ):
        paths = files[field], saved(tmp_path / f"other {name}.png", pair)
        apart = []
        for level in levels:
            one, other = (drawn(variant(name), **{field: path}, level=level).latent for path in paths)
            apart.append(float((one - other).norm()))
        assert apart == sorted(apart, reverse=True) and apart[2] < apart[0] * left


def test_depth_is_relative(files: dict[str, str], tmp_path: Path) -> None:
    near = noisy(*SIZE, None, high=100)
    one, other = (drawn(variant("depth"), depth=saved(tmp_path / f"{by}.png", levels)) for by, levels in ((1, near), (2, near * 2 + 20)))
    assert alike(one, other) and not alike(one, drawn(variant("depth"), depth=files["depth"]))


def test_words_and_a_picture_to_edit_are_followed_each_by_its_scale(files: dict[str, str]) -> None:
    """Of one step, x0 is affine in both scales (Brooks et al. 2023, equation 3)."""
    found = {
        (words, picture): drawn(variant("edits"), image=files["image"], steps=1, guidance=words, image_guidance=picture).latent
        for words, picture in ((1.0, 1.0), (2.0, 1.0), (1.0, 2.0), (4.0, 3.0))
    }
    base = found[1.0, 1.0]
    by_words, by_picture = found[2.0, 1.0] - base, found[1.0, 2.0] - base
    assert torch.allclose(found[4.0, 3.0], base + 3 * by_words + 2 * by_picture, atol=1e-3)
    assert min(by_words.abs().max(), by_picture.abs().max()) > 1e-2


def test_a_picture_to_vary_needs_what_sees_it(files: dict[str, str]) -> None:
    blind = dataclasses.replace(variant("like"), vision=None)
    with pytest.raises(
        RequestError, match=r"^like lacks its image encoder, which sees what like is: use the whole folder, image_encoder too"
    ):
        drawn(blind, like=files["like"])


# What may be left out


OPTIONAL: list[tuple[str, ...]] = [("image",), ("image", "mask"), ("map",), ("label",), ("low_res",), ("map", "label", "low_res")]


def test_every_input_that_may_be_left_out_tells_something(files: dict[str, str]) -> None:
    values, model = files | {"label": "cat"}, variant("optional")
    pictures = [drawn(model, **{name: values[name] for name in names}) for names in [(), *OPTIONAL]]
    assert all(not alike(one, other) for at, one in enumerate(pictures) for other in pictures[:at])


def test_what_is_left_out_is_told_as_nothing(tmp_path: Path) -> None:
    model, noise = variant("optional"), Noise(7, [0], (4, 6, 8))
    given, away = model.beside_words(Inputs(), noise, SIZE)
    assert given.equals(away) and given.concat is not None and given.context is not None and model.label is not None
    assert torch.equal(given.concat[:, :1], torch.ones(1, 1, 6, 8)) and not given.concat[:, 1:].any()
    assert torch.equal(given.context[0, 0], model.label.table.embedding.weight[len(NAMES)])
    unknown = saved(tmp_path / "unknown.png", np.full(SIZE, 255, np.uint8))
    assert torch.equal(drawn(model).latent, drawn(model, map=unknown).latent)


def test_of_a_map_what_is_not_known_may_be_anything(files: dict[str, str], tmp_path: Path) -> None:
    classes = noisy(*SIZE, None, high=len(NAMES) + 1)
    classes[:, 16:] = 255
    half = drawn(variant("map"), map=saved(tmp_path / "half.png", classes))
    assert not alike(half, drawn(variant("map"), map=files["map"]))
    labels = torch.from_numpy(np.where(classes == 255, -1, classes.astype(np.int64)))[None]
    told, _ = variant("map").beside_words(Inputs(map=labels), Noise(7, [0], (4, 6, 8)), SIZE)
    assert told.concat is not None and told.concat[..., :4].any() and not told.concat[..., 4:].any()


def test_every_variant_has_a_task() -> None:
    assert {name for name, _, _ in TASKS.values()} | {"unnamed", "pixels"} == set(VARIANTS)
