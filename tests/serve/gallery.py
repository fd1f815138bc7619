"""A gallery of very many pictures, put into the engine's file by itself: what would take days to make."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from sumi.engine.database import Database
from sumi.engine.results import Results
from sumi.engine.worker import QUEUE

THINGS = (
    "a red circle",
    "two stars above a tree",
    "a cat on the grass",
    "a blue square",
    "three green apples",
    "a boat on the water",
    "墨",
)


def name(number: int) -> str:
    """The id of a picture, counted from 1, and of its job."""
    return f"{number:032x}"


def prompt(number: int) -> str:
    return f"{THINGS[number % len(THINGS)]} no{number}"


def starred(number: int) -> bool:
    return number % 50 == 0


def seed(number: int) -> int:
    return 2**64 - number


def shelve(folder: Path, count: int, files: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Makes the folder of an engine, with that many pictures; the last is the newest.

    files: PNGs and their thumbnails, which the pictures share; without any, there are rows alone.
    """
    results = Results(folder)
    database, now = Database(folder / QUEUE), time.time()
    numbers = range(1, count + 1)
    with database.writing(durable=False) as connection:
        connection.executemany(
            "INSERT INTO jobs (id, request, shape, pictures, state, priority, body, created, started, finished, made)"
            " VALUES (?, ?, '', 1, 'done', 0, '', ?, ?, ?, ?)",
            (
                (name(number), json.dumps({"prompt": prompt(number), "seed": seed(number)}), now, now, now, json.dumps([name(number)]))
                for number in numbers
            ),
        )
        connection.executemany(
            "INSERT INTO pictures (number, id, job, place, at, width, height, starred) VALUES (?, ?, ?, 0, ?, 64, 64, ?)",
            ((number, name(number), name(number), now - count + number, starred(number)) for number in numbers),
        )
        connection.executemany(
            "INSERT INTO words (rowid, prompt, negative, model, seed) VALUES (?, ?, '', '', ?)",
            ((number, prompt(number), str(seed(number))) for number in numbers),
        )
    database.close()
    for place, pair in enumerate(files):
        for kind, data in zip((results.pictures, results.thumbnails), pair, strict=True):
            original = folder / f"original-{place}{kind.ending}"
            original.write_bytes(data)
            for number in range(place + 1, count + 1, len(files)):
                os.link(original, kind.folder / f"{name(number)}{kind.ending}")
