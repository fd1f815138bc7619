"""Files made to run something when they are opened: none of them does, here or in the process that looks into them.

Among them is what is known to get past the scanners that people trust: each names its advisory. The files exist here alone,
as bytes, and all that they would do is to make an empty file.
"""

import io
import pickle
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from sumi.errors import CheckpointError
from sumi.store.checkpoint import load
from sumi.store.pickled.archives import MAGIC, examine
from sumi.store.pickled.inert import Refused
from sumi.store.pickled.members import Source
from torch_files import NUMBERS, TENSOR, beside, call, in_sequence, in_tar, name, short, tarred, text, value, whole, zipped

# ------------------------------------------------------------------------------------------------------- watching

WATCHED = ("pickle.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.putenv", "exec", "compile", "socket.", "shutil.", "ctypes.")
seen: list[str] | None = None


def watch(event: str, given: tuple[object, ...]) -> None:
    if seen is None:
        return
    writes = event == "open" and any(letter in str(given[1]) for letter in "wax+")
    starts = event == "subprocess.Popen" and list(given[1])[1:5] != ["-I", "-S", "-B", "-c"]
    if event.startswith(WATCHED) or writes or starts:
        seen.append(f"{event} {given}")


@pytest.fixture(scope="module")
def watching() -> Callable[[Callable[[], object]], list[str]]:
    """Does something, and says what of it an auditor of Python would not like."""
    sys.addaudithook(watch)

    def watched(action: Callable[[], object]) -> list[str]:
        global seen
        seen = []
        try:
            action()
        finally:
            found, seen = seen, None
        return found

    return watched


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that whatever runs would make, in a folder of which the files know only the name."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path / CANARY
    assert not (tmp_path / CANARY).exists()


CANARY = "canary"
TOUCH = f"touch {CANARY}"
PYTHON = f"open('{CANARY}', 'w')"


def refused(path: Path) -> str:
    """The reason, which has to come from the reading: a process that fell over says something else."""
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ") and message.isprintable() and "failed" not in message
    return message


def test_the_canary_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watching: Callable[..., list[str]]) -> None:
    """What the tests below look for is found when the same bytes are opened in the usual way."""
    monkeypatch.chdir(tmp_path)
    noticed = watching(lambda: pickle.loads(whole(call("os", "system", TOUCH))))
    assert (tmp_path / CANARY).exists() and any("pickle.find_class" in what for what in noticed)
    (tmp_path / CANARY).unlink()
    noticed = watching(lambda: pickle.loads(whole(call("builtins", "open", CANARY, "w"))).close())
    assert (tmp_path / CANARY).exists() and any(what.startswith("open") for what in noticed)


# -------------------------------------------------------------------------------- names that no checkpoint needs

