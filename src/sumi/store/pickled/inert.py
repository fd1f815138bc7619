"""What a pickle may name, and what becomes of it: the tables of the machine in `opcodes`.

A checkpoint needs few names: how to put a tensor together, the kinds of storages and numbers, dictionaries. Trainers leave
more beside the weights, which becomes inert. Every other name is refused, and no name is ever looked up in Python.
"""

import re
import struct
from collections.abc import Callable

ITEM_SIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1, "complex64": 8, "complex128": 16,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1,
}  # fmt: skip
STORAGES = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.storage.UntypedStorage": "uint8",
    "torch.storage.TypedStorage": "uint8",
}
KINDS = {f"torch.{name}": name for name in ITEM_SIZES}

# What trainers leave beside the weights. Each of these becomes the same empty thing, whatever is done to it.
INERT = {
    "argparse.Namespace", "builtins.bool", "builtins.bytearray", "builtins.bytes", "builtins.complex", "builtins.float",
    "builtins.frozenset", "builtins.int", "builtins.long", "builtins.object", "builtins.range", "builtins.set", "builtins.slice",
    "builtins.str", "builtins.unicode", "builtins.xrange",
    "collections.deque", "copyreg._reconstructor", "datetime.datetime", "datetime.timedelta", "functools.partial",
    "numpy._core.multiarray._reconstruct", "numpy._core.numeric._frombuffer", "numpy.core.multiarray._reconstruct",
    "numpy.core.numeric._frombuffer", "numpy.ndarray", "pathlib.Path", "pathlib.PosixPath", "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath", "pathlib.WindowsPath", "torch.ByteTensor", "torch.CharTensor", "torch.DoubleTensor", "torch.FloatTensor",
    "torch.HalfTensor", "torch.IntTensor", "torch.LongTensor", "torch.ShortTensor", "torch.Tensor", "torch.device",
    "typing.Any", "uuid.UUID",
}  # fmt: skip
INERT_MODULES = re.compile(
    r"(jsonargparse|ldm|lightning|lightning_fabric|lightning_utilities|main|omegaconf|pytorch_lightning|sgm|taming|torch\.optim|torchmetrics)"
    r"(\.\w+)*",
    re.A,
)
OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
NUMBERS = {
    "b1": "?", "f2": "e", "f4": "f", "f8": "d", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
}  # fmt: skip


Spend = Callable[[int], None]


class Refused(Exception):
    """Why a file is not opened, in words that go after its name."""


class Name:
    """Something that a pickle asks to import."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path


class Inert:
    """What has become of everything that is neither weights nor plain values."""

    __slots__ = ()


class Number:
    """The kind of a NumPy number."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "<"


class Parameters(dict[object, object]):
    """A `ParameterDict`, which the first embeddings were saved in."""


class Storage:
    """Numbers in the file, `count` of `dtype`, known there by `key`."""

    __slots__ = ("count", "dtype", "key")

    def __init__(self, key: str, dtype: str, count: int) -> None:
        self.key, self.dtype, self.count = key, dtype, count

    @property
    def size(self) -> int:
        """In bytes."""
        return self.count * ITEM_SIZES[self.dtype]


class View:
    """A tensor as the pickle describes it; whether it stays inside of its storage is not checked here. Offset and stride in items."""

    __slots__ = ("dtype", "offset", "shape", "storage", "stride")

    def __init__(self, storage: Storage, dtype: str, offset: int, shape: list[int], stride: list[int]) -> None:
        self.storage, self.dtype, self.offset, self.shape, self.stride = storage, dtype, offset, shape, stride


INERT_THING = Inert()


def damaged(what: str) -> Refused:
    return Refused(f"is damaged ({what}): download or copy it again")


def too_much() -> Refused:
    return Refused("says more than any checkpoint does: get the file from somewhere else")


def hostile(name: str) -> Refused:
    return Refused(f"asks to run {shown(name)} when it is opened: it was not run; use the .safetensors file of the same model")


def shown(text: str) -> str:
    """Text of a stranger's, fit for a message of one line."""
    return ascii(text[:80])[1:-1]


def whole(value: object) -> int:
    """`value`, which has to be a whole number that a file can hold; Refused otherwise."""
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise damaged("a size in it is none")
    return value


