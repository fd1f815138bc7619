"""What there is to choose from, in the shapes of A1111's lists."""

import os
from typing import Any

from sumi.diffusion.names import A1111, A1111_SPACINGS, find_spacing
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.diffusion.spacings import SPACINGS
from sumi.models.placement import GPU
from sumi.serve.a1111_extras import UPSCALERS
from sumi.serve.studio import Studio

RHO = {"karras": 7.0, "polyexponential": 1.0}
"""Options of spacings that A1111 tells of."""
EMPTY = (
    *("loras", "hypernetworks", "face-restorers", "realesrgan-models", "prompt-styles", "sd-vae", "sd-modules"),
    *("latent-upscale-modes", "script-info", "extensions"),
)
"""Lists of things that are not here."""


def samplers() -> list[dict[str, Any]]:
    """By A1111's names where it has them, then by our own; each with the scheduler that "Automatic" is."""
    theirs = [{"name": row.label, "aliases": list(row.aliases), "options": {"scheduler": _scheduler(row.automatic)}} for row in A1111]
    known = {row.sampler for row in A1111}
    return theirs + [{"name": name, "aliases": [], "options": {}} for name in SAMPLERS if name not in known]


def schedulers() -> list[dict[str, Any]]:
    """Likewise; "Automatic" comes first."""
    labels = {"automatic": "Automatic", **{_name(label): label for label in A1111_SPACINGS}}
    known = set(A1111_SPACINGS.values())
    labels |= {spacing: spacing for spacing in SPACINGS if spacing not in known}
    return [
        {"name": name, "label": label, "aliases": None, "default_rho": RHO.get(name, -1.0), "need_inner_model": False}
        for name, label in labels.items()
    ]


def upscalers() -> list[dict[str, Any]]:
    """What pictures can be made larger by."""
    return [{"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": 4} for name in UPSCALERS]


def models(studio: Studio) -> list[dict[str, Any]]:
    """The checkpoints. Where they lie is nobody's business; their digests are known once they are loaded, which is elsewhere."""
    return [
        {"title": name, "model_name": name, "name": name, "hash": None, "sha256": None, "filename": name, "config": None}
        for name in studio.catalogue.names
    ]


def memory() -> dict[str, Any]:
    """Bytes of this machine's memory. Workers have that of a GPU to themselves, so that nothing is told of it."""
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    return {"ram": {"free": free, "used": total - free, "total": total}, GPU: {"error": "unavailable"}}


def _name(label: str) -> str:
    return label.lower().replace(" ", "_")


def _scheduler(spacing: str) -> str:
    """The name by which a scheduler is asked for that stands for a spacing."""
    return next((_name(label) for label in A1111_SPACINGS if find_spacing(label) == spacing), spacing)
