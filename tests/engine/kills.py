"""`python -m engine.kills FOLDER CYCLES SEED [shipped]`: an engine is killed time and again, and what it has promised is counted.

Each cycle is a process with an engine, to which jobs are given by keys: new ones, and those of cycles that did not live to promise them.
After some time, drawn at random, it is killed, or its worker is and then it; the next begins at once. In the end an engine finishes what is
left. Prints what was found, as JSON. Without torch and pytest, so that a cycle is quick.
"""

import base64
import hashlib
import itertools
import json
import os
import random
import select
import signal
import sqlite3
import struct
import sys
import threading
import time
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

from engine.stub import MAKER, content, is_whole
from sumi.engine import engine as engines
from sumi.engine.engine import Engine
from sumi.engine.jobs import Jobs
from sumi.engine.results import Results
from sumi.request import Request

PATIENCE = 300.0


def request_of(key: str) -> tuple[Request, bool]:
    """The same for the same key: of three shapes, of one picture or two, some with a picture to go by; and whether it is to be seen."""
    drawn = random.Random(key)
    see = drawn.random() < 0.2
    asked = Request(prompt="two stars", seed=drawn.randrange(1000), steps=10 * drawn.randint(1, 3), count=1 if see else drawn.randint(1, 2))
    return (replace(asked, image=picture(drawn)) if drawn.random() < 0.05 else asked), see


def picture(drawn: random.Random) -> str:
    """A data: URL of a PNG of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + drawn.randbytes(3) * 64) * 64
    head, body = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0), zlib.compress(rows)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def live(folder: Path, maker: str, keys: list[str], told: int, worker_dies_after: float | None) -> None:
    """A cycle, until it is killed: the ids of jobs go to a pipe as soon as they are promised."""
    engine = Engine(folder, maker=maker)
    for key in keys:
        request, see = request_of(key)
        job = engine.submit(request, key=key, see=see)
        os.write(told, f"{key} {job.id}\n".encode())
    while not any(event.kind == "running" for event in engine.events(job.id)):
        engine.events(job.id, after=engine.events(job.id)[-1].number, wait=1.0)
    os.write(told, b"at work\n")
    if worker_dies_after is not None:
        time.sleep(worker_dies_after)
        engine.crew.hands[0].kill()
    threading.Event().wait()


def killed(folder: Path, maker: str, keys: list[str], drawn: random.Random, span: float) -> dict[str, str]:
    """One cycle. What was promised in it: ids by key."""
    ours, theirs = os.pipe()
    worker_dies_after = drawn.uniform(0, span) if drawn.random() < 0.2 else None
    if (child := os.fork()) == 0:
        try:
            live(folder, maker, keys, theirs, worker_dies_after)
        finally:
            os._exit(1)
    os.close(theirs)
    said, awaited = b"", drawn.choice([b"", b"key", b"at work"])  # it may be killed before it has begun
    while awaited not in said and select.select([ours], [], [], PATIENCE)[0] and (some := os.read(ours, 1 << 16)):
        said += some
    time.sleep((worker_dies_after or 0) + drawn.uniform(0, span))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(ours, "rb") as lines:
        said += lines.read()
    whole = [line.split() for line in said.decode().split("\n")[:-1]]
    return {key: id for key, id in whole if key != "at"}


def finished(folder: Path, maker: str) -> int:
    """Lets an engine do what is left; what was parked because its worker was killed twice is tried again. How many of these there were."""
    again = 0
    with Engine(folder, maker=maker) as engine:
        after, until = 0, time.monotonic() + PATIENCE
        while time.monotonic() < until:
            parked = [job for job in engine.list(state="failed", limit=1000) if job.error is not None and job.error.kind == "poison"]
            for job in parked:
                engine.retry(job.id)
                again += 1
            counts = engine.jobs.counts()
            if not counts["queued"] + counts["running"]:
                break
            for event in engine.events(after=after, wait=1.0):
                after = event.number
    return again


def counted(folder: Path, promised: dict[str, str], keys: int, stub: bool) -> dict[str, object]:
    """What there is, against what was promised."""
    connection = sqlite3.connect(folder / "jobs.sqlite3")
    jobs = dict(connection.execute("SELECT key, id FROM jobs"))
    done = Counter(id for (id,) in connection.execute("SELECT job FROM events WHERE kind = 'done'"))
    queue, results = Jobs(folder / "jobs.sqlite3"), Results(folder)
    found = [queue.get(id) for id in jobs.values()]
    damaged = 0
    for job in found:
        for number, id in enumerate(job.pictures):
            data, small = results.pictures.read(id), results.thumbnails.read(id)
            damaged += data != content(job, number) or not is_whole(data) if stub else not data.endswith(b"IEND\xaeB`\x82")
            damaged += small != data[::-1] if stub else int.from_bytes(small[4:8], "little") != len(small) - 8
            if job.see:
                story = results.stories.read(id)
                damaged += story != data if stub else not story.rstrip().endswith(b"</html>")
    pictures = [id for job in found for id in job.pictures]
    told = {id for job in found if job.see for id in job.pictures}
    wanted = {f"pictures/{id}{ending}" for id in pictures for ending in (".png", ".webp")} | {f"stories/{id}.html" for id in told}
    files = {str(path.relative_to(folder)) for name in ("pictures", "stories") for path in (folder / name).iterdir()}
    uploads = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "uploads").iterdir()}
    damaged += sum(name != f"{digest}.png" for name, digest in uploads.items())
    missing = {f"{id[7:]}.png" for id in queue.uploads()} - uploads.keys()
    queue.close()
    return {
        "promised": len(promised),
        "lost": sum(jobs.get(key) != id for key, id in promised.items()) + sum(job.state != "done" for job in found),
        "doubled": sum(times != 1 for times in done.values()) + len(pictures) - len(set(pictures)) + max(0, len(jobs) - keys),
        "short": sum(len(job.pictures) != job.request.count for job in found),
        "damaged": damaged,
        "orphans": len(files ^ wanted) + len(missing),
        "stories": len(told),
        "uploads": len(uploads),
        "interrupted": connection.execute("SELECT count(*) FROM jobs WHERE stops + tries > 0").fetchone()[0],
        "integrity": connection.execute("PRAGMA integrity_check").fetchone()[0],
    }


def main(folder: Path, cycles: int, seed: int, shipped: bool) -> dict[str, object]:
    """All of it."""
    drawn, numbers = random.Random(seed), itertools.count()
    maker, span = (engines.MAKER, 2.0) if shipped else (MAKER, 0.25)
    promised: dict[str, str] = {}
    open_keys: list[str] = []
    checks, begun = 0, time.monotonic()
    for cycle in range(cycles):
        open_keys += [f"key-{next(numbers)}" for _ in range(4)]
        promised |= killed(folder, maker, open_keys, drawn, span)
        open_keys = [key for key in open_keys if key not in promised]
        if cycle % 10 == 0 and (folder / "jobs.sqlite3").exists():
            connection = sqlite3.connect(folder / "jobs.sqlite3", timeout=30)
            checks += connection.execute("PRAGMA integrity_check").fetchone()[0] != "ok"
            connection.close()
    cycled = time.monotonic() - begun
    again = finished(folder, maker)
    found = counted(folder, promised, next(numbers), not shipped)
    return {"cycles": cycles, "seconds": round(cycled, 1), **found, "failed checks": checks, "tried again": again}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), "shipped" in sys.argv[4:])))
