"""Where a PyTorch file keeps what: the zip that `torch.save` writes, the sequence of pickles before it, the tar before that.

`examine` says which tensors there are and where in the file their numbers lie; it touches no number itself. `main` does that
in a process of its own, which by then can open nothing, start nothing and ask for little memory: should there be a hole in
the reading, nothing is on the other side of it. All of it imports next to nothing, so that the process starts at once.
"""

import json
import os
import re
import struct
import sys
from contextlib import suppress
from typing import NoReturn

from sumi.store.pickled.inert import INERT_THING, STORAGES, Name, Refused, Storage, View, damaged, shown, sizes, whole
from sumi.store.pickled.members import MAX_NAME, Source, tar_header, tar_members, zip_content, zip_members
from sumi.store.pickled.opcodes import MAX_PICKLE, Machine

MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
MAX_TENSORS = 20_000
MAX_DEPTH = 32
MAX_VALUES = 1000
MAX_TEXT = 4096
MAX_ANSWER = 1 << 26
MEMORY = 1 << 29
SECONDS = 30

Contents = dict[str, object]


def kind(source: Source) -> str | None:
    """Which of the formats a file is in by its first bytes, or at least a pickle; None for any other file."""
    start = source.head(0, 512)
    if start.startswith(b"PK\x03\x04"):
        name_size = int.from_bytes(start[26:28], "little")
        named = start[30 : 30 + name_size].endswith(b"/data.pkl") or b"/data.pkl" in source.head(max(0, source.size - (1 << 20)), 1 << 20)
        return "zip" if named else None
    if start.startswith(MAGIC):
        return "sequence"
    if len(start) == 512 and tar_header(start) is not None:
        return "tar" if {"pickle", "storages", "tensors"} <= tar_members(source).keys() else None
    # A safetensors file may start like this too: with the size of its header, of which five bytes are zero.
    return "pickle" if re.match(rb"\x80[\x02-\x05]", start) and start[3:8] != bytes(5) else None


def examine(source: Source) -> Contents:
    """`storages` (first byte and size), `tensors` (name, kind, shape, stride, number of the storage, offset in items) and
    `values` (the numbers and short texts at the top).

    Refused for what is damaged, not a checkpoint, or asks for anything that a checkpoint does not need. That the tensors stay
    inside of their storages, and these inside of the file, is for the caller to check.
    """
    try:
        return _examined(source)
    except (ValueError, KeyError, TypeError, OverflowError, struct.error, MemoryError, RecursionError) as error:
        raise damaged("it makes no sense") from error


def _examined(source: Source) -> Contents:
    reader = {"zip": _zip, "sequence": _sequence, "tar": _tarred, "pickle": _bare}.get(kind(source) or "")
    if reader is None:
        raise Refused("is not a PyTorch checkpoint: check the path, or download it again")
    machine, root, places = reader(source)
    views = _reached(machine, root)
    if not views:
        raise Refused("holds no tensors: it is a PyTorch file, but not of weights")
    numbers = {key: number for number, key in enumerate(places)}
    for name, view in views.items():
        if view.storage.key not in numbers:
            raise damaged(f"the numbers of {shown(name)} are missing")
    return {
        "storages": list(places.values()),
        "tensors": [[name, view.dtype, view.shape, view.stride, numbers[view.storage.key], view.offset] for name, view in views.items()],
        "values": _values(root),
    }


# ---------------------------------------------------------------------------------------------- what was saved

Reading = tuple[Machine, object, dict[str, tuple[int, int]]]


def _reached(machine: Machine, root: object) -> dict[str, View]:
    """The tensors under `root` by path: keys of dictionaries and numbers of lists, joined by dots."""
    found: dict[str, View] = {}
    pending: list[tuple[str | None, object, int]] = [("tensor" if isinstance(root, View) else "", root, 0)]
    while pending:
        path, value, depth = pending.pop()
        if isinstance(value, View):
            if path is None:
                raise damaged("the name of a tensor is none")
            if path in found or len(found) == MAX_TENSORS:
                raise damaged(f"two tensors are called {shown(path)}" if path in found else f"more than {MAX_TENSORS} tensors")
            found[path] = value
        elif isinstance(value, dict | list | tuple):
            machine.spend(2 * len(value) + 1)
            if depth == MAX_DEPTH:
                raise damaged("it is nested too deep")
            below = []
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(item, View | dict | list | tuple) and (isinstance(key, str) or not isinstance(value, dict)):
                    below.append((_joined(path, str(key)), item, depth + 1))
            pending += reversed(below)
    return found