NESTED = pickle.dumps({"a": 1}) + b"cos\nsystem\n"
GADGETS: dict[str, tuple[str, str, tuple[object, ...]]] = {
    "os.system": ("os", "system", (TOUCH,)),
    "posix": ("posix", "system", (TOUCH,)),
    "nt": ("nt", "system", (TOUCH,)),
    "subprocess": ("subprocess", "Popen", (["touch", CANARY],)),
    "eval": ("builtins", "eval", (PYTHON,)),
    "exec of Python 2": ("__builtin__", "exec", (PYTHON,)),
    "compile": ("builtins", "compile", (PYTHON, "", "exec")),
    "getattr": ("builtins", "getattr", (name("argparse", "Namespace"), "__init__")),
    "open": ("builtins", "open", (CANARY, "w")),
    "breakpoint": ("builtins", "breakpoint", ()),
    "import": ("builtins", "__import__", ("os",)),
    "apply": ("__builtin__", "apply", (name("torch", "device"), ())),
    "type": ("builtins", "type", ("T", (), {})),
    "map": ("builtins", "map", (name("builtins", "list"), ["a"])),
    "CVE-2025-1716 pip": ("pip", "main", (["install", "nothing"],)),
    "pip inside": ("pip._internal.cli.main", "main", (["install", "nothing"],)),
    "CVE-2025-71351 timeit": ("timeit", "timeit", (PYTHON,)),
    "CVE-2025-71365 f2py": ("numpy.f2py.crackfortran", "getlincoef", (PYTHON, {})),
    "f2py length": ("numpy.f2py.crackfortran", "_eval_length", (PYTHON, {})),
    "numpy testing": ("numpy.testing._private.utils", "runstring", (PYTHON, {})),
    "CVE-2025-71340 idlelib": ("idlelib.pyshell", "ModifiedInterpreter.runcode", (None, PYTHON)),
    "CVE-2025-71357 idlelib": ("idlelib.run", "Executive.runcode", (None, PYTHON)),
    "idlelib completion": ("idlelib.autocomplete", "AutoComplete.get_entity", (None, PYTHON)),
    "idlelib tip": ("idlelib.calltip", "get_entity", (PYTHON,)),
    "idlelib objects": ("idlelib.debugobj", "ObjectTreeItem.SetText", (None, PYTHON)),
    "GHSA-fqq6 doctest": ("doctest", "debug_script", (PYTHON,)),
    "GHSA-9w88 cProfile": ("cProfile", "runctx", (PYTHON, {}, {})),
    "GHSA-x696 profile": ("profile", "Profile.run", (None, PYTHON)),
    "GHSA-5qwp trace": ("trace", "Trace.run", (None, PYTHON)),
    "GHSA-xp4f ensurepip": ("ensurepip", "_run_pip", (["install", "nothing"],)),
    "GHSA-p9w7 lib2to3": ("lib2to3.pgen2.pgen", "ParserGenerator.make_label", (None, None, PYTHON)),
    "GHSA-f54q grammar": ("lib2to3.pgen2.grammar", "Grammar.loads", (None, NESTED.hex())),
    "code": ("code", "InteractiveInterpreter.runcode", (None, PYTHON)),
    "GHSA-4whj bottleneck": ("torch.utils.bottleneck.__main__", "run_autograd_prof", (PYTHON, {})),
    "GHSA-86cj guards": ("torch._dynamo.guards", "GuardBuilder.get", (None, PYTHON)),
    "GHSA-vv6j config": ("torch.utils._config_module", "ConfigModule.load_config", (None, NESTED.hex())),
    "GHSA-h3qp environment": ("torch.utils.collect_env", "run", (TOUCH,)),
    "shapes": ("torch.fx.experimental.symbolic_shapes", "ShapeEnv.evaluate_guards_expression", (None, PYTHON, [])),
    "jit wrapper": ("torch.jit.unsupported_tensor_ops", "execWrapper", (PYTHON, {}, {})),
    "inductor": ("torch._inductor.codecache", "compile_file", ("", "", ["sh", "-c", TOUCH])),
    "decoder": ("torch.utils.data.datapipes.utils.decoder", "basichandlers", ("pickle", NESTED.hex())),
    "torch.load": ("torch.serialization", "load", ("other.pt",)),
    "storage from bytes": ("torch.storage", "_load_from_bytes", (NESTED.hex(),)),
    "torch.hub": ("torch.hub", "load", ("a/b", "c")),
    "CVE-2025-10157 subprocess": ("asyncio.unix_events", "_UnixSubprocessTransport._start", (None, TOUCH, b"\x88", None, None, None, 0)),
    "CVE-2025-10155 write": ("distutils.file_util", "write_file", (CANARY, ["x"])),
    "FileIO": ("_io", "FileIO", (CANARY, "w")),
    "runpy": ("runpy", "_run_code", (PYTHON, {})),
    "pickle in pickle": ("pickle", "loads", (NESTED.hex(),)),
    "_pickle": ("_pickle", "loads", (NESTED.hex(),)),
    "attrgetter": ("operator", "attrgetter", ("system",)),
    "methodcaller": ("_operator", "methodcaller", ("system", TOUCH)),
    "webbrowser": ("webbrowser", "open", ("http://localhost",)),
    "ssl": ("ssl", "get_server_certificate", (("localhost", 443),)),
    "socket": ("socket", "create_connection", (("localhost", 9),)),
    "requests": ("requests.api", "get", ("http://localhost",)),
    "shutil": ("shutil", "rmtree", ("nowhere",)),
    "ctypes": ("ctypes", "CDLL", ("libc.so.6",)),
    "pty": ("pty", "spawn", ("sh",)),
    "pydoc": ("pydoc", "pipepager", ("x", TOUCH)),
    "pdb": ("pdb", "run", (PYTHON,)),
    "bdb": ("bdb", "Bdb.run", (None, PYTHON)),
    "venv": ("venv", "create", ("nowhere",)),
    "sys": ("sys", "exit", (0,)),
    "importlib": ("importlib", "import_module", ("os",)),
    "codecs": ("_codecs", "decode", ("", "rot13")),
    "numpy.load": ("numpy", "load", ("other.npy",)),
    "marshal": ("marshal", "loads", ("",)),
    "code object": ("types", "CodeType", ()),
    "pathlib beyond": ("pathlib", "os.system", (TOUCH,)),
    "placeholder beyond": ("pytorch_lightning.core", "os.system", (TOUCH,)),
    "look-alike": ("torch._utils", "_rebuild_tensor_v2 ", ()),
    "prefix": ("omegaconfx", "DictConfig", ()),
    "empty": ("", "", ()),
    "TorchScript": ("__torch__.evil", "Module", ()),
    "a module": ("torch.nn.modules.linear", "Linear", ()),
}


