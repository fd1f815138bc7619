"""Single modules of published packages, without what those packages import beside them.

`k_diffusion.sampling` is the code that the samplers' common names come from, `open_clip.transformer` that of OpenCLIP's image encoders.
The packages' own `__init__` bring training and evaluation, and with them torchvision and more; these modules need none of it.
"""

import importlib.util
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


def k_diffusion_sampling() -> Any:
    """The module. Its package is registered without running its `__init__`; `utils` gives it `append_dims` alone."""
    if "k_diffusion" not in sys.modules:
        package = bare("k_diffusion")
        utils: Any = ModuleType("k_diffusion.utils")
        utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]
        package.utils = utils
        sys.modules["k_diffusion.utils"] = utils
    return import_module("k_diffusion.sampling")


@cache
def open_clip_transformer() -> Any:
    """The module. Its package is registered for as long as it is imported: others look for that package's files."""
    package = bare("open_clip")
    utils: Any = ModuleType("open_clip.utils")
    utils.to_2tuple = lambda x: (x, x)
    utils.feature_take_indices = None  # of intermediate layers, which nothing here asks for
    package.utils = sys.modules["open_clip.utils"] = utils
    module = import_module("open_clip.transformer")
    for name in [name for name in sys.modules if name.partition(".")[0] == "open_clip"]:
        del sys.modules[name]
    return module


def bare(name: str) -> Any:
    """An installed package, registered without running its `__init__`."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None, f"{name} is not installed: make test"
    package = ModuleType(name)
    package.__path__ = [str(Path(spec.origin).parent)]
    sys.modules[name] = package
    return package
