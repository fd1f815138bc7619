"""Requests that make no sense, thousands of them: none is a fault of the server, none hangs it, none leaves anything behind.

Drawn from the schema that the server tells (schemathesis), and from what it does not tell: bytes, headers, paths, values of the wrong kind.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sumi.request import FIELDS

HANGS = 10.0
"""Seconds after which a test takes a request to hang: a machine may be busy."""
GROWS = 50 << 20
"""Bytes by which the server may grow."""
NO_BODY = {"event-stream"}
QUIET = settings(
    max_examples=1,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Apart:
    """A server in a process of its own, whose workers paint one colour, at once."""

    url: str
    routes: list[tuple[str, str]]
    pid: int

    def memory(self) -> int:
        """Bytes that it holds, without its workers."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    """It wants no key: what is behind the door is asked."""
    tests = Path(__file__).parents[1]
    path = os.pathsep.join((str(tests), str(tests.parent / "src")))
    command = [sys.executable, "-m", "serve.apart", str(tmp_path_factory.mktemp("studio")), "serve.painter:Painter"]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as program:
        assert program.stdout is not None
        url, *found = program.stdout.readline().split(" ")
        known = [(method, route.strip()) for method, _, route in (each.partition("=") for each in found)]
        yield Apart(url, known, program.pid)
        program.communicate(timeout=60)


class Asker:
    """Sends requests over one connection, and counts how they are answered."""

    def __init__(self, studio: Apart) -> None:
        self.host, self.port = studio.url.rpartition("/")[2].split(":")
        self.answers: Counter[int] = Counter()
        self.wrong: list[tuple[int, str, str, str]] = []
        self.longest = 0.0

    def __call__(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> int:
        line, begun = HTTPConnection(self.host, int(self.port), timeout=HANGS), time.monotonic()
        try:
            line.putrequest(method, path, skip_accept_encoding=True)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                line.putheader(name, value)
            line.endheaders(body)
            reply = line.getresponse()
            stream = "event-stream" in (reply.getheader("content-type") or "")
            told = b"" if stream else reply.read()
            self.answers[reply.status] += 1
            if reply.status >= 500:
                self.wrong.append((reply.status, method, path[:200], body[:500].decode("latin-1")))
            if told and reply.status >= 400 and "json" in (reply.getheader("content-type") or ""):
                json.loads(told, parse_constant=lambda name: pytest.fail(f"{name} in a reply"))["error"]["message"].encode()
            return reply.status
        finally:
            line.close()
            self.longest = max(self.longest, time.monotonic() - begun)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=20)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=8
)
NEAR = st.sampled_from(
    [0, -1, 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64 - 1, 2**64, -0.0, 1e308, "", "upload:" + "0" * 64, "data:,", "../etc/passwd"]
)
NAMES = st.sampled_from(
    [*FIELDS, "sampler_name", "cfg_scale", "batch_size", "init_images", "n", "size", "response_format", "override_settings"]
)
REQUESTS = st.dictionaries(NAMES | st.text(max_size=8), NEAR | VALUES, max_size=5)
BODIES = (
    st.builds(lambda value: json.dumps(value).encode(), REQUESTS | st.fixed_dictionaries({"request": REQUESTS}) | VALUES)
    | st.binary(max_size=200)
    | st.builds(lambda text: ('{"prompt": "' + text + '"}').encode("utf-8", "surrogatepass"), st.text(st.characters(exclude_categories=())))
)
KINDS = st.sampled_from(
    ["application/json", "application/json", "text/plain", "image/png", "multipart/form-data; boundary=x", "multipart/form-data", ""]
)
IDS = st.text("0123456789abcdef", max_size=32)
PARTS = st.text(st.sampled_from("/.%0aZ\\é~-{}:") | st.characters(min_codepoint=33, max_codepoint=126), max_size=40)


def malformed(studio: Apart, count: int) -> Asker:
    """So many requests to the routes that there are, and to some that there are not."""
    asker = Asker(studio)

    takes = [(method, path) for method, path in studio.routes if method != "GET" or "{" in path]

    @settings(QUIET, max_examples=count)
    @given(st.sampled_from(takes), IDS | PARTS, PARTS, BODIES, KINDS, st.sampled_from(["", "?"]))
    def sent(route: tuple[str, str], name: str, query: str, body: bytes, kind: str, mark: str) -> None:
        method, path = route
        for each in ("{id}", "{name}", "{digest}"):
            path = path.replace(each, "".join(sign if sign.isascii() and sign not in "?# " else "%00" for sign in name) or "x")
        asked = path + (mark + query.encode("ascii", "replace").decode().replace(" ", "+") if mark else "")
        asker(method, asked, b"" if method == "GET" else body, {"Content-Type": kind} if kind else {})

    sent()
    return asker


def from_schema(studio: Apart, count: int) -> Asker:
    """So many for each operation of the schema, half of them against it."""
    described = schemathesis.openapi.from_url(f"{studio.url}/openapi.json")
    asker = Asker(studio)
    for found in described.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @settings(QUIET, max_examples=count)
            @given(operation.as_strategy(generation_mode=mode))
            def sent(case: Any) -> None:
                asked = case.as_transport_kwargs(base_url=studio.url)
                prepared = requests.Request(**{key: asked[key] for key in asked if key in REQUEST_KEYS}).prepare()
                body = prepared.body or b""
                body = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
                headers = {name: value for name, value in prepared.headers.items() if name.lower() != "content-length"}
                asker(str(prepared.method), prepared.path_url, body, headers)

            sent()
    return asker


REQUEST_KEYS = ("method", "url", "headers", "params", "data", "json", "files", "cookies")


def check(studio: Apart, count: int, each: int) -> None:
    for _ in range(2):  # what is loaded once
        malformed(studio, 100)
        from_schema(studio, 1)
    before = studio.memory()
    askers = [malformed(studio, count), from_schema(studio, each)]
    for asker in askers:
        print(f"{asker.answers.total()} requests, {dict(asker.answers)}, longest {asker.longest:.2f} s")
        assert asker.wrong == []
        assert asker.answers[400] > 0 and asker.answers[404] > 0
    print(f"grown by {(studio.memory() - before) / 2**20:.1f} MiB")
    assert sum(asker.answers.total() for asker in askers) >= count + each * len(studio.routes)
    assert studio.memory() - before < GROWS
    assert Asker(studio)("GET", "/health") == 200


def test_nothing_breaks_it(apart: Apart) -> None:
    check(apart, 600, 2)


@pytest.mark.full
def test_nothing_breaks_it_in_ten_thousand(apart: Apart) -> None:
    check(apart, 10_000, 30)
