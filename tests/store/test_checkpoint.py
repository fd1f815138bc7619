"""Weights are read safely, and written whole or not at all."""

import json
import os
import random
import resource
import signal
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sumi.errors import CheckpointError, OutputError
from sumi.store import checkpoint
from sumi.store.checkpoint import KINDS, MAX_TENSORS, atomic, atomic_folder, describe, fill, load, metadata, save


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(4, 3, generator=generator),
        "half": torch.randn(5, generator=generator).half(),
        "brain": torch.randn(2, 2, generator=generator).bfloat16(),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 3),
    }


def raw(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(path, tensors(), {"step": "12", "name": "süß"})
    assert same(load(path), tensors())
    assert metadata(path) == {"format": "pt", "step": "12", "name": "süß"}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_views_are_saved_as_they_look(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    path = tmp_path / "views.safetensors"
    save(path, {"transposed": base.t(), "last": nn.Conv2d(2, 2, 3).to(memory_format=torch.channels_last).weight})
    assert torch.equal(load(path)["transposed"], base.t())


def test_loading_maps_the_file(tmp_path: Path) -> None:
    """Nothing is read before it is used, and what is loaded may be changed without harm to the file."""
    path = tmp_path / "big.safetensors"
    save(path, {"big": torch.ones(16 << 20)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    loaded = load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 4000  # 64 MiB are 16,384 pages
    loaded["big"][0] = 5
    assert load(path)["big"][0] == 1


def test_every_kind_of_number_is_known(tmp_path: Path) -> None:
    """What the header is said to hold is what the library makes of it."""
    path = tmp_path / "kinds.safetensors"
    kinds = {name: getattr(torch, name) for name, _ in KINDS.values() if hasattr(torch, name)}
    save(path, {name: torch.zeros(2, 16, dtype=torch.uint8).view(kind) for name, kind in kinds.items()})
    assert describe(path) == {name: (name, tuple(tensor.shape)) for name, tensor in load(path).items()}
    assert set(describe(path)) == set(kinds) and {name: tensor.dtype for name, tensor in load(path).items()} == kinds
    assert all(size == getattr(torch, name).itemsize for name, size in KINDS.values())


def test_a_description_reads_the_header_alone(tmp_path: Path) -> None:
    """Seven gigabytes, none of which are on the disk."""
    path = tmp_path / "big.safetensors"
    count, side = 2500, 836
    table = {
        f"model.diffusion_model.{n}": {"dtype": "F32", "shape": [side, side], "data_offsets": [n * 4 * side**2, (n + 1) * 4 * side**2]}
        for n in range(count)
    }
    path.write_bytes(raw({"__metadata__": {"modelspec.architecture": "x"}, **table}))
    os.truncate(path, path.stat().st_size + count * 4 * side**2)
    assert path.stat().st_size > 6.9e9
    start = time.process_time()
    found = describe(path)
    assert time.process_time() - start < 1 and metadata(path) == {"modelspec.architecture": "x"}
    assert len(found) == count and found["model.diffusion_model.7"] == ("float32", (side, side))
    with open(path, "rb+") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(CheckpointError, match="damaged"):
        describe(path)


def test_a_pytorch_checkpoint_opens_as_well(tmp_path: Path) -> None:
    """Told by what is in it; what it is called says nothing."""
    torch.save({"state_dict": tensors(), "global_step": 12}, tmp_path / "model.safetensors")
    save(tmp_path / "model.ckpt", tensors(), {"step": "12"})
    assert same(load(tmp_path / "model.safetensors"), {f"state_dict.{name}": tensor for name, tensor in tensors().items()})
    assert metadata(tmp_path / "model.safetensors") == {"global_step": "12"}
    assert describe(tmp_path / "model.safetensors")["state_dict.brain"] == ("bfloat16", (2, 2))
    assert same(load(tmp_path / "model.ckpt"), tensors()) and describe(tmp_path / "model.ckpt")["count"] == ("int64", ())


def test_saving_obeys_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        save(tmp_path / "model.safetensors", tensors())
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "model.safetensors").stat().st_mode) == 0o640


# ------------------------------------------------------------------------------------------------ damaged files

GOOD = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
ENTRY = b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
DAMAGED = {
    "empty": (b"", "cut short"),
    "seven bytes": (b"\x01" * 7, "cut short"),
    "length beyond the file": (struct.pack("<Q", 1000) + b"{}", "cut short"),
    "enormous length": (b"\xff" * 64, "cut short"),
    "header not JSON": (raw(b"{nonsense}"), "damaged"),
    "header not UTF-8": (raw(b'{"\xff": 1}'), "damaged"),
    "header a list": (raw([1, 2]), "damaged"),
    "header too deep": (raw(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "damaged"),
    "name twice": (raw(b"{" + ENTRY + b"," + ENTRY + b"}", b"1" * 8), "twice"),
    "data missing": (raw(GOOD, b"1234"), "damaged"),
    "data too long": (raw(GOOD, b"1" * 12), "damaged"),
    "overlap": (raw({**GOOD, "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, b"1" * 12), "damaged"),
    "negative shape": (raw({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, b"1" * 8), "damaged"),
    "shape against data": (raw({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"1" * 8), "damaged"),
    "half a number": (raw({"a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 6]}}, b"1" * 6), "damaged"),
    "truth for a number": (raw({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, b"1" * 4), "damaged"),
    "endless side": (raw({"a": {"dtype": "F32", "shape": [0, 1 << 50], "data_offsets": [0, 0]}}), "impossible"),
    "endless sides": (raw({"a": {"dtype": "F32", "shape": [1 << 40] * 64, "data_offsets": [0, 8]}}, b"1" * 8), "another size"),
    "too many sides": (raw({"a": {"dtype": "F32", "shape": [1] * 65, "data_offsets": [0, 4]}}, b"1" * 4), "impossible"),
    "endless number": (raw(b'{"a":{"dtype":"F32","shape":[' + b"9" * 9999 + b'],"data_offsets":[0,8]}}', b"1" * 8), "damaged"),
    "hole": (raw({**GOOD, "b": {"dtype": "F32", "shape": [2], "data_offsets": [12, 20]}}, b"1" * 20), "one after the other"),
    "data before the data": (raw({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}, b"1" * 8), "damaged"),
    "three offsets": (raw({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]}}, b"1" * 8), "damaged"),
    "something more": (raw({"a": {**GOOD["a"], "more": 1}}, b"1" * 8), "damaged"),
    "type not a word": (raw({"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}, b"1" * 8), "damaged"),
    "name of two lines": (raw({"a\nb": GOOD["a"]}, b"1" * 8), "called"),
    "name without end": (raw({"a" * 1001: GOOD["a"]}, b"1" * 8), "called"),
    "no such type": (raw({"a": {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}}, b"1" * 8), "damaged"),
    "no offsets": (raw({"a": {"dtype": "F32", "shape": [2]}}, b"1" * 8), "damaged"),
    "metadata not a table": (raw({"__metadata__": ["a"], **GOOD}, b"1" * 8), "damaged"),
    "metadata not text": (raw({"__metadata__": {"a": 1}, **GOOD}, b"1" * 8), "damaged"),
    "a pickle": (b"\x80\x02}q\x00(X\x05\x00\x00\x00statecposix\nsystem\n", r"asks to run posix\.system"),
    "a PyTorch zip": (b"PK\x03\x04" + b"\x00" * 40, "zip without weights"),
    "half a PyTorch zip": (b"PK\x03\x04" + b"\x00" * 22 + b"\x10\x00\x00\x00archive/data.pkl", "damaged"),
    "a web page": (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_one_line_naming_it(tmp_path: Path, case: str) -> None:
    content, word = DAMAGED[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=word) as caught:
        load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    for look in (metadata, describe):
        with pytest.raises(CheckpointError):
            look(path)


def test_a_file_of_too_many_tensors_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "many.safetensors"
    path.write_bytes(raw({f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(MAX_TENSORS + 1)}))
    start = time.process_time()
    with pytest.raises(CheckpointError, match="header"):
        load(path)
    path.write_bytes(raw({f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(MAX_TENSORS)}))
    assert len(describe(path)) == MAX_TENSORS
    assert time.process_time() - start < 2


def test_what_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing"):
        load(tmp_path / "nowhere.safetensors")
    with pytest.raises(CheckpointError, match="not a file"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a file"):
        load(tmp_path / "pipe")


# ---------------------------------------------------------------------------------------------- filling a module


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 4), nn.LayerNorm(4)])
        self.register_buffer("count", torch.tensor(0))
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)


def test_fill_gives_every_number(tmp_path: Path) -> None:
    source = Small()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.uniform_()
        source.count += 3
    path = tmp_path / "small.safetensors"
    save(path, source.state_dict())
    with torch.device("meta"):
        module = Small()
    weights = load(path)
    fill(module, weights | {"text_model.embeddings.position_ids": torch.arange(77)}, str(path))
    assert same(module.state_dict(), source.state_dict())
    assert module.layers[0].weight.data_ptr() == weights["layers.0.weight"].data_ptr()  # not copied
    assert module.layers[0].weight.requires_grad and not module.scale.requires_grad
    assert isinstance(module.scale, nn.Parameter) and "count" in dict(module.named_buffers())


def test_fill_casts_fractions_and_leaves_whole_numbers() -> None:
    module = Small()
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in Small().state_dict().items()}
    fill(module, half, "half")
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float32, torch.int64}
    assert torch.equal(module.layers[0].weight, half["layers.0.weight"].float())
    fill(module, half, "half", dtype=torch.bfloat16)
    assert module.layers[0].weight.dtype == torch.bfloat16 and module.count.dtype == torch.int64


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("layers.0.bias"), ["1 missing: layers.0.bias"]),
        (lambda w: w.update(extra=torch.zeros(1)), ["1 unexpected: extra"]),
        (lambda w: w.update(scale=torch.zeros(2)), ["1 of another shape: scale [2] for []"]),
        (lambda w: w.update(scale=torch.tensor(2)), ["scale [] of torch.int64 for []"]),
        (lambda w: w.update({f"x{n}": torch.zeros(1) for n in range(9)}), ["9 unexpected: x0, x1, x2, x3, x4 and 4 more"]),
        (lambda w: (w.pop("count"), w.update(b=torch.zeros(1))), ["1 missing: count", "1 unexpected: b"]),
    ],
)
def test_fill_names_each_misfit_and_changes_nothing(change: Callable[[dict[str, Tensor]], object], words: list[str]) -> None:
    module = Small()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    weights = {name: tensor + 1 for name, tensor in before.items()}
    change(weights)
    with pytest.raises(CheckpointError) as caught:
        fill(module, weights, "unet/model.safetensors")
    assert str(caught.value).startswith("unet/model.safetensors ") and "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)
    assert same(module.state_dict(), before)


# ------------------------------------------------------------------------------------------------------- writing


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_text("half of the n")
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), atomic(path) as temporary:
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == path.parent
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(path, tensors())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # as if the disk had 4 kB left
    try:
        with pytest.raises(OutputError, match=r"model\.safetensors") as caught:
            save(path, {"big": torch.zeros(100_000)})
        with pytest.raises(OutputError), atomic(path) as temporary:
            temporary.write_bytes(b"1" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value)
    assert same(load(path), tensors()) and list(tmp_path.iterdir()) == [path]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "file" / "out.safetensors", tmp_path / "nowhere" / "out.safetensors", tmp_path, tmp_path / "pipe"):
        with pytest.raises(OutputError, match="cannot write") as caught:
            save(path, tensors())
        assert str(path) in str(caught.value)
    for path in (tmp_path / "file", tmp_path / "file" / "folder", tmp_path / "nowhere" / "folder"):
        with pytest.raises(OutputError, match="cannot write"), atomic_folder(path):
            pass
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "pipe"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_folder_changes_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    with atomic_folder(path) as temporary:
        (temporary / "part").mkdir()
        (temporary / "part" / "a.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_folder(path) as temporary:
        (temporary / "b.txt").write_text("new")
        raise ZeroDivisionError
    assert (path / "part" / "a.txt").read_text() == "old" and list(tmp_path.iterdir()) == [path]

    replace, calls = os.replace, iter([True, False, True])

    def fails_once(source: Path, target: Path) -> None:
        if not next(calls):
            raise OSError("no")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "replace", fails_once)
        with pytest.raises(OutputError), atomic_folder(path) as temporary:
            pass
    assert (path / "part" / "a.txt").read_text() == "old" and list(tmp_path.iterdir()) == [path]

    with atomic_folder(path) as temporary:
        (temporary / "b.txt").write_text("new")
    assert [file.name for file in path.iterdir()] == ["b.txt"] and list(tmp_path.iterdir()) == [path]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_at_any_moment_the_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    big = {"a": torch.arange(200_000.0)}
    save(path, big)
    draw = random.Random(0)
    for _ in range(15):
        child = os.fork()
        if child == 0:
            while True:
                save(path, big)
        time.sleep(draw.uniform(0.001, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert same(load(path), big)
