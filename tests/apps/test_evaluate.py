"""`sumi eval`: what it asks of a model, what it prints, and what it refuses."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sumi.apps.cli import main
from sumi.apps.evaluate import TASKS
from sumi.config import LabelConfig, MapConfig, ModelSpec
from sumi.models.channels import Segmentation, channels
from sumi.models.embedders import Label
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.conditioners import LabelEmbedding, MapRescaler
from sumi.nets.unet import UNet
from sumi.train import trials
from sumi.train.evaluate import Painter, Report
from sumi.train.measures import Distance, Mean
from sumi.train.metrics import wilson
from sumi.train.scenes import World
from sumi.train.trials import Maker, Scores

SETTINGS = {"model": "tiny", "steps": 2, "guidance": 3.0, "sampler": "ddim", "spacing": "trailing"}
ASKED = {"count": 4, "vocabulary": "objects", "kind": "pair", "seed": 0, "settings": SETTINGS}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the scoring of words was given; it is not run."""
    given: dict[str, Any] = {}

    def fake(painter: Painter, **options: Any) -> Report:
        given.update(options, painter=painter)
        settings = {name: options[name] for name in ("count", "vocabulary", "kind", "seed")} | options["settings"]
        generated = {"colour": wilson(3, 4), "count": wilson(0, 0), "frechet": Distance(12.5, 4), "diversity": Mean(2.25, 2, 2.5, 2)}
        real = {"colour": wilson(4, 4), "count": wilson(0, 0), "frechet": Distance(10, 4)}
        return Report(generated, real, {"count": wilson(1, 2)}, {"colour": wilson(4, 4)}, {"count": wilson(2, 2)}, settings)

    monkeypatch.setattr("sumi.train.evaluate.evaluate", fake)
    return given


