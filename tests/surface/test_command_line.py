"""Commands and options that scripts rely on. To change a list here is to change what people have written: say so in CHANGELOG.md."""

import re

import pytest

from sumi.apps.cli import COMMANDS, main

OPTIONS = {
    "": """
        --count --device --eta --first --guidance --guidance-rescale --height --help --model --negative --output --precision
        --quiet --sampler --seed --spacing --steps --version --width -h -m -n -o -q
    """,
    "eval": """
        --count --device --guidance --help --json --kind --model --precision --seed --steps --vocabulary -h -m
    """,
    "inspect": "--help -h",
    "samplers": "--help -h",
    "train": "--fresh --help --minutes --out -h",
}


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def test_commands() -> None:
    assert sorted(["", *COMMANDS]) == sorted(OPTIONS)


@pytest.mark.parametrize("command", OPTIONS)
def test_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    entries = re.findall(r"^  (-.*?)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    assert sorted(re.findall(r"(?<!\S)--?[a-z][a-z-]*", " ".join(entries))) == OPTIONS[command].split()


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for command in OPTIONS:
        main([*command.split(), "--help"])
        for entry in re.split(r"\n(?=  -)", capsys.readouterr().out.partition("options:\n")[2]):
            assert re.search(r"(  |\n {10,})\S+ \S+", entry), entry
