"""What the native routes answer: the schema that /openapi.json tells."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sumi.engine.job import Job, State
from sumi.engine.shelf import Item


class Reply(BaseModel):
    """Frozen, and of nothing but its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Problem(Reply):
    """What was wrong, and what to do. code: one word, for programs; param: the field that it is about."""

    message: str
    type: str
    param: str | None
    code: str


class Problems(Reply):
    """Any reply of a status from 400 on."""

    error: Problem
    detail: str


class Why(Reply):
    """Why a job failed."""

    code: str
    message: str


class Made(Reply):
    """A picture of a job. seed, first: of the request that makes it again; a seed is a text, for it may be beyond 2^53."""

    id: str
    url: str
    thumbnail: str
    seed: str
    first: int


class JobReply(Reply):
    """A job as it is now. Times are seconds since 1970; eta is seconds that it has still to go."""

    id: str
    number: int
    state: State
    request: dict[str, Any]
    seed: str
    model: str | None
    priority: int
    group: str | None
    see: bool
    shelf: bool
    position: int | None
    step: int | None
    steps: int | None
    eta: float | None
    created: float
    started: float | None
    finished: float | None
    error: Why | None
    pictures: list[Made]
    notes: list[str]
    story: str | None

    @classmethod
    def of(cls, job: Job, eta: float | None = None) -> "JobReply":
        """What is told of a job."""
        asked = job.request
        pictures = [
            Made(id=id, url=picture(id), thumbnail=f"{picture(id)}/thumbnail", seed=str(asked.seed), first=asked.first + place)
            for place, id in enumerate(job.pictures)
            if id not in job.removed
        ]
        return cls(
            id=job.id,
            number=job.number,
            state=job.state,
            request=asked.to_dict(),
            seed=str(asked.seed),
            model=job.model,
            priority=job.priority,
            group=job.group,
            see=job.see,
            shelf=job.shelf,
            position=job.position,
            step=job.step,
            steps=job.steps,
            eta=eta if job.state == "running" else None,
            created=job.created,
            started=job.started,
            finished=job.finished,
            error=None if job.error is None else Why(code=job.error.kind, message=job.error.message),
            pictures=pictures,
            notes=list(job.notes),
            story=f"/v1/jobs/{job.id}/story" if job.see and job.state == "done" else None,
        )


class JobList(Reply):
    """Jobs, the youngest first; next: what to ask for as `before` to go on, if there may be more."""

    jobs: list[JobReply]
    next: int | None


class ItemReply(Reply):
    """A picture in the gallery. number: its age; at: when it was made, in seconds since 1970."""

    number: int
    id: str
    job: str
    at: float
    width: int
    height: int
    starred: bool
    prompt: str
    seed: str
    model: str | None
    url: str
    thumbnail: str

    @classmethod
    def of(cls, item: Item) -> "ItemReply":
        """What is told of a picture."""
        return cls(
            number=item.number,
            id=item.id,
            job=item.job,
            at=item.at,
            width=item.width,
            height=item.height,
            starred=item.starred,
            prompt=item.prompt,
            seed=str(item.seed),
            model=item.model,
            url=picture(item.id),
            thumbnail=f"{picture(item.id)}/thumbnail",
        )


class Shelves(Reply):
    """Part of the gallery, the newest first. total: of all that were found; upto: to be given with the next offset."""

    total: int
    upto: int
    items: list[ItemReply]


class Info(ItemReply):
    """A picture, with the request that makes it again and the text that A1111 writes into its pictures."""

    request: dict[str, Any]
    parameters: str


class UploadReply(Reply):
    """A picture to go by. id: what fields of a request take."""

    id: str
    width: int
    height: int
    url: str


class Settings(Reply):
    """How a picture was made, as far as it tells. model: what it calls it; program: whose text it is, sumi or a1111."""

    request: dict[str, Any]
    model: str | None
    program: str


class WorkerReply(Reply):
    """A process that makes pictures."""

    device: str | None
    alive: bool
    busy: bool


class Status(Reply):
    """What the server is about, and how much may be asked of it."""

    version: str
    name: str = "sumi"
    queue: dict[str, int]
    workers: list[WorkerReply]
    limits: dict[str, int]


class Health(Reply):
    """Whether pictures can be made."""

    status: str = Field(examples=["ok"])


def picture(id: str) -> str:
    """Where a picture is."""
    return f"/v1/pictures/{id}"
