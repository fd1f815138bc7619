"""An engine as a whole: it starts and ends in any state, alone in its folder, and is quiet when there is nothing to do."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.helpers import GUARD, at_step, ended, files
from sumi.engine.engine import Engine
from sumi.errors import EngineError, JobError, RequestError
from sumi.request import FILES, Request

Begin = Callable[..., Engine]
CLOSED = 10.0
"""Seconds that an engine has to end."""


def test_it_goes_on_where_it_was(begin: Begin, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    engine = begin()
    running, queued = engine.submit(Request(prompt=f"gate={tmp_path / 'gate'} steps=2")), engine.submit(Request(prompt="a", steps=2))
    with open(tmp_path / "gate", "wb", buffering=0) as opened:
        opened.write(b"x")
        at_step(engine, running.id, 1)
        began = time.monotonic()
        engine.close()
        assert time.monotonic() - began < CLOSED
    engine = begin(maker="engine.stub:Stub")
    assert engine.get(running.id).tries == 0 and engine.get(queued.id).state in ("queued", "running", "done")
    with open(tmp_path / "gate", "wb", buffering=0) as opened:
        opened.write(b"xx")
        assert [ended(engine, job.id).state for job in (running, queued)] == ["done", "done"]


def test_it_closes_while_a_step_takes_for_ever(begin: Begin, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    engine = begin(devices=("cpu", "cpu"))
    job = engine.submit(Request(prompt=f"gate={tmp_path / 'gate'}"))
    other = engine.submit(Request(prompt="freeze", steps=2))
    with open(tmp_path / "gate", "wb", buffering=0):
        at_step(engine, job.id, 0)
        at_step(engine, other.id, 0)
        began = time.monotonic()
        engine.close()
        assert time.monotonic() - began < CLOSED
    engine.close()
    with pytest.raises(EngineError, match="the engine is closing"):
        engine.submit(Request())
    assert [engine.get(each.id).state for each in (job, other)] == ["queued", "queued"]
    engine.jobs.close()


def test_it_closes_at_once_when_it_was_just_started(begin: Begin) -> None:
    for _ in range(3):
        began = time.monotonic()
        begin().close()
        assert time.monotonic() - began < CLOSED


def test_one_engine_a_folder(begin: Begin, tmp_path: Path) -> None:
    engine = begin()
    with pytest.raises(EngineError, match=r"engine is in use by another engine: end that one, or choose another folder"):
        begin()
    engine.close()
    begin()
    (tmp_path / "file").write_text("x")
    with pytest.raises(EngineError, match=r"file cannot be used \(.*\): choose another folder"):
        Engine(tmp_path / "file")


def test_a_folder_that_it_cannot_use_is_left(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "jobs.sqlite3").write_text("no database, " * 100)
    for _ in range(2):  # the lock is given back
        with pytest.raises(EngineError, match="is damaged"):
            begin()


def test_what_no_job_tells_of_is_swept(begin: Begin, tmp_path: Path) -> None:
    engine = begin()
    job = ended(engine, engine.submit(Request(prompt="a")).id)
    engine.close()
    before = files(engine)
    orphans = [f"pictures/{'0' * 32}.png", f"pictures/{'0' * 32}.webp", f"stories/{'0' * 32}.html", "stories/.part-x.safetensors.part"]
    for name in (*orphans, "pictures/.part-x", "uploads/.part-x", f"uploads/{'0' * 64}.png", "stories/.sumi-x.tmp"):
        (tmp_path / "engine" / name).write_bytes(b"x")
    engine = begin()
    assert files(engine) == before | {f"uploads/{'0' * 64}.png"} and engine.picture(job.pictures[0]), "an upload is spared for a day"
    with pytest.raises(JobError, match="there is no such picture"):
        engine.picture("0" * 32)


def test_only_models_that_it_was_given(begin: Begin, tmp_path: Path) -> None:
    engine = begin(models={"tiny": tmp_path / "tiny"})
    assert ended(engine, engine.submit(Request(), model="tiny").id).state == "done"
    for name in ("other", str(tmp_path / "tiny"), "\ud800"):
        with pytest.raises(RequestError, match=r"there is no model .*: use tiny"):
            engine.submit(Request(), model=name)


@pytest.mark.parametrize("name", FILES)
def test_paths_are_refused(begin: Begin, name: str) -> None:
    engine = begin()
    for path in ("/etc/passwd", "-", "picture.png", "DATA:x", "\x00"):
        with pytest.raises(RequestError, match=f"{name} must be an upload or a data: URL: an engine opens no files for those who ask"):
            engine.submit(Request(**{name: path}))
    for id in (f"upload:{'0' * 64}", "upload:", "upload:../../etc/passwd", f"upload:{'A' * 64}", f"upload:{'0' * 64}\n"):
        with pytest.raises(RequestError, match="there is no such upload: send the picture again"):
            engine.submit(Request(**{name: id}))
    assert engine.jobs.counts()["queued"] == 0


def test_many_submit_at_once(begin: Begin) -> None:
    engine = begin()
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.extend(engine.submit(Request(prompt="a")).id for _ in range(10))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    jobs = [ended(engine, id) for id in ids]
    assert len(jobs) == 80 and {job.state for job in jobs} == {"done"} and len({job.pictures for job in jobs}) == 80


def test_tried_again(begin: Begin) -> None:
    engine = begin()
    job = ended(engine, engine.submit(Request(prompt="refused")).id)
    seen = engine.events(job.id)[-1].number
    engine.retry(job.id)
    assert [event.kind for event in engine.events(job.id, after=seen, wait=GUARD)][:1] == ["queued"]
    assert ended(engine, job.id).state == "failed"
    assert [event.kind for event in engine.events(job.id, after=seen)] == ["queued", "running", "note", "failed"]


def test_jobs_of_another_process_are_found(begin: Begin) -> None:
    """Though nobody tells the worker."""
    from sumi.engine.jobs import Jobs

    engine = begin()
    other = Jobs(engine.jobs.database.path)
    job = other.submit(Request(prompt="a"))
    other.close()
    assert ended(engine, job.id).state == "done"


def test_idle_it_takes_no_time(begin: Begin) -> None:
    """Of the processor: of the engine and its worker, while both wait. Generous: a loop would take ten times as much."""
    engine = begin()
    ended(engine, engine.submit(Request(prompt="a")).id)
    process = engine.crew.hands[0].process
    assert process is not None

    def taken() -> float:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before, asleep = taken(), threading.Event()
    asleep.wait(3.0)  # what is measured, not a wait for something to happen
    assert taken() - before < 0.3


SERVER = """
import signal, sys
from sumi.engine.engine import Engine
from sumi.request import Request
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with Engine(sys.argv[1], maker="engine.stub:Stub") as engine:
    for prompt in sys.argv[2:]:
        engine.submit(Request(prompt=prompt))
    after = 0
    while found := engine.events(after=after, wait=3600):
        after = found[-1].number
        for event in found:
            print(event.kind, flush=True)
