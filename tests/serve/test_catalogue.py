"""What a server knows of its models: from their descriptions alone, and where they are."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from small import NAMES, SMALL, VARIANTS, small
from sumi.errors import CheckpointError, PromptError, RequestError, SumiError
from sumi.models.zoo import SD15, SDXL, ZOO
from sumi.request import FILES, Request
from sumi.resolve.serves import serves
from sumi.serve.cards import GIVEN, Card
from sumi.serve.catalogue import Catalogue, found
from sumi.serve.words import read
from sumi.store.assembly import SHIPPED, load
from sumi.store.folder import write_model
from sumi.store.single import write_single

ALWAYS = ("image", "mask", "outpaint", "hires")
TAKES = {
    "plain": ALWAYS,
    "inpaint": ("image", "mask", "outpaint"),
    "depth": ("image", "mask", "outpaint", "depth"),
    "map": ("image", "mask", "outpaint", "map"),
    "label": ("image", "mask", "outpaint", "label", "hires"),
    "unnamed": ("image", "mask", "outpaint", "label", "hires"),
    "low-res": ("low_res",),
    "upscaler": ("low_res", "level"),
    "edits": ("image", "image_guidance"),
    "like": ("image", "mask", "outpaint", "like", "level", "hires"),
    "pixels": ALWAYS,
    "optional": ("image", "mask", "outpaint", "map", "low_res", "label", "hires"),
}
NEEDS = {
    "inpaint": ("mask", "image"),
    "depth": ("depth",),
    "map": ("map",),
    "label": ("label",),
    "unnamed": ("label",),
    "low-res": ("low_res",),
    "upscaler": ("low_res",),
    "edits": ("image",),
    "like": ("like",),
}
"""What each small variant may be given, and what it has to be."""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without models."""
    monkeypatch.delenv("SUMI_MODELS", raising=False)
    monkeypatch.setenv("SUMI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The shipped model without any of its weights."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "copied", ignore=shutil.ignore_patterns("*.safetensors")))


