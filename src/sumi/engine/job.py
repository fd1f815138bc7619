"""What a job is, and what is told of it. Frozen data, without torch."""

import hashlib
import json
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias, TypedDict

from sumi.errors import CheckpointError, SumiError
from sumi.request import FIELDS, FILES, Request

State: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = ("queued", "running", "done", "failed", "cancelled")
OWN = ("prompt", "negative", "seed", "first", "count", "variation_seed", "label", *FILES, "digests")
"""The fields in which pictures that are computed together may differ; all others they share."""
SELECTED = """
SELECT jobs.*, (SELECT json_group_array(id) FROM pictures WHERE job = jobs.id AND removed IS NULL) AS shown
FROM jobs
"""
"""A row that `Job.of` reads."""


@dataclass(frozen=True)
class Failure:
    """Why a job failed. kind: one word, for programs; message: one line, for people."""

    kind: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Of an error of sumi's family its own line; of anything else, which is a defect of sumi, what it calls itself."""
        line = " ".join(str(error).split())[:300]
        if isinstance(error, CheckpointError):  # it names files of this machine
            return cls("checkpoint", "the model cannot be loaded: look at its file with sumi inspect, where the server is")
        if isinstance(error, SumiError):
            return cls(type(error).__name__.removesuffix("Error").lower(), line)
        said = f" ({line})" if line else ""
        return cls("defect", f"sumi failed with {type(error).__name__}{said}: this is a defect of sumi; try again with other settings")


class Terms(TypedDict, total=False):
    """On what terms a request is put into the queue; what is left out is None, 0 or False, but for `shelf`.

    model: by the name that the engine knows it by. priority: larger goes first. key: asked again by the same, it is the same job. group: a
    name that jobs may share. see: its story is kept, too, the page that shows every step; it is of one picture. shelf: its pictures lie in
    the gallery; others can be had by their ids for a day.
    """

    model: str | None
    priority: int
    key: str | None
    group: str | None
    see: bool
    shelf: bool


@dataclass(frozen=True)
class Job:
    """A request in the queue, as it is at one time.

    id: opaque, 32 hexadecimal digits. number: its age, the first being 1. request: with a seed. model: by the name that the engine knows it
    by, or None, the one that comes with sumi. group: a name that jobs may share. see: whether its story is kept. shelf: whether its
    pictures lie in the gallery. priority: larger goes first. tries: times that a worker died while it ran. position: how many are before
    it, while it is queued. step of steps: how far it has come, while it runs. created, started, finished: seconds since 1970. error: why
    it failed. pictures: the ids of all that were made, by place, once it is done; removed: of those, which are gone. notes: what there is
    to say of how it was made.
    """

    id: str
    number: int
    request: Request
    model: str | None
    group: str | None
    see: bool
    shelf: bool
    state: State
    priority: int
    tries: int
    position: int | None
    step: int | None
    steps: int | None
    created: float
    started: float | None
    finished: float | None
    error: Failure | None
    pictures: tuple[str, ...]
    removed: tuple[str, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, row: sqlite3.Row, position: int | None = None) -> "Job":
        """The job in a row of `SELECTED`."""
        made, shown = json.loads(row["made"]), json.loads(row["shown"])
        told: dict[str, Any] = {field.name: row[field.name] for field in fields(cls) if field.name in row.keys()}  # noqa: SIM118
        told |= {
            "request": Request.from_json(row["request"]),
            "group": row["group_name"],
            "see": bool(row["see"]),
            "shelf": bool(row["shelf"]),
            "position": position,
            "error": None if row["kind"] is None else Failure(row["kind"], row["message"]),
            "pictures": tuple(made),
            "removed": tuple(id for id in made if id not in shown),
            "notes": tuple(json.loads(row["notes"])),
        }
        return cls(**told)

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it unless it is asked for."""
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Event:
    """Something that happened to a job. number: of all events, growing; at: seconds since 1970; kind: a state, "step" or "note"."""

    number: int
    job: str
    at: float
    kind: str
    data: Mapping[str, Any]

    @classmethod
    def of(cls, row: sqlite3.Row) -> "Event":
        """The event in a row of its table."""
        return cls(row["number"], row["job"], row["at"], row["kind"], json.loads(row["data"]))


def seeded(request: Request) -> Request:
    """The request with the seeds that it leaves open drawn: whenever it is computed, and how often, it means the same pictures."""
    seed = secrets.randbits(32) if request.seed is None else request.seed
    varied = secrets.randbits(32) if request.variation and request.variation_seed is None else request.variation_seed
    return replace(request, seed=seed, variation_seed=varied)


def shape(request: Request, model: str | None) -> str:
    """The same for requests that may be computed together: of one model and, but for `OWN`, of the same settings."""
    shared: dict[str, Any] = {name: getattr(request, name) for name in FIELDS if name not in OWN}
    given = [getattr(request, name) is not None for name in ("label", *FILES)]
    return digest(model, shared, given)


def digest(*values: Any) -> str:
    """SHA-256 of values that JSON can write."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
