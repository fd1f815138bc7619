"""Jobs that are to be seen: their pictures, their pages, and that nothing else of them is left."""

import io
import json
import os
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from engine.helpers import at_step, ended, files, until, whole
from sumi.engine.engine import Engine
from sumi.engine.maker import Models
from sumi.engine.making import Made, Moment, Note, Refused, Spoiled
from sumi.errors import JobError
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.request import Request

Begin = Callable[..., Engine]


class Told(HTMLParser):
    """The JSON inside a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self._inside, self._text = False, ""
        self.feed(page.decode())
        self.story = json.loads(self._text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script" and dict(attributes).get("type") == "application/json"

    def handle_data(self, data: str) -> None:
        self._text += data if self._inside else ""


def pixels(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).tobytes()


def test_the_shipped_models_story(tmp_path: Path) -> None:
    """The picture is that of the same request without, to the bit; the page has every word in every layer at every step."""
    asked = Request(prompt="two (stars:1.2) above a tree", seed=3, steps=4)
    with Engine(tmp_path / "engine", devices=("cpu",)) as engine:
        plain = ended(engine, engine.submit(asked).id)
        seen = engine.submit(asked, see=True)
        last = until(engine, seen.id, lambda event: event.kind == "done" or (event.kind, event.data.get("step")) == ("step", 5))
        assert last.kind == "done" or last.data == {"step": 5, "steps": 8}, "made in as many steps as it is told in"
        seen = ended(engine, seen.id)
        assert seen.state == plain.state == "done"
        assert pixels(engine.picture(seen.pictures[0])) == pixels(engine.picture(plain.pictures[0]))
        story = Told(engine.story(seen.id)).story
        assert story["title"] == asked.prompt and len(story["steps"]) == 4
        assert [(word["text"], word["weight"]) for word in story["words"]][:2] == [("two", 1.0), ("stars", 1.2)]
        layers = [layer["name"] for layer in story["layers"]]
        assert layers[0] == "all, their mean" and len(layers) > 2
        assert all(len(step["attention"]) == len(layers) and all(len(maps) == 5 for maps in step["attention"]) for step in story["steps"])
        assert str(tmp_path) not in engine.story(seen.id).decode()
        settled(engine)
        with pytest.raises(JobError, match="the job has no story: one that is asked for with see has, once it is done"):
            engine.story(plain.id)


def settled(engine: Engine) -> None:
    """Waits until nothing is left of what a worker wrote on its way: a job may be told to be done before that."""
    for _ in range(600):
        if files(engine) == whole(engine):
            return
        time.sleep(0.1)
    assert files(engine) == whole(engine)


def job(request: Request) -> object:
    return type("Job", (), {"request": request, "model": "tiny", "see": True})()


@pytest.fixture
def models(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Models:
    monkeypatch.chdir(tmp_path)
    Path("stories").mkdir()
    return Models("cpu", "float32", None, {"tiny": str(tiny_model)})


def test_what_is_recorded_is_not_left(models: Models) -> None:
    happenings = models.make([job(Request(prompt="a cat", seed=1))], None, lambda place: True)  # type: ignore[list-item]
    told: list[tuple[int, int]] = []
    for happening in happenings:
        match happening:
            case Moment(places, step, steps):
                assert places == (0,) and steps == 8 and bool(list(Path("stories").iterdir())) == (step > 0), "four steps, twice"
            case Made(0, pictures, story):
                assert len(pictures) == 1 and story is not None
                story(Path("stories") / "page.html", lambda step, steps: told.append((step, steps)))
    assert told == [(5, 8), (6, 8), (7, 8), (8, 8)]
    assert [path.name for path in Path("stories").iterdir()] == ["page.html"]


@pytest.mark.parametrize("after", [0, 1, 3])
def test_nor_when_it_ends_early(models: Models, after: int) -> None:
    happenings = models.make([job(Request(prompt="a cat", seed=1))], None, lambda place: True)  # type: ignore[list-item]
    for _ in range(after):
        next(happenings)
    happenings.close()
    assert list(Path("stories").iterdir()) == []


def test_what_cannot_be_is_refused_or_spoiled_as_any_other(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    def last(request: Request) -> object:
        return list(models.make([job(request)], None, lambda place: True))[-1]  # type: ignore[list-item]

    refused = last(Request(width=7))
    assert isinstance(refused, Refused) and refused.why.kind == "request"
    windows = list(models.make([job(Request(tile=16, width=32, height=32))], None, lambda place: True))  # type: ignore[list-item]
    assert isinstance(windows[-1], Made) and not any(isinstance(each, Note) for each in windows)
    decode = LatentDiffusion.decode
    for spoil in (lambda image: image * float("nan"), lambda image: image * 0 - 1):
        monkeypatch.setattr(LatentDiffusion, "decode", lambda model, latent, spoil=spoil: spoil(decode(model, latent)))
        spoiled = last(Request(prompt="a cat", seed=1))
        assert isinstance(spoiled, Refused) and spoiled.why.kind == "nan", "in float32 already"
    models.precision = "bfloat16"
    assert isinstance(last(Request(prompt="a cat", seed=1)), Spoiled) and list(Path("stories").iterdir()) == []


def test_cancelled_while_it_is_told(begin: Begin, tmp_path: Path) -> None:
    """And at once made anew: what the first had written is gone, what the second has is whole."""
    os.mkfifo(tmp_path / "gate")
    engine = begin(devices=("cpu", "cpu"))
    seen = engine.submit(Request(prompt=f"story-gate={tmp_path / 'gate'} steps=1"), see=True)
    with open(tmp_path / "gate", "wb", buffering=0) as gate:  # until the story is begun
        engine.cancel(seen.id)
        assert len(files(engine)) == 3
        engine.retry(seen.id)
        gate.write(b"xx")
        again = ended(engine, seen.id)
        assert again.state == "done" and engine.story(seen.id) == engine.picture(again.pictures[0])
    assert ended(engine, engine.submit(Request(prompt="next")).id).state == "done"
    ended(engine, engine.submit(Request(prompt="next"), see=True).id)
    engine.close()
    assert files(engine) == whole(engine)


def test_closed_while_it_is_told(begin: Begin, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    engine = begin()
    seen = engine.submit(Request(prompt=f"story-gate={tmp_path / 'gate'} steps=1"), see=True)
    at_step(engine, seen.id, 1)
    with open(tmp_path / "gate", "wb", buffering=0):
        engine.close()
    engine = begin()
    with open(tmp_path / "gate", "wb", buffering=0) as gate:
        gate.write(b"x")
        assert ended(engine, seen.id).state == "done"
    assert files(engine) == whole(engine) and len(files(engine)) == 3
