"""Stable Diffusion from scratch: run, train and watch every part.

Names below are imported when they are first used, so that `sumi --help` need not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sumi.diffusion.samplers.table import SAMPLERS
    from sumi.pipeline import generate, load, stream
    from sumi.request import Request

__all__ = ["SAMPLERS", "Request", "generate", "load", "stream"]
__version__ = "0.1.0"

_HOMES = {
    "SAMPLERS": "sumi.diffusion.samplers.table",
    "Request": "sumi.request",
    "generate": "sumi.pipeline",
    "load": "sumi.pipeline",
    "stream": "sumi.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
