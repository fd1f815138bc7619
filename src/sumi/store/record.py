"""What a picture's file says of how it was made: enough to make it again.

A PNG carries two texts: `sumi`, everything, as JSON; and `parameters`, most of it, as AUTOMATIC1111's web interface writes it,
which many programs read.
"""

import dataclasses
import json
import math
import re
import reprlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sumi.diffusion import names
from sumi.errors import ImageError, ModelWarning, RequestError
from sumi.request import Request
from sumi.store import infotext
from sumi.store.images import read_png_text

KEYWORD, PARAMETERS = "sumi", "parameters"


@dataclass(frozen=True)
class Record:
    """A picture's request, complete, and the circumstances that its last bits depend on.

    request: of this picture alone: its `first` is the picture's number and its `count` is 1; nothing in it is left open.
    together: first and count of the pictures that were computed with it, with the same prompt. None: not known, or other prompts.
    model: the path or name it was loaded by; None: the model that comes with sumi. name: what it calls itself. digest: of its weights.
    precision, device: as PyTorch names them. version: of sumi.
    """

    request: Request
    together: tuple[int, int] | None = None
    model: str | None = None
    name: str = ""
    digest: str = ""
    precision: str = ""
    device: str = ""
    version: str = ""

    def to_json(self) -> str:
        """JSON on one line."""
        others = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "request"}
        return json.dumps({"request": json.loads(self.request.to_json()), **others}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`. RequestError if it is not one."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"a picture's record must be JSON: {error}") from error
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or "request" not in values or not set(values) <= known:
            raise RequestError(f"a picture's record must be a JSON object of {', '.join(sorted(known))}; got {reprlib.repr(values)}")
        request = Request.from_json(json.dumps(values.pop("request")))
        together = values.pop("together", None)
        model = values.pop("model", None)
        texts = {name: value for name, value in values.items() if isinstance(value, str)}
        if texts != values or not isinstance(model, str | None) or not _is_pair(together):
            raise RequestError("a picture's record is damaged: use another copy of the file")
        if together is not None and not together[0] <= request.first < sum(together) <= 2**32:
            raise RequestError("a picture's record is damaged: the picture is none of those that it names; use another copy of the file")
        return cls(request, None if together is None else (together[0], together[1]), model, **texts)

    def texts(self) -> dict[str, str]:
        """The text chunks of the picture's file."""
        return {KEYWORD: self.to_json(), PARAMETERS: to_infotext(self)}


def read(path: Path) -> Record:
    """The record of a picture that sumi, or a program that writes as A1111 does, has made. ImageError if the file has none."""
    texts = read_png_text(path)
    if KEYWORD in texts:
        return Record.from_json(texts[KEYWORD])
    if PARAMETERS in texts:
        return from_infotext(texts[PARAMETERS])
    raise ImageError(f"{path} does not say how it was made: it has neither sumi's text nor A1111's")


RNG = {"a1111-cpu": "CPU", "a1111-nv": "NV"}
"""A1111's names of sources of noise. Its own default is the GPU, whose noise is NV's."""
EMPHASIS = {"mean": "Original", "plain": "No norm", "off": "None"}


FURTHER = (
    "Denoising strength",
    "ENSD",
    "Seed resize from",
    "NGMS",
    "Token merging ratio",
    "Hires upscale",
    "Hires resize",
    "Refiner",
    "Lora hashes",
    "Hypernet",
    "ControlNet 0",
    "Face restoration",
    "Sigma churn",
    "Sigma tmin",
    "Sigma tmax",
    "Sigma noise",
    "Schedule rho",
    "Schedule min sigma",
    "Schedule max sigma",
)
"""What changes a picture of A1111 and is not followed."""


def to_infotext(record: Record) -> str:
    """A1111's text. What it has no word for is left to sumi's own."""
    request = record.request
    assert request.sampler is not None and request.seed is not None
    options = {**(request.options or {}), **({} if request.eta is None else {"eta": request.eta})}
    sampler, schedule = names.to_a1111(request.sampler, request.spacing or "sigmas", options)
    # Its pictures are told apart by their seeds alone; those of a variation by that one's.
    further = request.first if request.noise in RNG else 0
    fields: dict[str, str | int | float | None] = {
        "Steps": request.steps,
        "Sampler": sampler,
        "Schedule type": schedule,
        "CFG scale": request.guidance,
        "Seed": request.seed + (0 if request.variation else further),
        "Size": f"{request.width}x{request.height}",
        "Model": record.name,
        "Variation seed": None if request.variation_seed is None else request.variation_seed + further,
        "Variation seed strength": request.variation or None,
        "Denoising strength": _denoising(request),
        "Hires upscale": request.hires,
        "Hires steps": None if request.hires_steps is None else _run(request.hires_steps, request.hires_strength),
        "Mask blur": request.mask_blur or None,
        "Tiling": "True" if request.seamless == "both" else None,
        "Clip skip": request.clip_skip if request.clip_skip > 1 else None,
        "RNG": RNG.get(request.noise),
        "Eta": request.eta,
        "Emphasis": EMPHASIS[request.emphasis] if request.emphasis != "mean" else None,
        "Noise": None if request.noise in RNG else request.noise,
        "Version": f"sumi {record.version}",
    }
    return infotext.write(request.prompt, request.negative, fields)


def _run(steps: int, strength: float | None) -> int:
    """How many of the steps are run from a picture."""
    return steps if strength is None else math.floor(steps * strength + 1e-6)


def _denoising(request: Request) -> float | None:
    """The strength by which A1111 runs the same steps: larger, it runs all of its number, of that divided by the strength; from a picture,
    one more than the strength says."""
    steps, strength = (request.steps, request.strength) if request.hires is None else (request.hires_steps, request.hires_strength)
    if strength is None or steps is None or request.exact or (run := _run(steps, strength)) == steps:
        return strength
    if request.hires is not None:
        return run / steps if int(run / (run / steps)) == steps else math.nextafter(run / steps, 0.0)
    share = max(0, run - 1) / steps
    return share if int(share * steps) >= run - 1 else math.nextafter(share, 1.0)


def from_infotext(text: str) -> Record:
    """The record that A1111's text stands for: as much of it as sumi has. RequestError if a field that it needs is missing or foreign."""
    found = infotext.read(text)
    fields = found.fields
    sampler = fields.get("Sampler", "")
    named = names.from_a1111(sampler, fields.get("Schedule type"))
    size = re.fullmatch(r"(\d+)x(\d+)", fields.get("Size", ""))
    if named is None or size is None or "Seed" not in fields or "Steps" not in fields:
        lacking = "Size" if size is None else "Seed" if "Seed" not in fields else "Steps" if "Steps" not in fields else None
        why = f"it says no {lacking}" if lacking else f"there is no sampler {sampler!r} with its schedule here"
        raise RequestError(f"the picture's parameters cannot be followed: {why}; ask for the picture by its prompt")
    for name in FURTHER:
        if name in fields:
            raise RequestError(f"the picture's parameters cannot be followed: {name} is more than words to a picture; ask by its prompt")
    if fields.get("Version", "").startswith("sumi") and "Noise" in fields:
        raise RequestError("the picture's parameters are sumi's, without its own text beside them: use another copy of the file")
    if "VAE" in fields:
        warnings.warn(
            f"the picture was decoded by {fields['VAE']!r:.60}, the new one will be by the model's own", ModelWarning, stacklevel=2
        )
    for name, known in (("Emphasis", (*EMPHASIS.values(),)), ("RNG", ("CPU", "GPU", "NV"))):
        if fields.get(name, known[0]) not in known:
            raise RequestError(
                f"the picture's parameters cannot be followed: {name} is {fields[name]!r:.60}; ask for the picture by its prompt"
            )
    emphasis = {theirs: ours for ours, theirs in EMPHASIS.items()}.get(fields.get("Emphasis", "Original"), "mean")
    rng = {"CPU": "a1111-cpu"}.get(fields.get("RNG", "NV"), "a1111-nv")
    try:
        values: dict[str, Any] = dict(
            prompt=found.prompt,
            negative=found.negative,
            emphasis=emphasis,
            seamless="both" if fields.get("Tiling") == "True" else "none",
            clip_skip=int(fields.get("Clip skip", 1)),
            width=int(size[1]),
            height=int(size[2]),
            seed=int(fields["Seed"]),
            variation=float(fields.get("Variation seed strength", 0)),
            variation_seed=int(fields["Variation seed"]) if float(fields.get("Variation seed strength", 0)) else None,
            noise=rng,
            sampler=named.sampler,
            spacing=named.spacing,
            steps=int(fields["Steps"]),
            eta=float(fields["Eta"]) if "Eta" in fields else None,
            options=dict(named.options) or None,
            guidance=float(fields.get("CFG scale", 7)),
        )
        return Record(Request(**values), model=fields.get("Model"))
    except (ValueError, KeyError) as error:
        raise RequestError(f"the picture's parameters cannot be followed: {error}; ask for the picture by its prompt") from error


def _is_pair(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 2 and all(type(number) is int and number >= 0 for number in value))
