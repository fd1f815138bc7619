"""The model in the package, as people meet it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import sumi
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.pipeline import illustrate
from sumi.request import Request
from sumi.store.assembly import SHIPPED
from sumi.store.images import open_image
from sumi.store.record import read
from sumi.train.evaluate import evaluate

STARS = Request(prompt="two yellow stars above a red heart", seed=7)


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    return sumi.load()


def test_it_is_small_and_nothing_in_it_runs() -> None:
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".txt", ".safetensors"}
    assert sum(path.stat().st_size for path in files) <= 64e6


def test_a_picture_from_the_command_line(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sumi", STARS.prompt, "--seed", "7", "-o", "stars.png"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "stars.png\n")
    assert run.stderr.splitlines()[-1] == "step 20 of 20"
    image = open_image(tmp_path / "stars.png")
    assert image.size == (64, 64) and np.asarray(image).std() > 10
    (again,) = sumi.generate(sumi.load(), read(tmp_path / "stars.png").request)
    assert abs(np.asarray(again.image).astype(int) - np.asarray(image)).max() <= 1


def test_a_picture_is_the_same_alone_and_among_others(model: LatentDiffusion) -> None:
    pictures = sumi.generate(model, STARS, count=4, steps=8)
    for picture in pictures:
        (alone,) = sumi.generate(model, picture.request)
        torch.testing.assert_close(alone.latent, picture.latent, rtol=0, atol=1e-3)
        assert abs(np.asarray(alone.image).astype(int) - np.asarray(picture.image)).max() <= 1


def test_every_word_of_its_world_is_known_and_others_are_told(model: LatentDiffusion) -> None:
    assert model.prompt is not None
    assert model.prompt.notices(STARS.prompt) == []
    assert [notice.word for notice in model.prompt.notices("a xylophone")] == ["xylophone"]


def test_it_paints_what_it_is_asked_for(model: LatentDiffusion) -> None:
    request = Request(seed=0, steps=10)
    report = evaluate(
        lambda scenes: (np.asarray(picture.image) for picture in illustrate(model, [scene.caption for scene in scenes], request)),
        count=24,
        vocabulary="objects",
        kind="single",
        say=lambda _: None,
    )
    for name in ("object", "colour", "background"):
        share = report.generated[name].value
        assert share is not None and share > 0.6, f"{name}: {share}"
