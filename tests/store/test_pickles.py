"""PyTorch's own files are read as PyTorch reads them; the process that reads them can do nothing else."""

import argparse
import ast
import collections
import datetime
import functools
import json
import os
import pathlib
import random
import resource
import struct
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sumi.errors import CheckpointError
from sumi.store import checkpoint
from sumi.store.pickled import reader
from sumi.store.pickled.inert import Refused
from sumi.store.pickled.reader import describe, is_pickle, read, values

SOURCE = Path(__file__).parents[2] / "src" / "sumi"

# What this PyTorch does not have, nobody saves with it.
NAMES = (
    "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 complex64 complex128 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool"
)
KINDS = [getattr(torch, name) for name in NAMES.split() if hasattr(torch, name)]


def save(thing: object, path: Path, new: bool) -> None:
    torch.save(thing, path, _use_new_zipfile_serialization=new)


def flat(thing: object, path: str = "") -> dict[str, Tensor]:
    """The tensors of nested dictionaries and lists by path, for comparison."""
    if isinstance(thing, Tensor):
        return {path: thing}
    pairs = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list | tuple) else ()
    found: dict[str, Tensor] = {}
    for key, item in pairs:
        found |= flat(item, f"{path}.{key}" if path else str(key))
    return found


def same(a: Tensor, b: Tensor) -> bool:
    """To the bit, and laid out alike."""
    plain = [tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and a.stride() == b.stride() and torch.equal(*plain)


def check(thing: object, path: Path, new: bool) -> dict[str, Tensor]:
    """Reads what `thing` is saved as, and compares it with `thing` and with PyTorch's reader."""
    save(thing, path, new)
    ours = read(path)[0]
    for theirs in (flat(thing), flat(torch.load(path, weights_only=True))):
        assert list(ours) == list(theirs) and all(same(ours[name], theirs[name]) for name in ours)
    assert describe(path) == {name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)) for name, tensor in ours.items()}
    assert not any(tensor.requires_grad for tensor in ours.values())
    return ours


@pytest.mark.parametrize("new", [True, False])
def test_every_kind_and_form(tmp_path: Path, new: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 2, (3, 5, 16), generator=draw, dtype=torch.uint8)
    # Younger kinds are written in the old form too, but PyTorch itself cannot read them there.
    kinds = [kind for kind in KINDS if new or not str(kind).startswith(("torch.float8", "torch.uint16", "torch.uint32", "torch.uint64"))]
    things: dict[str, object] = {str(kind): raw.clone().view(kind) for kind in kinds}
    base = torch.randn(4, 6, 8, generator=draw)
    things |= {
        "turned": base.permute(2, 0, 1),
        "cut": base[1:3, ::2, 3:],
        "stretched": torch.ones(3, 1).expand(3, 7),
        "channels last": torch.randn(2, 3, 4, 5, generator=draw).to(memory_format=torch.channels_last),
        "number": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "parameter": nn.Parameter(torch.randn(2, 2, generator=draw)),
        "frozen": nn.Parameter(torch.randn(2, generator=draw), requires_grad=False),
        "module": nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).state_dict(),
        "several": [torch.arange(3), (torch.arange(2), {"deep": torch.arange(4)})],
        "küche": collections.OrderedDict(eins=torch.ones(1)),
    }
    check({"state_dict": things}, tmp_path / "model.ckpt", new)


@pytest.mark.parametrize("new", [True, False])
def test_shared_numbers_stay_shared(tmp_path: Path, new: bool) -> None:
    base = torch.arange(12.0)
    ours = check({"a": base, "b": base.view(3, 4).t(), "c": base[5:], "d": base.clone()}, tmp_path / "model.ckpt", new)
    ours["a"][5] = -1
    assert ours["c"][0] == -1 and ours["b"][1, 1] == -1 and ours["d"][5] == 5


def test_what_is_not_a_dictionary(tmp_path: Path) -> None:
    for new in (True, False):
        save(torch.arange(3), tmp_path / "one.pt", new)
        assert read(tmp_path / "one.pt")[0]["tensor"].tolist() == [0, 1, 2]
        check([torch.ones(2), torch.zeros(1)], tmp_path / "list.pt", new)
    for nothing in ({"step": 3}, [], "text", None):
        save(nothing, tmp_path / "none.pt", True)
        with pytest.raises(CheckpointError, match="no tensors"):
            read(tmp_path / "none.pt")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.pt"
    thing = {"a": torch.randn(3), "list": [torch.ones(2)] * 3, "long name" * 20: torch.zeros(1), "number": 1 << 40, "bytes": b"\xff" * 300}
    torch.save(thing, path, pickle_protocol=protocol)
    assert all(same(*pair) for pair in zip(read(path)[0].values(), flat(thing).values(), strict=True))


