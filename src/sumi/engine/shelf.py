"""The gallery: every picture that was made, the newest first, found by what was asked for.

Each is a row with a growing number. Its words lie in a full-text index of SQLite (FTS5) under the same number, while it is to be seen.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from sqlite3 import Connection, Row

from sumi.engine import rows
from sumi.engine.database import Database
from sumi.engine.job import Job
from sumi.errors import JobError, RequestError

MOST = 1000
"""Pictures in an answer."""
LONGEST = 1000
"""Characters of what is searched for."""
LOOSE = 86_400.0
"""Seconds for which a picture is kept that lies in no gallery."""
LARGEST = 2**63 - 1
STARRED = ("", "yes")
"""A word of the index, as looking elsewhere for each picture that is found would take long."""
FOUND = "SELECT pictures.*, jobs.request, jobs.model FROM pictures JOIN jobs ON jobs.id = pictures.job"
"""A row that `Item.of` reads."""


@dataclass(frozen=True)
class Item:
    """A picture in the gallery. number: its age, the first being 1. place: in its job, from 0. at: seconds since 1970.

    width, height: in pixels. prompt, seed, model: of its job.
    """

    number: int
    id: str
    job: str
    place: int
    at: float
    width: int
    height: int
    starred: bool
    prompt: str
    seed: int
    model: str | None

    @classmethod
    def of(cls, row: Row) -> "Item":
        """The picture in a row of `FOUND`."""
        request = json.loads(row["request"])  # SQLite has no whole numbers as large as a seed
        asked = {"prompt": request.get("prompt", ""), "seed": request["seed"], "starred": bool(row["starred"])}
        return cls(**{field.name: row[field.name] for field in fields(cls) if field.name not in asked}, **asked)


@dataclass(frozen=True)
class Shelf:
    """Part of the gallery. total: of all that were found; upto: to be given with the next offset."""

    total: int
    upto: int
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Kept:
    """A picture that is on the disk, and that no job tells of yet. width, height: in pixels."""

    id: str
    width: int
    height: int


class Gallery:
    """The pictures of which a file of jobs tells. EngineError as `Database`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def page(self, search: str = "", *, starred: bool = False, upto: int | None = None, offset: int = 0, limit: int = 100) -> Shelf:
        """Pictures, the newest first: those in whose prompts, model or seed there are words that begin as those of `search`, each of them.

        upto: the first page's, by which offsets stay right while new pictures come. RequestError for a search beyond `LONGEST`.
        """
        if len(search) > LONGEST:
            raise RequestError(f"a search must be at most {LONGEST} characters; got {len(search)}")
        found = "FROM pictures WHERE removed IS NULL AND shelved AND number <= :upto" + (" AND starred" if starred else "")
        if words := _quoted(search):
            words = f"{{prompt negative model seed}} : ({words})" + (" AND starred : yes" if starred else "")
            found = "FROM words WHERE words MATCH :words AND rowid <= :upto"
        with self.database.reading() as connection:
            if upto is None:
                upto = connection.execute("SELECT coalesce(max(number), 0) FROM pictures").fetchone()[0]
            given = {
                "words": words,
                "upto": min(upto, LARGEST),
                "limit": max(0, min(limit, MOST)),
                "offset": max(0, min(offset, LARGEST)),
            }
            total = connection.execute(f"SELECT count(*) {found}", given).fetchone()[0]
            numbers = f"SELECT rowid {found} ORDER BY rowid DESC LIMIT :limit OFFSET :offset"
            shown = connection.execute(f"{FOUND} WHERE pictures.number IN ({numbers}) ORDER BY pictures.number DESC", given).fetchall()
        return Shelf(total, upto, tuple(map(Item.of, shown)))

    def item(self, id: str) -> Item:
        """A picture, by its id. JobError if there is none, or it was removed."""
        with self.database.reading() as connection:
            return _item(connection, id)

    def star(self, id: str, on: bool) -> Item:
        """Marks a picture, or takes its mark away. JobError as `item`."""
        with self.database.writing() as connection:
            number = _item(connection, id).number
            connection.execute("UPDATE pictures SET starred = ? WHERE number = ?", (on, number))
            connection.execute("UPDATE words SET starred = ? WHERE rowid = ?", (STARRED[on], number))
            return _item(connection, id)

    def remove(self, id: str) -> None:
        """Takes a picture out of the gallery; until it is purged it can be restored. JobError as `item`."""
        with self.database.writing() as connection:
            number = _item(connection, id).number
            connection.execute("UPDATE pictures SET removed = ? WHERE number = ?", (time.time(), number))
            connection.execute("DELETE FROM words WHERE rowid = ?", (number,))

    def restore(self, id: str) -> Item:
        """Puts a picture back that was removed; one that was not stays as it is. JobError if there is none any more."""
        rows.check(id, "picture")
        with self.database.writing() as connection:
            gone = connection.execute("SELECT number, job, starred FROM pictures WHERE id = ? AND removed IS NOT NULL", (id,)).fetchone()
            if gone is not None:
                connection.execute("UPDATE pictures SET removed = NULL WHERE number = ?", (gone["number"],))
                job = rows.job(connection, gone["job"])
                if job.shelf:
                    _index(connection, gone["number"], job, bool(gone["starred"]))
            return _item(connection, id)

    def purge(self, before: float) -> tuple[str, ...]:
        """Forgets pictures that were removed before a time, in seconds since 1970, and old ones that lie in no gallery: their ids."""
        past = "FROM pictures WHERE removed <= ? OR (NOT shelved AND at <= ?)"
        when = (before, time.time() - LOOSE)
        with self.database.writing() as connection:
            gone = tuple(row["id"] for row in connection.execute(f"SELECT id {past}", when))
            connection.execute(f"DELETE {past}", when)
        return gone

    def pictures(self) -> set[str]:
        """The ids of all pictures, of those that were removed too."""
        with self.database.reading() as connection:
            return {row["id"] for row in connection.execute("SELECT id FROM pictures")}


def add(connection: Connection, job: Job, pictures: Sequence[Kept]) -> None:
    """Puts the pictures of a job into the gallery, if they are to lie there: part of the transaction that finishes it."""
    at = time.time()
    for place, kept in enumerate(pictures):
        row = (kept.id, job.id, place, at, kept.width, kept.height, job.shelf)
        added = connection.execute("INSERT INTO pictures (id, job, place, at, width, height, shelved) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        assert added.lastrowid is not None
        if job.shelf:
            _index(connection, added.lastrowid, job, False)
    connection.execute("UPDATE jobs SET made = ? WHERE id = ?", (json.dumps([kept.id for kept in pictures]), job.id))


def _index(connection: Connection, number: int, job: Job, starred: bool) -> None:
    words = (number, job.request.prompt, job.request.negative, job.model or "", str(job.request.seed), STARRED[starred])
    connection.execute("INSERT INTO words (rowid, prompt, negative, model, seed, starred) VALUES (?, ?, ?, ?, ?, ?)", words)


def _item(connection: Connection, id: str) -> Item:
    rows.check(id, "picture")
    row = connection.execute(f"{FOUND} WHERE pictures.id = ? AND removed IS NULL", (id,)).fetchone()
    if row is None:
        raise JobError("there is no such picture: it may have been removed")
    return Item.of(row)


def _quoted(search: str) -> str:
    """A question to FTS5: the beginning of each word, whatever signs are in it."""
    words = search.encode(errors="replace").decode().replace("\0", " ").split()
    return " ".join('"' + word.replace('"', '""') + '"*' for word in words)
