"""A studio that is served: a real engine with the model that comes with sumi, and with one that makes no pictures."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from explain.conftest import browser  # noqa: F401, a fixture
from serve.gated import MAKER, WHERE, Gate
from sumi.engine.engine import Engine
from sumi.serve.app import Served
from sumi.serve.listening import Server, bound, server
from sumi.serve.settings import Settings

KEY = "correct horse battery staple"
STUB = "engine.stub:Stub"


@dataclass(frozen=True)
class Studio:
    """A server that runs: where it is, its engine, and the key it wants."""

    url: str
    engine: Engine
    key: str | None
    running: Server
    served: Served
    headers: dict[str, str] = field(default_factory=dict)


@contextmanager
def serving(folder: Path, *, key: str | None = KEY, settings: dict[str, Any] | None = None, **engine: Any) -> Iterator[Studio]:
    """A studio on a port that is free, until the end of the `with`."""
    asked = Settings(port=0, key=key, **(settings or {}))
    with bound(asked) as listening, Engine(folder, **engine) as begun:
        asked = asked.at(listening.getsockname()[1])
        served = Served(begun, asked)
        running = server(served, asked)
        ready = threading.Event()
        started = running.startup

        async def startup(sockets: Any = None) -> None:
            await started(sockets)
            ready.set()

        running.startup = startup  # type: ignore[method-assign]
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        assert ready.wait(60), "the server does not start"
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        try:
            yield Studio(f"http://127.0.0.1:{asked.port}", begun, key, running, served, headers)
        finally:
            running.ended()
            thread.join(30)
            assert not thread.is_alive(), "the server does not end"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """With the model that comes with sumi; it wants a key."""
    with serving(tmp_path_factory.mktemp("studio")) as studio:
        yield studio


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """The same, and wants no key; a test may keep its jobs waiting (`gate`)."""
    folder = tmp_path_factory.mktemp("studio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        patch.setenv(WHERE, str(folder / "gate"))
        with serving(folder / "studio", key=None, maker=MAKER) as studio:
            yield studio


@pytest.fixture
def gate(opened: Studio) -> Iterator[Gate]:
    """Shut: a job that the test begins waits after each step until it is let go on."""
    found = Gate(opened.engine.folder.parent / "gate")
    found.shut()
    yield found
    found.open()


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A server that wants a key, and makes no pictures."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with serving(tmp_path_factory.mktemp("studio"), maker=STUB) as studio:
        yield studio
    patch.undo()


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Studio]]:
    """Starts studios whose workers make no pictures (`engine.stub`); all are closed in the end."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with ExitStack() as stack:

        def begun(**given: Any) -> Studio:
            return stack.enter_context(serving(tmp_path / "studio", **{"maker": STUB, **given}))

        yield begun


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for screenshots: SUMI_ARTIFACTS, or one of the tests' own."""
    named = os.environ.get("SUMI_ARTIFACTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
