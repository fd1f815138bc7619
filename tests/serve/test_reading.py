"""Bodies that are no plain JSON, as clients and attackers send them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sumi.errors import RequestError
from sumi.request import Request
from sumi.serve.reading import parsed, request_of


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": -1e999}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\udc00\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"a": "\xff"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-32"),
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": 1} {}',
        b"{'a': 1}",
        b"\x00",
    ],
    ids=lambda data: repr(data[:16]),
)
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(RequestError) as error:
        parsed(data)
    assert "\n" not in str(error.value) and str(error.value).isascii()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), VALUES), st.booleans())
def test_what_python_writes_is_read(value: dict[str, object], escaped: bool) -> None:
    assert parsed(json.dumps(value, ensure_ascii=escaped).encode()) == value


def test_a_seed_may_be_text() -> None:
    assert request_of({"seed": "18446744073709551615"}) == Request(seed=2**64 - 1)
    assert request_of({"seed": 7, "variation": 0.5, "variation_seed": "8"}) == Request(seed=7, variation=0.5, variation_seed=8)
    for text in ("", "-1", "1.0", "0x10", "١٢", " 7", "1" * 21):
        with pytest.raises(RequestError):
            request_of({"seed": text})


def test_null_is_the_default() -> None:
    assert request_of({name: None for name in ("prompt", "seed", "count", "noise", "exact", "steps")}) == Request()


def test_names_are_checked() -> None:
    with pytest.raises(RequestError, match="did you mean prompt"):
        request_of({"promt": "a cat"})
