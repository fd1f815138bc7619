"""A pickle read as what it says, not as what it does.

Each opcode is carried out on plain values. What the pickle asks to import stays a name, what it asks to call is looked up in
a table of what a checkpoint needs, and the answer is plain again: a dictionary, a number, the description of a tensor.
Nothing is imported, so there is nothing to run. A name outside of the tables is refused as soon as it is said.

This module runs in a process of its own (`archives.main`) that has to start fast: it imports next to nothing.
"""

import re
import struct
from collections.abc import Callable

from sumi.store.pickled.inert import CALLS, INERT_THING, KINDS, STORAGES, Name, Number, Parameters, View, damaged, hostile, known, too_much

# Far above any checkpoint with its optimizer (SDXL: 400,000 opcodes, 2 MB); a pickle that says more is made to waste time.
MAX_OPCODES = 1_000_000
MAX_PICKLE = 1 << 24
MAX_LINE = 1024
MAX_LONG = 32


class Machine:
    """Reads pickles, one after the other, with one allowance of opcodes for all.

    `persistent` answers what a pickle keeps outside of itself: in PyTorch's files, the storages.
    """

    def __init__(self, persistent: Callable[[object], object]) -> None:
        self.persistent = persistent
        self.left = MAX_OPCODES

    def load(self, data: bytes, at: int = 0) -> tuple[object, int]:
        """The value of the pickle that starts at `at`, and where it ends; Refused for all that no checkpoint needs."""
        self.data, self.at = data, at
        self.stack: list[object] = []
        self.marks: list[list[object]] = []
        self.memo: dict[int, object] = {}
        try:
            if self._take(1) != b"\x80" or self._number(1) not in (2, 3, 4, 5):
                raise damaged("a pickle in it does not begin as one")
            while (code := data[self.at : self.at + 1]) != b".":
                self.at += 1
                self.left -= 1  # `spend`, without the call
                if self.left < 0:
                    raise too_much()
                operation = OPERATIONS.get(code)
                if operation is None:
                    raise damaged(f"{code!r} in a pickle, which no checkpoint says" if code else "a pickle in it has no end")
                operation(self)
            return self.stack.pop(), self.at + 1
        except (IndexError, KeyError, TypeError, ValueError, OverflowError, MemoryError, struct.error) as error:
            raise damaged("a pickle in it makes no sense") from error

    def spend(self, count: int) -> None:
        """Counts work that is not one opcode's."""
        self.left -= count
        if self.left < 0:
            raise too_much()

    # ------------------------------------------------------------------------------------------------ reading

    def _take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise damaged("a pickle in it is cut short")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def _number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(size), "little", signed=signed)

    def _line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + MAX_LINE)
        if end < 0:
            raise damaged("a line in a pickle has no end")
        line = self._take(end - self.at).decode("utf-8")
        self.at += 1
        return line

    def _text(self, size: int) -> str:
        return self._take(self._number(size)).decode("utf-8", "surrogatepass")

    def _old_text(self, size: int) -> str | bytes:
        """Python 2 had one type for text and bytes."""
        raw = self._take(self._number(size))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw

    def _integer(self, text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,30}L?", text):
            raise damaged("a number in a pickle is none")
        return int(text.rstrip("L"))

    def _long(self, size: int) -> int:
        count = self._number(size)
        if count > MAX_LONG:
            raise damaged("a number in a pickle is too long")
        return self._number(count, signed=True)

    # --------------------------------------------------------------------------------------------- operations

    def _marked(self) -> list[object]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def _put(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    def _set(self, items: list[object]) -> None:
        target = self.stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(target, dict):
                # Other keys (tuples, objects, huge numbers) lead to nothing that is looked for, and could take for ever to hash.
                if isinstance(key, str | bytes | float) or (isinstance(key, int) and abs(key) < 1 << 63):
                    target[key] = value
            elif target is not INERT_THING:
                raise damaged("a pickle in it makes no sense")

    def _extend(self, items: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif target is not INERT_THING:
            raise damaged("a pickle in it makes no sense")

    def _gather(self, kind: Callable[[list[object]], object]) -> None:
        items = self._marked()
        self.stack.append(kind(items))

    def _dictionary(self, items: list[object]) -> None:
        self.stack.append({})
        self._set(items)

    def _name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise hostile("something without a name")
        self.spend(3)  # looking a name up takes as long as a few other steps, and a pickle says each but once
        self.stack.append(known(module, name))

    def _call(self, function: object, given: object, named: object = None) -> None:
        if not isinstance(function, Name) or not isinstance(given, tuple | list):
            raise hostile("something that is no function")
        call = CALLS.get(function.path)
        if call is not None:
            if named:
                raise damaged("a call in a pickle has odd arguments")
            self.stack.append(call(self.spend, *given))
        elif function.path in STORAGES or function.path in KINDS:
            raise hostile(function.path)
        else:
            self.stack.append(INERT_THING)

    def _reduce(self) -> None:
        given = self.stack.pop()
        self._call(self.stack.pop(), given)

    def _new(self) -> None:
        named = self.stack.pop()
        given = self.stack.pop()
        self._call(self.stack.pop(), given, named)

    def _instance(self) -> None:
        module, name = self._line(), self._line()
        given = self._marked()
        self._name(module, name)
        self._call(self.stack.pop(), given)

    def _object(self) -> None:
        function, *given = self._marked()
        self._call(function, given)

    def _build(self) -> None:
        """Attributes of dictionaries and of tensors are no weights, but for one kind of dictionary that has its items there."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Number) and isinstance(state, tuple) and len(state) > 1:
            target.order = ">" if state[1] == ">" else "<"
        elif isinstance(target, Parameters) and isinstance(state, dict):
            held = state.get("_parameters")
            target |= held if isinstance(held, dict) else {}
            self.spend(len(target))
        elif not (target is INERT_THING or isinstance(target, dict) or (isinstance(target, View) and isinstance(state, dict))):
            raise damaged("a pickle in it makes no sense")

    def _global(self) -> None:
        module = self._line()
        self._name(module, self._line())

    def _stacked_global(self) -> None:
        name = self.stack.pop()
        self._name(self.stack.pop(), name)

    def _tuple(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def _truth(self) -> None:
        text = self._line()
        self.stack.append(text == "01" if text in ("00", "01") else self._integer(text))


OPERATIONS: dict[bytes, Callable[[Machine], object]] = {
    b"\x95": lambda m: m._take(8),  # a frame, which only says how much to read ahead
    b"N": lambda m: m.stack.append(None),
    b"\x88": lambda m: m.stack.append(True),
    b"\x89": lambda m: m.stack.append(False),
    b"I": Machine._truth,
    b"J": lambda m: m.stack.append(m._number(4, signed=True)),
    b"K": lambda m: m.stack.append(m._number(1)),
    b"M": lambda m: m.stack.append(m._number(2)),
    b"L": lambda m: m.stack.append(m._integer(m._line())),
    b"\x8a": lambda m: m.stack.append(m._long(1)),
    b"\x8b": lambda m: m.stack.append(m._long(4)),
    b"F": lambda m: m.stack.append(float(m._line())),
    b"G": lambda m: m.stack.append(struct.unpack(">d", m._take(8))[0]),
    b"T": lambda m: m.stack.append(m._old_text(4)),
    b"U": lambda m: m.stack.append(m._old_text(1)),
    b"X": lambda m: m.stack.append(m._text(4)),
    b"\x8c": lambda m: m.stack.append(m._text(1)),
    b"\x8d": lambda m: m.stack.append(m._text(8)),
    b"B": lambda m: m.stack.append(m._take(m._number(4))),
    b"C": lambda m: m.stack.append(m._take(m._number(1))),
    b"\x8e": lambda m: m.stack.append(m._take(m._number(8))),
    b"\x96": lambda m: m.stack.append(m._take(m._number(8))),
    b"(": Machine._mark,
    b"0": lambda m: m.stack.pop() if m.stack else m._marked(),
    b"1": Machine._marked,
    b"2": lambda m: m.stack.append(m.stack[-1]),
    b")": lambda m: m.stack.append(()),
    b"\x85": lambda m: m._tuple(1),
    b"\x86": lambda m: m._tuple(2),
    b"\x87": lambda m: m._tuple(3),
    b"t": lambda m: m._gather(tuple),
    b"]": lambda m: m.stack.append([]),
    b"l": lambda m: m._gather(list),
    b"a": lambda m: m._extend([m.stack.pop()]),
    b"e": lambda m: m._extend(m._marked()),
    b"}": lambda m: m.stack.append({}),
    b"d": lambda m: m._dictionary(m._marked()),
    b"s": lambda m: m._set([m.stack.pop(), m.stack.pop()][::-1]),
    b"u": lambda m: m._set(m._marked()),
    b"\x8f": lambda m: m.stack.append(INERT_THING),  # sets hold no weights
    b"\x90": lambda m: m._extend(m._marked()),
    b"\x91": lambda m: m._gather(lambda items: INERT_THING),
    b"p": lambda m: m._put(m._integer(m._line())),
    b"q": lambda m: m._put(m._number(1)),
    b"r": lambda m: m._put(m._number(4)),
    b"\x94": lambda m: m._put(len(m.memo)),
    b"g": lambda m: m.stack.append(m.memo[m._integer(m._line())]),
    b"h": lambda m: m.stack.append(m.memo[m._number(1)]),
    b"j": lambda m: m.stack.append(m.memo[m._number(4)]),
    b"c": Machine._global,
    b"\x93": Machine._stacked_global,
    b"R": Machine._reduce,
    b"\x81": Machine._reduce,
    b"\x92": Machine._new,
    b"i": Machine._instance,
    b"o": Machine._object,
    b"b": Machine._build,
    b"Q": lambda m: m.stack.append(m.persistent(m.stack.pop())),
}
