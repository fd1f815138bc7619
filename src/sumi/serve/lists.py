"""What a form offers: the samplers, the spacings, and the fields of a request."""

import math
from collections.abc import Mapping
from typing import Any

from sumi.diffusion.samplers.table import SAMPLERS
from sumi.diffusion.spacings import SPACING_OPTIONS, SPACINGS
from sumi.request import FIELDS, Request


def samplers() -> dict[str, list[dict[str, Any]]]:
    """Every sampler and spacing: its name, what it is, and its options with their defaults, None for one that is without bound.

    eta: whether the sampler takes the field of that name, which is not among its options.
    """
    return {
        "samplers": [
            {
                "name": name,
                "about": _about(row.function),
                "options": _options({option: value for option, value in row.options.items() if option != "eta"}),
                "eta": "eta" in row.options,
            }
            for name, row in SAMPLERS.items()
        ],
        "spacings": [
            {"name": name, "about": _about(spacing), "options": _options(SPACING_OPTIONS.get(name, {}))}
            for name, spacing in SPACINGS.items()
        ],
    }


def fields() -> dict[str, list[dict[str, Any]]]:
    """Every field of a request, in its order: what a form is made of.

    type: str, int, float, bool, tuple (of `count` numbers, or of any number) or dict; low, high: of the number, or of each.
    """
    usual = Request()
    return {
        "fields": [
            {
                "name": name,
                "type": field.type.__name__,
                "optional": field.optional,
                "default": getattr(usual, name),
                "low": field.range and field.range.low,
                "high": field.range and field.range.high,
                "choices": list(field.choice),
                "count": field.count and field.count.numbers,
                "doc": field.doc,
                "group": field.group,
            }
            for name, field in FIELDS.items()
        ]
    }


def _about(documented: object) -> str:
    """The first line of what is said of it."""
    return (documented.__doc__ or "").partition("\n")[0]


def _options(defaults: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in defaults.items()}
