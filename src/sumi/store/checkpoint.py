"""Weights in files: read safely, written whole or not at all.

Only safetensors is read, which holds numbers and nothing that runs. Published checkpoints also come as PyTorch pickles,
which run code when opened: they are refused.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sumi.errors import CheckpointError, OutputError

# Far above any model of the family (SDXL in training: 10,000 tensors, 1 MB); a file that says more is made to waste time.
MAX_TENSORS = 20_000
MAX_HEADER = 1 << 24

PICKLE = "is a PyTorch pickle, which can run code when it is opened: use the .safetensors file of the same model"
# What is found where weights should be, by its first bytes.
IMPOSTORS = {
    b"PK\x03\x04": PICKLE,
    b"\x80\x02": PICKLE,
    b"version http": "is a Git LFS pointer, not the weights: run `git lfs pull` where it came from",
    b"<": "is a web page, not the weights: download the file itself",
}


def load(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped from disk: pages are read when they are used, writes do not reach the file.

    CheckpointError, in one line with the file's name, if it is missing, cut short, damaged or something else.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def metadata(path: Path) -> dict[str, str]:
    """The text that was saved beside the tensors."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


def fill(module: nn.Module, tensors: Mapping[str, Tensor], where: str, dtype: torch.dtype = torch.float32) -> None:
    """Makes `tensors` the parameters and buffers of `module`, which may be on the meta device.

    Numbers with a fraction are cast to `dtype`; of a tensor that has it already, nothing is copied. The parameters are
    replaced: build optimisers afterwards. CheckpointError names every kind of misfit, `where` says in which file.
    """
    expected = module.state_dict()
    # Old text encoders saved the integers 0 to 76.
    given = {name: tensor for name, tensor in tensors.items() if not name.endswith("position_ids")}
    misfits = {
        "missing": [name for name in expected if name not in given],
        "unexpected": [name for name in given if name not in expected],
        "of another shape": [
            f"{name} {_form(given[name])} for {_form(tensor)}"
            for name, tensor in expected.items()
            if name in given and _form(given[name]) != _form(tensor)
        ],
    }
    if any(misfits.values()):
        counts = "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in misfits.items() if names)
        raise CheckpointError(f"{where} does not fit the model: {counts}; use weights and config.json of one model")
    for name, old in expected.items():
        owner, _, leaf = name.rpartition(".")
        parent = module.get_submodule(owner)
        new = given[name].to(dtype if old.is_floating_point() else old.dtype)
        if leaf in parent._parameters:
            setattr(parent, leaf, nn.Parameter(new, requires_grad=parent.get_parameter(leaf).requires_grad))
        else:
            setattr(parent, leaf, new)


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file, whole or not at all; OutputError if the folder or the disk does not take it."""
    with atomic(path) as temporary:
        contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        try:
            save_file(contiguous, temporary, {"format": "pt", **(metadata or {})})
        except SafetensorError as error:
            raise OSError(str(error)) from error


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write; it becomes `path`, flushed to disk, if the block ends well, else nothing is left.

    OutputError for whatever the system refuses, in the block too.
    """
    temporary = _beside(path)
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is a folder or a device")
        with open(temporary, "xb") as file:
            mode = os.fstat(file.fileno()).st_mode
        yield temporary
        os.chmod(temporary, mode)  # safetensors makes its own file, readable by its owner alone
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """As `atomic`, for a folder: yields an empty one, which takes the place of whatever `path` was."""
    temporary, old = _beside(path), _beside(path)
    try:
        if path.exists() and not path.is_dir():
            raise OSError("it is a file")
        temporary.mkdir()
        yield temporary
        for part in (*temporary.rglob("*"), temporary):
            _flush(part)
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except OSError:
            os.replace(old, path)
            raise
        _flush(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file, open; whatever is wrong with it is a CheckpointError."""
    _check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged ({_line(error)}): download or copy it again") from error


def _check_header(path: Path) -> None:
    """The checks that the library leaves out: what it is, a sane size, no name twice."""
    try:
        if not path.is_file():  # a pipe would hang
            raise CheckpointError(f"{path} is {'not a file' if path.exists() else 'missing'}: check the path, or download it again")
        with open(path, "rb") as file:
            start = file.read(16)
            length, size = int.from_bytes(start[:8], "little"), os.fstat(file.fileno()).st_size
            if not 2 <= length <= min(size - 8, MAX_HEADER):
                kinds = (kind for magic, kind in IMPOSTORS.items() if start.lstrip().startswith(magic))
                raise CheckpointError(f"{path} {next(kinds, 'is cut short or is not safetensors: download or copy it again')}")
            file.seek(8)
            header = json.loads(file.read(length), object_pairs_hook=_unique)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({_line(error)}): download or copy it again") from error
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise CheckpointError(f"{path} is damaged (its header is not a table of tensors): download or copy it again")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _beside(path: Path) -> Path:
    """A fresh name in the same folder, so that the final renaming never crosses file systems."""
    return path.parent / f".sumi-{uuid.uuid4().hex}.tmp"


def _flush(path: Path) -> None:
    """Sees a file, or a folder's list of files, onto the disk."""
    if path.is_dir() and os.name == "nt":  # Windows keeps folders itself
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}; choose another place or free some space")


def _form(tensor: Tensor) -> str:
    """Shape, and the kind of number where it is whole: what must agree."""
    return f"{list(tensor.shape)}{'' if tensor.is_floating_point() else f' of {tensor.dtype}'}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
