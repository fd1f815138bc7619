"""What a request's files become: pictures, masks, class maps and depths, of the size that is drawn."""

import base64
import hashlib
import io
import os
import random
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from scipy.stats import norm
from torch import Tensor

from sumi.errors import ImageError
from sumi.store import inputs
from sumi.store.composite import composite
from sumi.store.images import MAX_BYTES, decoded
from sumi.store.inputs import UNKNOWN, Opened, blurred, covered, grown, opened, own_size, told

SIZE = (12, 16)
"""Height and width."""


def noise(height: int = 12, width: int = 16, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def given_as(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> Opened:
    """What a file of it becomes."""
    return Opened(decoded(encoded(image, kind, **options), "it.png"), "", "it.png")


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(ImageError) as caught:
        call()
    assert str(caught.value).isprintable()
    return str(caught.value)


# Where a picture comes from.


def test_a_file_standard_input_and_a_data_url_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(noise())
    path = tmp_path / "a cat.png"
    path.write_bytes(data)
    sources = {
        str(path): str(path),
        "-": "standard input",
        "data:image/png;base64," + base64.b64encode(data).decode(): "the data URL",
        "DATA:;BASE64," + base64.b64encode(data).decode().rstrip("=").replace("+", "%2B") + "%0A": "the data URL",
        "data:," + urllib.parse.quote_from_bytes(data): "the data URL",
    }
    for source, name in sources.items():
        with path.open() as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            found = opened(source)
        assert np.array_equal(np.asarray(found.image), noise())
        assert (found.name, found.sha256, found.size) == (name, hashlib.sha256(data).hexdigest(), SIZE)


BAD_URLS = {
    "data:image/png;base64": "no comma",
    "data:image/png;base64,a*b=": "is not base64",
    "data:image/png;base64,abcde": "is not base64",
    "data:image/png;base64,é": "is not base64",
    "data:,": "is empty",
    "data:image/png;base64,aGVsbG8=": "the data URL is no picture that can be read: save it as PNG, JPEG or WebP",
    "data:,%ff%zz%": "is no picture",
    "data:," + "a" * (MAX_BYTES + 1): "longer than 64 MiB",
}


@pytest.mark.parametrize("url", BAD_URLS, ids=range(len(BAD_URLS)))
def test_a_data_url_that_holds_no_picture(url: str) -> None:
    assert BAD_URLS[url] in refused(lambda: opened(url))


def test_standard_input_without_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> str:
        return refused(lambda: opened("-"))

    path = tmp_path / "nothing"
    path.touch()
    with path.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert "standard input is empty" in said()
        os.truncate(path, MAX_BYTES + 1)
        assert "standard input is longer than 64 MiB" in said()
    assert "standard input cannot be read" in said()  # it is closed
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        assert "no picture in standard input" in said()
    os.close(ours)
    monkeypatch.setattr("sys.stdin", None)
    assert "no picture in standard input" in said()


@pytest.mark.parametrize("source", ["", "nowhere.png", "a\0b", "a\nb", "x" * 100_000, "\udcff", "https://example.org/cat.png", "~"])
def test_a_path_to_nothing(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = refused(lambda: opened(source))
    assert message.endswith(": check the path") and len(message) < 2000


# What it becomes.


def test_a_picture_fills_the_size_and_is_cropped_in_the_middle() -> None:
    levels = np.zeros((8, 32, 3), np.uint8)
    levels[:, 8:24] = 255
    assert torch.equal(inputs.picture(given_as(levels), (8, 16)), torch.ones(1, 3, 8, 16))
    assert torch.equal(inputs.picture(given_as(levels), (8, 32))[0, 0], torch.tensor(levels[..., 0]) / 127.5 - 1)


def test_a_mask_is_white_where_the_picture_is_made_anew() -> None:
    levels = np.zeros((12, 16), np.uint8)
    levels[3:7, 5:9], levels[8, 8] = 255, 128
    expected = torch.tensor(levels).float()[None, None] / 255
    for image in (Image.fromarray(levels), Image.fromarray(levels).convert("RGB"), Image.fromarray(levels).convert("P")):
        found = inputs.mask(given_as(image), SIZE, like=SIZE)
        assert torch.allclose(found, expected) and found.dtype == torch.float32
    assert torch.allclose(inputs.mask(given_as(levels.astype(np.uint16) * 257), SIZE, like=None), expected)
    assert torch.allclose(inputs.mask(given_as(levels), SIZE, like=SIZE, invert=True), 1 - expected)
    hard = levels > 128
    assert torch.equal(inputs.mask(given_as(hard), SIZE, like=SIZE)[0, 0], torch.tensor(hard).float())


def test_noise_of_jpeg_is_no_mask() -> None:
    y, x = np.mgrid[0:64, 0:64]
    radius = np.hypot(y - 30, x - 33)
    jpeg = given_as(np.where(radius < 20, 255, 0).astype(np.uint8), "JPEG", quality=60)
    noisy = ~np.isin(np.asarray(jpeg.image), (0, 255))
    found = inputs.mask(jpeg, (64, 64), like=(64, 64))[0, 0].numpy()
    ends = np.where(radius < 20, 1.0, 0.0)
    assert noisy[np.abs(radius - 20) > 4].any() and (found == ends)[noisy].mean() > 0.5
    levels = np.array([[0, 8, 9, 246, 247, 255]], np.uint8)
    assert torch.equal(inputs.mask(given_as(levels), (1, 6), like=None)[0, 0, 0] * 255, torch.tensor([0.0, 0, 9, 246, 255, 255]))


def rgba(colour: np.ndarray | tuple[int, ...], opacity: np.ndarray) -> np.ndarray:
    colours = np.broadcast_to(np.asarray(colour, np.uint8), (*opacity.shape, 3))
    return np.concatenate([colours, opacity[..., None]], -1)


def test_transparency_is_the_mask_where_colours_do_not_tell() -> None:
    """A photograph with a hole, as OpenAI's API has it, and black with a hole: what is transparent is made anew."""
    opacity = np.full(SIZE, 255, np.uint8)
    opacity[2:6, 3:9], opacity[8, 8] = 0, 55
    expected = 1 - torch.tensor(opacity).float()[None, None] / 255
    under_the_hole = np.where(opacity[..., None] > 0, np.zeros(3), 255)
    for colours in (noise(), (0, 0, 0), (128, 128, 128), under_the_hole):
        assert torch.allclose(inputs.mask(given_as(rgba(colours, opacity)), SIZE, like=SIZE), expected)
    grey = np.stack([noise()[..., 0], opacity], -1)
    assert torch.allclose(inputs.mask(given_as(grey), SIZE, like=SIZE), expected)
    palette = Image.fromarray((opacity > 0).astype(np.uint8)).convert("P")
    assert torch.equal(inputs.mask(given_as(palette, transparency=0), SIZE, like=SIZE), (expected == 1).float())


def test_black_and_white_tell_whatever_is_transparent() -> None:
    levels, opacity = np.zeros(SIZE, np.uint8), np.full(SIZE, 255, np.uint8)
    levels[2:6, 3:9], opacity[10:] = 255, 0
    levels[1, 3:9] = 100  # a soft edge
    expected = torch.tensor(levels).float()[None, None] / 255
    levels[11] = 255  # nobody sees it
    found = inputs.mask(given_as(np.dstack([levels, levels, levels, opacity])), SIZE, like=SIZE)
    assert torch.allclose(found, expected)
    levels[11], opaque = 0, np.full(SIZE, 255, np.uint8)
    assert torch.allclose(inputs.mask(given_as(np.dstack([levels, levels, levels, opaque])), SIZE, like=SIZE), expected)


def test_white_with_holes_says_two_things() -> None:
    opacity = np.full(SIZE, 255, np.uint8)
    opacity[2:6] = 0
    assert "all white where it is not transparent" in refused(lambda: inputs.mask(given_as(rgba((255,) * 3, opacity)), SIZE, like=SIZE))


def test_a_mask_lies_on_its_picture() -> None:
    """Scaled and cropped alike: where the picture is light, so is the mask, in any resolution."""
    levels = np.zeros((48, 90), np.uint8)
    levels[8:30, 40:70] = 255
    light = inputs.picture(given_as(levels), (24, 24))[:, :1] / 2 + 0.5
    assert (inputs.mask(given_as(levels), (24, 24), like=(48, 90)) - light).abs().max() < 0.2
    double = np.kron(levels, np.ones((2, 2), np.uint8))
    assert (inputs.mask(given_as(double), (24, 24), like=(48, 90)) - light).abs().max() < 0.2


@pytest.mark.parametrize(("size", "fits"), [((48, 64), True), ((96, 128), True), ((31, 41), True), ((48, 62), False), ((64, 48), False)])
def test_a_mask_belongs_to_a_picture_of_its_proportions(size: tuple[int, int], fits: bool) -> None:
    levels = np.zeros(size, np.uint8)
    levels[: size[0] // 2] = 255
    if fits:
        assert inputs.mask(given_as(levels), (48, 64), like=(480, 640)).shape == (1, 1, 48, 64)
    else:
        message = refused(lambda: inputs.mask(given_as(levels), (48, 64), like=(480, 640)))
        assert f"{size[1]} x {size[0]}" in message and "640 x 480" in message


def test_a_mask_of_nothing_or_of_everything() -> None:
    black, white = given_as(np.zeros((9, 9), np.uint8)), given_as(np.full((9, 9), 255, np.uint8))
    dot = np.zeros((9, 9), np.uint8)
    dot[4, 4] = 255
    grey = given_as(dot // 3)

    def said(file: Opened, **how: float | bool) -> str:
        return refused(lambda: inputs.mask(file, (9, 9), like=None, **how))  # type: ignore[arg-type]

    assert "nothing in the mask it.png is white" in said(black) and "white" in said(grey)
    assert "nothing in the mask it.png is black" in said(white, invert=True)
    assert "is left after growing it by -1 and blurring it by 0" in said(given_as(dot), grow=-1)
    assert "is left after growing it by 0 and blurring it by 2.5" in said(given_as(dot), blur=2.5)
    for file, how in ((white, {}), (black, {"invert": True}), (given_as(dot), {"grow": 6})):
        assert "everything is to be made anew: leave the picture and the mask out" in said(file, **how)
        assert (inputs.mask(file, (9, 9), like=None, full=True, **how) == 1).all()  # type: ignore[arg-type]


def disc(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return x**2 + y**2 <= radius**2


@pytest.mark.parametrize("radius", [1, 2, 3, 4, 7, 20, 60])
def test_growing_is_dilation_by_a_disc(radius: int) -> None:
    levels = torch.rand(23, 31, generator=torch.Generator().manual_seed(0)) ** 12
    for sign, published in ((1, ndimage.grey_dilation), (-1, ndimage.grey_erosion)):
        expected = published(levels.numpy(), footprint=disc(radius), mode="reflect")
        assert torch.allclose(grown(levels[None, None], sign * radius)[0, 0], torch.tensor(expected), atol=1e-6)


def test_growing_by_nothing_or_beyond_the_picture() -> None:
    dot = torch.zeros(1, 1, 5, 9)
    dot[..., 4, 0] = 1
    assert torch.equal(grown(dot, 0), dot)
    assert (grown(dot, 9) == 1).all() and (grown(dot, 1000) == 1).all() and (grown(dot, -1000) == 0).all()
    assert torch.equal(grown(1 - dot, -1), 1 - grown(dot, 1))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5, 6.0])
def test_a_blurred_edge_is_the_normal_distribution(sigma: float) -> None:
    edge = torch.zeros(1, 1, 64, 80)
    edge[..., 40:] = 1
    expected = norm.cdf(np.arange(80) - 39.5, scale=sigma)
    assert np.abs(blurred(edge, sigma)[0, 0].numpy() - expected).max() < 1e-4
    assert np.abs(blurred(edge.mT, sigma)[0, 0].mT.numpy() - expected).max() < 1e-4


def test_blur_is_scipys() -> None:
    levels = torch.rand(40, 30, generator=torch.Generator().manual_seed(0))
    for sigma in (3.0, 8.0, 50.0):
        expected = ndimage.gaussian_filter(levels.double().numpy(), sigma, mode="nearest", truncate=8)
        assert np.abs(blurred(levels[None, None], sigma)[0, 0].numpy() - expected).max() < 2e-3
    assert torch.equal(blurred(levels[None, None], 0.0)[0, 0], levels)


def test_blur_leaves_what_is_far_as_it_is() -> None:
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., :20] = 1
    found = blurred(mask, 2.0)
    assert (found[..., :10] > 1 - 1e-6).all() and (found[..., 30:] == 0).all() and found.max() <= 1


def test_a_map_says_classes_by_grey_or_by_palette() -> None:
    numbers = np.random.default_rng(0).integers(0, 75, SIZE).astype(np.uint8)
    numbers[3, 4] = 255
    expected = torch.tensor(numbers.astype(int))[None]
    expected[0, 3, 4] = UNKNOWN
    palette = Image.fromarray(numbers).convert("P")
    palette.putdata(numbers.ravel().tolist())
    wide = numbers.astype(np.uint16)
    wide[3, 4] = 65535
    for image in (numbers, palette, wide, numbers.astype(np.uint16)):
        found = inputs.class_map(given_as(image), SIZE, 75)
        assert torch.equal(found, expected) and found.dtype == torch.int64
    many = np.full(SIZE, 255, np.uint16)
    assert (inputs.class_map(given_as(many), SIZE, 256) == 255).all() and (inputs.class_map(given_as(many), SIZE, 255) == UNKNOWN).all()


def test_a_map_scaled_has_no_class_between_two() -> None:
    numbers = np.zeros((30, 50), np.uint8)
    numbers[:, 25:], numbers[:10] = 9, 74
    found = inputs.class_map(given_as(numbers), (16, 16), 75)
    assert found.shape == (1, 16, 16) and set(found.unique().tolist()) == {0, 9, 74}
    light = inputs.picture(given_as(numbers), (16, 16))[:, 0] * 127.5 + 127.5  # cropped as the picture is
    assert ((found == 9)[0, 8:] == (light[0, 8:] > 4.5)).all() and ((found == 74)[0] == (light[0] > 45)).float().mean() > 0.9


def test_what_is_no_map() -> None:
    numbers = np.zeros(SIZE, np.uint8)
    numbers[7, 5:9] = 80

    def said(image: np.ndarray | Image.Image, kind: str = "PNG") -> str:
        return refused(lambda: inputs.class_map(given_as(image, kind), (8, 8), 75))

    assert "says 80 at (5, 7), which is no class: there are 75, from 0 to 74" in said(numbers)
    assert "says 80 at (5, 7)" in said(numbers.astype(np.uint16))
    assert "is in colour" in said(noise()) and "transparency" in said(noise(channels=2))
    assert "JPEG" in said(numbers, "JPEG") and "1 bit" in said(numbers > 0)


def test_a_depth_map_is_grey() -> None:
    levels = np.random.default_rng(0).integers(0, 65536, SIZE).astype(np.uint16)
    found = inputs.depth(given_as(levels), SIZE)
    assert found.shape == (1, 1, *SIZE) and torch.allclose(found[0, 0], torch.tensor(levels.astype(np.float32)) / 65535)
    eight = (levels >> 8).astype(np.uint8)
    for image in (eight, np.dstack([eight] * 3), np.dstack([eight] * 3 + [np.full(SIZE, 255, np.uint8)])):
        assert torch.allclose(inputs.depth(given_as(image), SIZE)[0, 0], torch.tensor(eight) / 255)
    assert inputs.depth(given_as(levels), (6, 6)).shape == (1, 1, 6, 6)
    assert "is in colour" in refused(lambda: inputs.depth(given_as(noise()), SIZE))
    assert "partly transparent" in refused(lambda: inputs.depth(given_as(noise(channels=2)), SIZE))


# Which size.


def test_the_own_size_of_a_photograph() -> None:
    photo = given_as(np.zeros((667, 1000), np.uint8))
    assert own_size(photo, 8, 512 * 512) == (416, 624)
    assert told(photo, (416, 624), 8) == "the picture of 1000 x 667 is taken at 624 x 416: scaled to 62.4 %; sides are multiples of 8"
    assert own_size(photo, 8, None) == (664, 1000)
    assert told(photo, (664, 1000)) == "the picture of 1000 x 667 is taken at 1000 x 664: cropped by 3 pixels of its height"
    assert str(told(photo, (512, 512))).endswith("at 512 x 512: scaled to 76.8 % and cropped by 256 pixels of its width")
    assert told(photo, (667, 1000)) is None
    assert own_size(given_as(np.zeros((1, 3), np.uint8)), 64, None) == (64, 64)


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([1, 8, 64]), st.sampled_from([None, 4096, 100_000, 1 << 20]))
def test_the_own_size_is_of_multiples_and_no_larger_than_allowed(height: int, width: int, multiple: int, area: int | None) -> None:
    photo = Opened(Image.new("1", (width, height)), "", "")
    found = own_size(photo, multiple, area)
    assert all(side % multiple == 0 and side > 0 for side in found)
    assert area is None or found[0] * found[1] <= area
    scale = 1 if area is None else min(1, (area / (height * width)) ** 0.5)
    for side, own in zip(found, (height, width), strict=True):
        assert side <= max(multiple, own * scale + multiple / 2 + 1e-6)
        assert area is not None or side == multiple or abs(side - own) <= multiple / 2
        other = min(height, width) * scale >= multiple
        assert not other or side > own * scale - 1.5 * multiple - 1e-6
    assert (told(photo, found, multiple) is None) == (found == (height, width))


# Putting together.


def test_what_is_not_made_anew_is_the_original_bit_for_bit() -> None:
    original, made = noise(seed=1), noise(seed=2)
    mask = torch.linspace(0, 1, 16).expand(1, 1, 12, 16)
    image = composite(Image.fromarray(original), Image.fromarray(made), mask)
    found = np.asarray(image)
    assert image.mode == "RGB" and np.array_equal(found[:, 0], original[:, 0]) and np.array_equal(found[:, 15], made[:, 15])
    for x in range(16):
        between = (original[:, x].astype(float) * (15 - x) + made[:, x].astype(float) * x) / 15
        assert np.abs(found[:, x] - between).max() <= 0.5001
    half = composite(Image.new("RGB", (2, 1), (0, 1, 255)), Image.new("RGB", (2, 1), (255, 2, 0)), torch.full((1, 1, 1, 2), 0.5))
    assert half.getpixel((1, 0)) == (128, 2, 128)


@pytest.mark.parametrize("shape", [(1, 1, 12, 15), (1, 1, 1, 1)])
def test_sizes_that_do_not_go_together(shape: tuple[int, ...]) -> None:
    pictures = Image.fromarray(noise()), Image.fromarray(noise())
    with pytest.raises(ValueError, match="put together"):
        composite(*pictures, torch.zeros(shape))
    with pytest.raises(ValueError, match="put together"):
        composite(pictures[0], pictures[1].resize((3, 3)), torch.zeros(1, 1, 12, 16))


# Whatever comes.


def test_garbage_and_damage_are_tensors_or_one_line(tmp_path: Path) -> None:
    """Files of every kind, damaged at random, and random bytes, as each input there is."""
    draw, path, refusals = random.Random(0), tmp_path / "damaged", 0
    grey, photo = noise(channels=1)[..., 0], Image.fromarray(noise())
    files = [
        encoded(photo),
        encoded(photo, "JPEG"),
        encoded(photo, "WEBP"),
        encoded(noise(channels=4)),
        encoded(grey.astype(np.uint16) * 200),
        encoded(photo.quantize(40)),
        encoded(grey > 100),
        encoded(photo.convert("CMYK"), "JPEG"),
        b"",
    ]
    calls: list[Callable[[Opened], Tensor]] = [
        lambda found: inputs.picture(found, (8, 8)),
        lambda found: inputs.mask(found, (8, 8), like=None, grow=1, blur=1.0),
        lambda found: inputs.class_map(found, (8, 8), 75),
        lambda found: inputs.depth(found, (8, 8)),
    ]
    for turn in range(450):
        data = bytearray(draw.choice((b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) + draw.randbytes(draw.randrange(300)))
        if intact := files[turn % len(files)]:
            data = bytearray(intact)
            for _ in range(draw.randint(1, 4)):
                data[draw.randrange(len(data))] = draw.randrange(256)
            del data[draw.randint(1, 3 * len(data)) :]
        path.write_bytes(data)
        for call in calls:
            try:
                assert torch.isfinite(call(opened(str(path))).float()).all()
            except ImageError as error:
                refusals += 1
                assert str(error).isprintable() and ": " in str(error)
    assert 450 < refusals < 1800


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (16, 16), (37, 20)])
def test_a_hole_is_filled_from_around_it(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    image, other = (torch.rand(1, 3, *size, generator=generator) for _ in range(2))
    hole = torch.rand(1, 1, *size, generator=generator) < 0.7
    hole[..., size[0] // 4 :, : size[1] // 2] = True
    hole[..., 0, -1] = False
    filled = covered(image, hole)
    assert torch.equal(filled.where(~hole, torch.tensor(0.0)), image.where(~hole, torch.tensor(0.0)))
    assert torch.equal(filled, covered(torch.where(hole, other, image), hole))
    known = image[:, :, ~hole[0, 0]]
    assert filled.min() >= known.min() - 1e-6 and filled.max() <= known.max() + 1e-6
    grey = torch.full((1, 3, *size), 0.25)
    assert torch.allclose(covered(torch.where(hole, other, grey), hole), grey)
    assert not covered(image, torch.ones_like(hole)).any() and torch.equal(covered(image, torch.zeros_like(hole)), image)


def test_the_nearest_known_pixels_fill_the_most() -> None:
    image = torch.zeros(1, 1, 1, 64)
    image[..., 60:] = 1
    hole = torch.ones(1, 1, 1, 64, dtype=torch.bool)
    hole[..., :4] = hole[..., 60:] = False
    filled = covered(image, hole)[0, 0, 0]
    assert (filled.diff() >= 0).all() and filled[5] < 0.2 and filled[58] > 0.8
