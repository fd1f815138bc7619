"""A request that is to be seen: computed by itself while all of it is recorded, and the page that tells it step by step."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path

import torch

from sumi.engine.batching import Advanced, Event, NotFinite, black, memory
from sumi.engine.making import Telling
from sumi.errors import ImageError, SumiError
from sumi.events import Decoded, Encoded, Step
from sumi.explain.page import save_page
from sumi.explain.recorder import recorded
from sumi.explain.recording import Recording
from sumi.explain.seeing import Eye
from sumi.explain.telling import story
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.request import Request
from sumi.running import Run


@torch.inference_mode()
def seen(model: LatentDiffusion, request: Request, record: Path) -> Generator[tuple[tuple[int, ...], Event], None, None]:
    """The events of `sumi.engine.batching.together`, of one request for one picture, while its record is written to a path.

    Words are watched in every layer, where there are any; in windows they are not to be seen. MemoryError where there is not enough.
    """
    watched = model.prompt is not None and request.tile is None
    try:
        with memory(1):
            run = Run.of(model, request, attention=["all"] if watched else [])
            with closing(recorded(chain([run.encoded], run.batch(range(request.first, request.first + 1))), record)) as events:
                yield from _told(run, events)
    except SumiError as error:
        yield (0,), error


def _told(run: Run, events: Iterator[object]) -> Iterator[tuple[tuple[int, ...], Event]]:
    made: Event = NotFinite()
    try:
        for event in events:
            match event:
                case Encoded():
                    yield (0,), event
                case Step():
                    yield (0,), Advanced(event.index, event.total, event.denoised)
                case Decoded(pictures) if not black(run, pictures):
                    made = event
    except ImageError:  # its files were read before: this is of what the decoder made
        made = NotFinite()
    yield (0,), made


def tell(model: LatentDiffusion, record: Path, path: Path, say: Telling) -> None:
    """Writes the page of a record. Told to `say` as what comes after the steps themselves, of which there are as many."""
    save_page(story(Recording(record), Eye.of(model), say=lambda done, steps: say(steps + done, 2 * steps)), path)


@contextmanager
def passing(path: Path) -> Iterator[None]:
    """Takes a file away at the end."""
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
