"""The server's process: where it listens, what it says, and how it ends."""

import asyncio
import socket
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sumi.errors import EngineError
from sumi.serve.app import Served
from sumi.serve.settings import Settings

GRACE = 2
"""Seconds that requests have to end when the server does."""
MOST = 512
"""Connections at a time; others are told to come again."""
IDLE = 15
"""Seconds for which a connection may lie open between two requests."""
STALLED = 60.0
"""Seconds after which one who takes nothing of what is sent is let go."""


class Prompt(H11Protocol):
    """HTTP/1.1, of clients that say in time what they want: a request's head has to be whole `patience` seconds after it may come.

    And that take what is sent: one that lets replies lie for `stalled` seconds, so that no more can be sent, is let go.
    """

    patience, stalled = 10.0, STALLED
    _deadline: asyncio.TimerHandle | None = None
    _untaken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect(self.patience)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self._taken()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taken()
        self._untaken = self.loop.call_later(self.stalled, self.transport.abort)  # to close is to wait until all is sent

    def resume_writing(self) -> None:
        self._taken()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._expect(None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle is None or self.cycle.response_complete:  # the next one may have come with this one
            self._expect(self.patience + IDLE)

    def _taken(self) -> None:
        """What was sent is taken, or there is nobody to take it."""
        if self._untaken is not None:
            self._untaken.cancel()
        self._untaken = None

    def _expect(self, seconds: float | None) -> None:
        """From now on a head is awaited; None: it is there, or there will be none."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.close)


class Server(uvicorn.Server):
    """Ends its streams when it is told to end, so that nobody waits for them."""

    def __init__(self, config: uvicorn.Config, served: Served) -> None:
        super().__init__(config)
        self._served = served

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.ended()

    def ended(self) -> None:
        """Ends every stream, from whichever thread."""
        self.should_exit = True
        self.loop.call_soon_threadsafe(self._served.end)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().serve(sockets)


def bound(settings: Settings) -> socket.socket:
    """A socket that listens where the settings say. EngineError if it cannot."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # By the protocol's name: asyncio sends small replies at once (TCP_NODELAY) only where a socket says that it is TCP's.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((settings.host, settings.port))
        opened.listen(MOST)
    except OSError as error:
        opened.close()
        where = f"{settings.host}:{settings.port}"
        raise EngineError(f"cannot listen on {where} ({error.strerror}): is another server there? Choose another --port") from error
    return opened


def server(served: Served, settings: Settings) -> Server:
    """The server of an application, not yet running."""
    kind = type("Prompt", (Prompt,), {"patience": settings.limits.patience})
    config = uvicorn.Config(
        served,
        http=kind,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=GRACE,
        limit_concurrency=MOST,
        backlog=MOST,
    )
    return Server(config, served)