def sizes(value: object) -> list[int]:
    if not isinstance(value, tuple | list) or len(value) > 64:
        raise damaged("a shape in it is none")
    return [whole(side) for side in value]


# ---------------------------------------------------------------------------------------------- what may be called


def _tensor(spend: Spend, storage: object, offset: object, shape: object, stride: object, *rest: object) -> View:
    """`torch._utils._rebuild_tensor` and its second form, which adds requires_grad, hooks and perhaps flags."""
    if not isinstance(storage, Storage) or len(rest) not in (0, 2, 3):
        raise damaged("a tensor in it has no storage")
    if rest[2:] and rest[2]:
        raise Refused("holds a tensor that is to be conjugated when it is used: save it again with plain numbers")
    return View(storage, storage.dtype, whole(offset), sizes(shape), sizes(stride))


def _typed_tensor(spend: Spend, *given: object) -> View:
    """The third form, for numbers younger than the storages: the kind comes after the hooks."""
    *first, kind = given[:7]
    view = _tensor(spend, *first, *given[7:])
    if not isinstance(kind, Name) or kind.path not in KINDS:
        raise damaged("a tensor in it is of no kind")
    view.dtype = KINDS[kind.path]
    return view


def _parameter(spend: Spend, data: object, *rest: object) -> View:
    if not isinstance(data, View):
        raise damaged("a parameter in it is no tensor")
    return data


def _subclass(spend: Spend, function: object, kind: object, given: object, state: object) -> View:
    """`torch._tensor._rebuild_from_type_v2`: a tensor that had attributes."""
    if not isinstance(function, Name) or not isinstance(given, tuple) or function.path not in REBUILDERS:
        raise damaged("a tensor in it is of no kind")
    return REBUILDERS[function.path](spend, *given)


def _pairs(spend: Spend, items: object = ()) -> dict[object, object]:
    if not isinstance(items, dict | list | tuple):
        raise damaged("a dictionary in it is none")
    spend(len(items))
    pairs = items.items() if isinstance(items, dict) else [pair for pair in items if isinstance(pair, tuple | list) and len(pair) == 2]
    return {key: value for key, value in pairs if isinstance(key, str)}


def _sequence(spend: Spend, items: object = ()) -> object:
    """The items themselves: a copy would let a short pickle fill the memory."""
    return items if isinstance(items, list | tuple) else INERT_THING


def _encoded(spend: Spend, text: object, encoding: object = "latin1") -> bytes:
    """Bytes as protocol 2 writes them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise damaged("bytes in it are none")
    spend(len(text) // 64)
    return text.encode("latin-1")


def _number_kind(spend: Spend, code: object, *rest: object) -> Number:
    return Number(code.lstrip("<>|=")[:8] if isinstance(code, str) else "")


def _scalar(spend: Spend, kind: object, raw: object = b"", *rest: object) -> object:
    """A NumPy number as Python's."""
    raw = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    if not isinstance(kind, Number) or kind.code not in NUMBERS or not isinstance(raw, bytes):
        return INERT_THING
    value: object = struct.unpack(kind.order + NUMBERS[kind.code], raw)[0]
    return value


REBUILDERS: dict[str, Callable[..., View]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
}
CALLS: dict[str, Callable[..., object]] = {
    **REBUILDERS,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch.Size": _sequence,
    "builtins.list": _sequence,
    "builtins.tuple": _sequence,
    "builtins.dict": _pairs,
    "collections.Counter": _pairs,
    "collections.OrderedDict": _pairs,
    "collections.defaultdict": lambda spend, *rest: {},
    "torch.nn.modules.container.ParameterDict": lambda spend, *rest: Parameters(),
    "numpy.dtype": _number_kind,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "_codecs.encode": _encoded,
}


def known(module: str, name: str) -> Name:
    """Refused if no checkpoint says this name."""
    path = f"{OLD_MODULES.get(module, module)}.{name}"
    listed = path in CALLS or path in STORAGES or path in KINDS or path in INERT
    if not listed and not (INERT_MODULES.fullmatch(module) and re.fullmatch(r"\w+", name, re.A)):
        raise hostile(path)
    return Name(path)
