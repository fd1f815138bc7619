"""Engines whose workers make no pictures."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.stub import MAKER
from sumi.engine.engine import Engine
from sumi.engine.jobs import Jobs


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """An empty queue."""
    opened = Jobs(tmp_path / "jobs.sqlite3")
    yield opened
    opened.close()


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Engine]]:
    """Starts an engine on the test's folder; all are closed in the end."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    engines: list[Engine] = []

    def begun(**settings: Any) -> Engine:
        engines.append(Engine(tmp_path / "engine", **{"maker": MAKER, **settings}))
        return engines[-1]

    yield begun
    for engine in engines:
        engine.close()
