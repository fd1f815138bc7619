"""A request to pictures, as a stream of events: progress, preview and cancelling are the caller's `for` loop."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from sumi.diffusion.names import find, starts_bare
from sumi.diffusion.noise_sources import source
from sumi.diffusion.samplers.step import finish
from sumi.errors import ModelWarning, RequestError
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.models.placement import batch_size
from sumi.models.prompt import Notice
from sumi.models.sampling import Plan, Read, Reading, Told, plan, sample
from sumi.request import Request
from sumi.resolve import guidance, options, resolve, sigmas
from sumi.store.images import file_digest, fitted, from_pil, open_image, save_png, to_pil
from sumi.store.record import Record, read
from sumi.text.prompt import Script, literal, parse
from sumi.version import VERSION

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and what makes it again."""

    image: "Image"
    record: Record
    latent: Tensor
    """[C h w], float32."""

    @property
    def request(self) -> Request:
        """Of this picture alone: its `first` is the picture's number and its `count` is 1. Nothing in it is left open."""
        return self.record.request

    def save(self, path: str | Path) -> None:
        """Writes a PNG, whole or not at all, that carries the record (see `sumi.store.record`). OutputError if it cannot."""
        save_png(self.image, Path(path), self.record.texts())


@dataclass(frozen=True)
class Encoded:
    """The prompt is read. `request` has every default filled in; `plan` says what is to be done for each batch of pictures.

    `prompt` and `negative` say how each word was taken; `notices`, what the model could not take as it was meant.
    """

    request: Request
    plan: Plan
    prompt: tuple[Read, ...]
    negative: tuple[Read, ...]
    notices: tuple[Notice, ...]


@dataclass(frozen=True, eq=False)
class Step:
    """A sampling step is done: number `index` of `total`, from 1, for the pictures numbered `images`, which share a batch.

    `sigma` [] is the noise level of the state `x` [B C h w]; `denoised` [B C h w] is the latent that the model expects.
    """

    index: int
    total: int
    images: range
    sigma: Tensor
    x: Tensor
    denoised: Tensor


@dataclass(frozen=True)
class Decoded:
    """The pictures of one batch."""

    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Finished:
    """Every picture of the request, in order."""

    pictures: tuple[Picture, ...]


Event: TypeAlias = Encoded | Step | Decoded | Finished


@torch.inference_mode()
def stream(model: LatentDiffusion, request: Request) -> Iterator[Event]:
    """Makes the pictures of a request: Encoded; Steps and Decoded, a batch at a time; Finished.

    Runs no further than the caller asks. Which batch a picture is in changes nothing but float rounding, for its noise
    depends on the seed and its number alone. RequestError if the model cannot serve the request.
    """
    run = _Run.of(model, request)
    yield run.encoded
    done: list[Picture] = []
    for images in run.batches(run.request.count):
        for event in run.batch(images):
            yield event
            if isinstance(event, Decoded):
                done += event.pictures
    yield Finished(tuple(done))


def generate(model: LatentDiffusion, request: Request | None = None, **fields: Any) -> list[Picture]:
    """The pictures of a request, given whole or as its fields, or both: `fields` change it. RequestError as in `stream`."""
    request = replace(request or Request(), **fields)
    return [picture for event in stream(model, request) if isinstance(event, Decoded) for picture in event.pictures]


def again(model: LatentDiffusion, picture: Record | str | Path, **changes: Any) -> Picture:
    """The picture of a record, or of the file that carries one, bit for bit on the machine that made it; or with fields changed.

    As `repeat`; and ImageError for a file without a record.
    """
    record = picture if isinstance(picture, Record) else read(Path(picture))
    return next(event.pictures[0] for event in repeat(model, record, **changes) if isinstance(event, Decoded))


