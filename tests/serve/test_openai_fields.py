"""What OpenAI's fields come to as a request, and which are refused, by which name."""

from typing import Any, get_args, get_type_hints

import pytest
from openai.types import ImageCreateVariationParams, ImageEditParams, ImageGenerateParams

from sumi.errors import RequestError
from sumi.request import FIELDS, Request
from sumi.serve.openai_fields import OWN, Order, Wrong, ordered, schema, typed
from sumi.serve.problems import Refusal

UPLOAD = "upload:" + "0" * 64


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Order(Request())),
        ({"prompt": "a", "n": 2, "seed": 7}, Order(Request(prompt="a", count=2, seed=7))),
        ({"seed": "18446744073709551615"}, Order(Request(seed=2**64 - 1))),
        ({"size": "64x96"}, Order(Request(width=64, height=96))),
        ({"size": "auto", "quality": "auto", "background": "opaque", "stream": False, "partial_images": 0}, Order(Request())),
        ({"model": "sumi", "response_format": "url"}, Order(Request(), model="sumi", url=True)),
        ({"output_format": "webp", "output_compression": 0}, Order(Request(), format="webp", compression=0)),
        ({"stream": True, "partial_images": 3}, Order(Request(), stream=True, partial=3)),
        (
            {"negative_prompt": "b", "num_inference_steps": 9, "guidance_scale": 3},
            Order(Request(negative="b", steps=9, guidance=3.0)),
        ),
        (
            {"sampler": "ddim", "outpaint": [8, 0, 0, 0], "image": UPLOAD},
            Order(Request(sampler="ddim", outpaint=(8, 0, 0, 0), image=UPLOAD)),
        ),
        ({"image": UPLOAD, "input_fidelity": "high"}, Order(Request(image=UPLOAD, strength=0.5))),
        ({"image": UPLOAD, "input_fidelity": "low"}, Order(Request(image=UPLOAD))),
        ({"quality": "standard", "steps": 5}, Order(Request(steps=5))),
        ({"user": "u", "style": "vivid", "moderation": "low"}, Order(Request(), unheeded=("user", "moderation", "style"))),
        (dict.fromkeys(OWN), Order(Request())),
        (dict.fromkeys((*FIELDS, "svg", "frame_count")), Order(Request())),
    ],
)
def test_what_fields_come_to(given: dict[str, Any], expected: Order) -> None:
    assert ordered(given) == expected


@pytest.mark.parametrize(
    ("quality", "steps", "called"), [("low", 5, "low"), ("hd", 18, "high"), ("xhigh", 27, "xhigh"), ("max", 36, "max")]
)
def test_quality_is_a_number_of_steps(quality: str, steps: int, called: str) -> None:
    order = ordered({"quality": quality})
    assert order.stepped(9) == Request(steps=steps) and order.quality == called
    assert ordered({}).stepped(9) == Request()


