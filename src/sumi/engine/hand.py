"""A worker as its engine sees it: a process, the line to it, and when it last gave a sign of life."""

import subprocess
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection

from sumi.engine.process import launch
from sumi.engine.worker import LOOK, STOP, Settings

PAUSES = (0.0, 1.0, 5.0, 30.0)
"""Seconds before a worker is started again, by how many before it did not get as far as to look for a job."""


class Hand:
    """One device's worker, and the next one when it ends."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.connection: Connection | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.busy = False
        self.died: bool | None = None
        """What is to be said of the last worker, if it has ended: whether of itself (False), or of something else."""
        self.deaths = 0
        self.previews: dict[str, bytes] = {}
        self.sign = self.due = time.monotonic()
        self._early = 0
        self._lock = threading.Lock()
        self._awake = True
        self._seen = -1

    @property
    def id(self) -> str:
        """Of the worker that there is, or the last one."""
        return self.settings.id

    def rename(self) -> str:
        """The id of the next worker, which `start` starts."""
        self.settings = replace(self.settings, id=uuid.uuid4().hex)
        return self.id

    def start(self, submitted: int) -> None:
        """Starts a worker, which looks into the queue by itself. `submitted`: how many jobs there were when it was."""
        self.process, line = launch("sumi.engine.worker", lambda fd: replace(self.settings, fd=fd).to_json())
        with self._lock:
            self._awake, self._seen, self.busy, self.sign = True, submitted, False, time.monotonic()
            self.connection = line

    def look(self, submitted: int) -> None:
        """Tells a worker that has nothing to do that there is a job: at most once until it has looked."""
        with self._lock:
            if not self._awake:
                self._say(LOOK)
                self._awake, self._seen = True, submitted

    def idle(self, submitted: int) -> None:
        """The worker has said that it found nothing: so it has to look again if something came since it was told to."""
        with self._lock:
            self.busy, self._awake, self._early = False, False, 0
            self.previews.clear()
        if self._seen != submitted:
            self.look(submitted)

    def work(self) -> None:
        """The worker has said that it has jobs."""
        self.busy, self._early = True, 0
        self.previews.clear()

    def stop(self) -> None:
        """Asks the worker to end."""
        with self._lock:
            self._say(STOP)

    def kill(self) -> None:
        """Ends the worker at once."""
        if self.process is not None:
            self.process.kill()

    def reap(self, patience: float) -> int | None:
        """Sees that the worker is gone, killed if it has not ended after so many seconds, and says when the next is due.

        Its exit status; None if there was none.
        """
        if self.process is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        self.process.kill()
        status = self.process.wait()
        with self._lock:
            if self.connection is not None:
                self.connection.close()
            self.connection, self.process, self.busy = None, None, False
        self.previews.clear()
        self.due = time.monotonic() + PAUSES[min(self._early, len(PAUSES) - 1)]
        self._early, self.deaths = self._early + 1, self.deaths + 1
        return status

    def _say(self, what: bytes) -> None:
        if self.connection is not None:
            with suppress(OSError):  # it is gone, and whoever listens to it will hear of it
                self.connection.send_bytes(what)
