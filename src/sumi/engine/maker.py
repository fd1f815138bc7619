"""What a worker makes pictures with: sumi's models on one device. The part of the engine that needs torch."""

import gc
import itertools
import os
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sumi.engine.batching import Advanced, Event, NotFinite, together
from sumi.engine.cache import Cache
from sumi.engine.files import UNFINISHED
from sumi.engine.job import Failure, Job
from sumi.engine.making import Drawn, Happening, Made, Moment, Note, Refused, Spoiled, Story
from sumi.engine.results import STORIES
from sumi.engine.seeing import passing, seen, tell
from sumi.errors import SumiError
from sumi.events import Decoded, Encoded, Picture
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.models.preview import Preview
from sumi.store.assembly import load
from sumi.store.images import png_bytes, thumbnail

PREVIEWED, SHARE, SELDOM = 0.1, 0.01, 0.5
"""Seconds between two looks at what comes out, at least; what share of the time they may take; and seconds between two, at most."""
THUMBNAIL = 256
"""Pixels of a small picture's longer side, at most."""


class Models:
    """The maker of a worker: models by name, kept loaded.

    device, precision: as `sumi.store.assembly.load` takes them. budget: bytes of weights that may stay loaded; None: half of this
    machine's memory. models: the paths of the names that jobs may give; None as a name is the model that comes with sumi.
    """

    def __init__(self, device: str | None, precision: str | None, budget: int | None, models: Mapping[str, str]) -> None:
        self.device, self.precision, self.models = device, precision, models
        self.cache = Cache(self._load, lambda loaded: weight(loaded.model), _half() if budget is None else budget)

    def make(self, jobs: Sequence[Job], precision: str | None, wanted: Callable[[int], bool]) -> Generator[Happening, None, None]:
        """As `Maker`. A job that is spoiled in float32 already fails."""
        try:
            loaded = self.cache((jobs[0].model, precision or self.precision))
        except SumiError as error:
            yield from (Refused(place, Failure.of(error)) for place in range(len(jobs)))
            return
        if jobs[0].see:
            path = Path(STORIES) / f"{UNFINISHED}{uuid.uuid4().hex}.safetensors"
            with passing(path), closing(seen(loaded.model, jobs[0].request, path)) as events:
                yield from self._told(loaded, jobs, events, partial(tell, loaded.model, path))
        else:
            yield from self._told(loaded, jobs, together(loaded.model, [job.request for job in jobs], wanted))

    def _told(
        self, loaded: "_Loaded", jobs: Sequence[Job], events: Iterator[tuple[tuple[int, ...], Event]], story: Story | None = None
    ) -> Iterator[Happening]:
        """What happens, of the events of a model. A story is told after the steps, one by one, so it counts as many."""
        times = 1 if story is None else 2
        # The rows of a batch are the pictures of its jobs, in order.
        counts, due = [job.request.count for job in jobs], 0.0
        for places, event in events:
            match event:
                case Encoded():
                    yield from (Note(places[0], str(notice)) for notice in event.notices)
                    yield Moment(places, 0, times * event.plan.steps)
                case Advanced():
                    previews: dict[int, bytes] = {}
                    if (begun := time.monotonic()) >= due:
                        rows = itertools.accumulate((counts[place] for place in places[:-1]), initial=0)
                        previews = {place: loaded.preview(event.denoised[row]) for place, row in zip(places, rows, strict=True)}
                        spent = time.monotonic() - begun
                        due = time.monotonic() + min(max(PREVIEWED, spent / SHARE), SELDOM)
                    yield Moment(places, event.index, times * event.total, previews)
                case Decoded():
                    yield Made(places[0], tuple(map(_drawn, event.pictures)), story)
                case NotFinite() if loaded.model.dtype == torch.float32:
                    said = "the picture holds numbers that are not finite, or is black, in float32 too: ask for less guidance"
                    yield Refused(places[0], Failure("nan", said))
                case NotFinite():
                    yield Spoiled(places[0])
                case SumiError():
                    yield Refused(places[0], Failure.of(event))

    def free(self) -> None:
        """Gives back what memory is not in use."""
        gc.collect()

    def _load(self, key: tuple[str | None, str | None]) -> "_Loaded":
        name, precision = key
        model = load(None if name is None else self.models[name], device=self.device, precision=precision)
        # Pictures tell it by the name that was asked for, and not where it lies.
        return _Loaded.of(replace(model, source=name))


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A model, and the colours of its previews, which are fitted to it."""

    model: LatentDiffusion
    colours: Preview

    @classmethod
    def of(cls, model: LatentDiffusion) -> "_Loaded":
        return cls(model, Preview.of(model.autoencoder))

    def preview(self, latent: Tensor) -> bytes:
        """A PNG of a latent [C h w], a pixel for each cell."""
        colours = self.colours(latent[None])[0]
        pixels = ((colours.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(0, -1)
        return png_bytes(np.ascontiguousarray(pixels.cpu().numpy()))


def _drawn(picture: Picture) -> Drawn:
    width, height = picture.image.size
    return Drawn(width, height, picture.save, lambda path: path.write_bytes(thumbnail(picture.image, THUMBNAIL)))


def weight(model: LatentDiffusion) -> int:
    """Bytes that the weights of a model take."""
    readers, reader = list[nn.Module](), model.prompt
    while reader is not None:
        readers.append(reader.encoder)
        reader = reader.second
    networks = (model.unet, model.autoencoder, *readers, *(() if model.vision is None else (model.vision,)))
    return sum(each.numel() * each.element_size() for network in networks for each in network.parameters())


def _half() -> int:
    """Half of this machine's memory, in bytes; 8 GiB where that is not to be known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return 8 << 30
