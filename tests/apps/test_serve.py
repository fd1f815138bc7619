"""`sumi serve` as it is run: what it says, what it refuses, and how it ends."""

import json
import logging
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from sumi.apps.cli import main

GUARD = 60.0
ENDS = 10.0
"""Seconds in which it has to end."""


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """What `sumi serve` sets up in this process, its next test finds as it was."""
    root, own = logging.getLogger(), logging.getLogger("sumi")
    before, levels = root.handlers[:], (root.level, own.level)
    yield
    root.handlers[:] = before
    root.setLevel(levels[0])
    own.setLevel(levels[1])


@contextmanager
def running(folder: Path, *flags: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The program, its first lines, and the address that it tells people to open."""
    command = [sys.executable, "-m", "sumi", "serve", "--folder", str(folder), "--port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline() for _ in range(3)]
        address = re.search(r"open (http://\S+)", lines[1])
        assert address, lines
        try:
            yield program, "".join(lines), address[1]
        finally:
            program.kill()


def test_what_it_says_and_how_it_is_opened(tmp_path: Path) -> None:
    with running(tmp_path / "studio") as (program, said, address):
        key = (tmp_path / "studio" / "key").read_text().strip()
        assert len(key) >= 32 and said.count(key) == 2 and str(tmp_path / "studio") in said
        assert stat.S_IMODE((tmp_path / "studio" / "key").stat().st_mode) == 0o600
        with httpx.Client(trust_env=False, timeout=GUARD, follow_redirects=True) as http:
            assert http.get(address.partition("?")[0]).status_code == 401
            page = http.get(address)
            assert page.status_code == 200 and "<title>sumi</title>" in page.text and key not in str(page.url)
            job = http.post(f"{address.partition('?')[0]}v1/jobs", json={"request": {"prompt": "a very secret circle"}}).json()
            assert job["state"] == "queued"
        program.send_signal(signal.SIGTERM)
        _, log = program.communicate(timeout=ENDS)
        assert program.returncode == 143
        lines = [json.loads(line) for line in log.splitlines()]
        assert {"request", "submitted"} <= {line.get("event") for line in lines}
        assert "secret" not in log and key not in log
    with running(tmp_path / "studio", "--log-prompts") as (program, said, address):
        assert key in said, "the key of a folder stays"
        body = {"request": {"prompt": "a very secret circle"}}
        httpx.post(f"{address.partition('?')[0]}v1/jobs", json=body, headers={"Authorization": f"Bearer {key}"}, trust_env=False)
        program.send_signal(signal.SIGINT)
        _, log = program.communicate(timeout=ENDS)
        assert program.returncode == 130 and "very secret" in log


def test_it_ends_in_any_state(tmp_path: Path) -> None:
    """With a job running, others waiting, a stream open, a body half sent and a head half sent."""
    with running(tmp_path / "studio", "--open", "--quiet") as (program, _, address), httpx.Client(trust_env=False, timeout=GUARD) as http:
        port = int(address.rstrip("/").rpartition(":")[2])
        job = http.post(f"{address}v1/jobs", json={"request": {"steps": 250, "count": 64}}).json()
        http.post(f"{address}v1/jobs", json={"request": {"steps": 3}})
        lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        lines[0].sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        lines[1].sendall(b"GET /v1/ev")
        with http.stream("GET", f"{address}v1/jobs/{job['id']}/events") as stream:
            for line in stream.iter_lines():
                if line == "event: step":
                    break
            program.send_signal(signal.SIGTERM)
            program.wait(ENDS)
        assert program.returncode == 143
        for each in lines:
            each.close()
    with running(tmp_path / "studio", "--open", "--quiet") as (_, _, address):
        states = {each["state"] for each in httpx.get(f"{address}v1/jobs", trust_env=False, timeout=GUARD).json()["jobs"]}
        assert states <= {"queued", "running"}, "what it was at goes on"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--open", "--host", "0.0.0.0"], "with a key"),
        (["--open", "--host", "192.0.2.1"], "with a key"),
        (["--port", "70000"], "port"),
        (["--host-name", "http://x"], "host"),
        (["--batch", "0"], "--batch"),
        (["-m", "no-such-model-anywhere"], "no-such-model-anywhere"),
        (["--folder", "/proc/none"], "/proc/none"),
        (["extra"], "extra"),
    ],
    ids=str,
)
def test_what_it_refuses(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["serve", *(["--port", "0"] if "--port" not in flags else []), *flags]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1 and said in error


def test_a_short_key_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUMI_KEY", "short")
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["serve", "--port", "0", "--folder", str(tmp_path)]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "16" in capsys.readouterr().err


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        try:
            assert main(["serve", "--open", "--folder", str(tmp_path), "--port", str(taken.getsockname()[1])]) == 2
        finally:
            signal.signal(signal.SIGTERM, before)
    assert "another --port" in capsys.readouterr().err
