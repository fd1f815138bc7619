"""What A1111 answers with: the pictures, and how they were made."""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sumi.diffusion.names import to_a1111
from sumi.engine.job import Job
from sumi.serve.a1111_fields import Wish
from sumi.serve.a1111_texts import size, texts
from sumi.store.record import PARAMETERS
from sumi.version import VERSION


@dataclass(frozen=True)
class Drawn:
    """A picture. number: among those of the seed."""

    id: str
    png: bytes
    number: int
    job: Job


def encoded(png: bytes) -> str:
    """As A1111 sends it: base64, without the prefix of a data: URL."""
    return base64.b64encode(png).decode("ascii")


def info(
    wish: Wish, drawn: Sequence[Drawn], options: Mapping[str, Any], strength: float | None, ignored: Sequence[str], *, interrupted: bool
) -> str:
    """A1111's info, as JSON; beside what it tells, the fields that were not followed, and what there is to say of how it was made.

    strength: the denoising_strength that was asked for, where it matters.

    Source: `Processed.js` in modules/processing.py.
    """
    request, seeds = wish.request, [wish.seeds(picture.number) for picture in drawn]
    assert request.sampler is not None
    first, varied = seeds[0] if seeds else wish.seeds(0)
    height, width = size(drawn[0].png) if drawn else (request.height, request.width)
    notes = [note for picture in drawn for note in picture.job.notes]
    told = {
        "prompt": request.prompt,
        "all_prompts": [request.prompt] * len(drawn),
        "negative_prompt": request.negative,
        "all_negative_prompts": [request.negative] * len(drawn),
        "seed": first,
        "all_seeds": [seed for seed, _ in seeds],
        "subseed": varied,
        "all_subseeds": [seed for _, seed in seeds],
        "subseed_strength": request.variation,
        "width": width,
        "height": height,
        "sampler_name": to_a1111(request.sampler, request.spacing or "", request.options or {})[0],
        "cfg_scale": request.guidance,
        "steps": request.steps,
        "batch_size": wish.size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": options["sd_model_checkpoint"],
        "sd_model_hash": None,
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": strength,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": [texts(picture.png).get(PARAMETERS, "") for picture in drawn],
        "styles": [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S"),
        "clip_skip": request.clip_skip,
        "is_using_inpainting_conditioning": False,
        "version": f"sumi {VERSION}",
        "ignored": list(ignored),
        "interrupted": interrupted,
        "notes": list(dict.fromkeys(notes)),
    }
    return json.dumps(told)
