"""What becomes of a job, whatever becomes of its computation; on a maker that makes no pictures."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.helpers import at_step, ended, files, until, whole
from engine.stub import content, is_whole
from sumi.engine.engine import Engine
from sumi.engine.job import Job
from sumi.request import Request

Begin = Callable[..., Engine]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A named pipe: who waits there goes on by a byte."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def lot(engine: Engine, gate: Path, *prompts: str, **fields: Any) -> list[Job]:
    """Jobs that are claimed together: what is before them is at a gate until all are submitted."""
    first = engine.submit(Request(prompt=f"gate={gate} steps=1", steps=999))
    with open(gate, "wb", buffering=0) as opened:
        submitted = [engine.submit(Request(prompt=prompt, **fields)) for prompt in prompts]
        opened.write(b"x")
        ended(engine, first.id)
    return [ended(engine, job.id) for job in submitted]


def kind(job: Job) -> str | None:
    return None if job.error is None else job.error.kind


def test_pictures_are_kept(begin: Begin) -> None:
    engine = begin()
    job = ended(engine, engine.submit(Request(prompt="a", count=3, first=5)).id)
    assert job.state == "done" and len(set(job.pictures)) == 3
    assert [engine.picture(id) for id in job.pictures] == [content(job, number) for number in range(3)]
    assert is_whole(engine.picture(job.pictures[0])) and engine.thumbnail(job.pictures[2]) == content(job, 2)[::-1]
    items = [engine.item(id) for id in job.pictures]
    assert [(item.job, item.place, item.width, item.height, item.number) for item in items] == [(job.id, n, 8, 6, n + 1) for n in range(3)]
    assert [event.kind for event in engine.events(job.id)] == ["queued", "running", "note", "done"]


def test_jobs_of_one_shape_are_computed_together(begin: Begin, gate: Path) -> None:
    jobs = lot(begin(most=3), gate, "a", "b", "c", "d")
    assert [job.state for job in jobs] == ["done"] * 4
    assert [job.notes for job in jobs] == [("3 together",), (), (), ("1 together",)]


def test_steps_are_told_one_by_one(begin: Begin, gate: Path) -> None:
    engine = begin()
    job = engine.submit(Request(prompt=f"gate={gate} steps=3"))
    with open(gate, "wb", buffering=0) as opened:
        for step in range(4):
            at_step(engine, job.id, step)
            assert (engine.get(job.id).step, engine.get(job.id).steps) == (step, 3)
            assert engine.get(job.id).state == "running"
            opened.write(b"x") if step < 3 else None
            if step == 2:
                assert engine.preview(job.id) == b"preview"
    assert ended(engine, job.id).state == "done"


@pytest.mark.parametrize("step", [0, 1, 2])
def test_cancelled_within_a_step(begin: Begin, gate: Path, step: int) -> None:
    engine = begin()
    job = engine.submit(Request(prompt=f"gate={gate} steps=100"))
    with open(gate, "wb", buffering=0) as opened:
        opened.write(b"x" * step)
        at_step(engine, job.id, step)
        assert engine.cancel(job.id).state == "cancelled"
        opened.write(b"x")  # one step more, after which there are 97 that it must not wait for
        assert ended(engine, engine.submit(Request(prompt="next")).id).state == "done"
    assert engine.get(job.id).state == "cancelled" and files(engine) == whole(engine)


def test_one_of_several_is_cancelled(begin: Begin, gate: Path, tmp_path: Path) -> None:
    engine, second = begin(), tmp_path / "second"
    os.mkfifo(second)
    first = engine.submit(Request(prompt=f"gate={gate} steps=1", steps=999))
    with open(gate, "wb", buffering=0) as opened:
        jobs = [engine.submit(Request(prompt=f"gate={second} steps=2", seed=seed)) for seed in range(3)]
        opened.write(b"x")
    with open(second, "wb", buffering=0) as opened:
        opened.write(b"x")
        at_step(engine, jobs[1].id, 1)
        engine.cancel(jobs[1].id)
        opened.write(b"x")
    states = [ended(engine, job.id) for job in jobs]
    assert [job.state for job in states] == ["done", "cancelled", "done"] and ended(engine, first.id).state == "done"
    assert files(engine) == whole(engine) and len(engine.shelf.pictures()) == 3


def test_what_is_refused_fails_alone(begin: Begin, gate: Path) -> None:
    jobs = lot(begin(), gate, "a", "refused", "c")
    assert [job.state for job in jobs] == ["done", "failed", "done"]
    assert jobs[1].error is not None and (jobs[1].error.kind, jobs[1].error.message) == ("request", "not this: something else")


def test_spoiled_pictures_are_computed_again_in_float32(begin: Begin, gate: Path) -> None:
    jobs = lot(begin(), gate, "a", "nan", "nan32")
    assert [(job.state, kind(job)) for job in jobs] == [("done", None), ("done", None), ("failed", "nan")]
    assert "computed again in float32: the picture was black or not finite before" in jobs[1].notes
    assert jobs[2].pictures == () and jobs[2].error is not None and "black or not finite in float32, too" in jobs[2].error.message


def test_short_of_memory(begin: Begin, gate: Path) -> None:
    engine = begin()
    assert [job.state for job in lot(engine, gate, "oom-together", "b")] == ["done", "done"]
    jobs = lot(engine, gate, "oom", "b")
    assert [(job.state, kind(job)) for job in jobs] == [("failed", "memory"), ("done", None)]
    assert engine.health()[0].deaths == 0


def test_short_of_memory_alone_is_tried_once_more(begin: Begin) -> None:
    engine = begin()
    job = ended(engine, engine.submit(Request(prompt="oom-once")).id)
    assert job.state == "done" and "computed again: there was not enough memory before" in job.notes
    job = ended(engine, engine.submit(Request(prompt="oom")).id)
    assert kind(job) == "memory" and len(job.notes) == 3


def test_a_defect_fails_its_job_alone(begin: Begin, gate: Path, capfd: pytest.CaptureFixture[str]) -> None:
    engine = begin()
    jobs = lot(engine, gate, "a", "boom quokka", "c")
    assert [(job.state, kind(job)) for job in jobs] == [("done", None), ("failed", "defect"), ("done", None)]
    assert jobs[1].error is not None and "ValueError" in jobs[1].error.message and "\n" not in jobs[1].error.message
    assert engine.health()[0].deaths == 0
    engine.close()
    said = capfd.readouterr().err
    assert "ValueError" in said and "quokka" not in said


def test_a_disk_that_is_full(begin: Begin) -> None:
    engine = begin()
    job = ended(engine, engine.submit(Request(prompt="full", count=2)).id)
    assert (job.state, kind(job)) == ("failed", "output") and files(engine) == set()


def test_poison_is_parked_after_two_tries_and_costs_its_neighbours_nothing(begin: Begin, gate: Path) -> None:
    engine = begin()
    jobs = lot(engine, gate, "a", "die", "c")
    assert [(job.state, kind(job), job.tries) for job in jobs] == [("done", None, 1), ("failed", "poison", 2), ("done", None, 1)]
    assert engine.health()[0].deaths == 2
    assert ended(engine, engine.submit(Request(prompt="next")).id).state == "done"


def test_a_worker_that_hangs_is_replaced(begin: Begin) -> None:
    engine = begin(hang=1.0)
    job, after = engine.submit(Request(prompt="freeze")), engine.submit(Request(prompt="a", steps=2))
    assert kind(ended(engine, job.id)) == "poison" and ended(engine, after.id).state == "done"


def test_urgent_jobs_go_first(begin: Begin, gate: Path) -> None:
    engine = begin()
    first = engine.submit(Request(prompt=f"gate={gate} steps=1"))
    with open(gate, "wb", buffering=0) as opened:
        usual, urgent = (engine.submit(Request(prompt="a"), priority=priority) for priority in (0, 1))
        opened.write(b"x")
    for job in (first, usual, urgent):
        ended(engine, job.id)
    events = [until(engine, job.id, lambda event: event.kind == "running").number for job in (first, urgent, usual)]
    assert events == sorted(events)


def test_two_devices(begin: Begin, gate: Path) -> None:
    """While one worker is at the gate, the other computes."""
    engine = begin(devices=("cpu", "cpu"))
    first = engine.submit(Request(prompt=f"gate={gate} steps=1"))
    with open(gate, "wb", buffering=0) as opened:
        assert ended(engine, engine.submit(Request(prompt="a")).id).state == "done"
        assert engine.get(first.id).state == "running"
        opened.write(b"x")
    assert ended(engine, first.id).state == "done" and len(engine.health()) == 2
