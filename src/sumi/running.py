"""A request on a model, ready to be computed batch by batch."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.guidance import three_way
from sumi.diffusion.names import starts_bare
from sumi.diffusion.noise import Noise
from sumi.diffusion.noise_sources import source
from sumi.diffusion.samplers.step import NoiseAt, finish
from sumi.diffusion.samplers.step import Step as Sampled
from sumi.errors import RequestError
from sumi.events import Decoded, Encoded, Picture, Step
from sumi.models.latent_diffusion import Inputs, LatentDiffusion
from sumi.models.placement import batch_size
from sumi.models.sampling import Plan, Reading, Told, plan, sample
from sumi.models.spoken import Speech
from sumi.models.watching import Watch
from sumi.models.weakened import level, watched_layers
from sumi.request import FILES, Request
from sumi.resolve.defaults import guidance, options, sigmas
from sumi.resolve.given import Given, adapted, given
from sumi.store.composite import composite
from sumi.store.images import to_pil
from sumi.store.record import Record
from sumi.text.prompt import Script, literal, parse
from sumi.version import VERSION

SECOND = 2**33
"""Added to the numbers of a picture's draws in its second, larger pass: no sampler reaches it in the first."""
LONGEST_KEPT = 100_000
"""Characters of a data: URL that a picture's file carries; a longer one has to be given again."""

Texts: TypeAlias = Sequence[str]


@dataclass(frozen=True, eq=False)
class Pass:
    """One way from noise to a latent.

    model: as the request wants it to be run. request: what of it is in force. size: height and width, in pixels. told: of one picture, in
    words, step by step.
    """

    model: LatentDiffusion
    request: Request
    size: tuple[int, int]
    sigmas: Float[Tensor, " N"]
    reading: Reading
    told: Sequence[Told]
    plan: Plan

    @classmethod
    def of(cls, model: LatentDiffusion, request: Request, inputs: Inputs) -> "Pass":
        """RequestError if the model cannot serve the request."""
        size, visited = _size(request), sigmas(request, model.schedule)
        model = adapted(model, request, size)
        scripts = [script(request.prompt, request)], script(request.negative, request, "negative")
        reading = Reading(model, *scripts, size, emphasis=request.emphasis, clip_skip=request.clip_skip)
        told = reading.told(len(visited) - 1)
        assert request.sampler is not None
        try:
            outlined = _outlined(model, told, request, inputs)
            effort = plan(model, outlined, guidance(request), request.sampler, visited, size, **options(request))
        except ValueError as error:  # of the sampler, about its options
            raise RequestError(f"{error}: see `sumi samplers`") from error
        return cls(model, request, size, visited, reading, told, effort)

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def speech(self) -> Speech:
        """Its prompt, word by word."""
        return Speech(self.model.prompt, self.reading.words(self.steps))

    @property
    def cells(self) -> tuple[int, int]:
        """Height and width of the latent."""
        _, height, width = self.model.latent_shape(*self.size)
        return height, width