"""


@pytest.mark.parametrize("state", ["idle", "running", "frozen"])
def test_sigterm_ends_it_in_time(state: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """Sent to it and to its worker, as a service manager does."""
    os.mkfifo(tmp_path / "gate")
    prompts = {"idle": ["a"], "running": [f"gate={tmp_path / 'gate'}"], "frozen": ["freeze"]}[state]
    path = os.pathsep.join((environment["PYTHONPATH"], str(Path(__file__).parents[1])))
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path / "engine"), *prompts],
        env={**environment, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as server:
        holder = open(tmp_path / "gate", "r+b", buffering=0)  # noqa: SIM115, so that neither end waits for the other
        assert server.stdout is not None
        last = {"idle": "done", "running": "step", "frozen": "step"}[state]
        assert any(line.strip() == last for line in server.stdout)
        os.killpg(server.pid, signal.SIGTERM)
        began = time.monotonic()
        assert server.wait(GUARD) == 143
        assert time.monotonic() - began < CLOSED
        holder.close()
    with Engine(tmp_path / "engine", maker="engine.none:None") as engine:
        assert engine.jobs.counts()["done" if state == "idle" else "queued"] == 1
        assert all(job.tries == 0 for job in engine.list())


def test_a_worker_that_cannot_start_leaves_the_jobs_alone(begin: Begin) -> None:
    engine = begin(maker="engine.none:None")
    job = engine.submit(Request(prompt="a"))
    began = time.monotonic()
    while engine.health()[0].deaths < 2 and time.monotonic() < began + GUARD:
        engine.events(job.id, after=2**40, wait=0.1)
    assert engine.get(job.id).state == "queued" and engine.health()[0].deaths >= 2
    assert engine.health()[0].deaths < 10, "it is not started again and again without a pause"
