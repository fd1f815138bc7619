"""Whether a configuration is one that a model can have: files come from strangers."""

import math
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sumi.errors import CheckpointError

Config = TypeVar("Config")

# Sizes above these describe no model; they are there to use up the memory or the day of whoever opens the folder.
MAX_NUMBER, MAX_REPEATS = 1 << 20, 128
MIN_NUMBER = {"attention_depth": 0, "middle_depth": 0, "eos_id": 0, "pad_id": 0, "steps_offset": 0, "output_layer": -MAX_REPEATS}
REPEATS = ("layers", "layers_per_block", "attention_depth", "middle_depth")


def sound(config: Config) -> Config:
    """The same, if each field is of its type and of a sane size: files come from strangers."""
    for name, kind in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not _fits(value, kind):
            raise CheckpointError(f"{type(config).__name__}.{name} cannot be {value!r}"[:200])
        numbers = [number for number in (value if isinstance(value, tuple) else (value,)) if type(number) is int]
        least, most = MIN_NUMBER.get(name, 1), MAX_REPEATS if name in REPEATS else MAX_NUMBER
        if len(numbers) > MAX_REPEATS or not all(least <= number <= most for number in numbers):
            raise CheckpointError(f"{type(config).__name__}.{name} cannot be {value!r}"[:200])
    return config


def _fits(value: object, kind: Any) -> bool:
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            return False
        first, *rest = get_args(kind)
        kinds = [first] * len(value) if rest == [...] else [first, *rest]
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is kind
