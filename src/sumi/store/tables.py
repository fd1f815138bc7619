"""The JSON files of a folder: read, written, and what is wrong with one said in a line with its name."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sumi.errors import CheckpointError
from sumi.store.configs import Json

# What comes of reading a description that describes nothing possible.
NONSENSE = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)

T = TypeVar("T")


def read_json(path: Path) -> Json:
    """A JSON object in a file; CheckpointError if it is not there or not one."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: check the path, or copy the whole folder again")
    value = understood(path, lambda: json.loads(path.read_text(encoding="utf-8")))
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} should hold a JSON object: copy it again")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def understood(path: Path, parse: Callable[[], T]) -> T:
    """What `parse` makes of a file; whatever it raises becomes one line with the file's name."""
    try:
        return parse()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (*NONSENSE, OSError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} is damaged or not of a Stable Diffusion model ({reason}): copy it again") from error