@pytest.mark.parametrize("case", GADGETS)
def test_a_name_that_no_checkpoint_needs(tmp_path: Path, case: str, canary: Path, watching: Callable[..., list[str]]) -> None:
    """Refused by name, though the file is otherwise a checkpoint; by the code of the process apart, here where it is watched.

    What is known to get past others also goes the whole way.
    """
    module, word, given = GADGETS[case]
    path = tmp_path / "model.ckpt"
    path.write_bytes(zipped(whole(beside(call(module, word, *given)))))

    def action() -> None:
        with open(path, "rb") as file, pytest.raises(Refused, match=r"asks to run .* when it is opened"):
            examine(Source(file))
        if case.startswith(("CVE", "GHSA", "os")):
            assert "asks to run" in refused(path)

    assert watching(action) == []


# ---------------------------------------------------------------------------------------------- tricks of opcodes

RUN = value((TOUCH,)) + b"R"
HELD = name("collections", "OrderedDict") + b")R"
HUGE = b"\x8a\x06" + (1 << 40).to_bytes(6, "little")
DOUBLED = b"]q\x00" + b"0(h\x00h\x00lq\x00" * 25


def tensor(*, kind: bytes = name("torch", "FloatStorage"), key: bytes = text("0"), count: bytes = b"K\x02", **change: bytes) -> bytes:
    """A tensor with some of what is said of it replaced."""
    parts = {"offset": b"K\x00", "shape": b"K\x02\x85", "stride": b"K\x01\x85", "grad": b"\x89", "hooks": HELD, **change}
    storage = b"(" + text("storage") + kind + key + text("cpu") + count + b"tQ"
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + b"".join(parts.values()) + b"tR"