@dataclass(frozen=True, eq=False)
class Run:
    """All that is known before anything is computed."""

    model: LatentDiffusion
    given: Given
    first: Pass
    second: Pass | None
    encoded: Encoded

    @classmethod
    def of(cls, model: LatentDiffusion, request: Request, inputs: Inputs | None = None, attention: Sequence[str] = ()) -> "Run":
        """RequestError if the model cannot serve the request. `inputs` take the place of its files'."""
        found = given(model, request, inputs)
        request = found.request
        first = Pass.of(model, request, found.inputs[:1])
        second = None if request.hires is None else Pass.of(model, _larger(request, model), found.inputs[:1])
        passes = [each for each in (first, second) if each is not None]
        if attention and model.prompt is None:
            raise RequestError(f"{model.spec.name} takes no words, so there is no attention to see: leave attention out")
        if attention and request.tile is not None:
            raise RequestError("attention is not to be seen in a picture that is drawn in windows: leave tile out, or attention")
        record = Record(
            _storable(request),
            model=model.source,
            name=model.spec.name,
            digest=model.digest(),
            precision=str(model.dtype).removeprefix("torch."),
            device=model.device.type,
            version=VERSION,
        )
        encoded = Encoded(
            request,
            sum((each.plan for each in passes[1:]), passes[0].plan),
            first.reading.words(first.steps),
            first.reading.words(first.steps, negative=True),
            (*found.told, *first.reading.notices(first.steps)),
            record,
            tuple(model.latent_shape(*each.size) for each in passes for _ in each.plan.places),
            tuple(each.speech.tokens(place) for each in passes for place in each.plan.places),
            {layer: level(model.spec.unet, layer) for layer in watched_layers(model.unet, attention)},
        )
        return cls(model, found, first, second, encoded)

    @property
    def request(self) -> Request:
        return self.given.request

    def batches(self, count: int, first: int | None = None, size: int | None = None) -> Iterator[range]:
        """The numbers of `count` pictures from `first` on, by default the request's, cut into batches."""
        if size is None and self.request.noise == "torch":  # one generator draws for all of them
            size = count
        largest = (self.second or self.first).size
        size = size or batch_size(self.model.spec, *largest, self.model.unet.conv_in.weight)
        first = self.request.first if first is None else first
        numbers = range(first, first + count)
        return (numbers[at : at + size] for at in range(0, count, size))

    def fits_among_others(self, script: Script) -> bool:
        """Whether pictures of this and of other such prompts can be computed together."""
        return replace(self.first.reading, scripts=[script]).is_plain(self.first.steps)

    def batch(self, images: range, prompts: Texts | None = None, scripts: Sequence[Script] | None = None) -> Iterator[Step | Decoded]:
        """Samples and decodes the pictures numbered `images`: all of the request's prompt, or each of its own."""
        request, count = self.request, len(images)
        inputs = self.given.inputs
        if scripts is not None and inputs.count > 1:
            inputs = inputs[slice(images[0] - request.first, images[-1] + 1 - request.first)]
        with enough_memory(count):
            latents = yield from self._latents(self.first, images, scripts, inputs, self.given.latent, 0)
            if self.second is not None:
                larger = F.interpolate(self.first.model.decode(latents).clamp(-1, 1), self.second.size, mode="bicubic", antialias=True)
                started = self.second.model.latent(larger.clamp(-1, 1))
                latents = yield from self._latents(self.second, images, scripts, inputs, started, self.first.plan.steps)
            made = to_pil((self.second or self.first).model.decode(latents))
        if (kept := self.given.kept) is not None:
            made = [composite(kept.picture, image, kept.mask) for image in made]
        decoded = zip(made, prompts or [request.prompt] * count, images, latents.cpu(), strict=True)
        record = replace(self.encoded.record, together=(images[0], count) if scripts is None else None)
        yield Decoded(
            tuple(
                Picture(image, replace(record, request=replace(record.request, prompt=prompt, first=number, count=1)), latent)
                for image, prompt, number, latent in decoded
            )
        )

    def _latents(
        self, stage: Pass, images: range, scripts: Sequence[Script] | None, inputs: Inputs, latent: Tensor | None, done: int
    ) -> Generator[Step, None, Tensor]:
        """The steps of a pass after `done` others, and, returned, where they arrive: [B C h w]."""
        model, request, count = stage.model, stage.request, len(images)
        noise = self.noise(stage, images)
        in_words = Told.repeat(stage.told, count) if scripts is None else replace(stage.reading, scripts=scripts).told(stage.steps)
        # What is drawn for a picture's channels is of sumi's own noise, whatever its sampling starts from.
        assert request.seed is not None and request.sampler is not None
        own = Noise(request.seed, images, model.latent_shape(*stage.size), model.device)
        schedule = told(in_words, *model.beside_words(inputs, own, stage.size), request)
        bare = starts_bare(request.noise, request.sampler, request.spacing)
        kept = self.given.kept if "mask" not in model.spec.concat else None
        watch = Watch(tuple(self.encoded.layers))
        steps = sample(
            model,
            schedule,
            guidance(request),
            request.sampler,
            stage.sigmas,
            noise,
            latent=None if latent is None else latent.expand(count, -1, -1, -1),
            keep=None if kept is None else (kept.latent, kept.cells),
            multiplier=request.noise_multiplier,
            bare=bare,
            watch=watch,
            **options(request),
        )
        speech = stage.speech
        last: Sampled
        for last in steps:
            seen = watch.taken()
            yield Step(
                done + last.index + 1,
                self.encoded.plan.steps,
                images,
                last.sigma,
                last.x,
                last.denoised,
                seen.evaluation,
                float(model.schedule.t(seen.evaluation.sigma)),
                speech.spoken(seen.place),
                speech.looks(seen.place, seen.attention, stage.cells),
            )
        found = finish(last.x, last.sigma)
        return found if kept is None else torch.where(kept.cells > 0, found, kept.latent)

    def noise(self, stage: Pass, images: range) -> NoiseAt:
        """What is drawn for the pictures numbered `images` on one of the ways to them."""
        request = stage.request
        assert request.seed is not None
        drawn = source(
            request.noise,
            request.seed,
            images,
            max(images.stop, request.first + request.count),
            self.model.latent_shape(*stage.size),
            self.model.device,
            variation=request.variation,
            variation_seed=request.variation_seed,
        )
        if stage is self.first or request.noise != "native":
            return drawn
        return lambda step, draw=0: drawn(step + SECOND, draw)


