"""The files of the page as they are written: scripts and style sheets, which no build step brings into shape."""

from collections.abc import Iterator
from pathlib import Path

import sumi.serve

PAGE = Path(sumi.serve.__file__).parent / "page"
WIDTH = 140
WRITTEN = (".css", ".js")


def wrongs(path: Path) -> Iterator[str]:
    """What is wrong with the lines of a file, each with its place."""
    for number, line in enumerate(path.read_bytes().decode("utf-8").split("\n"), 1):
        place = f"{path.relative_to(PAGE)}:{number}"
        if len(line) > WIDTH:
            yield f"{place}: {len(line)} characters, of at most {WIDTH}"
        if line != line.rstrip():
            yield f"{place}: blanks at the end"


def test_lines_are_short_and_end_without_blanks() -> None:
    files = sorted(path for path in PAGE.rglob("*") if path.suffix in WRITTEN)
    assert {path.suffix for path in files} == set(WRITTEN)
    found = [wrong for path in files for wrong in wrongs(path)]
    assert not found, "\n".join(found)
