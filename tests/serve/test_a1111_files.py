"""Pictures of A1111's clients: base64, resizing, masks, and texts beside the pixels. Against Pillow and the standard library."""

import base64
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import webuiapi
from PIL import Image, PngImagePlugin

from sumi.errors import ImageError, RequestError
from sumi.serve.a1111_pictures import CROP, FILL, STRETCH, levels, sent, shaped
from sumi.serve.a1111_texts import parameters, size, texts


def png(image: Image.Image, **written: Any) -> bytes:
    file = BytesIO()
    image.save(file, "PNG", **written)
    return file.getvalue()


class TestSent:
    def test_as_clients_send_it(self) -> None:
        image = Image.new("RGB", (2, 2), "red")
        bare, url = webuiapi.raw_b64_img(image), webuiapi.b64_img(image)
        assert not bare.startswith("data:") and url.startswith("data:image/png;base64,")
        assert sent(bare, "image") == sent(url, "image") == sent(bare.rstrip("="), "image") == base64.b64decode(bare)

    @pytest.mark.parametrize("text", ["http://169.254.169.254/x.png", "file:///etc/passwd", "not base64!", "data:image/png;base64,*"])
    def test_nothing_else(self, text: str) -> None:
        with pytest.raises(ImageError, match="image is"):
            sent(text, "image")

    def test_no_text(self) -> None:
        with pytest.raises(RequestError, match="image must be text"):
            sent({"path": "/etc/passwd"}, "image")


class TestTexts:
    @pytest.mark.parametrize("text", ["a cat\nSteps: 4", "ein Kätzchen", "一隻貓 🐈"])
    def test_what_pillow_writes(self, text: str) -> None:
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("parameters", text)
        chunks.add_text("Software", "x")
        assert texts(png(Image.new("L", (3, 5)), pnginfo=chunks)) == {"parameters": text, "Software": "x"}

    def test_every_cut_is_read_as_far_as_it_goes(self) -> None:
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("parameters", "a cat")
        whole = png(Image.new("L", (3, 5)), pnginfo=chunks)
        found = [texts(whole[:length]) for length in range(8, len(whole) + 1)]
        assert all(each in ({}, {"parameters": "a cat"}) for each in found)
        assert found[0] == {} and found[-1] == {"parameters": "a cat"}

    def test_others(self) -> None:
        file = BytesIO()
        Image.new("RGB", (3, 5)).save(file, "JPEG")
        assert texts(file.getvalue()) == {}
        with pytest.raises(ImageError, match="send a PNG"):
            texts(b"GIF89a")

    def test_size(self) -> None:
        assert size(png(Image.new("L", (3, 5)))) == (5, 3)

    def test_parameters(self) -> None:
        said = "a cat,\nasleep\nNegative prompt: a dog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x768"
        assert parameters(said) == {
            "Prompt": "a cat,\nasleep",
            "Negative prompt": "a dog",
            **{"Steps": "20", "Sampler": "Euler a", "CFG scale": "7", "Seed": "5", "Size": "512x768"},
            **{"Size-1": "512", "Size-2": "768"},
        }


class TestShapes:
    """Of a picture of 8 x 4, red on its left and blue on its right, drawn at 16 x 16."""

    pixels = np.asarray(Image.new("RGB", (8, 4), "red")).copy()
    pixels[:, 4:] = (0, 0, 255)

    def test_stretched(self) -> None:
        expected = Image.fromarray(self.pixels).resize((16, 16), Image.Resampling.LANCZOS)
        assert np.array_equal(shaped(self.pixels, (16, 16), STRETCH), np.asarray(expected))

    def test_left_to_be_cropped(self) -> None:
        assert np.array_equal(shaped(self.pixels, (16, 16), CROP), self.pixels)
        assert np.array_equal(shaped(self.pixels, (8, 16), STRETCH), self.pixels)

    @pytest.mark.parametrize("grey", [False, True])
    def test_filled_with_its_edges(self, grey: bool) -> None:
        given = self.pixels[..., 0] if grey else self.pixels
        found = shaped(given, (16, 16), FILL)
        assert found.shape[:2] == (16, 16)
        inner = np.asarray(Image.fromarray(given).resize((16, 8), Image.Resampling.LANCZOS))
        assert np.array_equal(found[4:12], inner)
        assert (found[:4] == inner[0]).all() and (found[12:] == inner[-1]).all()


class TestMasks:
    """`create_binary_mask`: the opacity of a picture that is not all opaque, above 128; else its grey."""

    def test_grey(self) -> None:
        ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
        assert np.array_equal(levels(png(Image.fromarray(ramp))), ramp)
        assert np.array_equal(levels(png(Image.fromarray(ramp).convert("RGBA"))), ramp)

    def test_opacity(self) -> None:
        pixels = np.full((2, 3, 4), 255, np.uint8)
        pixels[..., 3] = [[0, 127, 128], [129, 200, 255]]
        assert levels(png(Image.fromarray(pixels))).tolist() == [[0, 0, 0], [255, 255, 255]]
