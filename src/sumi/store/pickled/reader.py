"""PyTorch checkpoints (.ckpt, .pt, .pth, .bin), opened without running anything in them.

Such a file is a program that builds its tensors, and may do whatever else its author liked. Nothing here runs it. A process
of its own, shut off from the system, reads what the program says (`archives`, `opcodes`) and answers with a table: names,
shapes, and where in the file the numbers lie. Here the table is checked against the file, and the numbers are mapped.
"""

import json
import mmap
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from sumi.errors import CheckpointError
from sumi.store.pickled.archives import MAX_ANSWER, kind
from sumi.store.pickled.inert import ITEM_SIZES, Refused, damaged, shown
from sumi.store.pickled.members import Source

# The process knows the folder of this package, whose __init__ it must not run: that would take seconds and import torch.
START = """
import sys
package = type(sys)("sumi")
package.__path__ = [sys.argv[1]]
sys.modules["sumi"] = package
from sumi.store.pickled.archives import main
main()
"""
PATIENCE = 120
MAX_SIDE = 1 << 40
SMALL = 1 << 20

Values = dict[str, int | float | str]
Form = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class _Tensor:
    """A tensor in the file; `storage` counts from 0, `stride` and `offset` are in items."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    storage: int
    offset: int


@dataclass(frozen=True)
class _Contents:
    """What a file holds; a storage is its first byte and its size."""

    storages: tuple[tuple[int, int], ...]
    tensors: tuple[_Tensor, ...]
    values: Values


def is_pickle(path: Path) -> bool:
    """Whether a file is a PyTorch checkpoint or any other pickle, by what is in it; False if there is no such file."""
    try:
        if not path.is_file():
            return False
        with open(path, "rb", buffering=0) as file:
            return kind(Source(file)) is not None
    except (OSError, Refused):
        return False


def read(path: Path) -> tuple[dict[str, Tensor], Values]:
    """The tensors of a checkpoint, and the numbers and short texts at its top, such as `global_step`.

    A tensor is called by its path: keys of dictionaries and numbers of lists, joined by dots (`state_dict.model.x`). The
    numbers are mapped from disk: pages are read when they are used, writes do not reach the file, tensors that shared their
    numbers still do. Only in files older than PyTorch 1.6 they can lie so that they have to be copied.

    CheckpointError, in one line with the file's name, if it is missing, damaged, or asks for anything but tensors.
    """
    with _examined(path) as (file, contents):
        try:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
    return _mapped(path, buffer, contents), contents.values


def describe(path: Path) -> dict[str, Form]:
    """The kind ("float32", ...) and the shape of each tensor, without the numbers; CheckpointError as `read`."""
    with _examined(path) as (_, contents):
        return {tensor.name: (tensor.dtype, tensor.shape) for tensor in contents.tensors}


def values(path: Path) -> Values:
    """The numbers and short texts at the top, without the tensors; CheckpointError as `read`."""
    with _examined(path) as (_, contents):
        return contents.values


@contextmanager
def _examined(path: Path) -> Iterator[tuple[BinaryIO, _Contents]]:
    """The file, open, and what it holds: both of one file, even if another takes its name meanwhile."""
    try:
        if not path.is_file():  # a pipe would hang
            raise CheckpointError(f"{path} is {'not a file' if path.exists() else 'missing'}: check the path, or download it again")
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            yield file, _checked(json.loads(_ask(file)), size)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except Refused as refusal:
        raise CheckpointError(f"{path} {refusal}") from refusal
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: the process that looks into it failed") from error


def _ask(file: BinaryIO) -> bytes:
    """The answer of the process that looks into the file; empty, or not JSON, if it came to an end before."""
    command = [sys.executable, "-I", "-S", "-B", "-c", START, str(Path(__file__).parents[2])]
    with subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        clock = threading.Timer(PATIENCE, process.kill)
        clock.start()
        try:
            assert process.stdout is not None
            answer = process.stdout.read(MAX_ANSWER + 1)
        finally:
            clock.cancel()
            process.kill()
    return answer


def _checked(answer: object, size: int) -> _Contents:
    """The answer, if all of it lies inside of a file of `size` bytes.

    Refused if the file is at fault, ValueError if the answer is not what `archives.examine` gives: then the file got the
    better of the process that read it, and nothing of what it said is used.
    """
    match answer:
        case {"refused": str(reason)} if reason.isprintable():
            raise Refused(reason[:400])
        case {"storages": list(places), "tensors": list(tensors), "values": dict(values)}:
            pass
        case _:
            raise ValueError("no answer")
    storages = []
    for place in places:
        at, length = _numbers(place, 2)
        if at + length > size:
            raise damaged("it is cut short")
        storages.append((at, length))
    found = {}
    for tensor in tensors:
        if not isinstance(tensor, list) or len(tensor) != 6:
            raise ValueError("no tensor")
        name, dtype, shape, stride, storage, offset = tensor
        if not isinstance(name, str) or not name.isprintable() or dtype not in ITEM_SIZES or name in found:
            raise ValueError("no tensor")
        form = _Tensor(name, dtype, _numbers(shape), _numbers(stride), *_numbers([storage, offset]))
        if form.storage >= len(storages):
            raise ValueError("no storage")
        _check_bounds(form, storages[form.storage][1], size)
        found[name] = form
    if not all(isinstance(name, str) and isinstance(value, int | float | str) for name, value in values.items()):
        raise ValueError("no values")
    return _Contents(tuple(storages), tuple(found.values()), values)


def _check_bounds(tensor: _Tensor, storage: int, file: int) -> None:
    """Refused unless the tensor stays inside of its storage, and is no more than the file holds.

    The latter because a stride of zero makes a thousand gigabytes of one number, as soon as someone copies it.
    """
    item = ITEM_SIZES[tensor.dtype]
    if len(tensor.shape) != len(tensor.stride) or any(side > MAX_SIDE for side in tensor.shape):
        raise damaged(f"{shown(tensor.name)} has an impossible shape")
    last = tensor.offset + sum((side - 1) * step for side, step in zip(tensor.shape, tensor.stride, strict=True))
    count = prod(tensor.shape)
    if (last + 1 if count else tensor.offset) * item > storage:
        raise damaged(f"{shown(tensor.name)} reaches beyond its numbers")
    if count * item > max(file, SMALL):
        raise damaged(f"{shown(tensor.name)} says more than the file holds")


def _numbers(found: object, count: int | None = None) -> tuple[int, ...]:
    if not isinstance(found, list) or len(found) > 64 or count not in (None, len(found)):
        raise ValueError("no numbers")
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in found):
        raise ValueError("no numbers")
    return tuple(found)


def _mapped(path: Path, buffer: mmap.mmap | bytearray, contents: _Contents) -> dict[str, Tensor]:
    """The tensors, on the bytes of the file in `buffer`."""
    every = torch.frombuffer(buffer, dtype=torch.uint8)
    storages = []
    for at, size in contents.storages:
        piece = every[at : at + size]
        # Older formats begin anywhere; PyTorch expects numbers at multiples of their own size.
        storages.append(piece.clone().untyped_storage() if at % 8 else every.untyped_storage()[at : at + size])
    tensors = {}
    for form in contents.tensors:
        dtype = getattr(torch, form.dtype, None)
        if dtype is None:
            raise CheckpointError(f"{path} holds {form.dtype}, which this PyTorch does not know: install a newer one")
        tensors[form.name] = torch.empty(0, dtype=dtype).set_(storages[form.storage], form.offset, form.shape, form.stride)
    return tensors
