"""Several requests computed in one batch, each picture from its own noise and told its own words: the same pictures as alone.

Requests go together whose networks are called alike: on latents of one size, at the same noise levels, by one sampler and one guidance,
told what has the same shape. Prompts, negative prompts, seeds, numbers and the pictures to go by are each their own.

Legend: B batch, C latent channels, h w latent height and width.
"""

from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.names import starts_bare
from sumi.diffusion.noise import Noise
from sumi.diffusion.samplers.step import NoiseAt, finish
from sumi.diffusion.samplers.step import Step as Sampled
from sumi.engine.job import OWN
from sumi.errors import ImageError, RequestError, SumiError
from sumi.events import Decoded, Encoded, Picture
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.models.placement import batch_size
from sumi.models.sampling import Told, sample
from sumi.models.watching import Watch
from sumi.request import Request
from sumi.resolve.defaults import guidance, options
from sumi.resolve.given import Kept
from sumi.running import Pass, Run, enough_memory, told
from sumi.store.composite import composite
from sumi.store.images import to_pil


@dataclass(frozen=True, eq=False)
class Advanced:
    """Step `index` of `total` is done, from 1. denoised: the latents [B C h w] that the model expects, of all pictures of the batch."""

    index: int
    total: int
    denoised: Float[Tensor, "B C h w"]


@dataclass(frozen=True)
class NotFinite:
    """The pictures of a request are spoiled: they hold numbers that are not finite, or nothing but black."""


Event: TypeAlias = Encoded | Advanced | Decoded | NotFinite | SumiError


@dataclass(frozen=True, eq=False)
class _Share:
    """The pictures that a request has in a batch, and where it stands among the requests."""

    place: int
    run: Run

    @property
    def images(self) -> range:
        return range(self.run.request.first, self.run.request.first + self.run.request.count)


@torch.inference_mode()
def together(
    model: LatentDiffusion, requests: Sequence[Request], wanted: Callable[[int], bool] = lambda place: True
) -> Iterator[tuple[tuple[int, ...], Event]]:
    """Makes the pictures of several requests, in as few batches as their shapes and the memory allow.

    Yields events, each with the places of the requests that it is of: Encoded of each; then, batch by batch, Advanced of all in it and, of
    each, one Decoded with all its pictures, or NotFinite. A request that the model cannot serve has a SumiError in the place of all this,
    and the others are made. `wanted`: whether a request still is; what nobody wants is not gone on with. MemoryError where there is not
    enough.
    """
    shares: list[_Share] = []
    for place, request in enumerate(requests):
        try:
            with memory(1):
                shares.append(_Share(place, Run.of(model, request)))
        except SumiError as error:
            yield (place,), error
        else:
            yield (place,), shares[-1].run.encoded
    for group in _groups(shares):
        with memory(len(group)):
            for places, event in _alone(group[0]) if len(group) == 1 else _batch(group):
                yield places, event
                if not any(wanted(share.place) for share in group):
                    break


@contextmanager
def memory(count: int) -> Iterator[None]:
    """Whatever PyTorch calls it if there is not enough: a MemoryError."""
    try:
        with enough_memory(count):
            yield
    except RequestError as error:
        if isinstance(error.__cause__, MemoryError | RuntimeError):
            raise MemoryError(str(error)) from error
        raise


def _groups(shares: Sequence[_Share]) -> Iterator[list[_Share]]:
    """What is computed together: requests alike, no more pictures than the memory holds; one that needs several batches is by itself."""
    alike: dict[Hashable, list[_Share]] = {}
    for share in shares:
        alike.setdefault(_kind(share.run), []).append(share)
    for group in alike.values():
        run, room = group[0].run, 0
        largest = (run.second or run.first).size
        most = batch_size(run.model.spec, *largest, run.model.unet.conv_in.weight)
        packed: list[list[_Share]] = []
        for share in group:
            if not packed or len(share.images) > room:
                packed.append([])
                room = most
            packed[-1].append(share)
            room -= len(share.images)
        yield from packed


def _kind(run: Run) -> Hashable:
    """What runs have to share to be computed together."""
    request, given = run.request, run.given
    blank: dict[str, Any] = {name: getattr(Request(), name) for name in OWN}
    stages = [stage for stage in (run.first, run.second) if stage is not None]
    told = tuple(_shapes(told) for stage in stages for told in stage.told)
    return replace(request, **blank), tuple(stage.size for stage in stages), told, given.latent is None, given.kept is None, _inputs(run)


def _shapes(told: Told) -> Hashable:
    """How the network is called with this, for one picture."""

    def shape(cond: Conditioning) -> Hashable:
        return tuple(None if slot is None else tuple(slot.shape) for slot in (cond.context, cond.concat, cond.vector))

    return tuple((weight, shape(cond)) for weight, cond in told.parts), shape(told.away)


def _inputs(run: Run) -> Hashable:
    """Which pictures it goes by. Of what size does not matter: all of them come to the request's, or are made to fit the network."""
    return tuple(name for name in OWN if name not in ("prompt", "negative") and getattr(run.request, name) is not None)


def _alone(share: _Share) -> Iterator[tuple[tuple[int, ...], Event]]:
    """A request by itself, as `sumi.pipeline.stream` makes it."""
    run, place, done = share.run, (share.place,), list[Picture]()
    batches = list(run.batches(run.request.count))
    steps = run.encoded.plan.steps
    try:
        for number, images in enumerate(batches):
            for event in run.batch(images):
                if isinstance(event, Decoded):
                    done += event.pictures
                else:
                    yield place, Advanced(number * steps + event.index, len(batches) * steps, event.denoised)
    except ImageError:  # its files were read before: this is of what the decoder made
        yield place, NotFinite()
    else:
        yield place, NotFinite() if black(run, done) else Decoded(tuple(done))