def test_it_prints_a_table_or_json(tiny_model: Path, told: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "-m", str(tiny_model), "--count", "4", "--kind", "pair", "--steps", "2"]) == 0
    scenes = [World("shapes").sample(np.random.default_rng(number)) for number in range(3)]
    assert [picture.shape for picture in told.pop("painter")(scenes)] == [(16, 24, 3)] * 3
    assert [picture.shape for picture in told.pop("autoencoder")(scenes)] == [(16, 16, 3)] * 3
    assert told == {**ASKED, "twice": 4}
    assert capsys.readouterr().out.splitlines() == [
        "text: 4 held-out scenes of objects, seed 0; tiny, 2 steps of ddim, guidance 3; intervals of 95%",
        "                    n  generated                 autoencoder               real",
        "colour              4  75.0% (30.1 to 95.4)      100.0% (51.0 to 100.0)    100.0% (51.0 to 100.0)",
        "frechet             4  12.500                                              10.000",
        "diversity           2  2.250 (2.000 to 2.500)",
        "all, count          2  50.0% (9.5 to 90.5)       100.0% (34.2 to 100.0)",
    ]
    assert main(["eval", "-m", str(tiny_model), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["real"]["colour"]["value"] == 1 and table["colour"] == {
        "value": 0.75,
        **{k: pytest.approx(v, abs=1e-3) for k, v in (("low", 0.301), ("high", 0.954), ("n", 4))},
    }
    assert (told["count"], told["twice"]) == (1000, 100)


@pytest.fixture
def square(tiny: LatentDiffusion, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """The spec of a model of square pictures, which is the one that is loaded."""
    spec = replace(tiny.spec, size=(16, 16))
    monkeypatch.setattr("sumi.store.assembly.load", lambda *_, **__: replace(tiny, spec=spec))
    return spec


def test_words_are_scored_from_end_to_end(square: ModelSpec, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--count", "3", "--steps", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    table = json.loads(out)
    assert (table["all"]["n"], table["frechet"]["n"], table["diversity"]["n"]) == (3, 3, 3)
    assert table["real"]["object"]["value"] > 0.5 and err.endswith("6 of 6 pictures\n")


def test_pictures_of_nothing_are_scored_from_end_to_end(square: ModelSpec, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--task", "unconditional", "--count", "3", "--steps", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    table = json.loads(out)
    assert table["generated"]["diversity"]["n"] == 1 and table["real"]["frechet"]["n"] == 3
    assert err.endswith("3 of 3 pictures (unconditional)\n")


def test_every_task_is_scored_from_end_to_end(
    tiny: LatentDiffusion, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = replace(
        tiny.spec,
        autoencoder=replace(tiny.spec.autoencoder, block_channels=(8, 8, 16), attention_levels=(False,) * 3),
        concat=("mask", "masked_image", "map", "low_res"),
        map=MapConfig(classes=75),
        label=LabelConfig(classes=75, width=tiny.spec.unet.context_width or 0),
        size=(64, 64),
        optional=True,
    )
    assert spec.map is not None and spec.label is not None
    spec = replace(spec, unet=replace(spec.unet, in_channels=spec.autoencoder.latent_channels + sum(channels(spec).values())))
    torch.manual_seed(0)
    unet, autoencoder = UNet(spec.unet), Autoencoder(spec.autoencoder)
    readers = {"label": Label(LabelEmbedding(spec.label)), "segmentation": Segmentation(MapRescaler(spec.map))}
    model = LatentDiffusion(spec, unet.eval(), autoencoder.eval(), tiny.prompt, tiny.schedule, **readers)
    monkeypatch.setattr("sumi.store.assembly.load", lambda *_, **__: model)
    assert main(["eval", "--task", "all", "--count", "2", "--steps", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    tables = json.loads(out)
    assert tuple(tables) == TASKS and "left out" not in err
    for task in TASKS[1:]:
        assert tables[task].keys() >= {"generated", "autoencoder", "real", "settings"} and tables[task]["generated"]["frechet"]["n"] == 2
    assert tables["inpaint"]["generated"]["kept"]["value"] == 1


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_all_tasks_that_a_model_can_be_given(
    words: list[str], square: ModelSpec, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[tuple[str, dict[str, Any]]] = []

    def fake(task: str, maker: Maker, **options: Any) -> Scores:
        given.append((task, options))
        settings = {name: options[name] for name in ("count", "vocabulary", "kind", "seed")} | options["settings"]
        return Scores({"generated": {"iou": Mean(0.5, 0.25, 0.75, 4)}, "real": {}}, settings)

    monkeypatch.setattr(trials, "score", fake)
    assert main(["eval", "--task", "all", "--count", "4", "--kind", "pair", "--steps", "2", *words]) == 0
    out, err = capsys.readouterr()
    [(task, options)] = given
    assert task == "unconditional" and options.pop("autoencoder") and options == {**ASKED, "size": 16}
    assert err.splitlines() == [
        "sumi: task label is left out: a label names a single thing, and scenes of the kind 'pair' have more",
        "sumi: task inpaint is left out: tiny takes no mask",
        "sumi: task map is left out: tiny takes no map",
        "sumi: task low_res is left out: tiny takes no low_res",
    ]
    if words:
        assert json.loads(out).keys() == {"text", "unconditional"}
    else:
        assert out.splitlines()[-2:] == [
            "                    n  generated                 real",
            "iou                 4  0.500 (0.250 to 0.750)",
        ]


def test_a_task_is_named_as_the_module_that_does_it_names_it() -> None:
    assert tuple(trials.GIVEN) == TASKS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "mapp"], "there is no task 'mapp' (did you mean map?): use text, label, "),
        (["--kind", "zebra"], "there is no kind 'zebra': use single, "),
        (["--vocabulary", "all"], "there is no vocabulary 'all': use shapes, objects, world"),
        (["--count", "0"], "count must be from 1 to 4294967295; got 0"),
    ],
)
def test_what_there_is_not_is_refused(words: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "map"], "sumi: scenes are square, and pictures of tiny are not: give it another task"),
        (["--task", "all", "--vocabulary", "shapes"], None),
    ],
)
def test_a_task_for_another_model_is_refused(
    words: Iterable[str], message: str | None, tiny_model: Path, told: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "-m", str(tiny_model), *words]) == (2 if message else 0)
    if message:
        assert capsys.readouterr().err == f"{message}\n"
    else:
        assert capsys.readouterr().err.count("left out") == len(TASKS) - 1
