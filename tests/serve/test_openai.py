"""OpenAI's own client, in Python, asks a studio for pictures."""

import base64
import json
import os
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from openai import OpenAI
from PIL import Image

from engine.helpers import GUARD, until
from serve.clients.painter import CELLS, MAKER
from serve.serving import Studio, serving
from sumi import generate, load
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.serve.settings import Limits

USUAL: dict[str, Any] = {"prompt": "a red circle on a green background", "extra_body": {"num_inference_steps": 4, "seed": 7}}
SIDE = 64


def client_of(studio: Studio, **settings: Any) -> OpenAI:
    return OpenAI(base_url=f"{studio.url}/v1", api_key=studio.key or "none", max_retries=0, **settings)


def opened(data: str | None) -> Image.Image:
    assert data is not None
    image = Image.open(BytesIO(base64.b64decode(data, validate=True)))
    image.load()
    return image


def pixels(data: str | None) -> np.ndarray[Any, Any]:
    return np.asarray(opened(data).convert("RGB")).astype(int)


def file(array: np.ndarray[Any, Any]) -> tuple[str, bytes, str]:
    """A picture as the client sends it, by a name that is not to be looked at."""
    data = BytesIO()
    Image.fromarray(array).save(data, "PNG")
    return "../../picture.png", data.getvalue(), "image/png"


@pytest.fixture(scope="module")
def client(served: Studio) -> Iterator[OpenAI]:
    with client_of(served) as made:
        yield made


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    return load(device="cpu")


