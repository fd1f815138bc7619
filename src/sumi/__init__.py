"""Stable Diffusion from scratch: run, train and watch every part.

Names below are imported when they are first used, so that `sumi --help` need not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sumi.version import VERSION

if TYPE_CHECKING:
    from sumi.diffusion.samplers.table import SAMPLERS
    from sumi.pipeline import again, generate, stream
    from sumi.request import Request
    from sumi.store.assembly import load

__version__ = VERSION
__all__ = ["SAMPLERS", "Request", "again", "generate", "load", "stream"]

_HOMES = {
    "SAMPLERS": "sumi.diffusion.samplers.table",
    "Request": "sumi.request",
    "again": "sumi.pipeline",
    "generate": "sumi.pipeline",
    "load": "sumi.store.assembly",
    "stream": "sumi.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
