"""`k_diffusion.sampling`, the code that the samplers' common names come from, without what its package imports beside it.

The package's own `__init__` brings training and evaluation, and with them torchvision and more; the samplers need none of it.
"""

import importlib.util
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


def k_diffusion_sampling() -> Any:
    """The module. Its package is registered without running its `__init__`; `utils` gives it `append_dims` alone."""
    if "k_diffusion" not in sys.modules:
        spec = importlib.util.find_spec("k_diffusion")
        assert spec is not None and spec.origin is not None, "k-diffusion is not installed: make test"
        package = ModuleType("k_diffusion")
        package.__path__ = [str(Path(spec.origin).parent)]
        utils: Any = ModuleType("k_diffusion.utils")
        utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]
        package.utils = utils  # type: ignore[attr-defined]
        sys.modules |= {"k_diffusion": package, "k_diffusion.utils": utils}
    return import_module("k_diffusion.sampling")