def _joined(path: str | None, key: str) -> str | None:
    """None where no tensor can be called so; other things may be."""
    fits = path is not None and len(path) + len(key) < MAX_NAME and key.isprintable()
    return (f"{path}.{key}" if path else key) if fits else None


def _values(root: object) -> dict[str, int | float | str]:
    """What lies beside the weights, such as `global_step`."""
    found: dict[str, int | float | str] = {}
    for key, value in root.items() if isinstance(root, dict) else ():
        short = isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 63)
        if not (short or (isinstance(value, str) and len(value) <= MAX_TEXT)) or not isinstance(key, str):
            continue
        if len(key) <= MAX_NAME and key.isprintable() and len(found) < MAX_VALUES:
            found[key] = value
    return found


def _storage(saved: object) -> Storage:
    """What the new formats say in place of a storage: ("storage", type, key, device, count)."""
    if not isinstance(saved, tuple) or len(saved) not in (5, 6) or saved[0] != "storage" or saved[5:] not in ((), (None,)):
        raise damaged("a storage in it is none")
    _, kind, key, _, count, *_ = saved
    if not isinstance(kind, Name) or kind.path not in STORAGES or not isinstance(key, str):
        raise damaged("a storage in it is of no kind")
    return Storage(key, STORAGES[kind.path], whole(count))


class Storages:
    """The storages that a pickle mentions; one key is one storage."""

    def __init__(self) -> None:
        self.found: dict[str, Storage] = {}

    def __call__(self, saved: object) -> Storage | Name:
        if isinstance(saved, tuple) and len(saved) == 4 and saved[0] == "module" and isinstance(saved[1], Name):
            return saved[1]  # before zip, classes of modules were kept with their source
        storage = _storage(saved)
        first = self.found.setdefault(storage.key, storage)
        if first.size != storage.size:
            raise damaged(f"storage {shown(storage.key)} has two sizes")
        return storage


def _bare(source: Source) -> Reading:
    machine = Machine(_nothing)
    root, _ = machine.load(source.head(0, MAX_PICKLE))
    return machine, root, {}


def _nothing(saved: object) -> NoReturn:
    raise damaged("its pickle wants storages, and there are none")


# --------------------------------------------------------------------------------------------------------- zip


def _zip(source: Source) -> Reading:
    members = zip_members(source)
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise damaged(f"{len(pickles)} members are called data.pkl")
    root = pickles[0].partition("/")[0]
    if f"{root}/constants.pkl" in members:
        raise Refused("is a TorchScript program, not weights alone: use the .safetensors file of the same model")
    if f"{root}/byteorder" in members and zip_content(source, *members[f"{root}/byteorder"]) != b"little":
        raise Refused("was written on a big-endian machine: save it again on another")
    storages = Storages()
    machine = Machine(storages)
    value, end = machine.load(pickle := zip_content(source, *members[pickles[0]]))
    if end != len(pickle):
        raise damaged("data.pkl goes on after its end")
    places = {}
    for key, storage in storages.found.items():
        at, size, _ = members.get(f"{root}/data/{key}", (0, -1, 0))
        if size != storage.size:
            raise damaged(f"the numbers of storage {shown(key)} are {'missing' if size < 0 else 'of another size'}")
        places[key] = (at, size)
    return machine, value, places


# ------------------------------------------------------------------------------------- before zip: pickles in a row


def _sequence(source: Source) -> Reading:
    """Magic, version, machine, the object, the keys of its storages; then each storage, its count before its numbers."""
    storages = Storages()
    machine = Machine(storages)
    data = source.head(0, MAX_PICKLE)
    _, at = machine.load(data)
    version, at = machine.load(data, at)
    system, at = machine.load(data, at)
    if version != 1001 or not isinstance(system, dict):
        raise damaged("its version is none")
    if system.get("little_endian") is not True:
        raise Refused("was written on a big-endian machine: save it again on another")
    value, at = machine.load(data, at)
    keys, at = machine.load(data, at)
    if not isinstance(keys, list):
        raise damaged("it does not list its storages")
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        storage = storages.found.get(key) if isinstance(key, str) else None
        if storage is None or storage.key in places:
            raise damaged("its list of storages makes no sense")
        if int.from_bytes(source.read(at, 8), "little") != storage.count:
            raise damaged(f"the numbers of storage {shown(storage.key)} are of another size")
        places[storage.key] = (at + 8, storage.size)
        at += 8 + storage.size
    if at != source.size:
        raise damaged("it goes on after its end" if at < source.size else "it is cut short")
    return machine, value, places


