"""What the documents say against what is there."""

import re
import shlex
from pathlib import Path

import pytest

from sumi.apps.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

READING_ORDER = [
    "text/prompt.py",
    "text/bpe.py",
    "nets/clip.py",
    "models/prompt.py",
    "diffusion/conditioning.py",
    "nets/layers.py",
    "nets/attention.py",
    "nets/unet.py",
    "diffusion/schedule.py",
    "diffusion/denoiser.py",
    "diffusion/guidance.py",
    "diffusion/noise.py",
    "diffusion/samplers/step.py",
    "diffusion/samplers/first_order.py",
    "nets/autoencoder.py",
    "models/latent_diffusion.py",
    "models/sampling.py",
    "running.py",
    "pipeline.py",
]
"""From words to pixels."""


def test_the_reading_order_is_of_files() -> None:
    assert [path for path in READING_ORDER if not (ROOT / "src/sumi" / path).is_file()] == []


def test_the_readme_prints_the_reading_order() -> None:
    section = README.partition("## Reading order")[2].partition("\n## ")[0]
    assert re.findall(r"\(src/sumi/([\w/.]+)\)", section) == READING_ORDER


def test_one_sitting_reads_it() -> None:
    lines = {path: len((ROOT / "src/sumi" / path).read_text(encoding="utf-8").splitlines()) for path in READING_ORDER}
    assert sum(lines.values()) < 3400


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", document.read_text(encoding="utf-8"))
    links += re.findall(r'(?:src|href)="(?!https?:|#)([^"#]+)"', document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+(?: [a-z]+)*):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    targets = {name for line in targets for name in line.split()}
    asked = re.findall(r"(?:^|`|\$ )make ([a-z]+)", document.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(asked) <= targets


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    assert list(tmp_path.glob("*.png"))


def test_the_commands_of_the_readme_exist(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [shlex.split(line, comments=True) for line in "".join(blocks("sh")).splitlines()]
    commands = [words[1:] for words in lines if words and words[0] == "sumi"]
    assert commands
    for words in commands:
        command = words[:1] if words[0] in COMMANDS else []
        assert main([*command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert command or " " in words[0] or words[0][:2] == "--", f"{words[0]} is neither a command nor a prompt"
        assert [word for word in words if word.startswith("-") and not re.search(rf"(?<![\w-]){word}\b", shown)] == []