TRICKS: dict[str, bytes] = {
    "stacked name": whole(beside(short("os") + short("system") + b"\x93" + RUN), 4),
    "CVE-2025-71325 stacked name at 0": short("os") + short("system") + b"\x93" + RUN + b".",
    "names by memo": whole(beside(short("os") + b"\x940" + short("system") + b"\x940h\x00h\x01\x93" + RUN), 4),
    "memo of another number": whole(beside(short("system") + b"q\x07" + short("os") + b"q\x0800h\x08h\x07\x93" + RUN), 4),
    "stacked name of bytes": whole(beside(b"C\x02osC\x06system\x93" + RUN), 4),
    "stacked name of numbers": whole(beside(b"K\x01K\x02\x93" + RUN), 4),
    "stacked name of a name": whole(beside(name("argparse", "Namespace") + short("x") + b"\x93" + RUN), 4),
    "stacked name of nothing": whole(b"\x93", 4),
    "instance": whole(beside(b"(" + text(TOUCH) + b"ios\nsystem\n")),
    "object": whole(beside(b"(" + name("os", "system") + text(TOUCH) + b"o")),
    "new object": whole(beside(name("os", "system") + value((TOUCH,)) + b"\x81")),
    "new object with names": whole(beside(name("os", "system") + value((TOUCH,)) + b"}\x92"), 4),
    "new object of a dictionary with names": whole(beside(name("collections", "OrderedDict") + b")" + value({"a": 1}) + b"\x92"), 4),
    "state that runs": whole(beside(HELD + value({"__setstate__": name("os", "system")}) + b"b" + text(TOUCH) + b"b")),
    "partial": whole(beside(call("functools", "partial", name("os", "system"), TOUCH) + b")R")),
    "call of what was made": whole(beside(call("functools", "partial", name("torch", "device"), TOUCH) + b")R")),
    "call of text": whole(beside(text("os.system") + RUN)),
    "call of a tensor": whole(beside(TENSOR + RUN)),
    "call of a storage": whole(beside(call("torch", "FloatStorage", 1 << 30))),
    "call of a kind": whole(beside(call("torch", "float32", 1))),
    "call with a number": whole(beside(name("collections", "OrderedDict") + b"K\x01R")),
    "extension 1": whole(beside(b"\x82\x01")),
    "extension 2": whole(beside(b"\x83\x01\x01")),
    "extension 4": whole(beside(b"\x84\x01\x00\x00\x00")),
    "persistent text": whole(beside(b"Pos.system\n")),
    "persistent word": whole(beside(text("os.system") + b"Q")),
    "persistent module": whole(beside(value(("module", name("os", "system"), "a.py", PYTHON)) + b"Q")),
    "persistent nothing": whole(beside(b")Q")),
    "storage of a function": whole(value({"weight": tensor(kind=name("os", "system"))})),
    "storage of no kind": whole(value({"weight": tensor(kind=name("collections", "OrderedDict"))})),
    "storage by number": whole(value({"weight": tensor(key=b"K\x00")})),
    "storage outside": whole(value({"weight": tensor(key=text("../../0"))})),
    "storage of less than nothing": whole(value({"weight": tensor(count=value(-2))})),
    "storage of more": whole(value({"weight": tensor(count=b"K\x03")})),
    "storage of far more": whole(value({"weight": tensor(count=b"\x8a\x08" + b"\xff" * 7 + b"\x3f")})),
    "storage of two sizes": whole(value({"weight": TENSOR, "other": tensor(kind=name("torch", "LongStorage"))})),
    "beyond the storage": whole(value({"weight": tensor(shape=b"K\x03\x85")})),
    "beyond by stride": whole(value({"weight": tensor(stride=b"K\x02\x85")})),
    "beyond by offset": whole(value({"weight": tensor(offset=b"K\x01")})),
    "before the storage": whole(value({"weight": tensor(offset=value(-1))})),
    "backwards": whole(value({"weight": tensor(stride=value(-1) + b"\x85")})),
    "more than memory": whole(value({"weight": tensor(shape=HUGE + b"\x85", stride=b"K\x00\x85")})),
    "more than numbers": whole(value({"weight": tensor(shape=b"(" + HUGE * 9 + b"t", stride=value((0,) * 9))})),
    "shape of truths": whole(value({"weight": tensor(shape=b"\x88\x85")})),
    "shape of text": whole(value({"weight": tensor(shape=text("2"))})),
    "shape of many": whole(value({"weight": tensor(shape=value((1,) * 65), stride=value((1,) * 65))})),
    "shape without stride": whole(value({"weight": tensor(stride=b")")})),
    "to be conjugated": whole(value({"weight": tensor(flags=value({"conj": b"\x88"}))})),
    "no storage": whole(value({"weight": call("torch._utils", "_rebuild_tensor_v2", 1, 0, (2,), (1,), 0, 0)})),
    "parameter of a word": whole(value({"weight": call("torch._utils", "_rebuild_parameter", "x", 0, 0)})),
    "rebuilt by a function": whole(beside(call("torch._tensor", "_rebuild_from_type_v2", name("torch", "Size"), 0, (), 0))),
    "on after the end": whole(beside(b"N")) + whole(call("os", "system", TOUCH)),
    "endless steps": whole(b"N0" * 600_000 + TENSOR),
    "twice as much, 25 times": whole(beside(DOUBLED)),
    "in itself": whole(b"}q\x00" + text("a") + b"h\x00s" + text("weight") + TENSOR + b"s"),
    "list in itself": whole(beside(b"]q\x01h\x01a")),
    "deep": whole(beside(b"]" * 50_000 + b"a" * 49_999)),
    "deep tuples": whole(beside(b")" + b"\x85" * 50_000)),
    "copies": whole(b"(" + b"N" * 50_000 + b"lq\x00" + b"".join([call("collections", "OrderedDict", b"h\x00")] * 1000) + TENSOR),
    "encoded copies": whole(text("x" * 100_000) + b"q\x00" + b"".join([call("_codecs", "encode", b"h\x00", "latin1")] * 2000) + TENSOR),
    "encoded by another": whole(beside(call("_codecs", "encode", "x", "rot13"))),
    "long number": whole(beside(b"\x8b" + struct.pack("<i", 1 << 16) + b"1" * (1 << 16))),
    "number of negative length": whole(beside(b"\x8b" + struct.pack("<i", -1))),
    "number of many digits": whole(beside(b"I" + b"9" * 900 + b"\n")),
    "number of words": whole(beside(b"Inan\n")),
    "text beyond": whole(beside(b"\x8d" + struct.pack("<Q", 1 << 62) + b"abc")),
    "bytes beyond": whole(beside(b"\x8e" + struct.pack("<Q", 1 << 40) + b"abc")),
    "text not text": whole(beside(b"X\x02\x00\x00\x00\xff\xfe")),
    "buffer": whole(beside(b"\x97"), 5),
    "protocol 6": whole(beside(b"N"), 6),
    "protocol 0": value({"weight": TENSOR}) + b".",
    "protocol in the middle": whole(beside(b"\x80\x02N")),
    "no end": whole(beside(b"N"))[:-1],
    "nothing": b"\x80\x02.",
    "pop of nothing": whole(b"0"),
    "tuple without a mark": whole(b"K\x01t"),
    "append to a word": whole(beside(text("a") + b"K\x01a")),
    "item of a list": whole(beside(b"]K\x01K\x02s")),
    "half an item": whole(beside(b"}(K\x01u")),
    "memo of nothing": whole(beside(b"h\x63")),
    "state of a word": whole(beside(text("a") + b"}b")),
    "two of one name": whole(value({"a": value({"b": TENSOR}), "a.b": TENSOR})),
    "name of two lines": whole(value({"weight\nnext": TENSOR})),
    "name that paints": whole(value({"\x1b[31mweight": TENSOR})),
    "name without end": whole(value({"w" * 2000: TENSOR})),
    "no tensors": whole(value({"step": 3})),
}