@torch.inference_mode()
def repeat(model: LatentDiffusion, record: Record, **changes: Any) -> Iterator[Event]:
    """Makes the picture of a record again, with some fields of its request changed: the events of `stream`.

    Pictures that were computed with it are computed again, as long as there is memory for as many: alone, its last bits could differ, and
    those of `illustrate`, which shared a batch with other prompts, may. ModelWarning if the record is of other weights, of another
    precision or of another device.
    """
    request = changed(record.request, **changes)
    alone = changes.keys() & {"first", "count"} or record.together is None
    first, count = (request.first, request.count) if alone or record.together is None else record.together
    run = _Run.of(model, replace(request, first=first, count=count))
    for name, kind in (("digest", "other weights"), ("precision", "another precision"), ("device", "another device")):
        if getattr(record, name) not in ("", getattr(run.circumstances, name)):
            warnings.warn(f"the picture was made with {kind} than {model.spec.name} has now", ModelWarning, stacklevel=2)
    yield run.encoded
    images = next(batch for batch in run.batches(count) if request.first in batch)
    for event in run.batch(images):
        if isinstance(event, Decoded):
            event = Decoded((event.pictures[request.first - images[0]],))
            yield event
            yield Finished(event.pictures)
        else:
            yield event


def changed(request: Request, **changes: Any) -> Request:
    """A resolved request with some fields changed, and what had been filled in for the old values left open again."""
    open_again: dict[str, tuple[str, ...]] = {
        "sampler": ("eta", "options"),
        "sigmas": ("steps", "spacing", "strength"),
        "steps": ("sigmas",),
        "spacing": ("sigmas",),
        "image": ("image_sha256",),
    }
    emptied: dict[str, Any] = {name: None for change in changes for name in open_again.get(change, ()) if name not in changes}
    named = find(changes["sampler"]) if isinstance(changes.get("sampler"), str) else None
    if named is not None and named.spacing is not None:
        emptied |= {"spacing": None, "sigmas": None}
    if (
        "cfg++" in (request.guidance_method, changes.get("guidance_method"))
        and len({request.guidance_method, changes.get("guidance_method")}) == 2
    ):
        emptied["guidance"] = None
    if "sigmas" in changes:
        emptied["exact"] = False
    if changes.get("variation") == 0:
        emptied["variation_seed"] = None
    return replace(request, **{**emptied, **changes})


@torch.inference_mode()
def illustrate(model: LatentDiffusion, prompts: Sequence[str], request: Request | None = None, **fields: Any) -> Iterator[Picture]:
    """A picture of each prompt, in order: picture `first + i` is of `prompts[i]`; `count` plays no part. RequestError as in `stream`.

    Prompts share a batch as long as each is one passage that fits the text encoder at once.
    """
    if not prompts:
        return
    run = _Run.of(model, replace(request or Request(), **fields, prompt=max(prompts, key=len), count=1))
    scripts = {prompt: _script(prompt, run.request) for prompt in prompts}
    for alike, group in groupby(enumerate(prompts, run.request.first), key=lambda item: run.fits_among_others(scripts[item[1]])):
        numbered = list(group)
        for images in run.batches(len(numbered), numbered[0][0], None if alike else 1):
            texts = [prompts[number - run.request.first] for number in images]
            for event in run.batch(images, texts, [scripts[text] for text in texts]):
                if isinstance(event, Decoded):
                    yield from event.pictures


