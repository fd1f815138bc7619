"""Ways to wait for what an engine does, without sleeping."""

from collections.abc import Callable

from sumi.engine.engine import Engine
from sumi.engine.job import Event, Job
from sumi.engine.shelf import Kept

GUARD = 60.0
"""Seconds after which a test takes something to hang."""
WORKER = "a" * 32


def until(engine: Engine, id: str, wanted: Callable[[Event], bool], after: int = 0) -> Event:
    """Waits for an event of a job."""
    while found := engine.events(id, after=after, wait=GUARD):
        for event in found:
            if wanted(event):
                return event
        after = found[-1].number
    raise AssertionError(f"nothing more happens to {engine.get(id)}")


def at_step(engine: Engine, id: str, step: int) -> Event:
    """Waits until a step of a job is done."""
    return until(engine, id, lambda event: event.kind == "step" and event.data["step"] == step)


def ended(engine: Engine, id: str) -> Job:
    """Waits for the end of a job."""
    after = 0
    while not (job := engine.get(id)).ended:
        found = engine.events(id, after=after, wait=GUARD)
        assert found, f"nothing more happens to {job}"
        after = found[-1].number
    return job


def kept(*ids: str) -> list[Kept]:
    """Pictures as if they were on the disk."""
    return [Kept(id, 8, 6) for id in ids]


def files(engine: Engine) -> set[str]:
    """What is in an engine's folder, but for the queue: paths from there."""
    paths = (path.relative_to(engine.folder) for path in engine.folder.rglob("*") if path.is_file())
    return {str(path) for path in paths if len(path.parts) > 1}


def whole(engine: Engine) -> set[str]:
    """The files that there are to be for all jobs together."""
    ids = engine.shelf.pictures()
    told = {id for job in engine.list(limit=1000) if job.see for id in job.pictures if id in ids}
    named = {f"uploads/{id.partition(':')[2]}.png" for id in engine.jobs.uploads()}
    return {f"pictures/{id}{ending}" for id in ids for ending in (".png", ".webp")} | {f"stories/{id}.html" for id in told} | named
