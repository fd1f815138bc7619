"""What a job has made: a picture, its thumbnail and its story come and go together."""

from pathlib import Path

import pytest

from sumi.engine.making import Drawn
from sumi.engine.results import Results
from sumi.errors import OutputError


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def drawn(data: bytes) -> Drawn:
    return Drawn(8, 6, lambda path: path.write_bytes(data), lambda path: path.write_bytes(data[:1]))


def test_kept_together_and_removed_together(tmp_path: Path) -> None:
    results = Results(tmp_path)
    one, other = results.keep(drawn(b"one")), results.keep(drawn(b"other"))
    results.tell(one, lambda path: path.write_text("story"))
    assert (one.width, one.height) == (8, 6) and results.path(one.id).read_bytes() == b"one"
    assert (results.thumbnails.read(other.id), results.stories.read(one.id)) == (b"o", b"story")
    assert len(names(tmp_path)) == 5
    results.remove([one.id])
    assert names(tmp_path) == [f"pictures/{other.id}.png", f"pictures/{other.id}.webp"]


def test_without_its_picture_there_is_no_thumbnail(tmp_path: Path) -> None:
    results = Results(tmp_path)
    with pytest.raises(OutputError, match="a picture cannot be written"):
        results.keep(Drawn(8, 6, lambda path: (path / "none").write_bytes(b""), lambda path: path.write_bytes(b"x")))
    assert names(tmp_path) == []


def test_what_no_job_tells_of_is_swept(tmp_path: Path) -> None:
    results = Results(tmp_path)
    known, orphan = (results.keep(drawn(b"x")) for _ in range(2))
    for kept in (known, orphan):
        results.tell(kept, lambda path: path.write_text("story"))
    (tmp_path / "stories" / ".part-x.safetensors.part").write_bytes(b"x")
    assert results.sweep({known.id}) == 4
    assert names(tmp_path) == sorted([f"pictures/{known.id}.png", f"pictures/{known.id}.webp", f"stories/{known.id}.html"])
