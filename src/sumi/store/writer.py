"""Writing safetensors a tensor at a time: as much memory as the largest takes, and progress on the way.

The library's own function wants all tensors in memory in their final precision. The files are byte for byte those that it writes.
"""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from sumi.errors import OutputError
from sumi.store.checkpoint import KINDS, atomic

NAMES = {getattr(torch, kind): name for name, (kind, _) in KINDS.items()}
"""What the format calls PyTorch's types."""
ORDER = ["U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"]
"""In which the library writes tensors, the widest first, so that each is aligned; by name among equals."""
ALIGNMENT = 8

Say = Callable[[int, int], None]
"""Told, after each tensor that is not empty, how many bytes there are of how many."""


def write(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    precision: torch.dtype | None = None,
    kept: Collection[str] = (),
    say: Say | None = None,
) -> None:
    """Writes a safetensors file, whole or not at all, its fractions as `precision` (None: as they are), but for those of `kept`.

    The tensors may be mapped from the very file that is replaced. OutputError if the folder or the disk does not take it, or the
    format has no such numbers.
    """
    cast = {name for name, tensor in tensors.items() if precision is not None and tensor.is_floating_point() and name not in kept}
    kinds = {name: precision if precision is not None and name in cast else tensor.dtype for name, tensor in tensors.items()}
    if foreign := [name for name, kind in kinds.items() if kind not in NAMES]:
        raise OutputError(f"cannot write {path}: {foreign[0]} is {kinds[foreign[0]]}, which safetensors does not hold; leave it out")
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    order = sorted(tensors, key=lambda name: (ORDER.index(NAMES[kinds[name]]), name.encode()))
    end = 0
    for name in order:
        size = tensors[name].numel() * kinds[name].itemsize
        header[name] = {"dtype": NAMES[kinds[name]], "shape": list(tensors[name].shape), "data_offsets": [end, end + size]}
        end += size
    # A folder need not be called by Unicode, and its name may be in the metadata.
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
    text += b" " * (-len(text) % ALIGNMENT)
    # One place for all that has to be copied: the system's allocator would keep some of each.
    copied = {name for name in order if tensors[name].dtype != kinds[name] or not _as_it_lies(tensors[name])}
    room = torch.empty(max((tensors[name].numel() * kinds[name].itemsize for name in copied), default=0), dtype=torch.uint8)
    done = 0
    with atomic(path) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            tensor, size = tensors[name].detach(), tensors[name].numel() * kinds[name].itemsize
            if not size:
                continue
            if name in copied:
                tensor = room[:size].view(kinds[name]).reshape(tensor.shape).copy_(tensor)
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
            done += size
            if say is not None:
                say(done, end)


def _as_it_lies(tensor: Tensor) -> bool:
    """Whether the numbers of a tensor lie in memory as in a file."""
    return tensor.device.type == "cpu" and tensor.is_contiguous()