# ------------------------------------------------------------------------------------------------ before that: tar


def _tarred(source: Source) -> Reading:
    """Three members: storages, each after a pickle that names it, then views of them; tensors, likewise; and the object."""
    members = tar_members(source)
    storages: dict[str, Storage] = {}
    places: dict[str, tuple[int, int]] = {}
    tensors: dict[str, View] = {}
    machine = Machine(_nothing)

    at, end = members["storages"][0], sum(members["storages"])
    total, at = _next(machine, source, at, end)
    for _ in range(whole(total)):
        saved, at = _next(machine, source, at, end)
        if not isinstance(saved, tuple) or len(saved) != 3 or not isinstance(saved[2], Name) or saved[2].path not in STORAGES:
            raise damaged("a storage in it is none")
        count = int.from_bytes(source.read(at, 8), "little")
        storage = Storage(str(whole(saved[0])), STORAGES[saved[2].path], whole(count))
        storages[storage.key], places[storage.key] = storage, (at + 8, storage.size)
        at += 8 + storage.size
    views, at = _next(machine, source, at, end)
    for view in views if isinstance(views, list) else ():
        key, root, offset, count = sizes(view)
        base = storages[str(root)]
        storage = Storage(str(key), base.dtype, count)
        unit = base.size // base.count if base.count else 1
        storages[storage.key], places[storage.key] = storage, (places[base.key][0] + offset * unit, storage.size)

    at, end = members["tensors"][0], sum(members["tensors"])
    total, at = _next(machine, source, at, end)
    for _ in range(whole(total)):
        saved, at = _next(machine, source, at, end)
        if not isinstance(saved, tuple) or len(saved) != 3:
            raise damaged("a tensor in it is none")
        storage = storages[str(whole(saved[1]))]
        axes = int.from_bytes(source.read(at, 4), "little")
        if axes > 64:
            raise damaged("a shape in it is none")
        numbers = sizes(struct.unpack(f"<{2 * axes + 1}q", source.read(at + 8, 8 * (2 * axes + 1))))
        tensors[str(whole(saved[0]))] = View(storage, storage.dtype, numbers[-1], numbers[:axes], numbers[axes:-1])
        at += 8 + 8 * (2 * axes + 1)

    machine.persistent = lambda saved: tensors[str(saved)] if isinstance(saved, int | str) and str(saved) in tensors else INERT_THING
    value, _ = _next(machine, source, *members["pickle"][:1], sum(members["pickle"]))
    return machine, value, places


def _next(machine: Machine, source: Source, at: int, end: int) -> tuple[object, int]:
    """The pickle at `at`, most of which are short."""
    window = 1 << 12
    try:
        value, size = machine.load(source.head(at, min(window, end - at)))
    except Refused:
        if end - at <= window:
            raise
        value, size = machine.load(source.head(at, min(MAX_PICKLE, end - at)))
    return value, at + size


# --------------------------------------------------------------------------------------------- in its own process


def answer(source: Source) -> bytes:
    """What `examine` finds as JSON, or why it refuses."""
    found: Contents
    try:
        found = examine(source)
    except Refused as refusal:
        found = {"refused": str(refusal)}
    text = json.dumps(found).encode()
    return text if len(text) <= MAX_ANSWER else json.dumps({"refused": str(damaged("its names are too long"))}).encode()


def main() -> NoReturn:
    """Examines the file on standard input, writes the answer to standard output, and ends."""
    with open(0, "rb", buffering=0) as file:
        source = Source(file)
        _confine()
        text = answer(source)
        while text:
            text = text[os.write(1, text) :]
        os._exit(0)


def _confine() -> None:
    """From here on: little memory and time, and the end of the process at whatever Python reports to its auditors.

    It reports opening, importing, compiling, connecting and starting; reading and writing what is open it does not.
    """
    with suppress(ImportError):  # Windows has no limits of this kind
        import resource

        limits = {"AS": MEMORY, "CPU": SECONDS, "CORE": 0, "FSIZE": 0, "NOFILE": 3, "NPROC": 0}
        for name, limit in limits.items():
            with suppress(AttributeError, ValueError, OSError):  # not every system has each of them
                resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
    sys.addaudithook(lambda event, given: os._exit(1))
