"""Thousands of damaged files: each is one line that says so, or other numbers; none takes long, much memory, or anything else down.

A file is damaged as disks and networks do it (flips, cuts, splices, exchanges) and as someone would who knows the format: the
table of a safetensors file and the pickle of a checkpoint are changed and put back with lengths and checksums that are right.
"""

import copy
import io
import json
import random
import signal
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sumi.errors import CheckpointError
from sumi.store.checkpoint import load, save
from sumi.store.pickled import reader
from sumi.store.pickled.archives import answer
from sumi.store.pickled.inert import Refused
from sumi.store.pickled.members import Source
from torch_files import TENSOR, in_tar, name, text, whole, zipped

FAST, FULL = 1500, 10_000
SECONDS = 60
"""What ends a case that hangs; how fast one is, is no test's business: this machine may be anything."""
MEMORY = 512 << 20

WORDS = (None, "", "F32", "F99", "a\nb", [], [0], [1 << 40] * 9, {}, {"a": 1})
ODD = (-1, 0, 1, 7, 1 << 31, 1 << 50, 1 << 63, 1 << 70, 1.5, True, *WORDS)
MANY = (bytes(8), b"\xff" * 8, *(struct.pack("<Q", number) for number in (1, 1 << 32, 1 << 62)))


def damage(data: bytes, draw: random.Random) -> bytes:
    """As disks and networks do it."""
    new = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        at, size = draw.randrange(len(new) or 1), draw.choice((1, 2, 4, 8, 40))
        match draw.randrange(6):
            case 0:
                new[at : at + 1] = bytes([(new[at] if new else 0) ^ 1 << draw.randrange(8)])
            case 1:
                del new[at:]
            case 2:
                new[at : at + draw.randrange(9)] = draw.randbytes(draw.randrange(9))
            case 3:
                there = draw.randrange(len(new) or 1)
                new[at : at + size], new[there : there + size] = new[there : there + size], new[at : at + size]
            case 4:
                new[at:at] = new[at : at + size]
            case 5:
                new[at : at + size] = draw.choice(MANY)[:size]
    return bytes(new)


def edited(data: bytes, draw: random.Random) -> bytes:
    """A safetensors file with a table that says something else."""
    length = int.from_bytes(data[:8], "little")
    table = copy.deepcopy(json.loads(data[8 : 8 + length]))
    name = draw.choice(list(table))
    entry = table[name]
    match draw.randrange(5):
        case 0:
            entry[draw.choice(list(entry))] = draw.choice(ODD)
        case 1 if name != "__metadata__":
            numbers = entry[draw.choice(("shape", "data_offsets"))]
            at = draw.randrange(len(numbers) or 1)
            numbers[at : at + 1] = [draw.choice(ODD)]
        case 2:
            table[name] = draw.choice(ODD)
        case 3:
            table[draw.choice(("x", "", "é", "\x00", "a" * 2000))] = table.pop(name)
        case _:
            entry["more"] = draw.choice(ODD)
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def tensors() -> dict[str, object]:
    base = torch.arange(24.0).reshape(4, 6)
    return {"a": base, "b": base.t()[1:], "c": torch.ones(3).half(), "d": torch.tensor(7), "e": torch.zeros(0, 2)}


def saved(thing: object, new: bool) -> bytes:
    file = io.BytesIO()
    torch.save(thing, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


def pickled() -> tuple[bytes, dict[str, bytes]]:
    """The pickle of a checkpoint, and the numbers that it speaks of."""
    with zipfile.ZipFile(io.BytesIO(GOOD["zip"]())) as archive:
        records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    return records.pop("data.pkl"), records


GOOD = {
    "zip": lambda: saved({"state_dict": tensors(), "global_step": 3}, True),
    "sequence": lambda: saved({"state_dict": tensors(), "global_step": 3}, False),
    "tar": in_tar,
}


# ------------------------------------------------------------------------------------------------------ watching


FORGET = Path("/proc/self/clear_refs")


def peak() -> int:
    """The most memory that this process had since it was told to forget, in bytes; where nothing tells, 0."""
    if not FORGET.exists():
        return 0
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


@pytest.fixture
def bounded() -> Iterator[Callable[[], None]]:
    """Gives every case its seconds, and all together their memory."""

    def late(number: int, frame: object) -> None:
        raise AssertionError(f"took more than {SECONDS} seconds")

    def next_case() -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)

    if FORGET.exists():
        FORGET.write_text("5")
    before, handler = peak(), signal.signal(signal.SIGVTALRM, late)
    try:
        yield next_case
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)
    assert peak() - before < MEMORY


