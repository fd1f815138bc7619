"""Files that are written a tensor at a time are those of the library, and take the memory of one tensor."""

import json
import re
import resource
import struct
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sumi.errors import OutputError
from sumi.store.checkpoint import KINDS, load, metadata
from sumi.store.writer import write

KNOWN = [getattr(torch, kind) for kind, _ in KINDS.values()]


def every_kind() -> dict[str, Tensor]:
    """Each kind of number, in bytes that are no number of another's, and in shapes that one might get wrong."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}
    for kind in KNOWN:
        numbers = torch.randint(0, 2 if kind == torch.bool else 256, (5, 24), dtype=torch.uint8, generator=generator).view(kind)
        name = str(kind).removeprefix("torch.")
        found |= {f"z.{name}": numbers, f"a.{name}": numbers[0, 0].clone(), f"A.{name}.none": numbers[:0], f"é.{name}": numbers[1, 1:2]}
    return found


def theirs(path: Path, tensors: dict[str, Tensor], says: dict[str, str] | None = None) -> bytes:
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path, says)
    return path.read_bytes()


def test_the_file_is_the_librarys(tmp_path: Path) -> None:
    write(tmp_path / "ours", every_kind())
    assert (tmp_path / "ours").read_bytes() == theirs(tmp_path / "theirs", every_kind(), {"format": "pt"})


@pytest.mark.parametrize("tensors", [{}, {"nothing": torch.zeros(3, 0, 2)}, {"one": torch.tensor(1.5)}], ids=["none", "empty", "scalar"])
def test_the_file_is_the_librarys_at_the_edges(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    write(tmp_path / "ours", tensors)
    assert (tmp_path / "ours").read_bytes() == theirs(tmp_path / "theirs", tensors, {"format": "pt"})


def test_views_are_written_as_they_look(tmp_path: Path) -> None:
    base = torch.arange(48.0).reshape(4, 12)
    views = {
        "across": base.t(),
        "every second": base[:, ::2],
        "inner": base[1:3, 3:7],
        "wide": base[:1].expand(5, 12),
        "last": torch.nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last).weight,
        "shared": base,
    }
    write(tmp_path / "ours", views)
    assert (tmp_path / "ours").read_bytes() == theirs(tmp_path / "theirs", views, {"format": "pt"})


def test_metadata_is_written(tmp_path: Path) -> None:
    """In an order of ours: the library's is another each time."""
    says = {"title": 'süß "\\\n\x1f\x7f', "empty": "", "line": "\u2028"}
    write(tmp_path / "ours", {"a": torch.ones(1)}, says)
    theirs(tmp_path / "theirs", {"a": torch.ones(1)}, {"format": "pt", **says})
    assert metadata(tmp_path / "ours") == metadata(tmp_path / "theirs") == {"format": "pt", **says}
    assert (tmp_path / "ours").stat().st_size == (tmp_path / "theirs").stat().st_size


def test_metadata_need_not_be_unicode(tmp_path: Path) -> None:
    write(tmp_path / "ours", {"a": torch.ones(1)}, {"title": "a\udcff"})
    assert metadata(tmp_path / "ours")["title"] == "a?"


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_fractions_are_cast_and_nothing_else(tmp_path: Path, precision: torch.dtype) -> None:
    tensors = {
        "w": torch.randn(3, 5, generator=torch.Generator().manual_seed(0)),
        "h": torch.tensor([1.0, 3e-7, 65504.0]).half(),
        "n": torch.arange(3),
        "b": torch.tensor([True, False]),
        "c": torch.tensor([1 + 2j]),
    }
    write(tmp_path / "ours", tensors, precision=precision)
    cast = {name: tensor.to(precision) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    assert (tmp_path / "ours").read_bytes() == theirs(tmp_path / "theirs", cast, {"format": "pt"})


def test_progress_counts_bytes(tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []
    tensors = {"a": torch.ones(8), "b": torch.zeros(0), "c": torch.ones(4, dtype=torch.uint8), "d": torch.zeros(0, dtype=torch.bool)}
    write(tmp_path / "ours", tensors, precision=torch.float16, say=lambda done, end: said.append((done, end)))
    assert said == [(16, 20), (20, 20)]


def test_a_file_may_be_replaced_by_what_is_in_it(tmp_path: Path) -> None:
    path, generator = tmp_path / "model.safetensors", torch.Generator().manual_seed(0)
    before = {f"layer {number}": torch.randn(50_000, generator=generator) for number in range(3)}
    save_file(before, path)
    write(path, load(path), precision=torch.bfloat16)
    assert {name: torch.equal(tensor, before[name].bfloat16()) for name, tensor in load(path).items()} == dict.fromkeys(before, True)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_fault_in_the_middle_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"before")

    def stop(done: int, _: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, {"a": torch.ones(4), "b": torch.ones(4)}, say=stop)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [(path.name, b"before")]


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*/model\.safetensors: File too large; "):
            write(tmp_path / "model.safetensors", {"a": torch.ones(1 << 16), "b": torch.ones(1 << 20)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_the_format_does_not_know_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"wave is torch\.complex128, which safetensors does not hold"):
        write(tmp_path / "ours", {"a": torch.ones(1), "wave": torch.ones(1, dtype=torch.complex128)})
    assert list(tmp_path.iterdir()) == []


def own_memory() -> int:
    """Bytes that this process holds of its own, mapped files left aside."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_memory_is_that_of_the_largest_tensor(tmp_path: Path) -> None:
    """Twelve of 8 MB each, mapped from a file and cast."""
    path, header = tmp_path / "big.safetensors", {}
    for number in range(12):
        header[f"layer {number}"] = {"dtype": "F32", "shape": [2 << 20], "data_offsets": [number << 23, (number + 1) << 23]}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + (12 << 23))  # zeros that take no room
    for precision, most in ((None, 4 << 20), (torch.bfloat16, 8 << 20)):
        used: list[int] = []
        before = own_memory()
        write(tmp_path / "out", load(path), precision=precision, say=lambda *_: used.append(own_memory()))  # noqa: B023
        assert len(used) == 12 and max(used) - before < most
