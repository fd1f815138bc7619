"""OpenAI's own client, in JavaScript, asks a studio for pictures."""

import base64
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from serve.serving import Studio

CLIENTS = Path(__file__).parent / "clients"
INSTALLED = "node_modules/.installed"
"""Says by its contents which lock file was installed."""
PATIENCE = 300
"""Seconds that npm, and a client, may take."""
SIDE = 64


@pytest.fixture(scope="session")
def node() -> str:
    """Node, with the packages of clients/package.json beside the clients. Where SUMI_NPM is set, they have to be there."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        assert not os.environ.get("SUMI_NPM"), "SUMI_NPM is set, and there is no node or no npm"
        pytest.skip("clients in JavaScript need node and npm")
    wanted = hashlib.sha256((CLIENTS / "package-lock.json").read_bytes()).hexdigest()
    with open(CLIENTS / "package.json", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # against other processes of the same tests
        stamp = CLIENTS / INSTALLED
        if not stamp.is_file() or stamp.read_text(encoding="ascii") != wanted:
            asked = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(asked, cwd=CLIENTS, capture_output=True, text=True, timeout=PATIENCE)
            if done.returncode:
                assert not os.environ.get("SUMI_NPM"), f"SUMI_NPM is set, and npm ci says: {done.stderr}"
                pytest.skip(f"npm could not install the clients: {done.stderr.strip()[-200:]}")
            stamp.write_text(wanted, encoding="ascii")
    return node


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture in two halves, and a mask through which the left one shows."""
    found = tmp_path_factory.mktemp("pictures")
    pixels = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    pixels[:, : SIDE // 2], pixels[:, SIDE // 2 :] = (200, 40, 40), (40, 40, 200)
    mask = np.full((SIDE, SIDE, 4), 255, dtype=np.uint8)
    mask[:, : SIDE // 2, 3] = 0
    Image.fromarray(pixels).save(found / "image.png")
    Image.fromarray(mask).save(found / "mask.png")
    return found


@pytest.fixture(scope="module")
def told(node: str, served: Studio, folder: Path) -> dict[str, Any]:
    """What the client was answered."""
    asked = [node, str(CLIENTS / "openai.mjs"), served.url, served.key or "", str(folder)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def pixels(data: str) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(BytesIO(base64.b64decode(data, validate=True))).convert("RGB")).astype(int)


def test_models(told: dict[str, Any]) -> None:
    assert told["models"][0] == "sumi"


def test_pictures(told: dict[str, Any], served: Studio) -> None:
    first, second = told["made"]["data"]
    assert isinstance(told["made"]["created"], int) and pixels(first["b64_json"]).shape == (SIDE, SIDE, 3)
    assert not np.array_equal(pixels(first["b64_json"]), pixels(second["b64_json"]))
    found = httpx.get(told["linked"]["data"][0]["url"], headers=served.headers)
    assert np.array_equal(pixels(base64.b64encode(found.content).decode()), pixels(first["b64_json"]))


def test_edits_and_variations(told: dict[str, Any], folder: Path) -> None:
    original = pixels(base64.b64encode((folder / "image.png").read_bytes()).decode())
    edited = pixels(told["edited"]["data"][0]["b64_json"])
    assert np.array_equal(edited[:, SIDE // 2 :], original[:, SIDE // 2 :])
    assert not np.array_equal(edited[:, : SIDE // 2], original[:, : SIDE // 2])
    assert not np.array_equal(pixels(told["varied"]["data"][0]["b64_json"]), original)


def test_streams(told: dict[str, Any]) -> None:
    *previews, done = told["streamed"]
    assert {event["type"] for event in previews} <= {"image_generation.partial_image"} and len(previews) <= 2
    assert done["type"] == "image_generation.completed" and done["usage"]["total_tokens"] > 0
    assert np.array_equal(pixels(done["b64_json"]), pixels(told["made"]["data"][0]["b64_json"]))
    assert [event["type"] for event in told["editing"]] == ["image_edit.completed"]


def test_problems(told: dict[str, Any]) -> None:
    for name, kind, status, code, param in (
        ("several", "BadRequestError", 400, "invalid_value", "image"),
        ("size", "BadRequestError", 400, "request", "width"),
        ("model", "NotFoundError", 404, "model_not_found", "model"),
        ("stranger", "AuthenticationError", 401, "key", None),
    ):
        found = told[name]
        assert (found["kind"], found["status"], found["code"], found["param"]) == (kind, status, code, param)
