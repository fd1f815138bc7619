"""Cancelled at any time, a job leaves nothing, and those after it are done."""

import random
import threading
from collections.abc import Callable

import pytest

from engine.helpers import ended, files, until, whole
from engine.stub import content
from sumi.engine.engine import Engine
from sumi.request import Request


@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.full)])
def test_cancelled_at_any_phase(begin: Callable[..., Engine], count: int) -> None:
    engine, drawn, cancelled = begin(), random.Random(0), dict[str, bool]()
    later: list[str] = []
    for _ in range(count):
        see = drawn.random() < 0.25
        request = Request(prompt=f"steps={drawn.randint(1, 5)}", count=1 if see else drawn.randint(1, 3))
        job = engine.submit(request, see=see)
        phase = drawn.choice(["queued", "running", "note", "step", "done"])
        until(engine, job.id, lambda event, phase=phase: event.kind in (phase, "done"))  # type: ignore[misc]
        threading.Event().wait(drawn.uniform(0, 0.03) if phase != "queued" else 0)
        found = engine.cancel(job.id)
        assert found.state in ("cancelled", "done") and bool(found.pictures) == (found.state == "done")
        cancelled[job.id] = found.state == "cancelled"
        later.append(engine.submit(Request(prompt="later", steps=drawn.randint(1, 3)), see=drawn.random() < 0.1).id)
    for id in later:
        job = ended(engine, id)
        assert job.state == "done" and engine.picture(job.pictures[0]) == content(job, 0)
    for id, was in cancelled.items():
        job = engine.get(id)
        assert job.state == ("cancelled" if was else "done") and len(job.pictures) == (0 if was else job.request.count)
    engine.close()
    assert files(engine) == whole(engine)
    print(f"{sum(cancelled.values())} of {count} were cancelled")
    assert count // 4 < sum(cancelled.values()) < count
