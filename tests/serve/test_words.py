"""What is said of a prompt while it is written, against what a run says of it."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sumi
from small import SMALL
from sumi.config import TextConfig
from sumi.errors import CheckpointError, PromptError, RequestError
from sumi.events import Encoded
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.models.zoo import ZOO
from sumi.request import Request
from sumi.serve.cards import Card
from sumi.serve.catalogue import Catalogue, Known
from sumi.serve.words import Words, read
from sumi.store.model import Model, expected
from sumi.store.single import write_single
from sumi.store.vocabulary import clip_tokenizer
from sumi.text.prompt import parse
from support import randomise


@pytest.fixture(scope="module")
def shipped() -> Known:
    return Catalogue({}).known(None)


@cache
def model() -> LatentDiffusion:
    return sumi.load(device="cpu")


def at(prompt: str, start: int, end: int) -> str:
    """What JavaScript's `prompt.slice(start, end)` is."""
    return prompt.encode("utf-16-le")[2 * start : 2 * end].decode("utf-16-le")


def told(prompt: str, model: LatentDiffusion, steps: int = 4) -> Encoded:
    """What a run says of it before the first step."""
    events = sumi.stream(model, Request(prompt=prompt, seed=0, steps=steps))
    first = next(iter(events))
    assert isinstance(first, Encoded)
    return first


def assert_as_told(found: Words, encoded: Encoded) -> None:
    assert found.error is None and found.count == encoded.tokens[0]
    words = [word for part in encoded.prompt if 0 in part.steps and part.weight != 0 for word in part.words]
    assert [(each.text, each.weight, each.known) for each in found.words] == [(w.text, w.weight, w.known) for w in words if w.text]


PIECES = [
    *("two", "stars", "a tree", "cat", "zebra", "naïve", "日本", "😀", " ", "  ", "\n", ", ", "!", "16:9", "|", ":", ")", "<lora:a:1>"),
    *(
        "(",
        "(a cat:1.3)",
        "[cat]",
        "((dog))",
        "[red:blue:0.5]",
        "[sun:2]",
        "[a|b|]",
        ":0.5 AND ",
        " AND ",
        " :0 AND ",
        " BREAK ",
        "\\(",
        "\\)",
    ),
]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@settings(max_examples=100, deadline=None)
def test_a_run_says_the_same(shipped: Known, prompt: str) -> None:
    found = read(shipped, prompt, steps=4)
    try:
        encoded = told(prompt, model())
    except PromptError as error:
        assert found.error is not None and found.error.message == str(error) and "\n" not in str(error)
        return
    assert_as_told(found, encoded)
    reader = model().prompt
    assert reader is not None
    contexts = [reader([part.passage]).context for part in parse(prompt).at(0, 4) if part.weight != 0]
    chunks = sum(context.shape[1] // 24 for context in contexts if context is not None)
    assert (found.chunks, found.limit) == (chunks, 22 * chunks)


def test_the_examples(shipped: Known) -> None:
    prompt = "😀 two (stars:1.3) \\(a\\) [tre] above"
    found = read(shipped, prompt)
    assert [(at(prompt, each.start, each.end), each.weight, each.known) for each in found.words] == [
        ("😀", 1.0, False),
        ("two", 1.0, True),
        ("stars", 1.3, True),
        ("(", 1.0, True),
        ("a", 1.0, True),
        (")", 1.0, True),
        ("tre", 1 / 1.1, False),
        ("above", 1.0, True),
    ]
    assert (found.limit, found.chunks, found.error) == (22, 1, None)
    assert json.loads(json.dumps(found.json(), allow_nan=False))["words"][1] == {
        "start": 3, "end": 6, "text": "two", "weight": 1.0, "chunk": 0, "known": True
    }  # fmt: skip


def test_brackets_in_brackets_multiply(shipped: Known) -> None:
    found = read(shipped, "a ((red [cat]:1.5) on) grass")
    assert [(each.text, each.weight) for each in found.words] == [
        ("a", 1.0), ("red", pytest.approx(1.65)), ("cat", pytest.approx(1.5)), ("on", pytest.approx(1.1)), ("grass", 1.0)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "steps", "expected"),
    [
        ("[sun:cloud:0.5]", None, ["sun"]),
        ("[sun:cloud:0.1]", 5, ["cloud"]),  # less than a step
        ("[sun:0.5]", None, []),
        ("[sun|cloud]", None, ["sun"]),
        ("sun BREAK cloud AND tree :0.3", None, ["sun", "cloud", "tree"]),
        ("sun :0 AND tree", None, ["tree"]),
    ],
)
def test_the_words_of_the_first_step(shipped: Known, prompt: str, steps: int | None, expected: list[str]) -> None:
    found = read(shipped, prompt, steps=steps)
    assert [each.text for each in found.words] == expected == [at(prompt, each.start, each.end) for each in found.words]
    assert [each.chunk for each in found.words] == [*range(len(expected))]
    assert found.chunks == max(1, len(expected)) and found.limit == 22 * found.chunks


