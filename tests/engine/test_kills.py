"""Killed at any time, an engine keeps what it has promised, and does nothing twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOUND = {"lost": 0, "doubled": 0, "short": 0, "damaged": 0, "orphans": 0, "integrity": "ok", "failed checks": 0}


@pytest.mark.parametrize(
    ("cycles", "maker"),
    [
        (100, "stub"),
        pytest.param(1000, "stub", marks=pytest.mark.full),
        pytest.param(50, "shipped", marks=pytest.mark.full),
    ],
)
def test_killed_time_and_again(cycles: int, maker: str, tmp_path: Path, environment: dict[str, str]) -> None:
    path = os.pathsep.join((environment["PYTHONPATH"], str(Path(__file__).parents[1])))
    command = [sys.executable, "-m", "engine.kills", str(tmp_path / "engine"), str(cycles), "0", maker]
    ran = subprocess.run(command, env={**environment, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(ran.stdout)
    print(found)
    assert {name: found[name] for name in SOUND} == SOUND
    assert found["promised"] >= cycles // 3, "many cycles live long enough to promise something"
    assert found["stories"] >= cycles // 10 and (found["uploads"] or cycles < 100)