def used(found: dict[str, Tensor]) -> None:
    """Reads every number, of the file's memory and no other."""
    for called, tensor in found.items():
        assert called.isprintable() and tensor.contiguous().numel() == tensor.numel()


def outcome(action: Callable[[], dict[str, Tensor]]) -> bool:
    """Whether it opened; an error has to be one line."""
    try:
        used(action())
    except (CheckpointError, Refused) as error:
        assert str(error).isprintable() and len(str(error)) < 1000
        return False
    return True


def in_this_process(data: bytes) -> dict[str, Tensor]:
    """What `reader.read` does, but for the process apart."""
    contents = reader._checked(json.loads(answer(Source(io.BytesIO(data)))), len(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return reader._mapped(Path("file"), bytearray(data), contents)


# ------------------------------------------------------------------------------------------------------- damaging


@pytest.mark.parametrize("amount", [FAST, pytest.param(FULL, marks=pytest.mark.full)])
def test_damaged_safetensors(tmp_path: Path, amount: int, bounded: Callable[[], None]) -> None:
    path, draw = tmp_path / "model.safetensors", random.Random(0)
    save(path, tensors(), {"step": "1"})
    good, opened = path.read_bytes(), 0
    for number in range(amount):
        bounded()
        path.write_bytes((edited if number % 3 == 0 else damage)(good, draw))
        opened += outcome(lambda: load(path))
    assert 0.02 * amount < opened < 0.6 * amount


def test_damaged_pickles(bounded: Callable[[], None]) -> None:
    """Most by the code of the process apart, run here: starting it ten thousand times would prove the same and take an hour."""
    draw = random.Random(1)
    files = [make() for make in GOOD.values()]
    content, records = pickled()
    assert all(outcome(lambda data=data: in_this_process(data)) for data in [*files, zipped(content, records)])
    opened = 0
    for number in range(FULL):
        bounded()
        data = zipped(damage(content, draw), records) if number % 2 else damage(files[number // 2 % len(files)], draw)
        opened += outcome(lambda data=data: in_this_process(data))
    assert 0.02 * FULL < opened < 0.6 * FULL


def test_damaged_pickles_in_the_process_apart(tmp_path: Path) -> None:
    draw, path = random.Random(2), tmp_path / "model.ckpt"
    content, records = pickled()
    for number, make in enumerate([*GOOD.values()] * 6):
        data = make()
        path.write_bytes(zipped(damage(content, draw), records) if number % 2 else damage(data, draw))
        there, here = ([], [])
        for found, action in ((there, lambda: load(path)), (here, lambda: in_this_process(path.read_bytes()))):
            try:
                found += [(name, tensor.tolist()) for name, tensor in action().items()]
            except (CheckpointError, Refused) as error:
                found.append(str(error).removeprefix(f"{path} "))
        assert str(there) == str(here) or not reader.is_pickle(path)


BOMBS = {
    "names": name("ldm.a", "b") * 400_000,
    "calls": (name("torch", "device") + b")R0") * 300_000,
    "numbers": (b"I" + b"9" * 10 + b"\n") * 900_000,
    "paths": b"]q\x00" + b"".join(b"0(" + text("k" * 40) + b"h\x00" + text("j" * 40) + b"h\x00dq\x00" for _ in range(20)),
    "marks": b"(" * 900_000,
}


@pytest.mark.parametrize("case", BOMBS)
def test_what_is_made_to_waste_time_and_memory(case: str, bounded: Callable[[], None]) -> None:
    data = zipped(whole(BOMBS[case] + TENSOR))
    bounded()
    outcome(lambda: in_this_process(data))
