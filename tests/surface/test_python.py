"""What programs rely on. To change a list here is to change what people have written: say so in CHANGELOG.md."""

import dataclasses
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import sumi
from sumi.diffusion.spacings import SPACINGS

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_names() -> None:
    assert sumi.__all__ == ["SAMPLERS", "Request", "generate", "load", "stream"]
    assert all(getattr(sumi, name).__doc__ for name in sumi.__all__)
    assert set(sumi.__all__) <= set(dir(sumi))


def test_samplers() -> None:
    assert {name: dict(sampler.options) for name, sampler in sumi.SAMPLERS.items()} == {
        "ddpm": {},
        "ddim": {"eta": 0.0},
        "euler": {},
        "euler_ancestral": {"eta": 1.0},
        "heun": {},
        "dpmpp_2m": {},
    }


def test_spacings() -> None:
    assert list(SPACINGS) == ["leading", "trailing", "linspace", "karras"]


def test_fields_of_a_request() -> None:
    assert {field.name: field.default for field in dataclasses.fields(sumi.Request)} == {
        "prompt": "",
        "negative": "",
        "seed": None,
        "first": 0,
        "count": 1,
        "steps": None,
        "guidance": None,
        "guidance_rescale": 0.0,
        "sampler": None,
        "spacing": None,
        "eta": None,
        "width": None,
        "height": None,
    }


def test_version() -> None:
    assert sumi.__version__ == PROJECT["version"]


def test_the_command_exists() -> None:
    for name, target in PROJECT["scripts"].items():
        assert callable(EntryPoint(name, target, "console_scripts").load())