@pytest.mark.parametrize(
    ("prompt", "place", "says"),
    [("a (cat", 2, "never closed"), ("😀😀 cat)", 8, "closes nothing"), ("a <lora:x:1>", 2, "loads no extra network")],
)
def test_a_fault_is_told_with_its_place_and_the_words_as_they_are(shipped: Known, prompt: str, place: int, says: str) -> None:
    found = read(shipped, prompt)
    assert found.error is not None and says in found.error.message and found.error.at == place
    plain = read(shipped, prompt, emphasis="off")
    assert plain.error is None and replace(found, error=None) == plain
    assert "".join(each.text for each in found.words) == prompt.replace(" ", "")


def test_without_emphasis_signs_are_words(shipped: Known) -> None:
    found = read(shipped, "(cat:1.3) AND", emphasis="off")
    assert [each.text for each in found.words] == ["(", "cat", ":", "1", ".", "3", ")", "AND"]
    assert {each.weight for each in found.words} == {1.0}


def test_what_is_no_prompt(shipped: Known) -> None:
    with pytest.raises(PromptError, match="not Unicode"):
        read(shipped, "a \ud800")
    with pytest.raises(RequestError, match="at most 100000 characters"):
        read(shipped, "a" * 100_001)
    assert read(shipped, "") == Words(0, 22, 1, ())


def test_a_model_without_words() -> None:
    faces = ZOO["ldm-faces"]
    known = Known(faces, Card.of(faces, "faces"), lambda: ())
    assert read(known, "") == Words(0, 0, 0, ())
    found = read(known, "a cat")
    assert (found.count, found.words) == (0, ()) and found.error is not None
    assert found.error.message == "faces makes pictures without words: leave the prompt empty"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A single file whose text encoder reads OpenAI's vocabulary, which is not in it."""
    spec = replace(SMALL, text=TextConfig(width=8, layers=1, heads=2, mlp_width=16))
    states = {name: dict(randomise(network.to_empty(device="cpu")).state_dict()) for name, network in expected(spec).items()}
    path = tmp_path_factory.mktemp("models") / "clips.safetensors"
    write_single(path, Model(spec, states, (clip_tokenizer(None, pad_id=None),)))
    return path


def test_the_vocabulary_of_clip(clips: Path) -> None:
    """Counts as OpenAI's code gives them, and chunks of 75, as A1111 counts."""
    known = Catalogue({"clips": clips}).known("clips")
    horse = "a photo of an astronaut riding a horse on mars"
    found = read(known, horse)
    assert (found.count, found.limit, found.chunks) == (10, 75, 1) and all(each.known for each in found.words)
    assert [at(horse, each.start, each.end) for each in found.words] == horse.split()
    assert [each.text for each in read(known, "jabberwockies, naïve 😀!").words] == ["jabberwockies", ",", "naïve", "😀!"]
    assert [read(known, "cat " * count).limit for count in (75, 76, 150, 151)] == [75, 150, 150, 225]
    assert [(each.count, each.limit) for each in (read(known, "cat BREAK dog"), read(known, "cat " * 60 + ", " + "dog " * 20))] == [
        (2, 150),
        (81, 150),
    ]


def test_a_vocabulary_that_is_not_here_is_said_until_it_is(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = Catalogue({"clips": clips})

    def missing(*_: Any, **__: Any) -> Callable[[], None]:
        raise CheckpointError("CLIP's vocabulary was not found: put it there")

    with monkeypatch.context() as patch:
        patch.setattr("sumi.store.single.clip_tokenizer", missing)
        found = read(catalogue.known("clips"), "a cat")
        assert catalogue.card("clips").tokens == 75
    assert (found.count, found.limit, found.words) == (0, 75, ()) and found.error is not None
    assert found.error.message == "CLIP's vocabulary was not found: put it there"
    assert read(catalogue.known("clips"), "a cat").count == 2