def script(text: str, request: Request, name: str = "prompt") -> Script:
    """A prompt as a request reads it."""
    return literal(text) if request.emphasis == "off" else parse(text, name)


def told(schedule: Sequence[Told], given: Conditioning, away: Conditioning, request: Request) -> Sequence[Told]:
    """What the network is told beside words, added to the words of every step; equal entries stay the same object."""
    if given.equals(Conditioning()):
        return schedule
    by_picture = request.image_guidance
    many: dict[int, Told] = {}
    for each in schedule:
        if id(each) in many:
            continue
        parts = [(weight, cond.followed(given)) for weight, cond in each.parts]
        if by_picture is None:
            many[id(each)] = Told(tuple(parts), each.away.followed(away))
            continue
        assert given.concat is not None and request.guidance is not None
        composed = three_way(parts, each.away.followed(given), request.guidance, by_picture)
        many[id(each)] = Told(tuple(composed), each.away.followed(replace(away, concat=torch.zeros_like(given.concat))))
    return [many[id(each)] for each in schedule]


def _outlined(model: LatentDiffusion, schedule: Sequence[Told], request: Request, inputs: Inputs) -> Sequence[Told]:
    """What one picture is told, for counting: as it will be but for its channels, which would take long and do not matter."""
    outline = replace(model, spec=replace(model.spec, concat=()))
    assert request.seed is not None
    noise = Noise(request.seed, [request.first], model.latent_shape(*_size(request)), model.device)
    given, away = outline.beside_words(inputs, noise, _size(request))
    if request.image_guidance is not None:
        channel = torch.ones(1, 1, *noise.shape[1:], device=model.device)
        given, away = replace(given, concat=channel), replace(away, concat=channel)
    return told(schedule, given, away, request)


def _larger(request: Request, model: LatentDiffusion) -> Request:
    """The second pass of a request, as if it were one of its own, with a picture to start from."""
    assert request.hires is not None and request.height is not None and request.width is not None
    multiple = model.spec.multiple
    height, width = (round(side * request.hires / multiple) * multiple for side in (request.height, request.width))
    return replace(
        request,
        height=height,
        width=width,
        steps=request.hires_steps,
        strength=request.hires_strength,
        exact=False,
        sigmas=None,
        spacing=request.spacing or model.spec.spacing,
        noise_multiplier=1.0,
    )


def _storable(request: Request) -> Request:
    """Without the pictures that are in the request itself, where they are large."""
    long: dict[str, Any] = {name: "data:" for name in FILES if len(getattr(request, name) or "") > LONGEST_KEPT}
    return replace(request, **long)


def _size(request: Request) -> tuple[int, int]:
    """Height and width of a resolved request."""
    assert request.height is not None and request.width is not None
    return request.height, request.width


@contextmanager
def enough_memory(count: int) -> Iterator[None]:
    """Whatever PyTorch calls it if there is not: a RequestError."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError) and "allocate" not in str(error):
            raise
        fewer = ", fewer" if count > 1 else ""
        raise RequestError(f"there is not enough memory for that: ask for smaller{fewer} pictures, or another precision") from error
