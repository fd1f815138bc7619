"""The queue: what was asked for, in which order it is computed, by whom, and what became of it.

Every change is one transaction, so that a process may end at any time; when `submit`, `finish` or `fail` returns, it is on the disk. A job
goes queued, running, and then done, failed or cancelled; only `retry` takes it back. What a worker says of a job that is not its own, or
not any more, changes nothing.
"""

import reprlib
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from threading import Condition

from sumi.engine import rows, shelf
from sumi.engine.database import Database
from sumi.engine.job import SELECTED, STATES, Event, Failure, Job, State, digest, seeded, shape
from sumi.engine.shelf import Kept
from sumi.errors import ConflictError, RequestError
from sumi.request import Request

MOST_PRIORITY = 1_000_000
LONGEST_KEY = 200
LONGEST_GROUP = 64
MOST = 1000
"""Jobs or events in an answer."""
LARGEST = 2**63 - 1
SLICE = 0.25
"""Seconds after which one that waits looks for what other processes have written."""


class Jobs:
    """The jobs in a file; any number of threads and processes may have it open. EngineError if the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path)
        self._changed = Condition()
        self._changes = 0
        self._listeners: list[Callable[[], object]] = []

    # For whoever asks

    def submit(
        self,
        request: Request,
        *,
        model: str | None = None,
        priority: int = 0,
        key: str | None = None,
        group: str | None = None,
        see: bool = False,
        shelf: bool = True,
    ) -> Job:
        """Puts a request into the queue, on `Terms`. ConflictError if its key was another request's; RequestError for what is none."""
        if not -MOST_PRIORITY <= priority <= MOST_PRIORITY:
            raise RequestError(f"priority must be from {-MOST_PRIORITY} to {MOST_PRIORITY}; got {priority}")
        if key is not None and not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
            raise RequestError(f"a key must be from 1 to {LONGEST_KEY} printable ASCII characters; got {reprlib.repr(key)}")
        if group is not None and not (0 < len(group) <= LONGEST_GROUP and group.isascii() and group.isprintable()):
            raise RequestError(f"group must be from 1 to {LONGEST_GROUP} printable ASCII characters; got {reprlib.repr(group)}")
        if see and request.count != 1:
            raise RequestError(f"see is for one picture; got a count of {request.count}")
        body = digest(request.to_json(), model, priority, group, see, shelf)
        with self.database.writing() as connection:
            known = None if key is None else connection.execute("SELECT id, body FROM jobs WHERE key = ?", (key,)).fetchone()
            if known is not None and known["body"] != body:
                raise ConflictError(f"the key {key} was given with another request: take another key")
            name = uuid.uuid4().hex if known is None else known["id"]
            if known is None:
                alike = name if see else shape(request, model)  # a story is of a picture that is computed alone
                row = (name, seeded(request).to_json(), model, group, see, shelf, alike, request.count, priority, key, body, time.time())
                connection.execute(
                    "INSERT INTO jobs (id, request, model, group_name, see, shelf, shape, pictures, state, priority, key, body, created)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?)",
                    row,
                )
                rows.tell(connection, [name], "queued")
        self.stir()
        return self.get(name)

    def get(self, id: str) -> Job:
        """JobError if there is none."""
        with self.database.reading() as connection:
            return rows.job(connection, id)

    def list(self, *, state: State | None = None, group: str | None = None, before: int | None = None, limit: int = 50) -> tuple[Job, ...]:
        """Jobs, the youngest first; the next page is `before` the number of this one's last."""
        if state is not None and state not in STATES:
            raise RequestError(f"there is no state {state!r}: use {', '.join(STATES)}")
        asked = ["number < :before"]
        asked += [] if state is None else ["state = :state"]
        asked += [] if group is None else ["group_name = :group"]
        with self.database.reading() as connection:
            found = connection.execute(
                f"{SELECTED} WHERE {' AND '.join(asked)} ORDER BY number DESC LIMIT :limit",
                {
                    "state": state,
                    "group": group,
                    "before": LARGEST if before is None else min(before, LARGEST),
                    "limit": max(0, min(limit, MOST)),
                },
            ).fetchall()
            order = connection.execute("SELECT id FROM jobs WHERE state = 'queued' ORDER BY priority DESC, number").fetchall()
        positions = {row["id"]: place for place, row in enumerate(order)}
        return tuple(Job.of(row, positions.get(row["id"]) if row["state"] == "queued" else None) for row in found)

    def position(self, id: str) -> int | None:
        """How many jobs are before it in the queue; None if it is not in it. JobError if there is none."""
        return self.get(id).position

    def counts(self) -> dict[State, int]:
        """How many jobs are in each state."""
        with self.database.reading() as connection:
            found = dict(connection.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())
        return {state: found.get(state, 0) for state in STATES}

    def waiting(self) -> int:
        """How many jobs are in the queue."""
        with self.database.reading() as connection:
            number: int = connection.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()[0]
        return number

    def cancel(self, id: str) -> Job:
        """From now on the job is cancelled; its worker stops within one step. One that has ended stays as it is. JobError if none."""
        with self.database.writing() as connection:
            if not rows.job(connection, id).ended:
                rows.end(connection, id, "cancelled")
        self.stir()
        return self.get(id)

    def retry(self, id: str) -> Job:
        """Puts a job that has failed or was cancelled back in its place. ConflictError if it is in another state; JobError if none."""
        with self.database.writing() as connection:
            state = rows.job(connection, id).state
            if state not in ("failed", "cancelled"):
                raise ConflictError(f"the job is {state}: only one that has failed or was cancelled can be tried again")
            rows.back(connection, [id])
            cleared = "finished = NULL, kind = NULL, message = NULL, notes = '[]', tries = 0, stops = 0"
            connection.execute(f"UPDATE jobs SET {cleared} WHERE id = ?", (id,))
        self.stir()
        return self.get(id)

    def events(self, id: str | None = None, *, after: int = 0, wait: float = 0.0, limit: int = MOST) -> tuple[Event, ...]:
        """What happened to a job, or to any, after the event numbered `after`: the first `limit`.

        Where there is nothing, waits for as many seconds. Steps are told while the job runs, and forgotten when it ends.
        """
        asked = "SELECT * FROM events WHERE number > ? AND (? IS NULL OR job = ?) ORDER BY number LIMIT ?"
        asked_of = (min(after, LARGEST), id, id, max(0, min(limit, MOST)))
        until, seen, version = time.monotonic() + wait, -1, -1
        if id is not None:
            rows.check(id)
        while True:
            with self.database.reading() as connection:
                at = connection.execute("PRAGMA data_version").fetchone()[0]  # costs no look at the disk
                if (self._changes, at) != (seen, version):
                    seen, version = self._changes, at
                    if found := connection.execute(asked, asked_of).fetchall():
                        return tuple(Event.of(row) for row in found)
            left = until - time.monotonic()
            if left <= 0:
                return ()
            with self._changed:
                changes = seen
                self._changed.wait_for(lambda: self._changes != changes, min(left, SLICE))  # noqa: B023, called before it returns

    def latest(self) -> int:
        """The number of the last event there was; 0 if there was none."""
        with self.database.reading() as connection:
            number: int = connection.execute("SELECT coalesce(max(number), 0) FROM events").fetchone()[0]
        return number

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Calls `listener`, from whichever thread, after something happened; call what is returned to end that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def stir(self) -> None:
        """Wakes those of this process that wait: something was written."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()
        for listener in list(self._listeners):
            listener()

    def uploads(self) -> set[str]:
        """The ids of all pictures to go by that jobs name."""
        named = "SELECT value FROM jobs, json_each(jobs.request) WHERE jobs.request LIKE :quoted AND type = 'text' AND value LIKE :begins"
        with self.database.reading() as connection:
            return {row["value"] for row in connection.execute(named, {"quoted": '%"upload:%', "begins": "upload:%"})}

    def close(self) -> None:
        """Closes the file."""
        self.database.close()

    # For workers

    def enlist(self, worker: str) -> None:
        """Lets a worker claim jobs, until it is given up (`lost`, `recover`). For its engine to say: a worker that outlives it cannot."""
        with self.database.writing(durable=False) as connection:
            connection.execute("INSERT INTO workers VALUES (?)", (worker,))

    def claim(self, worker: str, most: int = 1) -> tuple[Job, ...]:
        """The job that is first by priority, then age, and others that can be computed with it, of `most` pictures together.

        Others are of its shape and priority, no more than this worker's share of them, and none if it ran when something died: then it is
        computed alone. ConflictError if the worker has been given up.
        """
        first = "SELECT * FROM jobs WHERE state = 'queued' ORDER BY priority DESC, number LIMIT 1"
        with self.database.reading() as connection:
            if connection.execute(first).fetchone() is None:
                return ()
        with self.database.writing(durable=False) as connection:
            if connection.execute("SELECT 1 FROM workers WHERE id = ?", (worker,)).fetchone() is None:
                raise ConflictError("this worker has been given up, and another is in its place")
            head = connection.execute(first).fetchone()
            if head is None:
                return ()
            like = "FROM jobs WHERE state = 'queued' AND shape = ? AND priority = ? AND tries + stops = 0"
            like_head = (head["shape"], head["priority"])
            alike = connection.execute(f"SELECT count(*) {like}", like_head).fetchone()[0]
            workers = connection.execute("SELECT count(*) FROM workers").fetchone()[0]
            chosen, pictures = [head["id"]], head["pictures"]
            if head["tries"] + head["stops"] == 0:
                asked = f"SELECT id, pictures {like} AND number > ? ORDER BY number LIMIT ?"
                for row in connection.execute(asked, (*like_head, head["number"], -(-alike // workers) - 1)):
                    if pictures + row["pictures"] > most:
                        break
                    chosen.append(row["id"])
                    pictures += row["pictures"]
            started = "UPDATE jobs SET state = 'running', worker = ?, started = ? WHERE id = ?"
            connection.executemany(started, [(worker, time.time(), id) for id in chosen])
            rows.tell(connection, chosen, "running")
            jobs = tuple(rows.job(connection, id) for id in chosen)
        self.stir()
        return jobs

    def progress(self, worker: str, ids: Collection[str], step: int, steps: int) -> set[str]:
        """A step of these jobs is done. Which of them are still the worker's: others were cancelled, and need not be gone on with."""
        with self.database.writing(durable=False) as connection:
            own = {id for id in ids if rows.own(connection, worker, id)}
            connection.executemany("UPDATE jobs SET step = ?, steps = ? WHERE id = ?", [(step, steps, id) for id in own])
            rows.tell(connection, own, "step", step=step, steps=steps)
        self.stir()
        return own

    def note(self, worker: str, id: str, text: str) -> None:
        """Something to say of how a job is being made."""
        with self.database.writing(durable=False) as connection:
            if rows.own(connection, worker, id):
                connection.execute("UPDATE jobs SET notes = json_insert(notes, '$[#]', ?) WHERE id = ?", (text, id))
                rows.tell(connection, [id], "note", text=text)
        self.stir()

    def finish(self, worker: str, id: str, pictures: Sequence[Kept]) -> bool:
        """The job is done: these pictures are on the disk. False, and nothing is changed, if it is not the worker's any more."""
        with self.database.writing() as connection:
            if own := rows.own(connection, worker, id):
                shelf.add(connection, rows.job(connection, id), pictures)
                rows.end(connection, id, "done", pictures=[kept.id for kept in pictures])
        self.stir()
        return own

    def fail(self, worker: str, id: str, why: Failure) -> bool:
        """The job cannot be done. False, and nothing is changed, if it is not the worker's any more."""
        with self.database.writing() as connection:
            if own := rows.own(connection, worker, id):
                rows.fail(connection, id, why)
        self.stir()
        return own

    def lost(self, worker: str, *, died: bool) -> tuple[str, ...]:
        """Gives a worker up: what it ran, whose ids are returned, goes back to its place in the queue.

        `died`: it ended by itself, perhaps of what it ran: a job at its `rows.TRIES`th time fails instead.
        """
        with self.database.writing() as connection:
            held = [row["id"] for row in connection.execute("SELECT id FROM jobs WHERE worker = ?", (worker,))]
            connection.execute("DELETE FROM workers WHERE id = ?", (worker,))
            if died:
                connection.executemany("UPDATE jobs SET tries = tries + 1 WHERE id = ?", [(id,) for id in held])
            rows.back(connection, held)
            rows.park(connection, held)
        self.stir()
        return tuple(held)

    def recover(self) -> tuple[str, ...]:
        """Gives every worker up, when an engine takes the file over from one that may have been killed. As `lost`, by `rows.STOPS`."""
        with self.database.writing() as connection:
            held = [row["id"] for row in connection.execute("SELECT id FROM jobs WHERE state = 'running'")]
            connection.execute("DELETE FROM workers")
            connection.executemany("UPDATE jobs SET stops = stops + 1 WHERE id = ?", [(id,) for id in held])
            rows.back(connection, held)
            rows.park(connection, held)
        self.stir()
        return tuple(held)
