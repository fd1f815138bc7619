"""The reverse process of a batch: words, noise, guidance and a sampler put together; and what it takes, known beforehand.

Legend: B batch, C latent channels, h w latent height and width.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.denoiser import Denoiser, Network
from sumi.diffusion.guidance import Denoise, Guidance, guide
from sumi.diffusion.inpainting import keeping
from sumi.diffusion.samplers.step import NoiseAt, Step, start
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.errors import PromptError
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.models.prompt import Emphasis, Notice
from sumi.models.watching import Watch
from sumi.models.weakened import attending, perturbed, skipped
from sumi.text.prompt import Passage, Script
from sumi.text.words import Word


@dataclass(frozen=True)
class Plan:
    """What a run takes.

    steps: of the sampler; calls: times that the network is run for a batch; samples: the noised latents that it is given in them
    for each picture, two a call where guidance compares two predictions.
    """

    steps: int
    calls: int
    samples: int
    places: tuple[int, ...] = field(default=(), compare=False, repr=False)
    """Where each step begins in the sequence of noise levels, from 0: some samplers go back on the way."""

    def __add__(self, other: "Plan") -> "Plan":
        """One after the other."""
        return Plan(self.steps + other.steps, self.calls + other.calls, self.samples + other.samples, self.places + other.places)


@dataclass(frozen=True)
class Read:
    """How part of a prompt was taken: its words, from the first of the steps on, composed with other parts by its weight."""

    steps: range
    weight: float
    words: tuple[Word, ...]


@dataclass(frozen=True, eq=False)
class Told:
    """What the network is told of a batch at one step: parts to be composed, each with its weight, and what guidance leads away from."""

    parts: tuple[tuple[float, Conditioning], ...]
    away: Conditioning

    def to(self, device: torch.device) -> "Told":
        """The same on another device."""
        return Told(tuple((weight, cond.to(device)) for weight, cond in self.parts), self.away.to(device))

    @staticmethod
    def repeat(schedule: Sequence["Told"], count: int) -> list["Told"]:
        """The same for a batch of `count` pictures instead of one, step by step; what is the same object stays one."""
        many = {id(told): Told(tuple((w, c.repeat(count)) for w, c in told.parts), told.away.repeat(count)) for told in schedule}
        return [many[id(told)] for told in schedule]


@dataclass(frozen=True, eq=False)
class Reading:
    """What pictures are told, step by step: prompts may change on the way.

    scripts: a picture's prompt each; negative: what all of them lead away from; size: of the pictures, (height, width) in pixels.
    """

    model: LatentDiffusion
    scripts: Sequence[Script]
    negative: Script
    size: tuple[int, int]
    emphasis: Emphasis = "mean"
    clip_skip: int = 1

    def told(self, steps: int) -> list[Told]:
        """For each of `steps` steps; equal ones are the same object. PromptError for what cannot be composed."""
        encoded = cache(self._encoded)
        found: dict[object, Told] = {}
        schedule = []
        for step in range(steps):
            rows, (away, *others) = [script.at(step, steps) for script in self.scripts], self.negative.at(step, steps)
            if others:
                raise PromptError("AND composes what a picture shows, not what guidance leads away from: write a comma there")
            state = (tuple(rows), away)
            if state not in found:
                if len({tuple(part.weight for part in row) for row in rows}) > 1:
                    raise PromptError("prompts of different parts cannot be read together: draw each alone")
                columns = list(zip(*rows, strict=True))
                parts = tuple((column[0].weight, _together([encoded(part.passage, False) for part in column])) for column in columns)
                found[state] = Told(parts, encoded(away.passage, True).repeat(len(rows)))
            schedule.append(found[state])
        return schedule

    def words(self, steps: int, *, negative: bool = False) -> tuple[Read, ...]:
        """How each word of the first script, or of the negative one, is taken, and when."""
        script, prompt = self.negative if negative else self.scripts[0], self.model.prompt
        if prompt is None:
            return ()
        stretches = [
            (state, [step for step, _ in group])
            for state, group in groupby(((step, script.at(step, steps)) for step in range(steps)), key=lambda item: item[1])
        ]
        return tuple(Read(range(at[0], at[-1] + 1), part.weight, prompt.words(part.passage)) for state, at in stretches for part in state)

    def notices(self, steps: int) -> tuple[Notice, ...]:
        """What of any of the prompts, at any step, is lost on the model, each said once."""
        prompt = self.model.prompt
        if prompt is None:
            return ()
        parts = (part for script in (*self.scripts, self.negative) for step in range(steps) for part in script.at(step, steps))
        passages = dict.fromkeys(part.passage for part in parts)
        return tuple(dict.fromkeys(notice for passage in passages for notice in prompt.notices(passage)))

    def is_plain(self, steps: int) -> bool:
        """Whether every prompt is one passage throughout that the text encoder reads at once: then any of them share a batch."""
        prompt = self.model.prompt
        states = [{script.at(step, steps) for step in range(steps)} for script in self.scripts]
        return prompt is None or all(
            len(found) == 1 and len(parts) == 1 and parts[0].weight == 1 and len(prompt.chunks(parts[0].passage)) == 1
            for found in states
            for parts in found
        )

    def _encoded(self, passage: Passage, away: bool) -> Conditioning:
        return self.model.encode([passage], self.size, away=away, emphasis=self.emphasis, skip=self.clip_skip)


def _together(conditionings: Sequence[Conditioning]) -> Conditioning:
    first, *others = conditionings
    return first.cat(*others)


def sample(
    model: LatentDiffusion,
    told: Sequence[Told],
    guidance: Guidance,
    sampler: str,
    sigmas: Float[Tensor, " N"],
    noise: NoiseAt,
    *,
    latent: Float[Tensor, "B C h w"] | None = None,
    keep: tuple[Float[Tensor, "_ C h w"], Float[Tensor, "_ 1 h w"]] | None = None,
    multiplier: float = 1.0,
    bare: bool = False,
    watch: Watch | None = None,
    **options: int | float,
) -> Iterator[Step]:
    """The steps of a sampler, from pure noise or from a noised `latent`; `told` has an entry for each step.

    `keep`: a latent, and the cells of it that are made anew, which alone are then; see `keeping`. `multiplier`: of the noise at the start.
    `bare`: pure noise is sigma * noise, as some programs have it, without the variance of data. `watch`: notes what is found on the way.
    """
    watch = watch or Watch()
    unet, watched = model.unet, watch.network(model.unet)
    place = _Place(sigmas)
    denoise = _guided(
        told,
        guidance,
        place,
        model.denoiser(watched),
        perturbed=model.denoiser(perturbed(unet)) if guidance.pag else None,
        skipped=model.denoiser(skipped(unet)) if guidance.skip else None,
        attention=(lambda see: model.denoiser(attending(watched, see))) if guidance.sag else None,
        see=watch.see,
    )
    initial = noise(0)  # once: of some sources it can be had no second time
    if keep is not None:
        denoise = keeping(denoise, *keep, initial, sigmas[0])
    begun = multiplier * initial
    if latent is not None:
        first = latent + sigmas[0] * begun
    else:
        first = sigmas[0] * begun if bare else start(begun, sigmas[0])
    for step in SAMPLERS[sampler].function(denoise, first, sigmas, noise, **options):
        watch.place, place.reached = place.step, step.sigma
        yield step


def plan(
    model: LatentDiffusion,
    told: Sequence[Told],
    guidance: Guidance,
    sampler: str,
    sigmas: Float[Tensor, " N"],
    size: tuple[int, int],
    **options: int | float,
) -> Plan:
    """What `sample` will take for one picture of `size` (height, width) pixels, found by running it on a network that only counts."""
    counter = _Counter(model.spec.unet.out_channels)

    def counted(network: Network) -> Denoiser:
        return Denoiser(model.windows(network) if model.windows else network, model.schedule, model.spec.schedule.prediction)

    def watched(see: Callable[[Tensor], object]) -> Denoiser:
        return counted(partial(counter.shown, see))

    denoiser = counted(counter)

    for weaken, scale in ((perturbed, guidance.pag), (skipped, guidance.skip), (partial(attending, see=id), guidance.sag)):
        if scale:  # refused here, if the network has nothing to weaken
            weaken(model.unet)
    moved = {id(state): state.to(torch.device("cpu")) for state in told}
    here, place = [moved[id(state)] for state in told], _Place(sigmas)
    denoise = _guided(here, guidance, place, denoiser, perturbed=denoiser, skipped=denoiser, attention=watched)
    x = torch.zeros(1, *model.latent_shape(*size))
    places = []
    for step in SAMPLERS[sampler].function(denoise, x, sigmas, lambda step, draw=0: x, **options):
        places.append(place.step)
        place.reached = step.sigma
    return Plan(len(places), counter.calls, counter.samples, tuple(places))


class _Counter:
    """Stands in for a network: says nothing, and counts."""

    def __init__(self, channels: int) -> None:
        self.channels, self.calls, self.samples = channels, 0, 0

    def __call__(self, x: Tensor, t: Tensor, context: Tensor | None, vector: Tensor | None) -> Tensor:
        self.calls, self.samples = self.calls + 1, self.samples + len(x)
        return torch.zeros(len(x), self.channels, *x.shape[2:])

    def shown(self, see: Callable[[Tensor], object], x: Tensor, t: Tensor, context: Tensor | None, vector: Tensor | None) -> Tensor:
        """With an attention of one head and one cell, which looks everywhere alike."""
        see(torch.ones(len(x), 1, 1, 1))
        return self(x, t, context, vector)


class _Place:
    """How far a sampler has come: where the step that it is in starts."""

    def __init__(self, sigmas: Tensor) -> None:
        self.sigmas, self.reached = sigmas, sigmas[0]

    @property
    def step(self) -> int:
        """The number of the step, by the sigmas of the run: not by those that the sampler looks at, which may lie above and below."""
        return min(int((self.sigmas[1:] >= self.reached).sum()), len(self.sigmas) - 2)


def _guided(told: Sequence[Told], guidance: Guidance, place: _Place, denoiser: Denoiser, **networks: Any) -> Denoise:
    """The denoiser, guided, which at each step is told what is in force there."""
    made: dict[int, Denoise] = {}
    for state in told:
        if id(state) not in made:
            made[id(state)] = guide(denoiser, state.parts, state.away, guidance, place.sigmas, **networks)
    if len(made) == 1:
        return next(iter(made.values()))

    return lambda x, sigma: made[id(told[place.step])](x, sigma)