@pytest.mark.parametrize("new", [True, False])
def test_values_beside_the_weights(tmp_path: Path, new: bool) -> None:
    """Numbers of NumPy too, which PyTorch's own safe reader refuses and old files are full of."""
    path = tmp_path / "embedding.pt"
    beside = {
        "global_step": 470000, "epoch": np.int64(11), "score": np.float32(0.25), "best": np.float64(1e-9), "half": np.float16(0.5),
        "flag": np.bool_(True), "big": np.array(7, dtype=">i4")[()], "name": "style", "loss": float("inf"), "minus": -3,
        "nothing": None, "list": [1, 2], "long": "x" * 10_000, "huge": 1 << 80, 3: "three", "array": np.ones(3),
    }  # fmt: skip
    save({"string_to_param": {"*": torch.ones(2, 3)}, **beside}, path, new)
    found = values(path)
    assert found == {
        "global_step": 470000, "epoch": 11, "score": 0.25, "best": 1e-9, "half": 0.5, "flag": True, "big": 7, "name": "style",
        "loss": float("inf"), "minus": -3,
    }  # fmt: skip
    assert found == read(path)[1] and list(read(path)[0]) == ["string_to_param.*"]
    assert checkpoint.metadata(path)["global_step"] == "470000"


class Anything:
    """Stands in for classes of trainers that are not installed here."""

    def __init__(self, *given: object, **named: object) -> None:
        self.given, self.named = given, named


