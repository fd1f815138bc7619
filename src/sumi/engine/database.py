"""The file of the queue: SQLite with a write-ahead log, opened once in each thread.

What is written durably is on the disk when the `with` ends; the rest survives the end of any process, and not a power cut.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sumi.errors import EngineError

VERSION = 1
"""Of the tables, kept in the file: those of another version are left alone."""
APPLICATION = 0x73756D69
"""Marks the file as one of these: "sumi"."""
PATIENCE = 30.0
"""Seconds to wait for another process that writes."""

SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    request TEXT NOT NULL,
    model TEXT,
    group_name TEXT,
    see INTEGER NOT NULL DEFAULT 0,
    shelf INTEGER NOT NULL DEFAULT 1,
    shape TEXT NOT NULL,
    pictures INTEGER NOT NULL,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    key TEXT UNIQUE,
    body TEXT NOT NULL,
    worker TEXT,
    tries INTEGER NOT NULL DEFAULT 0,
    stops INTEGER NOT NULL DEFAULT 0,
    step INTEGER,
    steps INTEGER,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    kind TEXT,
    message TEXT,
    notes TEXT NOT NULL DEFAULT '[]',
    made TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX waiting ON jobs (priority DESC, number) WHERE state = 'queued';
CREATE INDEX alike ON jobs (shape, priority, number) WHERE state = 'queued';
CREATE INDEX held ON jobs (worker) WHERE worker IS NOT NULL;
CREATE INDEX by_state ON jobs (state, number);
CREATE INDEX by_group ON jobs (group_name, number) WHERE group_name IS NOT NULL;
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX by_job ON events (job, number);
CREATE TABLE pictures (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    job TEXT NOT NULL,
    place INTEGER NOT NULL,
    at REAL NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    starred INTEGER NOT NULL DEFAULT 0,
    shelved INTEGER NOT NULL DEFAULT 1,
    removed REAL,
    UNIQUE (job, place)
);
CREATE INDEX shown ON pictures (number) WHERE removed IS NULL AND shelved;
CREATE INDEX starred ON pictures (number) WHERE removed IS NULL AND shelved AND starred;
CREATE INDEX loose ON pictures (at) WHERE NOT shelved;
CREATE INDEX removed ON pictures (removed) WHERE removed IS NOT NULL;
CREATE VIRTUAL TABLE words USING fts5 (
    prompt, negative, model, seed, starred, tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2 3', columnsize = 0
);
CREATE TABLE workers (
    id TEXT PRIMARY KEY
);
"""


class Database:
    """A file of jobs, made if there is none. EngineError if it is damaged, another program's or of another version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._here = threading.local()
        self._open: dict[threading.Thread, sqlite3.Connection] = {}
        self._lock, self._turn = threading.Lock(), threading.Lock()
        with self.writing() as connection:
            self._prepare(connection)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection: each statement sees what is there at its time. EngineError for what the system or the file refuses."""
        with self._told():
            yield self._connection()

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction, in which nobody else writes: all of it is done at the end of the `with`, or none. EngineError as `reading`."""
        # Threads of this process wait here for their turn: SQLite's own way of waiting is to sleep and look again, ever longer.
        with self._told(), self._turn:
            connection = self._connection()
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have done it already
                    connection.execute("ROLLBACK")
                raise

    def check(self) -> None:
        """Reads all of it. EngineError if it is damaged."""
        with self.reading() as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise EngineError(f"{self.path} is damaged ({' '.join(str(found).split())[:200]}): move it away to begin another")

    def close(self) -> None:
        """Closes every thread's connection; what asks for one afterwards gets a new one."""
        with self._lock:
            for connection in self._open.values():
                connection.close()
            self._open.clear()
            self._here = threading.local()

    def _connection(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._here, "connection", None)
        if found is not None:
            return found
        # Used by this thread alone, and closed by whichever comes after it.
        connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            connection.close()
            raise
        with self._lock:
            for thread in [thread for thread in self._open if not thread.is_alive()]:
                self._open.pop(thread).close()
            self._open[threading.current_thread()] = connection
        self._here.connection = connection
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version, application = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id"))
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if tables == version == 0:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        elif application != APPLICATION:
            raise EngineError(f"{self.path} is another program's: choose another folder")
        elif version != VERSION:
            raise EngineError(
                f"{self.path} is of version {version}, and this sumi reads {VERSION}: use the sumi that made it, or another folder"
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite says of the file or the system, in one line; what it says of a statement is a defect and stays one."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if not isinstance(error, sqlite3.OperationalError) and type(error) is not sqlite3.DatabaseError:
                raise
            if str(error).startswith("no such module"):
                raise EngineError(f"SQLite cannot search texts here ({error}): use a Python whose SQLite has FTS5") from error
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise EngineError(f"{self.path} is damaged ({error}): move it away to begin another") from error
            raise EngineError(f"{self.path} cannot be used ({error}): check the disk, and who may write there") from error
