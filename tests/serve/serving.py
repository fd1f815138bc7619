"""A studio that is served, for tests: an engine, and a server on a port that is free."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