@pytest.mark.parametrize("case", TRICKS)
def test_a_trick_of_opcodes(tmp_path: Path, case: str, canary: Path, watching: Callable[..., list[str]]) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(zipped(TRICKS[case]))
    assert watching(lambda: refused(path)) == []


BINARY = b"\x00\x80\xffcos\nsystem\n"
HARMLESS: dict[str, bytes] = {
    "alone": b"N",
    "words as names": value({"two\nlines": [1], "w" * 5000: {"a": 1}}),
    "pickle in bytes": b"B" + struct.pack("<I", len(NESTED)) + NESTED,
    "array of bytes": b"\x96" + struct.pack("<Q", len(BINARY)) + BINARY,
    "frame too long": b"\x95" + b"\xff" * 8 + b"N",
    "memo far away": b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff",
    "class by state": HELD + value({"__class__": name("argparse", "Namespace"), "__reduce__": "os.system"}) + b"b",
    "list as a key": b"}]Ns",
    "deep key": b"})" + b"\x85" * 50_000 + b"Ns",
    "keys of one hash": b"}(" + b"".join(b"\x8a\x10" + (k * (2**61 - 1)).to_bytes(16, "little") + b"N" for k in range(1, 20_000)) + b"u",
    "surrogates": b"X\x03\x00\x00\x00\xed\xa0\x80",
    "callbacks": value({"a": name("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint") + b")R}b"}),
    "configuration": name("omegaconf.dictconfig", "DictConfig") + b")\x81" + value({"_content": {"a": 1}}) + b"b",
    "options": call("argparse", "Namespace") + value({"lr": "x"}) + b"b",
    "object of Python 2": call("copy_reg", "_reconstructor", name("ldm.util", "Thing"), name("__builtin__", "object"), None) + b"}b",
    "set": b"\x8f(K\x01\x90",
    "frozen set": b"(K\x01\x91",
    "default": call("collections", "defaultdict", name("builtins", "list")) + text("a") + b"Ns",
    "counter": call("collections", "Counter", {"a": 1}),
    "path": call("pathlib", "PosixPath", "/", "etc"),
    "array": call("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), (0,), b"C\x01b") + value((1, (1,))) + b"b",
    "words of Python 2": b"U\x02\xff\xfe",
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_stays_inert(tmp_path: Path, case: str, canary: Path, watching: Callable[..., list[str]]) -> None:
    """Odd things beside the weights, which real files have or hostile ones might, leave the weights as they are."""
    path, found = tmp_path / "model.ckpt", {}
    path.write_bytes(zipped(whole(beside(HARMLESS[case]), 4)))
    assert watching(lambda: found.update(load(path))) == []
    assert list(found) == ["weight"] and found["weight"].tolist() == [1, 2]


# ------------------------------------------------------------------------------------------- tricks of containers

GOOD = whole(value({"weight": TENSOR}))
EVIL = whole(beside(call("os", "system", TOUCH)))


def patched(*changes: tuple[bytes, int, bytes], file: bytes = zipped(GOOD)) -> bytes:
    """A zip with bytes changed: after the first of a mark, at an offset from it."""
    data = bytearray(file)
    for mark, offset, new in changes:
        at = data.index(mark) + offset
        data[at : at + len(new)] = new
    return bytes(data)


LOCAL, ENTRY, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


def archive(members: list[tuple[str, bytes]], **options: int) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", **options) as made:
        warnings.simplefilter("ignore")  # that a name is there twice
        for word, data in members:
            made.writestr(word, data)
    return file.getvalue()


def numbered(data: bytes) -> bytes:
    """Such that the checksum is right again."""
    at = data.index(b"archive/data.pkl") + 16
    content = data[at : data.index(LOCAL, at)]
    check = struct.pack("<I", zlib.crc32(content))
    return patched((LOCAL, 14, check), (ENTRY, 16, check), file=data)


PARTS = [("archive/data.pkl", GOOD), ("archive/data/0", NUMBERS)]
CONTAINERS: dict[str, bytes] = {
    "CVE-2025-1945 encrypted, says the directory": patched((ENTRY, 8, b"\x01")),
    "CVE-2025-1945 encrypted, says the member": patched((LOCAL, 6, b"\x01")),
    "CVE-2025-1945 encrypted, say both": patched((LOCAL, 6, b"\x01"), (ENTRY, 8, b"\x01"), file=zipped(EVIL)),
    "patched": patched((ENTRY, 8, b"\x20")),
    "strongly encrypted": patched((ENTRY, 8, b"\x40")),
    "masked": patched((ENTRY, 9, b"\x20")),
    "CVE-2025-10156 checksum": patched((LOCAL, 14, b"1234"), (ENTRY, 16, b"1234"), file=zipped(EVIL)),
    "checksum of one": patched((LOCAL, 14, b"1234")),
    "content changed": patched((b"weight", 0, b"height")),
    "compressed": archive(PARTS, compression=zipfile.ZIP_DEFLATED),
    "compressed, says the member": patched((LOCAL, 8, b"\x08")),
    "compressed, says the directory": patched((ENTRY, 10, b"\x08")),
    "pickle twice": archive([*PARTS, ("archive/data.pkl", EVIL)]),
    "two pickles": archive([*PARTS, ("other/data.pkl", EVIL)]),
    "pickle further down": archive([("a/b/data.pkl", GOOD), ("a/b/data/0", NUMBERS)]),
    "pickle without a folder": archive([("data.pkl", GOOD), ("data/0", NUMBERS)]),
    "numbers twice": archive([*PARTS, ("archive/data/0", NUMBERS)]),
    "no numbers": archive(PARTS[:1]),
    "fewer numbers": archive([PARTS[0], ("archive/data/0", NUMBERS[:4])]),
    "more numbers": archive([PARTS[0], ("archive/data/0", NUMBERS * 2)]),
    "another name in the member": patched((b"archive/data.pkl", 0, b"archive/dota.pkl")),
    "another size in the member": patched((LOCAL, 22, b"\x01\x00")),
    "name longer than the directory": patched((ENTRY, 28, b"\xff\xff")),
    "extra longer than the file": patched((LOCAL, 28, b"\xff\xff")),
    "member outside": patched((ENTRY, 42, b"\xff\xff\xff\x7f")),
    "large member without its size": patched((ENTRY, 42, b"\xff\xff\xff\xff")),
    "on another disk": patched((ENTRY, 34, b"\x01")),
    "directory of no entry": patched((ENTRY, 0, b"PK\x01\x03")),
    "directory elsewhere": patched((END, 16, b"\x00\x00")),
    "directory outside": patched((END, 16, b"\xff\xff\xff\x7f")),
    "directory of more": patched((END, 8, b"\x09\x00\x09\x00")),
    "directory of fewer": patched((END, 8, b"\x02\x00\x02\x00")),
    "directory with a comment": zipped(GOOD)[:-2] + b"\x05\x00hello",
    "two directories": zipped(EVIL)[:-2] + struct.pack("<H", 22) + zipped(GOOD)[-22:],
    "no directory": zipped(GOOD)[:-22],
    "half": zipped(GOOD)[:200],
    "bytes before": b"\x00" * 64 + zipped(GOOD),
    "program before": b"#!/bin/sh\ntouch canary\n" + zipped(EVIL),
    "zip in a zip": archive([("model.ckpt", zipped(EVIL))]),
    "zip of a folder": archive([("model/model.safetensors", b"x")]),
    "other end of the byte": zipped(GOOD, {"byteorder": b"big"}),
    "TorchScript": zipped(GOOD, {"constants.pkl": whole(b")"), "code/__torch__.py": PYTHON.encode()}),
    "not a pickle": zipped(b"hello"),
    "no pickle": zipped(b""),
    "bare pickle": whole(call("os", "system", TOUCH)),
    "bare pickle 4": whole(short("os") + short("system") + b"\x93" + RUN, 4),
    "bare pickle of no harm": whole(value({"a": 1})),
    "bare pickle of a storage": whole(TENSOR),
    "7z": b"7z\xbc\xaf\x27\x1c" + EVIL,
    "gzip": zlib.compress(EVIL, wbits=31),
    "sequence: name in the version": in_sequence(version=call("os", "system", TOUCH)),
    "sequence: name in the machine": in_sequence(system=call("os", "system", TOUCH)),
    "sequence: name in the object": in_sequence(root=beside(call("os", "system", TOUCH))),
    "sequence: name in the keys": in_sequence(keys=call("os", "system", TOUCH)),
    "sequence: another version": in_sequence(version=b"K\x01"),
    "sequence: no machine": in_sequence(system=b"N"),
    "sequence: other machine": in_sequence(system=value({"little_endian": b"\x89"})),
    "sequence: no keys": in_sequence(keys=b"]"),
    "sequence: keys twice": in_sequence(keys=value(["0", "0"])),
    "sequence: other keys": in_sequence(keys=value(["1"])),
    "sequence: keys not words": in_sequence(keys=value([["0"]])),
    "sequence: keys not a list": in_sequence(keys=text("0")),
    "sequence: more after": in_sequence() + EVIL,
    "sequence: less": in_sequence()[:-1],
    "sequence: another count": in_sequence()[:-16] + struct.pack("<q", 1 << 60) + NUMBERS,
    "sequence: magic alone": MAGIC,
    "tar: name in the count": in_tar(total=call("os", "system", TOUCH)),
    "tar: name in a storage": in_tar(storage=call("os", "system", TOUCH)),
    "tar: name in a tensor": in_tar(tensor=value((22, 11, name("os", "system")))),
    "tar: name in the object": in_tar(root=call("os", "system", TOUCH)),
    "tar: more storages": in_tar(total=b"K\x07"),
    "tar: endless storages": in_tar(total=b"\x8a\x07" + b"\xff" * 6 + b"\x00"),
    "tar: another storage": in_tar(tensor=value((22, 99, name("torch", "FloatTensor")))),
    "tar: no tensor": in_tar(root=value({"weight": text("99") + b"Q"})),
    "tar: half": in_tar()[:1600],
    "tar: others": tarred(b"", b"", b"").replace(b"storages", b"../../xx"),
}


@pytest.mark.parametrize("case", CONTAINERS)
def test_a_trick_of_containers(tmp_path: Path, case: str, canary: Path, watching: Callable[..., list[str]]) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(CONTAINERS[case])
    assert watching(lambda: refused(path)) == []


OPENED: dict[str, bytes] = {
    "by the standard library": zipped(GOOD),
    "without a checksum": patched((LOCAL, 14, bytes(4)), (ENTRY, 16, bytes(4))),
    "changed with its checksum": numbered(patched((LOCAL, 10, b"\x01\x02"))),
    "hidden pickle": zipped(GOOD, {"evil.pkl": EVIL, "data/9": EVIL, ".data/x": zipped(EVIL)}),
    "another root": zipped(GOOD, root="v1-5 pruned"),
    "sequence": in_sequence(root=value({"weight": TENSOR})),
    "tar": in_tar(),
}


@pytest.mark.parametrize("case", OPENED)
def test_what_only_looks_odd(tmp_path: Path, case: str, canary: Path, watching: Callable[..., list[str]]) -> None:
    """The same writers as above, so that those are not refused for how they are written."""
    path, found = tmp_path / "model.pt", {}
    path.write_bytes(OPENED[case])
    assert watching(lambda: found.update(load(path))) == []
    assert list(found) == ["weight"] and found["weight"].tolist() == [1, 2]


@pytest.mark.parametrize("ending", ["safetensors", "bin", "pth", "npz", "txt", "config.json"])
def test_an_ending_says_nothing(tmp_path: Path, ending: str, canary: Path) -> None:
    """CVE-2025-1889: whatever the file is called."""
    path = tmp_path / f"model.{ending}"
    path.write_bytes(zipped(EVIL))
    assert "asks to run os.system when it is opened" in refused(path)
    path.write_bytes(zipped(GOOD))
    assert load(path)["weight"].tolist() == [1, 2]


def test_tar_is_read_as_pytorch_reads_it(tmp_path: Path) -> None:
    """Nothing writes that form any more, so ours is checked against PyTorch's reader: on a file made here, of two numbers."""
    path = tmp_path / "old.pt"
    path.write_bytes(in_tar())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated
        expected = torch.load(path, weights_only=False)
    assert torch.equal(load(path)["weight"], expected["weight"])
