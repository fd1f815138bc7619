"""The engine: a queue that outlives it, its pictures, and a worker process for each device.

Any process may end at any time, by a signal that cannot be caught too: nothing that was acknowledged is lost or done twice, and the next
engine on the folder goes on where this one was.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self, Unpack

from sumi.engine.crew import Crew, Health
from sumi.engine.job import Event, Job, State, Terms
from sumi.engine.jobs import Jobs
from sumi.engine.results import Results
from sumi.engine.shelf import Gallery, Item, Shelf
from sumi.engine.uploads import Upload, Uploads
from sumi.engine.worker import QUEUE, Settings
from sumi.errors import EngineError, JobError, RequestError
from sumi.request import Request
from sumi.store.record import Record

LOCK = "lock"
MAKER = "sumi.engine.maker:Models"
LINGERS = 1.0
"""Seconds for which the lock of an engine that was killed may be held: by a worker that it was just starting."""
KEPT = 3600.0
"""Seconds for which a picture that was removed can be restored."""
TIDIED = 300.0
"""Seconds between two looks for such pictures."""

log = logging.getLogger("sumi.engine")


class Engine:
    """Computes jobs until it is closed; in a `with`, until the end of it. EngineError if the folder is another engine's or cannot be used.

    Args:
        folder: of its queue and pictures; made if there is none. One engine at a time.
        devices: a worker for each, by PyTorch's names; None: what is fastest here.
        precision: as `sumi.load` takes it.
        budget: bytes of weights that a worker may keep loaded. None: half of this machine's memory, shared among the workers.
        models: what jobs may be computed by, besides the model that comes with sumi: paths by name. No other path is opened.
        most: pictures in a batch.
        hang: seconds without a sign of life (a step, a picture) after which a worker that has jobs is killed.
        maker: what workers make pictures with: `module:class`, see `sumi.engine.making.Maker`.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        devices: Sequence[str | None] = (None,),
        precision: str | None = None,
        budget: int | None = None,
        models: Mapping[str, str | Path] | None = None,
        most: int = 16,
        hang: float = 600.0,
        maker: str = MAKER,
    ) -> None:
        self.folder = Path(folder)
        self.models = {name: _absolute(path) for name, path in (models or {}).items()}
        self._lock = _locked(self.folder)
        try:
            self.jobs, self.results, self.uploads = Jobs(self.folder / QUEUE), Results(self.folder), Uploads(self.folder)
            self.shelf = Gallery(self.jobs.database)
            self.jobs.database.check()
            self.jobs.recover()
            self.shelf.purge(time.time() - KEPT)
            self.results.sweep(self.shelf.pictures())
            self.uploads.sweep(self.jobs.uploads())
        except BaseException:
            self._lock.close()
            raise
        if budget is None and len(devices) > 1:
            budget = _memory() // 2 // len(devices)
        settings = Settings("", str(self.folder.resolve()), -1, None, precision, budget, self.models, maker, most)
        self.crew = Crew(self.jobs, settings, devices, hang)
        self._closing = threading.Event()
        self._tidier = threading.Thread(target=self._tidy, name="sumi-engine-tidy", daemon=True)
        self._tidier.start()

    # Jobs

    def submit(self, request: Request, **terms: Unpack[Terms]) -> Job:
        """Puts a request into the queue: when this returns, it is on the disk. As `Jobs.submit`, of what `taken` makes of it.

        RequestError for a model that the engine was not given.
        """
        if self._closing.is_set():
            raise EngineError("the engine is closing: ask again later")
        if (model := terms.get("model")) is not None and model not in self.models:
            raise RequestError(
                f"there is no model {model[:80]!a}: use {', '.join(self.models) or 'none, which is the one that comes with sumi'}"
            )
        job = self.jobs.submit(self.taken(request), **terms)
        self.crew.look()
        return job

    def get(self, id: str) -> Job:
        """As `Jobs.get`."""
        return self.jobs.get(id)

    def list(self, *, state: State | None = None, group: str | None = None, before: int | None = None, limit: int = 50) -> tuple[Job, ...]:
        """As `Jobs.list`."""
        return self.jobs.list(state=state, group=group, before=before, limit=limit)

    def cancel(self, id: str) -> Job:
        """As `Jobs.cancel`."""
        return self.jobs.cancel(id)

    def retry(self, id: str) -> Job:
        """As `Jobs.retry`."""
        job = self.jobs.retry(id)
        self.crew.look()
        return job

    def events(self, id: str | None = None, *, after: int = 0, wait: float = 0.0, limit: int = 1000) -> tuple[Event, ...]:
        """As `Jobs.events`."""
        return self.jobs.events(id, after=after, wait=wait, limit=limit)

    def preview(self, id: str) -> bytes | None:
        """A small PNG of what a running job will show; None if there is none yet, or no more."""
        return self.crew.preview(id)

    def story(self, job: str) -> bytes:
        """The HTML page that tells a job step by step. JobError if it has none: it was not asked for with `see`, or is not there (yet)."""
        found = self.jobs.get(job)
        if not (found.see and found.pictures):
            raise JobError("the job has no story: one that is asked for with see has, once it is done")
        return self.results.stories.read(self.shelf.item(found.pictures[0]).id)

    def health(self) -> tuple[Health, ...]:
        """Of each worker, by device."""
        return self.crew.health()

    # Pictures

    def picture(self, id: str) -> bytes:
        """The PNG of a picture, by its id. JobError if there is none, or it was removed."""
        return self.results.pictures.read(self.shelf.item(id).id)

    def thumbnail(self, id: str) -> bytes:
        """The same in small, as WebP. JobError as `picture`."""
        return self.results.thumbnails.read(self.shelf.item(id).id)

    def gallery(self, search: str = "", *, starred: bool = False, upto: int | None = None, offset: int = 0, limit: int = 100) -> Shelf:
        """As `Gallery.page`."""
        return self.shelf.page(search, starred=starred, upto=upto, offset=offset, limit=limit)

    def item(self, picture: str) -> Item:
        """As `Gallery.item`."""
        return self.shelf.item(picture)

    def star(self, picture: str, on: bool) -> Item:
        """As `Gallery.star`."""
        return self.shelf.star(picture, on)

    def remove(self, picture: str) -> None:
        """Takes a picture out of the gallery; for an hour it can be restored. JobError as `item`."""
        self.shelf.remove(picture)

    def restore(self, picture: str) -> Item:
        """As `Gallery.restore`."""
        return self.shelf.restore(picture)

    # Pictures to go by

    def upload(self, data: bytes) -> Upload:
        """Keeps the picture in a PNG, JPEG or WebP file, to go by. ImageError if it is none, OutputError if it cannot be written."""
        return self.uploads.take(data)

    def uploaded(self, id: str) -> bytes:
        """The PNG that was made of it. JobError if there is none."""
        return self.uploads.png(id)

    def upload_of(self, id: str) -> Upload:
        """What `upload` said of it. RequestError if there is none."""
        return self.uploads.of(id)

    def taken(self, request: Request) -> Request:
        """The request as `submit` takes it: by ids of uploads, those of data: URLs too. ImageError and RequestError if it cannot be."""
        return self.uploads.named(request)

    def read(self, data: bytes) -> Record:
        """What a PNG says of how it was made; pictures to go by that are none of an engine's are left out.

        ImageError if it is none or says nothing, RequestError if that cannot be followed.
        """
        return self.uploads.told(data)

    def close(self) -> None:
        """Ends the workers, within some seconds in any state; what they were at goes back into the queue, for the next engine."""
        if self._closing.is_set():
            return
        self._closing.set()
        self.uploads.close()
        self.crew.close()
        self._tidier.join()
        self.jobs.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _tidy(self) -> None:
        """Purges what can be restored no more, and pictures to go by that nobody went by."""
        while not self._closing.wait(TIDIED):
            try:
                self.results.remove(self.shelf.purge(time.time() - KEPT))
                self.uploads.sweep(self.jobs.uploads())
            except EngineError as error:  # of the disk, which may recover
                log.error("%s", error)


def _locked(folder: Path) -> IO[str]:
    """The open file that says that the folder is taken, for as long as it is open and the process lives. EngineError if it is already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK, "a", encoding="ascii")  # noqa: SIM115, closed by `close`
    except OSError as error:
        raise EngineError(f"{folder} cannot be used ({error.strerror}): choose another folder") from error
    until = time.monotonic() + LINGERS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError as error:
            if time.monotonic() > until:
                file.close()
                raise EngineError(f"{folder} is in use by another engine: end that one, or choose another folder") from error
            time.sleep(0.02)


def _absolute(path: str | Path) -> str:
    """A path as it is known from any folder; a name, or the id of a repository, as it is."""
    return os.path.abspath(path) if os.path.exists(path) else str(path)


def _memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
