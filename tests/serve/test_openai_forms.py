"""Forms: what other programs write is read as they mean it, and what is no whole form is refused in one line."""

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sumi.errors import RequestError
from sumi.serve.forms import LONGEST_TEXT, MOST_PARTS, Form, parsed

# Quotation marks and backslashes in names are written differently by every program.
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\%'), min_size=1, max_size=20)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
HEAD = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
KIND = "multipart/form-data; boundary=x"
EMPTY = Form({}, {})


def written(texts: dict[str, str], files: list[tuple[str, bytes]]) -> tuple[bytes, str]:
    """A form as httpx writes it, and its Content-Type."""
    named = [(name, ("../../etc/passwd", data, "image/png")) for name, data in files]
    request = httpx.Request("POST", "http://studio/", data=texts, files=named)
    return request.read(), request.headers["content-type"]


def part(disposition: str, data: bytes = b"1") -> bytes:
    return b"--x\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n" + data + b"\r\n"


@given(st.dictionaries(NAMES, TEXTS, max_size=5), st.lists(st.tuples(NAMES, st.binary(max_size=200)), min_size=1, max_size=4))
@settings(deadline=None)
def test_forms_of_another_program(texts: dict[str, str], files: list[tuple[str, bytes]]) -> None:
    found = parsed(*written(texts, files))
    assert found.texts == texts
    assert found.files == {name: tuple(data for other, data in files if other == name) for name, _ in files}


def test_a_field_in_which_no_file_was_chosen_is_none() -> None:
    unchosen = b'--x\r\nContent-Disposition: form-data; name="mask"; filename=""\r\nContent-Type: application/octet-stream\r\n\r\n\r\n'
    assert parsed(part('form-data; name="prompt"', b"a") + unchosen + b"--x--", KIND) == Form({"prompt": "a"}, {})


def test_pictures_may_hold_anything() -> None:
    data = b"\r\n--x-\r\n--" + bytes(range(256)) * 500
    assert parsed(part('form-data; name="image[]"; filename="a"', data) * 2 + b"--x--", KIND).files == {"image[]": (data, data)}


def test_a_form_that_is_cut_short_is_none() -> None:
    body, kind = written({"prompt": "a red circle"}, [("image", b"\x89PNG" * 10)])
    assert parsed(body, kind) != EMPTY
    for end in range(len(body) - 4):
        with pytest.raises(RequestError, match="damaged or cut short"):
            parsed(body[:end], kind)


@given(st.integers(0, 300), st.binary(min_size=1, max_size=4))
@settings(deadline=None)
def test_damage_is_told_or_harmless(at: int, by: bytes) -> None:
    body, kind = written({"prompt": "a"}, [("image", b"\x89PNG" * 10)])
    try:
        parsed(body[:at] + by + body[at + len(by) :], kind)
    except RequestError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (HEAD + b"1\r\n" + HEAD + b"2\r\n--x--", "the form gives a field twice"),
        (HEAD + b"\xff\r\n--x--", "not Unicode text"),
        (HEAD + b"\xed\xa0\x80\r\n--x--", "not Unicode text"),
        (b'--x\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n1\r\n--x--', "not Unicode text"),
        (part("form-data") + b"--x--", "a part of the form has no name"),
        (part('form-data; name="' + "a" * 101 + '"') + b"--x--", "more than 100 characters"),
        (part('attachment; name="a"') + b"--x--", "a part of the form has no name"),
        (b"--x\r\n\r\n1\r\n--x--", "a part of the form has no name"),
        (HEAD + b"a" * (LONGEST_TEXT + 1) + b"\r\n--x--", "more than 1 MiB"),
        (b"".join(part(f'form-data; name="a{number}"') for number in range(MOST_PARTS + 1)) + b"--x--", "more than 200 parts"),
        (b"--x\r\n" + b"A: " + b"a" * 100_000 + b"\r\n\r\n--x--", "damaged or cut short"),
        (b"--x\r\n" + b"A: b\r\n" * 1000 + b"\r\n1\r\n--x--", "damaged or cut short"),
        (b"--y\r\n", "damaged or cut short"),
    ],
)
def test_what_is_no_form(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        parsed(body, KIND)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""'])
def test_a_form_without_a_boundary(kind: str) -> None:
    with pytest.raises(RequestError, match="without a boundary"):
        parsed(b"", kind)


def test_a_boundary_that_is_too_long() -> None:
    with pytest.raises(RequestError, match="damaged or cut short"):
        parsed(b"", f"multipart/form-data; boundary={'x' * 10_000}")
