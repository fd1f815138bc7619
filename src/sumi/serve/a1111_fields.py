"""A1111's fields as `Request`s: what its users ask for by its words, they get as it would draw it, noise and noise levels included.

Sources: `StableDiffusionProcessing` and its two children in modules/processing.py for the fields and their defaults, and
`setup_img2img_steps` in modules/sd_samplers_common.py.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sumi.diffusion.names import A1111, A1111_VARIANCE, Named, find, find_spacing, from_a1111
from sumi.diffusion.nearest import nearest, nearest_spacing
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.errors import RequestError
from sumi.request import Request, or_mean
from sumi.serve.a1111_given import Given
from sumi.serve.a1111_options import NOISE
from sumi.serve.problems import Refusal
from sumi.store.record import EMPHASIS

STEPS, GUIDANCE, STRENGTH, LARGER = 50, 7.0, 0.75, 2.0
"""A1111's own defaults. Of the sizes it is the model's."""
MOST_STRENGTH = 0.999
MOST_STEPS = 10_000
"""That a `Request` may ask for."""
CHURN = {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": 0.0, "s_noise": 1.0}
"""Options of samplers, by their one name in both, with the values that change nothing."""
PIXELS = ("None", "Bicubic")
"""Upscalers of the second pass that ours is: bicubic, of pixels."""


@dataclass(frozen=True)
class Wish:
    """What a body asks for: so many batches of `size` pictures each. request: of the first of them, without pictures to start from."""

    request: Request
    batches: int
    size: int

    def requests(self, pictures: Sequence[Mapping[str, Any]] = ()) -> list[Request]:
        """A request for each batch, or of each batch one for each of several pictures to start from, in the order of their numbers."""
        if len(pictures) < 2:
            started = replace(self.request, **dict(pictures[0])) if pictures else self.request
            return [replace(started, first=self.size * i, count=self.size) for i in range(self.batches)]
        if len(pictures) > self.size:
            raise RequestError(f"init_images must be one picture, or up to batch_size, {self.size}; got {len(pictures)}")
        return [
            replace(self.request, **dict(picture), first=len(pictures) * i + k, count=1)
            for i in range(self.batches)
            for k, picture in enumerate(pictures)
        ]

    def seeds(self, number: int) -> tuple[int, int]:
        """The seed and the variation seed that A1111 gives to a picture: of a variation, the second alone moves on."""
        seed, varied = self.request.seed or 0, self.request.variation_seed
        return (seed + number, seed + number) if varied is None else (seed, varied + number)


def wish(given: Given, options: Mapping[str, Any]) -> Wish:
    """The words, numbers and seeds of a body: all but the pictures to start from. RequestError for what is not to be had."""
    scripts(given)
    named, variation = _sampler(given), given.number("subseed_strength", 0.0)
    guidance, negative = given.number("cfg_scale", GUIDANCE), given.text("negative_prompt")
    if guidance == 1 and negative:  # which then changes nothing, and many clients send it always
        given.ignore("negative_prompt")
    batches, size = given.whole("n_iter", 1), given.whole("batch_size", 1)
    if min(batches, size) < 1:
        raise RequestError(f"n_iter and batch_size must be 1 or more; got {batches} and {size}")
    chosen: dict[str, Any] = {
        "emphasis": next(ours for ours, theirs in EMPHASIS.items() if theirs == options["emphasis"]),
        "noise": NOISE[options["randn_source"]],
    }
    request = Request(
        **chosen,
        prompt=given.text("prompt"),
        negative="" if guidance == 1 else negative,
        clip_skip=options["CLIP_stop_at_last_layers"],
        width=_side(given, "width"),
        height=_side(given, "height"),
        seamless="both" if given.flag("tiling", False) else "none",
        seed=_seed(given, "seed"),
        variation=variation,
        variation_seed=_seed(given, "subseed") if variation else None,
        sampler=named.sampler,
        spacing=named.spacing,
        steps=given.whole("steps", STEPS),
        eta=_eta(given, named.sampler),
        options={**named.options, **_churn(given, named.sampler)} or None,
        guidance=guidance,
    )
    return Wish(request, batches, size)


def larger(given: Given, request: Request, size: tuple[int, int]) -> Request:
    """With the second pass that txt2img may be asked for. size: height and width of the model's pictures."""
    if not given.flag("enable_hr", False):
        return request
    width, height = request.width or size[1], request.height or size[0]
    scale, x, y = given.number("hr_scale", LARGER), given.whole("hr_resize_x", 0), given.whole("hr_resize_y", 0)
    if x or y:
        scale = x / width if x else y / height
        if x and y and x * height != y * width:
            raise RequestError("hr_resize_x and hr_resize_y must be to each other as width to height: give one of them, or hr_scale")
    if given.text("hr_upscaler", "None") not in PIXELS:
        given.ignore("hr_upscaler")
    steps = given.whole("hr_second_pass_steps", 0) or request.steps or STEPS
    steps, strength = run(steps, given.number("denoising_strength", STRENGTH), fixed=True)
    return replace(request, hires=scale, hires_steps=steps, hires_strength=strength)


