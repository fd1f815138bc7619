"""Files on the disk: whole or not at all, and by their names alone."""

import os
import time
from pathlib import Path

import pytest

from sumi.engine.files import Files
from sumi.errors import JobError, OutputError

ONE, OTHER = "a" * 32, "b" * 32


@pytest.fixture
def kept(tmp_path: Path) -> Files:
    return Files(tmp_path / "pictures", ".png")


def names(files: Files) -> list[str]:
    return sorted(path.name for path in files.folder.iterdir())


def test_kept_and_read(kept: Files) -> None:
    for name, data in ((ONE, b"one"), (OTHER, b"other"), (ONE, b"again")):
        kept.keep(name, lambda path, data=data: path.write_bytes(data))
    assert kept.read(ONE) == b"again" and kept.read(OTHER) == b"other" and names(kept) == [f"{ONE}.png", f"{OTHER}.png"]
    kept.remove([ONE, "0" * 32])
    with pytest.raises(JobError, match="there is no such picture: it may have been removed"):
        kept.read(ONE)


def test_it_has_its_name_only_when_it_is_whole(kept: Files) -> None:
    def save(path: Path) -> None:
        path.write_bytes(b"half")
        assert path.name.startswith(".part-") and path.suffix == ".png" and names(kept) == [path.name]
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"a picture cannot be written \(No space left on device\): free some space"):
        kept.keep(ONE, save)
    assert names(kept) == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../secret",
        "/etc/passwd",
        "a" * 31,
        "A" * 32,
        "a" * 32 + "\n",
        "a" * 31 + "/",
        "\x00" * 32,
        "\ud800" * 32,
        "\u0660" * 32,
    ],
)
def test_nothing_but_a_name_reaches_the_disk(kept: Files, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (kept.folder.parent / "secret.png").write_bytes(b"secret")
    monkeypatch.setattr(Path, "is_symlink", lambda path: pytest.fail(f"{path} was looked at"))
    with pytest.raises(JobError, match="there is no such picture"):
        kept.read(name)


def test_links_are_not_followed(kept: Files) -> None:
    (kept.folder / f"{ONE}.png").symlink_to("/etc/passwd")
    with pytest.raises(JobError):
        kept.read(ONE)


def test_what_is_not_known_is_swept(kept: Files) -> None:
    for name in (f"{ONE}.png", f"{OTHER}.png", f"{OTHER}.webp", ".part-x", ".sumi-x.tmp", "notes.txt", "short.png"):
        (kept.folder / name).write_bytes(b"x")
    assert kept.sweep({ONE}) == 3
    assert names(kept) == sorted([f"{ONE}.png", f"{OTHER}.webp", "notes.txt", "short.png"])


def test_the_young_are_spared(kept: Files) -> None:
    for name in (ONE, OTHER):
        kept.keep(name, lambda path: path.write_bytes(b"x"))
    (kept.folder / ".part-x").write_bytes(b"x")
    os.utime(kept.folder / f"{ONE}.png", (0, time.time() - 100))
    assert kept.sweep(set(), spared=50) == 2 and names(kept) == [f"{OTHER}.png"]


def test_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"cannot make .*file/pictures: Not a directory; choose another folder"):
        Files(tmp_path / "file" / "pictures", ".png")
