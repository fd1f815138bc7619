"""Grids: the pictures that they are of, where each stands, and what cannot be varied."""

import json
from pathlib import Path

import numpy as np
import pytest

from sumi.apps.cli import main
from sumi.errors import RequestError
from sumi.grid import Axis, grid
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.pipeline import generate
from sumi.request import Request
from sumi.store.images import read_png_text, save_png
from sumi.store.sheets import GAP

CAT = Request(prompt="a cat", seed=3, steps=2)


def test_every_picture_is_what_its_values_make_alone(tiny: LatentDiffusion) -> None:
    told: list[tuple[int, int]] = []
    found = grid(tiny, CAT, Axis("steps", (1, 2)), Axis("guidance", (1.0, 3.0)), Axis("seed", (5, 6)), say=lambda *at: told.append(at))
    assert told == [(number, 8) for number in range(1, 9)]
    assert set(found.pictures) == {(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)}
    for (i, j, k), picture in found.pictures.items():
        (alone,) = generate(tiny, CAT, steps=(1, 2)[i], guidance=(1.0, 3.0)[j], seed=(5, 6)[k])
        assert np.array_equal(np.asarray(picture.image), np.asarray(alone.image))


def test_pictures_stand_in_order(tiny: LatentDiffusion) -> None:
    found = grid(tiny, CAT, Axis("first", (0, 1, 2)))
    page, (width, height) = np.asarray(found.image), found.pictures[0, 0, 0].image.size
    top = found.image.height - height - GAP
    for number in range(3):
        x = found.image.width - (3 - number) * (width + GAP)
        assert np.array_equal(page[top : top + height, x : x + width], np.asarray(found.pictures[number, 0, 0].image))


def test_a_seed_left_open_is_one_for_all(tiny: LatentDiffusion) -> None:
    found = grid(tiny, Request(prompt="a cat", steps=1), Axis("guidance", (1.0, 2.0)))
    assert len({picture.request.seed for picture in found.pictures.values()}) == 1


def test_words_of_the_prompt_are_replaced(tiny: LatentDiffusion) -> None:
    found = grid(tiny, CAT, Axis.read("replace=cat,tree, red tree"))
    assert [found.pictures[i, 0, 0].request.prompt for i in range(3)] == ["a cat", "a tree", "a red tree"]
    with pytest.raises(RequestError, match="the prompt does not say 'dog'"):
        grid(tiny, CAT, Axis("replace", ("dog", "cat")))


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("steps=5, 10", Axis("steps", (5, 10))),
        ("mask-blur=0,2.5", Axis("mask_blur", (0.0, 2.5))),
        ("prompt=a cat, asleep|a tree", Axis("prompt", ("a cat, asleep", "a tree"))),
        ("sigmas=3,1,0|3,0", Axis("sigmas", ((3.0, 1.0, 0.0), (3.0, 0.0)))),
        ("sampler=euler,ddim", Axis("sampler", ("euler", "ddim"))),
    ],
)
def test_axes_are_read_as_a_command_line_writes_them(text: str, axis: Axis) -> None:
    assert Axis.read(text) == axis


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps", "an axis is a field and its values"),
        ("step=3", r"there is no axis 'step' \(did you mean steps"),
        ("count=1,2", "there is no axis 'count'"),
        ("steps=", "the axis steps has no values"),
        ("steps=1,x", "steps must be a whole number"),
        ("guidance=1000", "guidance must be from 0 to 100"),
    ],
)
def test_what_is_no_axis_is_refused(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Axis.read(text)


def test_a_field_is_varied_once_and_in_one_picture_a_place(tiny: LatentDiffusion) -> None:
    with pytest.raises(RequestError, match="steps is on two axes"):
        grid(tiny, CAT, Axis("steps", (1, 2)), Axis("steps", (3,)))
    with pytest.raises(RequestError, match="prompt is on two axes"):
        grid(tiny, CAT, Axis("replace", ("cat",)), Axis("prompt", ("a cat",)))
    with pytest.raises(RequestError, match="leave count out"):
        grid(tiny, Request(prompt="a cat", count=2), Axis("steps", (1,)))


def test_the_file_says_what_it_is_of(tiny: LatentDiffusion, tmp_path: Path) -> None:
    found = grid(tiny, CAT, Axis("steps", (1, 2)), z=Axis("guidance", (2.0,)))
    save_png(found.image, tmp_path / "grid.png", found.texts())
    told = json.loads(read_png_text(tmp_path / "grid.png")["sumi-grid"])
    assert told["x"] == {"field": "steps", "values": [1, 2]} and told["z"]["values"] == [2.0] and "y" not in told
    assert Request.from_json(json.dumps(told["request"])) == found.request


def test_a_grid_on_the_command_line(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["grid", "a cat", "-x", "steps=1,2", "-y", "replace=cat,tree", "--seed", "4", "-m", str(tiny_model)]
    assert main([*words, "--pictures", "each"]) == 0
    out, err = capsys.readouterr()
    assert out.split() == [*(f"each/sumi-4-0{number}.png" for number in ("", "-2", "-3", "-4")), "grid-4-0.png"]
    assert err.splitlines()[-1].endswith("picture 4 of 4") and (tmp_path / "grid-4-0.png").is_file()
    assert main([*words, "-q", "-o", "sheet.png"]) == 0
    assert capsys.readouterr() == ("sheet.png\n", "")
    assert main(["grid", "a cat", "-x", "step=1", "-m", str(tiny_model)]) == 2
    assert "there is no axis 'step'" in capsys.readouterr().err
    assert main(["grid", "a cat"]) == 2
    assert "-x" in capsys.readouterr().err