@pytest.fixture
def picture() -> np.ndarray[Any, Any]:
    """Four squares of colours."""
    quarters = np.array([[[200, 40, 40], [40, 160, 40]], [[40, 40, 200], [230, 220, 60]]], dtype=np.uint8)
    return quarters.repeat(SIDE // 2, 0).repeat(SIDE // 2, 1)


def test_models(client: OpenAI) -> None:
    listed = client.models.list().data
    assert listed[0].id == "sumi" and {model.object for model in listed} == {"model"}


def test_pictures_are_those_of_any_other_way(client: OpenAI, model: LatentDiffusion) -> None:
    made = client.images.generate(**USUAL, n=2, model="sumi", size="64x64")
    expected = generate(model, prompt=USUAL["prompt"], seed=7, steps=4, count=2)
    assert made.data is not None and len(made.data) == 2
    for picture, other in zip(made.data, expected, strict=True):
        assert np.abs(pixels(picture.b64_json) - np.asarray(other.image).astype(int)).max() <= 1
        assert set(picture.model_fields_set) == {"b64_json"}
    assert (made.size, made.output_format, made.background, made.quality) == ("64x64", "png", "opaque", "medium")
    assert (
        made.usage is not None
        and made.usage.input_tokens_details.text_tokens == 7
        and made.usage.total_tokens == 7 + made.usage.output_tokens
    )


def test_urls(client: OpenAI, served: Studio) -> None:
    made = client.images.generate(**USUAL, response_format="url")
    direct = client.images.generate(**USUAL)
    assert made.data is not None and made.data[0].url is not None and direct.data is not None
    assert made.data[0].url.startswith(f"{served.url}/v1/pictures/")
    assert httpx.get(made.data[0].url).status_code == 401
    found = httpx.get(made.data[0].url, headers=served.headers)
    assert np.array_equal(pixels(base64.b64encode(found.content).decode()), pixels(direct.data[0].b64_json))


@pytest.mark.parametrize(("format", "name"), [("jpeg", "JPEG"), ("webp", "WEBP")])
def test_other_formats(client: OpenAI, format: Any, name: str) -> None:
    lossless = client.images.generate(**USUAL).data
    assert lossless is not None
    sizes = []
    for compression in (100, 20):
        made = client.images.generate(**USUAL, output_format=format, output_compression=compression)
        assert made.data is not None and made.output_format == format and opened(made.data[0].b64_json).format == name
        sizes.append(len(made.data[0].b64_json or ""))
        if compression == 100:
            assert np.abs(pixels(made.data[0].b64_json) - pixels(lossless[0].b64_json)).mean() < 8
    assert sizes[1] < 0.7 * sizes[0]


def test_an_edit_keeps_what_the_mask_does_not_show_through(client: OpenAI, picture: np.ndarray[Any, Any]) -> None:
    hole = np.zeros((SIDE, SIDE), dtype=bool)
    hole[:, : SIDE // 2] = True
    for colour in (0, 255):  # what a mask shows where it is not transparent means nothing
        mask = np.full((SIDE, SIDE, 4), colour, dtype=np.uint8)
        mask[..., 3] = np.where(hole, 0, 255)
        edited = client.images.edit(**USUAL, image=file(picture), mask=file(mask))
        assert edited.data is not None
        found = pixels(edited.data[0].b64_json)
        assert np.array_equal(found[~hole], picture[~hole]) and np.abs(found - picture)[hole].mean() > 5


def test_an_edit_without_a_mask(client: OpenAI, model: LatentDiffusion, picture: np.ndarray[Any, Any], tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(file(picture)[1])
    edited = client.images.edit(**USUAL, image=[file(picture)], n=1).data
    expected = generate(model, prompt=USUAL["prompt"], seed=7, steps=4, image=str(tmp_path / "picture.png"))
    assert edited is not None and np.abs(pixels(edited[0].b64_json) - np.asarray(expected[0].image).astype(int)).max() <= 1


def test_an_edit_in_json(served: Studio, client: OpenAI, picture: np.ndarray[Any, Any]) -> None:
    url = "data:image/png;base64," + base64.b64encode(file(picture)[1]).decode()
    mask = np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
    mask[: SIDE // 2, :, 3] = 255
    hidden = "data:image/png;base64," + base64.b64encode(file(mask)[1]).decode()
    kept = httpx.post(f"{served.url}/v1/uploads", content=file(picture)[1], headers={**served.headers, "Content-Type": "image/png"}).json()
    asked = {"prompt": USUAL["prompt"], **USUAL["extra_body"]}
    by_form = client.images.edit(**USUAL, image=file(picture), mask=file(mask)).data
    assert by_form is not None
    for reference in ({"image_url": url}, {"file_id": kept["id"]}):
        body = {**asked, "images": [reference], "mask": {"image_url": hidden}}
        made = httpx.post(f"{served.url}/v1/images/edits", json=body, headers=served.headers, timeout=GUARD).json()
        assert made["data"][0]["b64_json"] == by_form[0].b64_json or np.array_equal(
            pixels(made["data"][0]["b64_json"]), pixels(by_form[0].b64_json)
        )


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI has made it so in its client
def test_variations(client: OpenAI, picture: np.ndarray[Any, Any]) -> None:
    made = client.images.create_variation(image=file(picture), n=2, extra_body={"num_inference_steps": 10, "seed": 3}).data
    assert made is not None and len(made) == 2
    first, second = (pixels(each.b64_json) for each in made)
    for found in (first, second):
        assert 1 < np.abs(found - picture).mean() < 60
    assert np.abs(first - second).mean() > 1


def test_what_changes_nothing_is_named(client: OpenAI) -> None:
    made = client.images.generate(**USUAL, user="somebody", style="vivid").to_dict()
    assert made["notes"] == ["user changes nothing", "style changes nothing"]


@pytest.mark.parametrize(
    ("asked", "kind", "param", "code"),
    [
        ({"size": "65x64"}, openai.BadRequestError, "width", "request"),
        ({"size": "64"}, openai.BadRequestError, "size", "invalid_value"),
        ({"n": 1000}, openai.BadRequestError, "count", "request"),
        ({"background": "transparent"}, openai.BadRequestError, "background", "invalid_value"),
        ({"output_format": "svg", "extra_body": {"svg": {"model": "a"}}}, openai.BadRequestError, "output_format", "invalid_value"),
        ({"extra_body": {"nonsense": 1}}, openai.BadRequestError, "nonsense", "unknown_parameter"),
        ({"prompt": None}, openai.BadRequestError, "prompt", "missing_required_parameter"),
        ({"extra_body": {"image": "/etc/passwd"}}, openai.BadRequestError, "image", "request"),
        ({"model": "gpt-image-1"}, openai.NotFoundError, "model", "model_not_found"),
        ({"model": "dall-e-3"}, openai.NotFoundError, "model", "model_not_found"),
        ({"stream": True, "model": "gpt-image-1"}, openai.NotFoundError, "model", "model_not_found"),
        ({"stream": True, "size": "65x64"}, openai.BadRequestError, "width", "request"),
    ],
)
def test_problems(client: OpenAI, served: Studio, asked: dict[str, Any], kind: type, param: str | None, code: str) -> None:
    before = served.engine.jobs.counts()
    with pytest.raises(kind) as caught:
        client.images.generate(**{**USUAL, **asked})
    error = caught.value
    assert isinstance(error, openai.APIStatusError)
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert "\n" not in error.message and served.engine.jobs.counts() == before


def test_problems_of_pictures(client: OpenAI, picture: np.ndarray[Any, Any]) -> None:
    for image, message in (
        ([file(picture), file(picture)], "image is one picture, and more were sent"),
        (("a.png", b"no picture", "image/png"), "no picture that can be read"),
        (("a.png", file(picture)[1][:100], "image/png"), "damaged or cut short"),
    ):
        with pytest.raises(openai.BadRequestError, match=message):
            client.images.edit(**USUAL, image=image)
    with pytest.raises(openai.BadRequestError, match="markup"):
        client.images.edit(**USUAL, image=file(picture), markup=file(picture))


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b'{"prompt": "a", "guidance_scale": NaN}', "application/json", "not finite"),
        (b'{"prompt": "a", "n": 1e999}', "application/json", "not finite"),
        (b'{"prompt": "a\\ud800"}', "application/json", "not Unicode"),
        (b'{"prompt": "a"}', "text/plain", "application/json"),
        (b"--x--", "multipart/form-data; boundary=x", "damaged|JSON|missing"),
        (b'{"prompt": "a", "images": [{"image_url": "https://example.com/a.png"}]}', "application/json", "nothing is fetched"),
        (b'{"prompt": "a", "images": [{"file_id": "file-1"}]}', "application/json", ""),
        (b'{"prompt": "a", "images": [1]}', "application/json", "must be a reference"),
        (b'{"prompt": "a", "images": []}', "application/json", "a list of one"),
        (b'{"prompt": "a", "images": [{"image_url": "data:image/png;base64,&"}]}', "application/json", "not base64"),
    ],
)
def test_bodies_that_are_none(served: Studio, body: bytes, kind: str, message: str) -> None:
    for route in ("generations", "edits", "variations"):
        headers = {**served.headers, "Content-Type": kind}
        found = httpx.post(f"{served.url}/v1/images/{route}", content=body, headers=headers)
        assert found.status_code in (400, 415) and found.json()["error"]["message"]
        if route == "edits":
            assert any(each in found.json()["error"]["message"] for each in message.split("|"))


def test_the_key(served: Studio) -> None:
    with OpenAI(base_url=f"{served.url}/v1", api_key="another", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            stranger.images.generate(**USUAL)
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()


def test_a_stream_in_one_event(client: OpenAI, served: Studio) -> None:
    direct = client.images.generate(**USUAL, n=2).data
    events = list(client.images.generate(**USUAL, n=2, stream=True))
    assert direct is not None and [event.type for event in events] == ["image_generation.completed"] * 2
    for event, other in zip(events, direct, strict=True):
        assert event.type == "image_generation.completed"
        assert np.array_equal(pixels(event.b64_json), pixels(other.b64_json))
        assert (event.size, event.output_format, event.usage.input_tokens) == ("64x64", "png", 7)


# From here on with a maker that takes as long as a test wants.

Begin = Callable[..., Studio]


def painted(steps: int, gate: Path | None = None) -> dict[str, Any]:
    return {"prompt": f"steps={steps}" + ("" if gate is None else f" gate={gate}")}


@pytest.fixture
def gate() -> Iterator[Path]:
    """A named pipe of which a step of a job reads a byte. Its path is short: prompts are tokens."""
    path = Path("/tmp") / f"g{os.getpid()}"
    os.mkfifo(path)
    yield path
    path.unlink()


def test_previews_are_as_large_as_the_picture(begin: Begin, gate: Path) -> None:
    studio = begin(maker=MAKER)
    with client_of(studio) as client, open(gate, "r+b", buffering=0) as opened_gate:
        stream = client.images.generate(**painted(8, gate), stream=True, partial_images=3)
        job = studio.engine.list()[0]

        def step_by_step() -> None:
            """A preview may come after the event of its step: it is told with the next."""
            after = 0
            for number in range(1, 9):
                opened_gate.write(b"x")
                after = until(studio.engine, job.id, lambda event: event.kind == "step" and event.data["step"] == number, after).number  # noqa: B023

        steps = threading.Thread(target=step_by_step)
        steps.start()
        events = list(stream)
        steps.join(GUARD)
    *previews, done = events
    assert 1 <= len(previews) <= 3 and done.type == "image_generation.completed"
    assert opened(done.b64_json).getpixel((0, 0)) == (255, 0, 0)
    greys = []
    for number, event in enumerate(previews):
        assert event.type == "image_generation.partial_image" and event.partial_image_index == number
        assert (event.size, event.output_format, event.quality, event.background) == ("64x64", "png", "medium", "opaque")
        image = opened(event.b64_json)
        assert (image.format, image.size) == ("PNG", (8 * CELLS, 8 * CELLS))
        greys.append(image.getpixel((5, 5)))
    assert all(before[0] < after[0] for before, after in pairwise(greys)) and event.created_at <= done.created_at


def test_a_fault_on_the_way_is_an_event(begin: Begin) -> None:
    studio = begin(maker=MAKER)
    with client_of(studio) as client:
        with pytest.raises(openai.APIError, match="a defect of sumi"):
            list(client.images.generate(prompt="boom", stream=True))
        with pytest.raises(openai.InternalServerError, match="a defect of sumi"):
            client.images.generate(prompt="boom")
        with pytest.raises(openai.BadRequestError, match="not this: something else"):
            client.images.generate(prompt="refused")


def test_a_queue_that_is_full(begin: Begin) -> None:
    studio = begin(maker=MAKER, settings={"limits": Limits(queue=0)})
    with client_of(studio) as client, pytest.raises(openai.RateLimitError) as caught:
        client.images.generate(prompt="a")
    assert int(caught.value.response.headers["retry-after"]) > 0


def test_a_body_that_is_too_large(begin: Begin) -> None:
    studio = begin(maker=MAKER, settings={"limits": Limits(body=1000)})
    with client_of(studio) as client, pytest.raises(openai.APIStatusError) as caught:
        client.images.edit(prompt="a", image=("a.png", bytes(2000), "image/png"))
    assert caught.value.status_code == 413


def test_who_goes_away_needs_no_picture(
    tmp_path: Path, gate: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with serving(tmp_path / "studio", maker=MAKER) as studio, open(gate, "r+b", buffering=0) as opened_gate:
        headers = {**studio.headers, "Content-Type": "application/json"}
        for stream in (True, False):
            known = {job.id for job in studio.engine.list()}
            line = HTTPConnection(studio.url.removeprefix("http://"))
            line.request("POST", "/v1/images/generations", json.dumps({**painted(3, gate), "stream": stream}), headers)
            after = 0
            while not (fresh := {job.id for job in studio.engine.list()} - known):
                after = max([after, *(event.number for event in studio.engine.events(after=after, wait=GUARD))])
            (job,) = fresh
            until(studio.engine, job, lambda event: event.kind == "running")
            line.close()
            assert until(studio.engine, job, lambda event: event.kind in ("done", "failed", "cancelled")).kind == "cancelled"
            opened_gate.write(b"x")  # with which the worker sees that nobody wants more
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_stream_says_that_it_is_still_there(begin: Begin, gate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sumi.serve.openai_answers.QUIET", 0.05)
    studio = begin(maker=MAKER)
    with open(gate, "r+b", buffering=0) as opened_gate:
        body = {**painted(1, gate), "stream": True}
        with httpx.stream("POST", f"{studio.url}/v1/images/generations", json=body, headers=studio.headers, timeout=GUARD) as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            lines = reply.iter_lines()
            while next(lines) != ": keep-alive":
                pass
            opened_gate.write(b"x")
            rest = list(lines)
    assert rest[-3].startswith("event: image_generation.completed") and rest[-2].startswith("data: ") and rest[-1] == ""
