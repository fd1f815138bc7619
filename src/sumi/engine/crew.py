"""The workers of an engine, one for each device, and the thread that watches them."""

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe, wait

from sumi.engine.hand import Hand
from sumi.engine.jobs import Jobs
from sumi.engine.worker import BUSY, IDLE, OF_ITSELF, PREVIEW, Settings
from sumi.errors import EngineError

GRACE = 3.0
"""Seconds that workers have to end by themselves when the engine closes."""
AGAIN = 5.0
"""Seconds after which what the system has refused is tried again."""

log = logging.getLogger("sumi.engine")


@dataclass(frozen=True)
class Health:
    """A worker. device: as it was given; alive, busy: whether it is there, and whether it has jobs; deaths: of those before it."""

    device: str | None
    alive: bool
    busy: bool
    deaths: int


class Crew:
    """Workers that are replaced when they end. hang: seconds without a sign of life after which one that has jobs is killed."""

    def __init__(self, jobs: Jobs, settings: Settings, devices: Sequence[str | None], hang: float) -> None:
        self.jobs, self.hang = jobs, hang
        self.hands = [Hand(replace(settings, device=device)) for device in devices]
        self._submitted = 0
        self._counting = threading.Lock()
        self._closing = threading.Event()
        self._woken, self._wake = Pipe(duplex=False)
        self._watcher = threading.Thread(target=self._watch, name="sumi-engine", daemon=True)
        self._watcher.start()

    def look(self) -> None:
        """Tells idle workers that there is a job."""
        with self._counting:
            self._submitted += 1
        for hand in self.hands:
            hand.look(self._submitted)

    def preview(self, id: str) -> bytes | None:
        """The newest preview of a running job."""
        return next((found for hand in self.hands if (found := hand.previews.get(id)) is not None), None)

    def health(self) -> tuple[Health, ...]:
        """Of each worker, by device."""
        return tuple(Health(hand.settings.device, hand.process is not None, hand.busy, hand.deaths) for hand in self.hands)

    def close(self) -> None:
        """Ends the workers, within some seconds in any state; what they were at goes back into the queue."""
        self._closing.set()
        self._wake.send_bytes(b"")
        self._watcher.join()
        for hand in self.hands:
            hand.stop()
        until = time.monotonic() + GRACE
        for hand in self.hands:
            hand.reap(max(0.0, until - time.monotonic()))
        with suppress(EngineError):  # the next engine does it, if this one cannot
            for hand in self.hands:
                self.jobs.lost(hand.id, died=False)
        for end in (self._woken, self._wake):
            end.close()

    def _watch(self) -> None:
        """Hears what workers say, and replaces those that ended or give no sign of life. Without jobs it sleeps."""
        while not self._closing.is_set():
            for hand in self.hands:
                self._tend(hand)
            lines = {hand.connection: hand for hand in self.hands if hand.connection is not None}
            for ready in wait([self._woken, *lines], self._pause()):
                if ready is not self._woken and isinstance(ready, Connection):
                    self._hear(lines[ready], ready)

    def _tend(self, hand: Hand) -> None:
        """Kills a worker that hangs; puts back what a dead one had, and starts the next when it is due."""
        if hand.busy and time.monotonic() > hand.sign + self.hang:
            log.error("worker %s gives no sign of life and is killed", hand.id)
            hand.kill()
        if hand.connection is not None:
            return
        try:
            if hand.died is not None:
                if self.jobs.lost(hand.id, died=hand.died):
                    self.look()
                hand.died = None
            if hand.due <= time.monotonic():
                self.jobs.enlist(hand.rename())
                hand.start(self._submitted)
        except (EngineError, OSError) as error:  # of the disk, or of the system, which may recover
            log.error("%s", error)
            hand.due = time.monotonic() + AGAIN

    def _pause(self) -> float | None:
        """Seconds until something is due that nobody tells of; None: nothing is."""
        due = [hand.due for hand in self.hands if hand.connection is None]
        due += [hand.sign + self.hang for hand in self.hands if hand.busy]
        return max(0.01, min(due) - time.monotonic()) if due else None

    def _hear(self, hand: Hand, line: Connection) -> None:
        """One thing that a worker says, or that it is gone."""
        try:
            said = line.recv_bytes()
        except (EOFError, OSError):
            status = hand.reap(0.0)
            hand.died = status != OF_ITSELF
            log.error("worker %s ended with status %s", hand.id, status)
            return
        hand.sign = time.monotonic()
        if said == BUSY:
            hand.work()
        elif said == IDLE:
            hand.idle(self._submitted)
        elif said[:1] == PREVIEW:
            hand.previews[said[1:33].decode()] = said[33:]
        self.jobs.stir()
