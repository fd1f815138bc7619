"""Requests computed together are what they are alone: the same noise, and pixels that differ by rounding at most."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sumi
from engine.helpers import ended
from small import NAMES, variant
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.engine.batching import Advanced, NotFinite, together
from sumi.engine.engine import Engine
from sumi.engine.maker import Models, weight
from sumi.engine.making import Made, Moment, Refused, Spoiled
from sumi.errors import RequestError
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.pipeline import Decoded, Encoded, Picture, generate
from sumi.request import Request
from support import noisy, saved

CAT = Request(prompt="a cat", seed=7, steps=3)


def made(model: LatentDiffusion, requests: Sequence[Request]) -> list[tuple[Picture, ...]]:
    """The pictures of each."""
    found = {places[0]: event.pictures for places, event in together(model, requests) if isinstance(event, Decoded)}
    return [found[place] for place in range(len(requests))]


def farthest(ones: Sequence[Picture], others: Sequence[Picture]) -> int:
    """The largest difference of a pixel, out of 255."""
    pixels = [np.stack([np.asarray(picture.image).astype(int) for picture in pictures]) for pictures in (ones, others)]
    return int(abs(pixels[0] - pixels[1]).max())


def assert_as_alone(model: LatentDiffusion, requests: Sequence[Request]) -> None:
    for request, pictures in zip(requests, made(model, requests), strict=True):
        alone = generate(model, request)
        assert farthest(pictures, alone) <= 1
        for one, other in zip(pictures, alone, strict=True):
            assert torch.allclose(one.latent, other.latent, atol=1e-4)
            assert one.request == other.request and one.record == dataclasses.replace(other.record, together=one.record.together)


def test_prompts_negatives_seeds_and_numbers_are_each_ones_own(tiny: LatentDiffusion, calls: list[int]) -> None:
    requests = [
        CAT,
        dataclasses.replace(CAT, prompt="two red stars", negative="a tree", seed=2**64 - 1, count=2),
        dataclasses.replace(CAT, prompt="", seed=8, first=5),
    ]
    pictures = made(tiny, requests)
    assert calls == [8, 8, 8]
    assert farthest(pictures[0], pictures[2]) > 1
    assert_as_alone(tiny, requests)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler(tiny: LatentDiffusion, sampler: str) -> None:
    fields: dict[str, Any] = {"sampler": sampler, "steps": 4, **({"guidance": 1.0} if sampler in ("lcm", "tcd") else {})}
    assert_as_alone(tiny, [Request(prompt="a cat", seed=1, **fields), Request(prompt="a horse", seed=2, first=3, **fields)])


@pytest.mark.parametrize(
    "fields",
    [
        {"noise": "torch", "count": 2},
        {"noise": "a1111-cpu"},
        {"noise": "a1111-nv", "sampler": "euler_ancestral"},
        {"variation": 0.5, "variation_seed": 3},
        {"hires": 2.0, "hires_strength": 0.5},
        {"guidance_method": "apg"},
        {"guidance_method": "cfg++", "guidance": 0.6},
        {"guidance_rescale": 0.7, "guidance_interval": (0.1, 5.0)},
        {"threshold": 0.95, "mimic": 2.0},
        {"sag": 0.5, "pag": 1.0},
        {"seamless": "both"},
        {"tile": 16, "width": 32, "height": 32},
        {"prompt": "a (cat:1.3) AND a tree :0.5"},
        {"prompt": "[a cat:a horse:0.5]"},
    ],
    ids=str,
)
def test_whatever_else_they_share(tiny: LatentDiffusion, fields: dict[str, Any], calls: list[int]) -> None:
    requests = [Request(**{"prompt": prompt, "seed": seed, "steps": 3, **fields}) for seed, prompt in enumerate(("a cat", "a red tree"))]
    made(tiny, requests)
    together_calls = len(calls)
    calls.clear()
    assert_as_alone(tiny, requests)
    assert together_calls * 2 <= len(calls) - together_calls


def test_pictures_to_start_from(tiny: LatentDiffusion, tmp_path: Path, calls: list[int]) -> None:
    paths = [saved(tmp_path / f"{seed}.png", noisy(16, 24, seed=seed)) for seed in range(2)]
    mask = saved(tmp_path / "mask.png", np.eye(16, 24, dtype=np.uint8).repeat(3).reshape(16, 24, 3) * 255)
    started = [dataclasses.replace(CAT, image=path, strength=0.7, seed=seed) for seed, path in enumerate(paths)]
    masked = [dataclasses.replace(request, mask=mask, strength=0.9) for request in started]
    made(tiny, started)
    assert set(calls) == {4}
    for requests in (started, masked):
        assert_as_alone(tiny, requests)


TASKS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "inpainting by channels": ("inpaint", ("image", "mask"), {}),
    "outpainting": ("plain", ("image",), {"outpaint": (8, 0, 0, 8)}),
    "depth": ("depth", ("depth",), {}),
    "map": ("map", ("map",), {}),
    "enlarged": ("low-res", ("low_res",), {}),
    "enlarged by the upscaler": ("upscaler", ("low_res",), {"level": 60}),
    "told to edit": ("edits", ("image",), {"image_guidance": 1.5}),
    "variations": ("like", ("like",), {"level": 100}),
    "all at once": ("optional", ("image", "mask", "map"), {"label": "tree"}),
}


@pytest.mark.parametrize("task", TASKS)
def test_every_task(task: str, tmp_path: Path) -> None:
    """Each request goes by files of its own."""
    name, named, fields = TASKS[task]
    model, requests = variant(name), list[Request]()
    for seed in range(3):
        hole = np.zeros((24, 32), np.uint8)
        hole[4 + 3 * seed : 18, 9:22] = 255
        grey = {"mask": hole, "map": noisy(24, 32, None, seed, high=len(NAMES)), "depth": noisy(24, 32, None, seed)}
        pixels = {**grey, "image": noisy(24, 32, seed=seed), "like": noisy(40, 30, seed=seed), "low_res": noisy(6, 8, seed=seed)}
        files = {field: saved(tmp_path / f"{field}-{seed}.png", pixels[field]) for field in named}
        requests.append(Request(**{"prompt": "a cat", "seed": seed, "steps": 2, **files, **fields}))
    advanced = [event for _, event in together(model, requests) if isinstance(event, Advanced)]
    assert {len(event.denoised) for event in advanced} == {3}
    assert_as_alone(model, requests)


def test_labels() -> None:
    assert_as_alone(variant("label"), [Request(seed=seed, steps=2, label=label) for seed, label in enumerate(("cat", "tree", "1"))])


def test_what_differs_is_computed_apart(tiny: LatentDiffusion, calls: list[int]) -> None:
    long = "a cat and two red stars above a tree " * 4
    requests = [CAT, dataclasses.replace(CAT, prompt=long), dataclasses.replace(CAT, prompt="a cat AND a tree"), CAT]
    assert_as_alone(tiny, requests)
    calls.clear()
    made(tiny, [CAT, dataclasses.replace(CAT, guidance=2.0), dataclasses.replace(CAT, width=28), dataclasses.replace(CAT, steps=2)])
    assert calls == [2] * (3 + 3 + 3 + 2)


def test_no_more_than_fit_the_memory(tiny: LatentDiffusion, calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sumi.engine.batching", "sumi.running"):
        monkeypatch.setattr(f"{module}.batch_size", lambda *_: 3)
    requests = [dataclasses.replace(CAT, seed=seed, count=count) for seed, count in enumerate((2, 1, 2, 5))]
    pictures = made(tiny, requests)
    assert [size // 2 for size in calls] == [3] * 3 + [2] * 3 + [3] * 3 + [2] * 3
    assert [len(each) for each in pictures] == [2, 1, 2, 5]


def test_events(tiny: LatentDiffusion) -> None:
    requests = [CAT, dataclasses.replace(CAT, width=7), dataclasses.replace(CAT, seed=1)]
    events = list(together(tiny, requests))
    kinds = [(places, type(event)) for places, event in events]
    steps = [((0, 2), Advanced)] * 3
    assert kinds == [((0,), Encoded), ((1,), RequestError), ((2,), Encoded), *steps, ((0,), Decoded), ((2,), Decoded)]
    advanced = [event for _, event in events if isinstance(event, Advanced)]
    assert [(event.index, event.total, len(event.denoised)) for event in advanced] == [(1, 3, 2), (2, 3, 2), (3, 3, 2)]


def test_what_nobody_wants_is_not_gone_on_with(tiny: LatentDiffusion, calls: list[int]) -> None:
    requests = [CAT, dataclasses.replace(CAT, seed=1), dataclasses.replace(CAT, width=28)]
    wanted = {0, 1, 2}
    for places, event in together(tiny, requests, wanted.__contains__):
        if isinstance(event, Advanced) and 0 in places:
            wanted -= {0} if event.index == 1 else {1}
    assert calls == [4, 4, 2, 2, 2]


def test_numbers_that_are_not_finite_spoil_their_own_picture(tiny: LatentDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = LatentDiffusion.decode

    def spoiled(model: LatentDiffusion, latent: torch.Tensor) -> torch.Tensor:
        image = decode(model, latent)
        image[0, 0, 3, 3] = torch.nan
        image[1] = -3.0
        return image

    monkeypatch.setattr(LatentDiffusion, "decode", spoiled)
    kinds = [type(event) for _, event in together(tiny, [dataclasses.replace(CAT, seed=seed) for seed in range(3)])][-3:]
    assert kinds == [NotFinite, NotFinite, Decoded]
    assert [type(event) for _, event in together(tiny, [dataclasses.replace(CAT, count=2)])][-1:] == [NotFinite]


def test_too_little_memory(tiny: LatentDiffusion) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    for requests in ([CAT], [CAT, CAT]):
        hook = tiny.unet.register_forward_pre_hook(refuse)
        with pytest.raises(MemoryError, match="not enough memory"):
            list(together(tiny, requests))
        hook.remove()


# The maker of a worker


def job(request: Request, model: str | None = None) -> Any:
    return type("Job", (), {"request": request, "model": model, "see": False})()


def test_the_maker_tells_what_happens(tiny_model: Path, tmp_path: Path) -> None:
    models = Models("cpu", None, None, {"tiny": str(tiny_model), "none": str(tmp_path / "none")})
    jobs = [job(CAT, "tiny"), job(dataclasses.replace(CAT, prompt="a zebra"), "tiny"), job(dataclasses.replace(CAT, width=7), "tiny")]
    events = list(models.make(jobs, None, lambda place: True))
    moments = [(event.places, event.step, event.steps) for event in events if isinstance(event, Moment)]
    assert moments == [((0,), 0, 3), ((1,), 0, 3), ((0, 1), 1, 3), ((0, 1), 2, 3), ((0, 1), 3, 3)]
    assert [(event.place, event.why.kind) for event in events if isinstance(event, Refused)] == [(2, "request")]
    saves = {event.place: event.pictures for event in events if isinstance(event, Made)}
    assert saves.keys() == {0, 1} and all(len(pictures) == 1 for pictures in saves.values())
    drawn = saves[0][0]
    drawn.save(tmp_path / "kept")
    drawn.thumbnail(tmp_path / "small")
    with Image.open(tmp_path / "kept") as picture, Image.open(tmp_path / "small") as small:
        assert (picture.format, small.format, picture.size, small.size) == ("PNG", "WEBP", (24, 16), (24, 16))
        assert (drawn.width, drawn.height) == (24, 16) and picture.tobytes() == small.tobytes()
    missing = list(models.make([job(CAT, "none")], None, lambda place: True))
    assert [(event.place, event.why.kind) for event in missing if isinstance(event, Refused)] == [(0, "checkpoint")]


def test_the_maker_keeps_models_within_its_budget(tiny_model: Path, tiny: LatentDiffusion) -> None:
    one = weight(tiny)
    assert one == sum(4 * w.numel() for net in (tiny.unet, tiny.autoencoder, tiny.prompt.encoder) for w in net.parameters())  # type: ignore[union-attr]
    models = Models("cpu", None, 2 * one, dict.fromkeys("abc", str(tiny_model)))
    for name in "abca":
        list(models.make([job(CAT, name)], None, lambda place: True))
    assert [key[0] for key in models.cache.keys] == ["c", "a"] and models.cache.weight == 2 * one


def test_the_maker_shows_what_comes(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sumi.engine.maker.PREVIEWED", 0.0)
    monkeypatch.setattr("sumi.engine.maker.SHARE", math.inf)
    models = Models("cpu", None, None, {"tiny": str(tiny_model)})
    jobs = [job(dataclasses.replace(CAT, count=2), "tiny"), job(dataclasses.replace(CAT, seed=1), "tiny")]
    last = [event for event in models.make(jobs, None, lambda place: True) if isinstance(event, Moment)][-1]
    assert last.previews.keys() == {0, 1} and last.previews[0] != last.previews[1]
    assert all(preview.startswith(b"\x89PNG") for preview in last.previews.values())


@pytest.mark.parametrize(("look", "gap"), [(0.0, 0.1), (0.002, 0.2), (1.0, 0.5)], ids=["free", "cheap", "dear"])
def test_previews_are_seldom_but_never_away_for_long(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, look: float, gap: float) -> None:
    """Of looks that take so many seconds, at steps of 1/100 s: the gap between the end of one and the next, in seconds."""
    now = 0.0

    def looked(loaded: object, latent: torch.Tensor) -> bytes:
        nonlocal now
        seen.append(now)
        now += look
        ends.append(now)
        return b""

    seen, ends = list[float](), list[float]()
    monkeypatch.setattr("sumi.engine.maker._Loaded.preview", looked)
    monkeypatch.setattr("sumi.engine.maker.time", SimpleNamespace(monotonic=lambda: now))
    models = Models("cpu", None, None, {"tiny": str(tiny_model)})
    for _ in models.make([job(dataclasses.replace(CAT, steps=120), "tiny")], None, lambda place: True):
        now += 0.01
    assert len(seen) > 2
    assert [begun - ended for begun, ended in zip(seen[1:], ends, strict=False)] == pytest.approx([gap] * (len(seen) - 1), abs=0.0101)


def test_spoiled_in_half_precision_is_tried_in_float32_and_there_it_is_told(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LatentDiffusion, "decode", lambda model, latent: torch.full((len(latent), 3, 16, 24), torch.nan))
    models = Models("cpu", "bfloat16", None, {"tiny": str(tiny_model)})
    assert isinstance(list(models.make([job(CAT, "tiny")], None, lambda place: True))[-1], Spoiled)
    last = list(models.make([job(CAT, "tiny")], "float32", lambda place: True))[-1]
    assert isinstance(last, Refused) and last.why.kind == "nan"


# The shipped model, from end to end


def test_the_shipped_models_pictures(tmp_path: Path) -> None:
    """Together, of mixed prompts and seeds, by an engine, to the pixels that each has alone."""
    requests = [
        Request(prompt=prompt, seed=seed, steps=5) for seed, prompt in enumerate(("a red circle", "two stars above a tree", "", "a boat"))
    ]
    model = sumi.load()
    with Engine(tmp_path) as engine:
        jobs = [ended(engine, engine.submit(request).id) for request in requests]
        jobs += [ended(engine, id) for id in [engine.submit(request).id for request in requests]]
        assert [job.state for job in jobs] == ["done"] * 8
        for job in jobs:
            again = generate(model, job.request)[0]
            with Image.open(engine.results.path(job.pictures[0])) as picture:
                assert int(abs(np.asarray(picture).astype(int) - np.asarray(again.image).astype(int)).max()) <= 1
                assert "a red circle" in picture.info["parameters"] or job.request.prompt != "a red circle"