def _batch(group: Sequence[_Share]) -> Iterator[tuple[tuple[int, ...], Event]]:
    """Requests alike, as one batch: `Run.batch`, of several runs."""
    runs, sizes = [share.run for share in group], [len(share.images) for share in group]
    starts = [run.given.latent for run in runs]
    latents = yield from _latents(group, [run.first for run in runs], starts, 0)
    last = runs[0].first
    if (second := runs[0].second) is not None:
        larger = F.interpolate(last.model.decode(latents).clamp(-1, 1), second.size, mode="bicubic", antialias=True)
        starts = list(torch.split(second.model.latent(larger.clamp(-1, 1)), sizes))
        passes = [each for run in runs if (each := run.second) is not None]
        latents, last = (yield from _latents(group, passes, starts, last.plan.steps)), second
    decoded = last.model.decode(latents)
    for share, pixels, latent in zip(group, torch.split(decoded, sizes), torch.split(latents.cpu(), sizes), strict=True):
        pictures = _pictures(share, pixels, latent) if torch.isfinite(pixels).all() else []
        spoiled = not pictures or black(share.run, pictures)
        yield (share.place,), NotFinite() if spoiled else Decoded(tuple(pictures))


def _latents(
    group: Sequence[_Share], passes: Sequence[Pass], starts: Sequence[Tensor | None], done: int
) -> Generator[tuple[tuple[int, ...], Event], None, Float[Tensor, "B C h w"]]:
    """The steps of a pass after `done` others, and, returned, where they arrive: each request has its own of `passes` and `starts`."""
    first, run = passes[0], group[0].run
    model, request, total = first.model, first.request, run.encoded.plan.steps
    kept = None if run.given.kept is None or "mask" in model.spec.concat else _each(group)
    keep = None if kept is None else (torch.cat([each.latent for each in kept]), torch.cat([each.cells for each in kept]))
    begun = [start.expand(len(share.images), -1, -1, -1) for share, start in zip(group, starts, strict=True) if start is not None]
    assert request.sampler is not None
    steps = sample(
        model,
        _joined([_whole(share, stage) for share, stage in zip(group, passes, strict=True)]),
        guidance(request),
        request.sampler,
        first.sigmas,
        _drawn([share.run.noise(stage, share.images) for share, stage in zip(group, passes, strict=True)]),
        latent=torch.cat(begun) if begun else None,
        keep=keep,
        multiplier=request.noise_multiplier,
        bare=starts_bare(request.noise, request.sampler, request.spacing),
        watch=Watch(),
        **options(request),
    )
    last: Sampled
    for last in steps:
        yield tuple(share.place for share in group), Advanced(done + last.index + 1, total, last.denoised)
    found = finish(last.x, last.sigma)
    return found if keep is None else torch.where(keep[1] > 0, found, keep[0])


def _each(group: Sequence[_Share]) -> list[Kept]:
    """For each picture, what its request keeps."""
    return [found for share in group if (found := share.run.given.kept) is not None for _ in share.images]


def _whole(share: _Share, stage: Pass) -> Sequence[Told]:
    """What the pictures of a request are told, step by step, in words and beside them."""
    model, request, count = stage.model, stage.request, len(share.images)
    assert request.seed is not None
    own = Noise(request.seed, share.images, model.latent_shape(*stage.size), model.device)
    return told(Told.repeat(stage.told, count), *model.beside_words(share.run.given.inputs, own, stage.size), request)


def _joined(schedules: Sequence[Sequence[Told]]) -> list[Told]:
    """One batch of several, step by step; what is the same object throughout stays one."""
    many: dict[tuple[int, ...], Told] = {}
    joined = []
    for step in zip(*schedules, strict=True):
        if (key := tuple(map(id, step))) not in many:
            columns = zip(*(told.parts for told in step), strict=True)
            parts = tuple((column[0][0], _cat([cond for _, cond in column])) for column in columns)
            many[key] = Told(parts, _cat([told.away for told in step]))
        joined.append(many[key])
    return joined


def _cat(conditionings: Sequence[Conditioning]) -> Conditioning:
    first, *others = conditionings
    return first.cat(*others)


def _drawn(sources: Sequence[NoiseAt]) -> NoiseAt:
    """The noise of one batch of several: each draws for its own pictures."""
    return lambda step, draw=0: torch.cat([source(step, draw) for source in sources])


def _pictures(share: _Share, pixels: Float[Tensor, "B 3 H W"], latents: Float[Tensor, "B C h w"]) -> list[Picture]:
    run, made = share.run, to_pil(pixels)
    if (kept := run.given.kept) is not None:
        made = [composite(kept.picture, image, kept.mask) for image in made]
    record = replace(run.encoded.record, together=None)
    return [
        Picture(image, replace(record, request=replace(record.request, first=number, count=1)), latent)
        for image, number, latent in zip(made, share.images, latents, strict=True)
    ]


def black(run: Run, pictures: Sequence[Picture]) -> bool:
    """Whether one of the pictures is black all over, which no decoder means. Of a picture that was given, a black one may be left."""
    return run.given.kept is None and any(picture.image.getbbox() is None for picture in pictures)