def run(steps: int, strength: float, *, fixed: bool) -> tuple[int, float]:
    """Of how many steps which share A1111 runs from a picture: as many as were asked for if `fixed`, else one more than the strength says.

    RequestError if they are none.
    """
    if not 0 <= strength <= 1 or (fixed and strength == 0) or steps < 1:
        raise RequestError(f"denoising_strength must be {'above ' if fixed else 'from '}0 to 1, and steps 1 or more; got {strength:g}")
    strength = min(strength, MOST_STRENGTH)
    if fixed:
        if steps / strength > MOST_STEPS:
            raise RequestError("denoising_strength is too small for so many steps: raise it, or ask for less")
        total = int(steps / strength)
        return total, steps / total
    return steps, (int(strength * steps) + 1) / steps


def scripts(given: Given) -> None:
    """Refusal (422) for scripts, of which there are none; those that are named without being asked for anything are let pass."""
    if name := given.text("script_name"):
        raise Refusal(422, "script", f"there is no script {name[:80]!a}: leave script_name out")
    for name, script in given.mapping("alwayson_scripts").items():
        args = script.get("args") if isinstance(script, dict) else script
        if args and not (isinstance(args, list) and all(_is_off(arg) for arg in args)):
            raise Refusal(422, "script", f"there is no script {name[:80]!a}, and it has arguments: leave it out of alwayson_scripts")


def _is_off(argument: Any) -> bool:
    return not (argument.get("enabled", argument.get("enable", True)) if isinstance(argument, dict) and argument else argument)


def _sampler(given: Given) -> Named:
    """RequestError if there is no such sampler or no such schedule, with those that are called alike."""
    name = given.text("sampler_name") or given.text("sampler_index") or "Euler"
    name = next((row.label for row in A1111 if name.casefold() in row.aliases), name)  # unipc, for one, is a name of ours, too
    schedule = given.text("scheduler") or "Automatic"
    named = find(name)
    if named is None:
        raise RequestError(f"there is no sampler {name[:80]!a}{or_mean(nearest(name))}: see /sdapi/v1/samplers")
    if schedule.casefold() != "automatic" and find_spacing(schedule) is None:
        raise RequestError(f"there is no scheduler {schedule[:80]!a}{or_mean(nearest_spacing(schedule))}: see /sdapi/v1/schedulers")
    if named.sampler in A1111_VARIANCE and schedule.casefold() != "automatic":  # A1111 looks at it for those of k-diffusion alone
        given.ignore("scheduler")
        schedule = "Automatic"
    return from_a1111(name, schedule) or named


def _side(given: Given, name: str) -> int | None:
    return None if given.fields.get(name) is None else given.whole(name, 0)


def _seed(given: Given, name: str) -> int:
    seed = given.whole(name, -1)
    return secrets.randbits(32) if seed == -1 else seed


def _eta(given: Given, sampler: str) -> float | None:
    if given.fields.get("eta") is None or "eta" not in SAMPLERS[sampler].options:
        return None
    return given.number("eta", 0.0)


def _churn(given: Given, sampler: str) -> dict[str, float]:
    """Options that the sampler takes and that change something; an s_tmax of 0 stands for infinity, which is usual."""
    asked = {name: given.number(name, usual) for name, usual in CHURN.items() if name in SAMPLERS[sampler].options}
    return {name: value for name, value in asked.items() if value != CHURN[name]}