def single(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_single(path, small())
    return path


def folder(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_model(path, small())
    return path


def lora(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(4, 8), "lora_unet_x.lora_up.weight": torch.zeros(8, 4)}, path)
    return path


# What is told of a model


def test_the_model_that_comes_with_sumi() -> None:
    catalogue = Catalogue({})
    card = catalogue.card(None)
    names = tuple(json.loads((SHIPPED / "model_index.json").read_text())["sumi"]["classes"])
    assert card == Card(
        title="sumi-objects", width=64, height=64, multiple=16, steps=20, guidance=3.0, sampler="dpmpp_2m", spacing="trailing",
        takes=("image", "mask", "outpaint", "map", "low_res", "label", "hires"), needs=(),
        labels=names, map_classes=("background", *names), prompt=True, tokens=22,
    )  # fmt: skip
    assert len(names) == 74 and catalogue.card("sumi") is card and catalogue.names == ("sumi",)
    spec = load(device="cpu").spec
    assert catalogue.spec(None) == spec


def test_weights_are_not_read(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a folder they need not be there at all; of a file, its head is enough."""
    file = single(tmp_path / "one.safetensors")
    monkeypatch.setattr("sumi.store.checkpoint.safe_open", None)
    catalogue = Catalogue({"copied": copied, "one": file})
    assert catalogue.card("copied") == catalogue.card(None)
    assert read(catalogue.known("copied"), "two red stars").count == 3
    assert catalogue.spec("one") == SMALL and read(catalogue.known("one"), "a cat above a tree").count == 5
    with pytest.raises(CheckpointError):
        load(copied)


@pytest.mark.parametrize("name", VARIANTS)
def test_what_a_model_takes_and_needs(name: str, model_for: Callable[[str], Path]) -> None:
    catalogue = Catalogue({name: model_for(name)})
    card, spec = catalogue.card(name), catalogue.spec(name)
    assert (card.title, card.takes, card.needs) == (name, TAKES[name], NEEDS.get(name, ()))
    assert (card.width, card.height, card.steps, card.guidance) == (32, 24, 2, 3.0) and card.prompt and card.tokens == 10
    asked: dict[str, Any] = {field: GIVEN[field] for field in card.needs}
    serves(spec, Request(**asked))
    for field in set(card.needs):
        with pytest.raises(RequestError):
            serves(spec, Request(**{other: value for other, value in asked.items() if other != field}))
    for field in GIVEN.keys() - {*card.takes, "image_guidance", "level"}:
        with pytest.raises(RequestError):
            serves(spec, Request(**asked, **{field: GIVEN[field]}))


def test_classes_without_names_are_numbers(model_for: Callable[[str], Path]) -> None:
    catalogue = Catalogue({name: model_for(name) for name in ("unnamed", "label", "map")})
    assert (catalogue.card("unnamed").labels, catalogue.card("unnamed").map_classes) == (("0", "1", "2", "3"), ())
    assert catalogue.card("label").labels == NAMES and catalogue.card("map").map_classes == ("background", *NAMES)
    for name in ("unnamed", "label"):
        for label in catalogue.card(name).labels:
            catalogue.check(Request(label=label), name)
    semantic = Card.of(ZOO["ldm-semantic"], "")
    assert semantic.map_classes == tuple(map(str, range(182))) and (semantic.prompt, semantic.tokens) == (False, 0)


def test_published_models() -> None:
    assert [(card.width, card.multiple, card.tokens, card.takes) for card in (Card.of(SD15, ""), Card.of(SDXL, ""))] == [
        (512, 64, 75, ALWAYS),
        (1024, 32, 75, ALWAYS),
    ]
    boxes = Card.of(ZOO["ldm-layout"], "")
    assert (boxes.prompt, boxes.takes) == (False, ())


def test_a_file_is_called_by_its_own_title_or_by_its_name(tmp_path: Path) -> None:
    file = single(tmp_path / "one.safetensors")
    assert Catalogue({"mine": file}).card("mine").title == "small"
    with safe_open(file, "pt") as opened:
        tensors, says = {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118, no dict
    del says["modelspec.title"]
    save_file(tensors, file, says)
    assert Catalogue({"mine": file}).card("mine").title == "mine"


def test_a_model_is_looked_at_again_when_its_files_have_changed(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sumi.serve.catalogue.FRESH", 0.0)
    catalogue = Catalogue({"copied": copied})
    before = catalogue.known("copied")
    assert catalogue.known("copied") is before
    index = copied / "model_index.json"
    table = json.loads(index.read_text())
    table["sumi"]["steps"] = 7
    index.write_text(json.dumps(table))
    assert catalogue.card("copied").steps == 7 and before.card.steps == 20
    index.unlink()
    with pytest.raises(CheckpointError, match=r"model_index\.json is missing"):
        catalogue.card("copied")


def test_a_yaml_beside_a_file_is_heeded_when_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sumi.serve.catalogue.FRESH", 0.0)
    file = single(tmp_path / "one.safetensors")
    catalogue = Catalogue({"one": file})
    before = catalogue.known("one")
    file.with_suffix(".yaml").write_text("parameterization: v")
    assert catalogue.known("one") is not before


def test_the_listing_is_json_whatever_the_models_are(tmp_path: Path) -> None:
    lost, damaged = tmp_path / "lost.safetensors", tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"not a model")
    listing = Catalogue({"one": single(tmp_path / "one.safetensors"), "lost": lost, "damaged": damaged}).listing()
    told = json.loads(json.dumps(listing, allow_nan=False))
    assert [(each["id"], each["default"], each["owned_by"]) for each in told] == [
        ("sumi", True, "sumi"), ("one", False, "user"), ("lost", False, "user"), ("damaged", False, "user")
    ]  # fmt: skip
    assert all(each["object"] == "model" and type(each["created"]) is int for each in told)
    assert [each["card"] is None for each in told] == [False, False, True, True]
    assert told[0]["card"]["takes"][0] == "image" and told[1]["card"]["title"] == "small"
    assert "lost.safetensors" in told[2]["error"] and "damaged.safetensors" in told[3]["error"] and told[0]["error"] is None


def test_with_which_clients_begin() -> None:
    mine, other = {"mine": Path("/none")}, {"other": Path("/none")}
    assert [Catalogue(models).first for models in ({}, mine, {**mine, **other})] == ["sumi", "mine", "sumi"]


def test_names_that_are_none() -> None:
    catalogue = Catalogue({"dreams": Path("/none")})
    for ask in (catalogue.card, catalogue.spec, catalogue.known):
        with pytest.raises(RequestError, match=r"no model 'dream' \(did you mean dreams\?\): use sumi, dreams"):
            ask("dream")
        with pytest.raises(CheckpointError):
            ask("dreams")
    with pytest.raises(RequestError) as error:
        catalogue.card("\ud800\n" * 1000)
    assert str(error.value).isprintable() and len(str(error.value)) < 1000
    with pytest.raises(RequestError, match="sumi is the model that comes with sumi"):
        Catalogue({"sumi": Path("/none")})


# What is refused before it is computed


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"label": "dragon"}, "no class 'dragon'"),
        ({"prompt": "a (cat"}, "prompt, character 3"),
        ({"negative": "cat)"}, "negative, character 4"),
        ({"depth": "data:"}, "takes no depth"),
        ({"width": 65}, "width must be a multiple of 16"),
        ({"steps": 1001}, "steps must be at most"),
        ({"sampler": "ddimm"}, "no sampler 'ddimm'"),
        ({"sampler": "euler", "options": {"rho": 2.0}}, "option rho"),
        ({"mask": "data:"}, "mask without image"),
        ({"guidance": 1.0, "negative": "red"}, "changes nothing at guidance 1"),
    ],
)
def test_what_cannot_be_served_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError) as error:
        Catalogue({}).check(Request(**fields), None)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert isinstance(error.value, PromptError) == ("character" in says)


def test_what_can_be_served_passes() -> None:
    catalogue = Catalogue({})
    upload = f"upload:{'0' * 64}"
    for asked in (
        Request(),
        Request(prompt="two (stars:1.3) AND a tree :0.5", negative="[red]", label="CAT", seed=1),
        Request(prompt="(", emphasis="off"),
        *(Request(**{name: upload}) for name in FILES if name in catalogue.card(None).takes and name != "mask"),
        Request(image=upload, mask=upload, strength=0.5),
    ):
        catalogue.check(asked, None)


# Where models are


def test_files_and_folders_by_path(tmp_path: Path) -> None:
    file, whole = single(tmp_path / "a model (v1.5)!.safetensors"), folder(tmp_path / "mine")
    assert found([str(file), str(whole)]) == {"a-model-v1.5": file, "mine": whole}
    assert found([]) == {}


@pytest.mark.parametrize("tree", ["models/Stable-diffusion", "models/checkpoints", "."])
def test_the_folders_of_programs(tmp_path: Path, tree: str, caplog: pytest.LogCaptureFixture) -> None:
    program = tmp_path / "program"
    one, two = single(program / tree / "one.safetensors"), single(program / tree / "deeper" / "two.safetensors")
    whole = folder(program / tree / "three")
    aside = lora(program / tree / "Lora" / "style.safetensors")
    stray = lora(program / tree / "stray.safetensors")
    damaged = program / tree / "damaged.safetensors"
    damaged.write_bytes(b"<html>")
    with caplog.at_level(logging.WARNING):
        assert found([str(program)]) == {"one": one, "two": two, "three": whole}
    assert [each.getMessage().split(": ")[0] for each in caplog.records] == ["left out"] * 2
    assert f"{stray} is a LoRA" in caplog.text and str(damaged) in caplog.text and str(aside) not in caplog.text


def test_the_cache_of_hugging_face(tmp_path: Path) -> None:
    snapshot = folder(tmp_path / "hub" / "models--somebody--some-model" / "snapshots" / ("0" * 40))
    refs = tmp_path / "hub" / "models--somebody--some-model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    assert found([str(tmp_path / "hub")]) == {"some-model": snapshot}
    assert found(["somebody/some-model"]) == {"some-model": snapshot}


def test_names_in_the_users_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = single(tmp_path / "pool" / "checkpoints" / "one.safetensors")
    monkeypatch.setenv("SUMI_MODELS", str(tmp_path / "pool"))
    assert found(["one"]) == {"one": file}


def test_names_are_each_ones_own(tmp_path: Path) -> None:
    paths = [single(tmp_path / name) for name in ("a/One.safetensors", "b/one.safetensors", "c/sumi.safetensors", "d/!!.safetensors")]
    link = tmp_path / "link.safetensors"
    os.symlink(paths[0], link)
    names = found([*map(str, paths), str(link), str(tmp_path / "a")])
    assert names == dict(zip(["One", "one-2", "sumi-2", "model"], paths, strict=True))
    assert Catalogue(names).names == ("sumi", *names)
    assert list(Catalogue(names).listing()[1]["card"]["takes"]) == list(ALWAYS)


@pytest.mark.parametrize("given", ["nothing-like-it", "", "x" * 5000, "a\0b", "~nobody/x", "./none.safetensors", "owner/name"])
def test_a_name_that_is_none_is_refused_in_one_line(given: str) -> None:
    with pytest.raises(SumiError) as error:
        found([given])
    assert "\n" not in str(error.value) and str(error.value).isprintable()


def test_what_is_no_model_is_refused_when_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a LoRA, not a model"):
        found([str(lora(tmp_path / "style.safetensors"))])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no model"):
        found([str(tmp_path / "empty")])
    lora(tmp_path / "all" / "style.safetensors")
    with pytest.raises(CheckpointError, match="holds no model of the latent diffusion family"):
        found([str(tmp_path / "all")])
    shutil.copytree(SHIPPED / "unet", tmp_path / "parts" / "unet")
    with pytest.raises(CheckpointError, match=r"has unet and no model_index\.json"):
        found([str(tmp_path / "parts")])
