"""What the documents say against what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(ROOT.glob("*.md"))

READING_ORDER = [
    "text/bpe.py",
    "nets/clip.py",
    "models/embedders.py",
    "diffusion/conditioning.py",
    "nets/layers.py",
    "nets/attention.py",
    "nets/unet.py",
    "diffusion/schedule.py",
    "diffusion/denoiser.py",
    "diffusion/guidance.py",
    "diffusion/noise.py",
    "diffusion/samplers.py",
    "nets/autoencoder.py",
    "models/latent_diffusion.py",
    "pipeline.py",
]
"""From words to pixels."""


def test_the_reading_order_is_of_files() -> None:
    assert [path for path in READING_ORDER if not (ROOT / "src/sumi" / path).is_file()] == []


def test_the_readme_prints_the_reading_order() -> None:
    """As stems or as paths, as links or not."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    words = re.findall(r"\w+", re.sub(r"\]\([^)]*\)|\w+/|\.py\b", " ", readme))
    order = [Path(path).stem for path in READING_ORDER]
    assert any(words[i : i + len(order)] == order for i in range(len(words))), "not found: " + " → ".join(order)


def test_one_sitting_reads_it() -> None:
    lines = {path: len((ROOT / "src/sumi" / path).read_text(encoding="utf-8").splitlines()) for path in READING_ORDER}
    assert sum(lines.values()) < 3000


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", document.read_text(encoding="utf-8"))
    links += re.findall(r'(?:src|href)="(?!https?:|#)([^"#]+)"', document.read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+(?: [a-z]+)*):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    targets = {name for line in targets for name in line.split()}
    asked = re.findall(r"(?:^|`|\$ )make ([a-z]+)", document.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(asked) <= targets
