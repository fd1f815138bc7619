"""Models of the real size, of random weights, against diffusers: what a tiny one cannot show. Minutes, and as much disk as the weights."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from support import assert_agree

FULL_SIZE = Path(__file__).with_name("full_size.py")

NEEDED = {"sd15": 8, "sd21-v": 10, "sdxl": 32}
"""Gigabytes on the disk."""


@pytest.mark.full
@pytest.mark.parametrize("variant", NEEDED)
def test_a_picture_of_a_real_size_model_agrees(tmp_path: Path, variant: str, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.disk_usage(tmp_path).free < NEEDED[variant] * 1e9:
        pytest.skip(f"needs {NEEDED[variant]} GB of disk")
    for side in ("theirs", "ours"):
        run = subprocess.run([sys.executable, FULL_SIZE, side, tmp_path, variant], check=True, capture_output=True, text=True)
        with capsys.disabled():
            print(json.loads(run.stdout.splitlines()[-1]))
    theirs, ours = load_file(tmp_path / "theirs.safetensors"), load_file(tmp_path / "ours.safetensors")
    for name in ("latent", "picture"):
        assert_agree(ours[name], theirs[name], 1e-4)
