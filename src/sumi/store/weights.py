"""The weights of a part in a folder, as Hugging Face's libraries write and open them: in one file, or in several with an index."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from sumi.errors import CheckpointError
from sumi.store.checkpoint import load
from sumi.store.layout import DIFFUSION, TRANSFORMER
from sumi.store.model import State
from sumi.store.tables import read_json, understood, write_json
from sumi.store.writer import Say, write

TRANSFORMER_PICKLE = "pytorch_model"
TRAINED = "non_ema"
"""The variant of a U-Net's file that holds its weights as training left them, beside their average."""


def write_weights(
    folder: Path,
    stem: str,
    state: State,
    variant: str | None,
    shard: int | None,
    precision: torch.dtype | None = None,
    say: Say | None = None,
) -> None:
    """One file, or several of at most `shard` bytes with an index, as Hugging Face's libraries write and open them."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = f".{variant}" if variant else ""
    shards = list(_sharded(state, shard))
    if len(shards) < 2:
        write(folder / f"{stem}{suffix}.safetensors", state, precision=precision, say=say)
        return
    files = [f"{stem}{suffix}-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    for name, tensors in zip(files, shards, strict=True):
        write(folder / name, tensors, precision=precision, say=say)
    weight_map = {name: file for file, tensors in zip(files, shards, strict=True) for name in tensors}
    total = {"total_size": sum(_bytes(tensor, precision) for tensor in state.values())}
    where = folder / (f"{stem}.safetensors.index{suffix}.json" if suffix else f"{stem}.safetensors.index.json")
    write_json(where, {"metadata": total, "weight_map": weight_map})


def summed(say: Say, states: Iterable[State], precision: torch.dtype | None) -> Say:
    """One count of bytes for all files of a model."""
    total, before = sum(_bytes(tensor, precision) for state in states for tensor in state.values()), 0

    def told(done: int, end: int) -> None:
        nonlocal before
        say(before + done, total)
        before += end if done == end else 0

    return told


def _bytes(tensor: Tensor, precision: torch.dtype | None) -> int:
    """What a tensor takes in a file, its fractions as `precision`."""
    kind = precision if precision is not None and tensor.is_floating_point() else tensor.dtype
    return tensor.numel() * kind.itemsize


def _sharded(state: State, most: int | None) -> Iterator[dict[str, Tensor]]:
    """The tensors in their order, cut where one more would be too much."""
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in state.items():
        if most is not None and shard and size + tensor.nbytes > most:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
    yield shard


def read_weights(folder: Path, stem: str, variant: str | None = None) -> dict[str, Tensor]:
    """The tensors of a part: those of a variant, where it has them, else the plain ones, else what there is. CheckpointError if none."""
    if (found := weights_file(folder, stem, *([variant] if variant else []), None, *_variants(folder, stem))) is None:
        raise CheckpointError(f"{folder} has no weights ({stem}.safetensors): copy the whole folder again")
    return _shards(found) if found.suffix == ".json" else load(found)


def read_trained(folder: Path, variant: str | None = None) -> dict[str, Tensor]:
    """A U-Net's weights as training left them; nothing if the folder has their average alone."""
    found = weights_file(folder, DIFFUSION, *([f"{variant}.{TRAINED}"] if variant else []), TRAINED)
    return {} if found is None else _shards(found) if found.suffix == ".json" else load(found)


def weights_file(folder: Path, stem: str, *variants: str | None) -> Path | None:
    """The file, or the index of several, of the first of some variants that is there; None is the plain one."""
    for variant in variants:
        suffix = f".{variant}" if variant else ""
        stems = _stems(stem)
        names = [f"{stem}{suffix}.safetensors", f"{stem}.safetensors.index{suffix}.json"]
        names += [name for each in stems for name in (f"{each}{suffix}.bin", f"{each}.bin.index{suffix}.json")]
        for path in (folder / name for name in names):
            if path.is_file():
                return path
    return None


def _stems(stem: str) -> tuple[str, ...]:
    """What a pickled file may be called, too."""
    return (stem, TRANSFORMER_PICKLE) if stem == TRANSFORMER else (stem,)


def _variants(folder: Path, stem: str) -> list[str]:
    """Every variant of a part but the one of training."""
    stems = "|".join(_stems(stem))
    known = re.compile(rf"({stems})\.(\w+)\.(safetensors|bin)|({stems})\.(safetensors|bin)\.index\.(\w+)\.json")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    found = [match[2] or match[6] for name in names if (match := known.fullmatch(name))]
    return [variant for variant in found if variant != TRAINED]


def _shards(table: Path) -> dict[str, Tensor]:
    found = read_json(table)
    shards = understood(table, lambda: list(dict.fromkeys(found["weight_map"].values())))
    # The index comes with the folder: a name in it must not lead out of the folder.
    if not all(isinstance(name, str) and re.fullmatch(r"[\w-][\w.-]*\.(safetensors|bin)", name) for name in shards):
        raise CheckpointError(f"{table} names files outside of its folder: get the folder from somewhere else")
    return {name: tensor for shard in shards for name, tensor in load(table.parent / shard).items()}