@dataclass(frozen=True, eq=False)
class _Run:
    """A resolved request on a model, ready to be computed batch by batch."""

    model: LatentDiffusion
    request: Request
    sigmas: Tensor
    reading: Reading
    told: Sequence[Told]
    """Of one picture."""
    latent: Tensor | None
    """Of the picture to start from, [1 C h w]."""
    encoded: Encoded
    circumstances: Record

    @classmethod
    def of(cls, model: LatentDiffusion, request: Request) -> "_Run":
        """RequestError if the model cannot serve the request."""
        request = resolve(request, model.spec)
        request, latent = _started(model, request)
        size = _size(request)
        visited = sigmas(request, model.schedule)
        reading = Reading(
            model,
            [_script(request.prompt, request)],
            _script(request.negative, request, "negative"),
            size,
            emphasis=request.emphasis,
            clip_skip=request.clip_skip,
        )
        told = reading.told(len(visited) - 1)
        assert request.sampler is not None
        try:
            effort = plan(model, told, guidance(request), request.sampler, visited, size, **options(request))
        except ValueError as error:  # of the sampler, about its options
            raise RequestError(f"{error}: see `sumi samplers`") from error
        encoded = Encoded(
            request,
            effort,
            reading.words(len(visited) - 1),
            reading.words(len(visited) - 1, negative=True),
            reading.notices(len(visited) - 1),
        )
        record = Record(
            request,
            model=model.source,
            name=model.spec.name,
            digest=model.digest(),
            precision=str(model.dtype).removeprefix("torch."),
            device=model.device.type,
            version=VERSION,
        )
        return cls(model, request, visited, reading, told, latent, encoded, record)

    def batches(self, count: int, first: int | None = None, size: int | None = None) -> Iterator[range]:
        """The numbers of `count` pictures from `first` on, by default the request's, cut into batches."""
        if size is None and self.request.noise == "torch":  # one generator draws for all of them
            size = count
        size = size or batch_size(self.model.spec, *_size(self.request), self.model.unet.conv_in.weight)
        first = self.request.first if first is None else first
        numbers = range(first, first + count)
        return (numbers[at : at + size] for at in range(0, count, size))

    def fits_among_others(self, script: Script) -> bool:
        """Whether pictures of this and of other such prompts can be computed together."""
        steps = len(self.sigmas) - 1
        return replace(self.reading, scripts=[script]).is_plain(steps)

    def batch(
        self, images: range, prompts: Sequence[str] | None = None, scripts: Sequence[Script] | None = None
    ) -> Iterator[Step | Decoded]:
        """Samples and decodes the pictures numbered `images`: all of the request's prompt, or each of its own."""
        model, request, count = self.model, self.request, len(images)
        assert request.seed is not None and request.sampler is not None
        noise = source(
            request.noise,
            request.seed,
            images,
            max(images.stop, request.first + request.count),
            model.latent_shape(*_size(request)),
            model.device,
            variation=request.variation,
            variation_seed=request.variation_seed,
        )
        told = Told.repeat(self.told, count) if scripts is None else replace(self.reading, scripts=scripts).told(len(self.sigmas) - 1)
        latent = None if self.latent is None else self.latent.expand(count, -1, -1, -1)
        bare = starts_bare(request.noise, request.sampler, request.spacing)
        steps = sample(model, told, guidance(request), request.sampler, self.sigmas, noise, latent=latent, bare=bare, **options(request))
        with _enough_memory(count):
            for step in steps:
                yield Step(step.index + 1, self.encoded.plan.steps, images, step.sigma, step.x, step.denoised)
            latents = finish(step.x, step.sigma)
            pixels = model.decode(latents)
        decoded = zip(to_pil(pixels), prompts or [request.prompt] * count, images, latents.cpu(), strict=True)
        together = (images[0], count) if scripts is None else None
        yield Decoded(
            tuple(
                Picture(image, replace(self.circumstances, request=replace(request, prompt=p, first=number, count=1), together=together), z)
                for image, p, number, z in decoded
            )
        )


@contextmanager
def _enough_memory(count: int) -> Iterator[None]:
    """Whatever PyTorch calls it if there is not: a RequestError."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError) and "allocate" not in str(error):
            raise
        fewer = ", fewer" if count > 1 else ""
        raise RequestError(f"there is not enough memory for that: ask for smaller{fewer} pictures, or another precision") from error


def _started(model: LatentDiffusion, request: Request) -> tuple[Request, Tensor | None]:
    """The latent [1 C h w] of the picture to start from, and the request with that picture's digest. RequestError if it is another."""
    if request.image is None:
        return request, None
    path = Path(request.image)
    image, digest = open_image(path), file_digest(path)
    if request.image_sha256 not in (None, digest):
        raise RequestError(f"{path} is not the picture that it was: its SHA-256 is {digest[:12]}..., not {request.image_sha256[:12]!r}...")
    pixels = from_pil([fitted(image, _size(request))])
    return replace(request, image_sha256=digest), model.latent(pixels)


def _script(text: str, request: Request, name: str = "prompt") -> Script:
    return literal(text) if request.emphasis == "off" else parse(text, name)


def _size(request: Request) -> tuple[int, int]:
    """Height and width of a resolved request."""
    assert request.height is not None and request.width is not None
    return request.height, request.width