@pytest.mark.parametrize(
    ("given", "param", "message"),
    [
        ({"n": 0}, "n", "n must be from 1"),
        ({"n": "2"}, "n", "n must be a whole number"),
        ({"n": True}, "n", "n must be a whole number"),
        ({"n": 1, "count": 1}, "n", "n and count say the same"),
        ({"size": "1024"}, "size", "size must be as 512x512"),
        ({"size": "9000x64"}, "size", "width must be from 1 to 8192"),
        ({"size": "64x0"}, "size", "height must be from 1 to 8192"),
        ({"size": "٦٤x64"}, "size", "size must be as 512x512"),
        ({"size": "64x64", "width": 64}, "size", "size and width say the same"),
        ({"quality": "best"}, "quality", "there is no quality 'best'"),
        ({"quality": "high", "steps": 5}, "quality", "leave one of them out"),
        ({"quality": "high", "num_inference_steps": 5}, "quality", "leave one of them out"),
        ({"quality": "low", "sigmas": [14, 0]}, "quality", "leave one of them out"),
        ({"response_format": "png"}, "response_format", "use b64_json, url"),
        ({"response_format": "url", "output_format": "jpeg"}, "response_format", "take b64_json for a jpeg"),
        ({"response_format": "url", "stream": True}, "response_format", "a stream holds the pictures themselves"),
        ({"output_format": "gif"}, "output_format", "use png, jpeg, webp"),
        ({"output_format": "svg"}, "output_format", "use png, jpeg, webp"),
        ({"output_compression": 50}, "output_compression", "a png keeps every pixel"),
        ({"output_compression": 101, "output_format": "jpeg"}, "output_compression", "from 0 to 100"),
        ({"background": "transparent"}, "background", "use auto, opaque"),
        ({"stream": "true"}, "stream", "stream must be true or false"),
        ({"stream": True, "partial_images": 4}, "partial_images", "from 0 to 3"),
        ({"partial_images": 1}, "partial_images", "set stream, too"),
        ({"input_fidelity": "high"}, "input_fidelity", "without an image"),
        ({"input_fidelity": "high", "image": UPLOAD, "strength": 0.2}, "input_fidelity", "say the same"),
        ({"style": "loud"}, "style", "use vivid, natural"),
        ({"guidance_scale": 101}, "guidance_scale", "from 0 to 100"),
        ({"num_inference_steps": 2.0}, "num_inference_steps", "a whole number"),
        ({"negativ_prompt": "b"}, "negativ_prompt", r"did you mean negative_prompt"),
        ({"x" * 1000: 1}, "x" * 80, "there is no field"),
    ],
)
def test_what_is_refused(given: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(Wrong, match=message) as caught:
        ordered(given)
    assert caught.value.status == 400 and caught.value.param == param and len(str(caught.value)) < 300


def test_fields_of_a_request_are_checked_as_everywhere() -> None:
    with pytest.raises(RequestError, match="strength must be from 0 to 1"):
        ordered({"strength": 2})


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"n": "2", "stream": "true", "partial_images": "1"}, {"n": 2, "stream": True, "partial_images": 1}),
        ({"prompt": "2", "seed": "7", "guidance_scale": "3"}, {"prompt": "2", "seed": 7, "guidance_scale": 3.0}),
        ({"outpaint": "8,0,0,0", "options": "order=3"}, {"outpaint": (8.0, 0.0, 0.0, 0.0), "options": {"order": 3.0}}),
    ],
)
def test_texts_of_a_form_become_values(texts: dict[str, str], expected: dict[str, Any]) -> None:
    assert typed(texts) == expected


@pytest.mark.parametrize(("texts", "param"), [({"n": "two"}, "n"), ({"stream": "1"}, "stream"), ({"svg[model]": "a"}, "svg[model]")])
def test_texts_that_are_no_values(texts: dict[str, str], param: str) -> None:
    with pytest.raises(Wrong) as caught:
        typed(texts)
    assert caught.value.param == param


def fields_of(kind: Any) -> set[str]:
    """The fields that OpenAI's client knows of a call."""
    return {name for each in get_args(kind) or (kind,) for name in get_type_hints(each)}


@pytest.mark.parametrize("kind", [ImageGenerateParams, ImageEditParams, ImageCreateVariationParams])
def test_every_field_of_the_client_is_known_or_refused_by_its_name(kind: Any) -> None:
    refused = set()
    for name in fields_of(kind) - set(OWN) - set(FIELDS):
        ordered({name: None})
        with pytest.raises(Wrong, match=f"there is no field '{name}'") as caught:
            ordered({name: 1})
        assert caught.value.code == "unknown_parameter" and isinstance(caught.value, Refusal)
        refused.add(name)
    assert refused <= {"complexity", "frame_count", "frame_duration_ms", "markup", "svg"}
    assert {"model", "n", "response_format", "size", "user"} <= fields_of(kind)


def test_the_schema_has_every_field() -> None:
    described = schema("prompt", "image", form=True)
    assert set(described["properties"]) == {*OWN, *FIELDS, "image[]"}
    assert described["properties"]["n"]["minimum"] == 1 and described["required"] == ["prompt", "image"]