def test_what_a_trainer_leaves_beside_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written by PyTorch with classes of those names, read where none of them exists."""
    leftovers = []
    for place in (
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "lightning.pytorch.callbacks.progress.RichProgressBar",
        "lightning_fabric.utilities.data.AttributeDict",
        "omegaconf.dictconfig.DictConfig",
        "omegaconf.base.ContainerMetadata",
        "ldm.lr_scheduler.LambdaLinearScheduler",
        "taming.modules.util.ActNorm",
        "sgm.modules.ema.LitEma",
        "main.ImageLogger",
    ):
        module, _, word = place.rpartition(".")
        kind = type(word, (Anything,), {"__module__": module})
        parents = module.split(".")
        for depth in range(1, len(parents) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parents[:depth]), types.ModuleType(module))
        setattr(sys.modules[module], word, kind)
        leftovers += [kind, kind("a", b=1)]
    layer = nn.Linear(2, 2)
    optimizer = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2, 2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    thing = {
        "state_dict": layer.state_dict(),
        "callbacks": {**{kind: {"best": torch.tensor(1.0)} for kind in leftovers[::2]}, "all": leftovers},
        "optimizer_states": [optimizer],
        "hyper_parameters": {
            "options": argparse.Namespace(lr=1e-4, path=pathlib.PurePosixPath("a/b")),
            "when": datetime.datetime(2022, 8, 22),
            "partial": functools.partial(torch.optim.Adam, lr=1),
            "sets": [{1, 2}, frozenset("ab"), collections.deque([1]), range(3), slice(1), 1j, bytearray(b"x")],
            "default": collections.defaultdict(list, a=[1]),
            "counter": collections.Counter("abc"),
            "kinds": [int, dict, torch.float32, torch.device("cpu"), torch.Size([1, 2]), np.dtype("f4"), np.arange(3), random.getstate()],
            "tuple": {(1, 2): torch.ones(1)},
        },
        "global_step": 1,
    }
    for new in (True, False):
        save(thing, tmp_path / "last.ckpt", new)
        found, beside = read(tmp_path / "last.ckpt")
        assert list(found) == ["state_dict.weight", "state_dict.bias"] and beside == {"global_step": 1}
        assert same(found["state_dict.weight"], layer.weight)


def test_a_tensor_with_attributes(tmp_path: Path) -> None:
    tensor = nn.Parameter(torch.ones(3))
    tensor.note = "kept by PyTorch"
    save({"a": tensor}, tmp_path / "model.pt", True)
    assert same(read(tmp_path / "model.pt")[0]["a"], tensor)


def test_the_first_embeddings(tmp_path: Path) -> None:
    """Textual inversion saved its vectors in a module."""
    vectors = nn.ParameterDict({"*": nn.Parameter(torch.randn(2, 3))})
    for new in (True, False):
        save({"string_to_token": {"*": 265}, "string_to_param": vectors}, tmp_path / "embedding.pt", new)
        found = read(tmp_path / "embedding.pt")[0]
        assert list(found) == ["string_to_param.*"] and same(found["string_to_param.*"], vectors["*"])


def test_what_holds_more_than_numbers_is_refused(tmp_path: Path) -> None:
    refused = {
        "to_sparse": torch.eye(3).to_sparse(),
        "meta": torch.empty(3, device="meta"),
        "conjugated": torch.ones(2, dtype=torch.complex64).conj(),
        "module": nn.Linear(2, 2),
    }
    for name, thing in refused.items():
        save({"a": thing}, tmp_path / f"{name}.pt", True)
        with pytest.raises(CheckpointError, match=r"asks to run torch|conjugated") as caught:
            read(tmp_path / f"{name}.pt")
        assert "\n" not in str(caught.value)


# -------------------------------------------------------------------------------------------------- no copies


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """Five gigabytes of zeros, none of which are on the disk: the zip64 form, as PyTorch writes it."""
    with open(tmp_path / "hole", "wb") as hole:
        hole.truncate(5 << 30)
    tensors = {"big": torch.from_file(str(tmp_path / "hole"), shared=True, size=5 << 28), "small": torch.ones(3)}
    with torch.serialization.skip_data():
        torch.save({"state_dict": tensors}, tmp_path / "big.ckpt")
    assert (tmp_path / "big.ckpt").stat().st_size > 5 << 30
    return tmp_path / "big.ckpt"


def test_a_large_file_takes_no_time_and_no_memory(big: Path) -> None:
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    loaded = checkpoint.load(big)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert time.process_time() - start < 1 and after.ru_minflt - before.ru_minflt < 4000  # of 1,310,720 pages
    assert loaded["state_dict.big"].shape == (5 << 28,) and loaded["state_dict.big"][-1] == 0
    assert loaded["state_dict.small"].tolist() == [0, 0, 0]
    assert checkpoint.describe(big)["state_dict.big"] == ("float32", (5 << 28,))


def test_writing_to_a_tensor_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    save({"a": torch.ones(3)}, path, True)
    loaded = read(path)[0]
    loaded["a"][0] = 5
    path.unlink()
    assert loaded["a"].tolist() == [5, 1, 1]
    save({"a": torch.ones(3)}, path, True)
    assert read(path)[0]["a"].tolist() == [1, 1, 1]


# ------------------------------------------------------------------------------------------------- what is what


def test_what_is_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for new in (True, False):
        save({"a": torch.ones(3)}, path, new)
        assert is_pickle(path)
    header = json.dumps({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    for length in (640, 0x010280, 0x010480):  # as safetensors, these begin like a pickle of protocol 2, 2 and 4
        path.write_bytes(struct.pack("<Q", length) + header.ljust(length) + b"\x07")
        assert not is_pickle(path) and checkpoint.load(path)["a"].tolist() == [7]
    for other in (b"", b"\x80", b"<html>", b"version https://git-lfs", b"PK\x03\x04" + bytes(40), b"GGUF" + bytes(600)):
        path.write_bytes(other)
        assert not is_pickle(path)
    assert not is_pickle(tmp_path) and not is_pickle(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert not is_pickle(tmp_path / "pipe")
    for missing, words in ((tmp_path / "nowhere", "missing"), (tmp_path, "not a file"), (tmp_path / "pipe", "not a file")):
        with pytest.raises(CheckpointError, match=words):
            read(missing)
    path.write_bytes(b"hello")
    with pytest.raises(CheckpointError, match="not a PyTorch checkpoint"):
        read(path)


def test_nothing_in_the_package_unpickles() -> None:
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"pickle", "_pickle", "pickletools", "shelve", "marshal", "dill", "joblib"} & set(imported), file
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in ("torch.load", "np.load", "numpy.load", "torch.jit.load", "eval", "exec"), file


# ----------------------------------------------------------------------------------------- the process apart


def apart(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code where the reader runs, after its beginning."""
    start = reader.START.replace("import main\nmain()", f"import _confine\n{code}")
    command = [sys.executable, "-I", "-S", "-B", "-c", start, str(SOURCE)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def test_it_imports_next_to_nothing() -> None:
    done = apart("print(*sys.modules)")
    found = {name.split(".")[0] for name in done.stdout.split()}
    assert "sumi" in found and found - {"sumi", "__main__"} <= sys.stdlib_module_names
    assert not found & {"pickle", "socket", "_socket", "subprocess", "ctypes", "_ctypes", "shutil", "importlib", "numpy", "torch"}


@pytest.mark.parametrize(
    "action",
    [
        "open(sys.argv[0] or '/dev/null')",
        "open('canary', 'w')",
        "os.system('touch canary')",
        "os.fork()",
        "__import__('socket')",
        "eval('1')",
        "os.kill(os.getppid(), 0)",
        "os.remove('canary')",
    ],
)
def test_it_ends_at_the_first_thing_it_should_not_do(action: str) -> None:
    done = apart(f"import os\nos.write(1, b'before ')\n_confine()\n{action}\nos.write(1, b'after')")
    assert (done.stdout, done.returncode) == ("before ", 1)


def test_it_has_little_memory() -> None:
    done = apart("import os\n_confine()\ntry:\n    bytearray(1 << 30)\nexcept MemoryError:\n    os.write(1, b'refused')\nos._exit(0)")
    assert done.stdout == "refused"


@pytest.mark.parametrize(
    "does",
    ["import os; os._exit(1)", "print('[1')", "print('{}')", "print('nonsense' * 999)", "while True: pass", "import os; os.abort()"],
)
def test_whatever_becomes_of_it_is_one_line(tmp_path: Path, does: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.ckpt"
    save({"a": torch.ones(1)}, path, True)
    monkeypatch.setattr(reader, "START", does)
    monkeypatch.setattr(reader, "PATIENCE", 0.5)
    monkeypatch.setattr(reader, "MAX_ANSWER", 1000)
    with pytest.raises(CheckpointError, match="the process that looks into it failed") as caught:
        read(path)
    assert str(caught.value).startswith(str(path))


ANSWER = {"storages": [[0, 8]], "tensors": [["a", "float32", [2], [1], 0, 0]], "values": {"step": 1}}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"storages": [[0, 101]]}, Refused),
        ({"storages": [[96, 8]]}, Refused),
        ({"storages": [[-1, 8]]}, ValueError),
        ({"storages": [[0, 8.0]]}, ValueError),
        ({"storages": [[0]]}, ValueError),
        ({"storages": [[True, 8]]}, ValueError),
        ({"storages": []}, ValueError),
        ({"storages": {}}, ValueError),
        ({"tensors": [["a", "float32", [3], [1], 0, 0]]}, Refused),
        ({"tensors": [["a", "float32", [2], [2], 0, 0]]}, Refused),
        ({"tensors": [["a", "float32", [2], [1], 0, 1]]}, Refused),
        ({"tensors": [["a", "float32", [0], [1], 0, 3]]}, Refused),
        ({"tensors": [["a", "float64", [2], [1], 0, 0]]}, Refused),
        ({"tensors": [["a", "float32", [1 << 30], [0], 0, 0]]}, Refused),
        ({"tensors": [["a", "float32", [0, 1 << 50], [1, 1], 0, 0]]}, Refused),
        ({"tensors": [["a", "float32", [2], [1, 1], 0, 0]]}, Refused),
        ({"tensors": [["a", "float32", [2], [-1], 0, 1]]}, ValueError),
        ({"tensors": [["a", "float32", [1 << 62], [1], 0, 0]]}, ValueError),
        ({"tensors": [["a", "float32", [1] * 65, [1] * 65, 0, 0]]}, ValueError),
        ({"tensors": [["a", "float32", "2", [1], 0, 0]]}, ValueError),
        ({"tensors": [["a", "object", [2], [1], 0, 0]]}, ValueError),
        ({"tensors": [["a", ["float32"], [2], [1], 0, 0]]}, (ValueError, TypeError)),
        ({"tensors": [["a", "float32", [2], [1], 1, 0]]}, ValueError),
        ({"tensors": [["a", "float32", [2], [1], 0]]}, ValueError),
        ({"tensors": [["a\n", "float32", [2], [1], 0, 0]]}, ValueError),
        ({"tensors": [*ANSWER["tensors"], *ANSWER["tensors"]]}, ValueError),
        ({"tensors": ["a"]}, ValueError),
        ({"values": {"a": [1]}}, ValueError),
        ({"values": []}, ValueError),
        ({"refused": "is\nodd"}, ValueError),
        ({"refused": "is odd"}, Refused),
    ],
)
def test_its_answer_is_not_believed(change: dict[str, object], error: type[Exception]) -> None:
    assert reader._checked(ANSWER, 100).tensors[0].shape == (2,)
    with pytest.raises(error):
        reader._checked({**({} if "refused" in change else ANSWER), **change}, 100)


def test_an_answer_is_mapped_where_it_says(tmp_path: Path) -> None:
    """Numbers that begin anywhere, on a buffer without a file."""
    buffer = bytearray(struct.pack("<x4f", 1, 2, 3, 4))
    contents = reader._checked({**ANSWER, "storages": [[1, 16]], "tensors": [["a", "float32", [2, 2], [1, 2], 0, 0]]}, len(buffer))
    assert reader._mapped(tmp_path, buffer, contents)["a"].tolist() == [[1, 3], [2, 4]]
