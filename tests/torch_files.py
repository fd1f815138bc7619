"""PyTorch's files written by hand, opcode by opcode: those that PyTorch no longer writes, and those that it never would."""

import io
import struct
import tarfile
import zipfile

from sumi.store.pickled.archives import MAGIC


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word.encode())) + word.encode()


def short(word: str) -> bytes:
    return b"\x8c" + bytes([len(word)]) + word.encode()


def name(module: str, word: str) -> bytes:
    return f"c{module}\n{word}\n".encode()


def value(thing: object) -> bytes:
    match thing:
        case None:
            return b"N"
        case bytes():
            return thing  # written out by the caller
        case str():
            return text(thing)
        case int():
            return b"J" + struct.pack("<i", thing)
        case list() | tuple():
            return b"(" + b"".join(map(value, thing)) + (b"l" if isinstance(thing, list) else b"t")
        case dict():
            return b"(" + b"".join(value(key) + value(item) for key, item in thing.items()) + b"d"
    raise TypeError(thing)


def call(module: str, word: str, *given: object) -> bytes:
    return name(module, word) + value(given) + b"R"


def whole(body: bytes, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + body + b"."


STORAGE = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x02tQ"
TENSOR = call("torch._utils", "_rebuild_tensor_v2", STORAGE, 0, (2,), (1,), b"\x89", name("collections", "OrderedDict") + b")R")
NUMBERS = struct.pack("<2f", 1, 2)


def beside(body: bytes) -> bytes:
    """A checkpoint of one tensor, with something else in it."""
    return value({"weight": TENSOR, "more": body})


def zipped(content: bytes, more: dict[str, bytes] | None = None, root: str = "archive") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for word, data in {"data.pkl": content, "data/0": NUMBERS, "version": b"3\n", **(more or {})}.items():
            archive.writestr(f"{root}/{word}", data)
    return file.getvalue()


SYSTEM = value({"protocol_version": 1001, "little_endian": b"\x88", "type_sizes": {"short": 2, "int": 4, "long": 4}})


def in_sequence(
    *, version: bytes = b"M\xe9\x03", system: bytes = SYSTEM, root: bytes = TENSOR, keys: bytes = b"]" + text("0") + b"a"
) -> bytes:
    count = struct.pack("<q", 2)
    return MAGIC + whole(version) + whole(system) + whole(root) + whole(keys) + count + NUMBERS


def tarred(storages: bytes, tensors: bytes, root: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for word, data in {"storages": storages, "tensors": tensors, "pickle": root}.items():
            entry = tarfile.TarInfo(word)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def in_tar(*, total: bytes = b"K\x01", storage: bytes = b"", tensor: bytes = b"", root: bytes = b"") -> bytes:
    """The oldest form: storage 11, tensor 22 on it, a dictionary."""
    of_storage = storage or value((11, "cpu", name("torch", "FloatStorage")))
    of_tensor = tensor or value((22, 11, name("torch", "FloatTensor")))
    storages = whole(total) + whole(of_storage) + struct.pack("<q", 2) + NUMBERS + whole(b"]")
    tensors = whole(b"K\x01") + whole(of_tensor) + struct.pack("<ii3q", 1, 0, 2, 1, 0)
    return tarred(storages, tensors, whole(root or value({"weight": text("22") + b"Q"})))
