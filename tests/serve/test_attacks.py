"""What hostile clients do, each as it was once found to work."""

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from serve.serving import KEY, Studio
from sumi.engine.uploads import Uploads
from sumi.errors import CheckpointError, EngineError, ImageError, OutputError, RequestError
from sumi.request import Request
from sumi.serve import reading
from sumi.serve.a1111_pictures import sent
from sumi.serve.catalogue import Catalogue
from sumi.serve.listening import Prompt
from sumi.serve.problems import LONGEST, told
from sumi.serve.settings import Limits, secret


def raw(studio: Studio, head: bytes) -> bytes:
    """The reply to bytes that no client's library would send."""
    with socket.create_connection(("127.0.0.1", int(studio.url.rpartition(":")[2])), timeout=30) as line:
        line.sendall(head + b"Host: localhost\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: line.recv(65536), b""))


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "PNG")
    return file.getvalue()


def test_password_beyond_ascii(stub: Studio) -> None:
    """It was a 500, for anybody without a key."""
    assert not secret("Basic é", KEY, basic=True)
    assert raw(stub, b"GET /sdapi/v1/options HTTP/1.1\r\nAuthorization: Basic \xc3\xa9\r\n").startswith(b"HTTP/1.1 401 ")


def test_made_up_methods_are_not_counted(stub: Studio) -> None:
    """Each was a set of figures that was kept for ever, for anybody without a key."""
    for method in (b"ABCDEFG", b"abcdefg", b"GETGET"):
        assert raw(stub, method + b" / HTTP/1.1\r\n").startswith(b"HTTP/1.1 401 ")
    told = httpx.get(stub.url + "/metrics", headers=stub.headers, trust_env=False).text
    assert "abcdefg" not in told.lower() and "GETGET" not in told and 'method="?"' in told


HUGE = 10**400
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("extra-single-image", {"upscaler_1": "Lanczos", "upscaling_resize": 1e308}),
    ("extra-single-image", {"upscaler_1": "Lanczos", "resize_mode": 1, "upscaling_resize_w": HUGE}),
    ("extra-single-image", {"upscaler_1": "Lanczos", "resize_mode": 1, "upscaling_resize_h": 10**18}),
    ("txt2img", {"enable_hr": True, "denoising_strength": 1e-320}),
    ("txt2img", {"enable_hr": True, "hr_second_pass_steps": HUGE}),
    ("txt2img", {"enable_hr": True, "hr_resize_x": HUGE}),
    ("txt2img", {"enable_hr": True, "hr_scale": 1e308}),
    ("txt2img", {"n_iter": 10**4000, "batch_size": 10**4000}),
    ("txt2img", {"n_iter": 1e300}),
    ("txt2img", {"steps": -HUGE}),
    ("txt2img", {"width": "9" * 39}),
    ("img2img", {"denoising_strength": 1e-320, "override_settings": {"img2img_fix_steps": True}}),
    ("img2img", {"resize_mode": HUGE}),
]


@pytest.mark.parametrize(("route", "given"), CALLS, ids=lambda value: value if isinstance(value, str) else ",".join(value))
def test_numbers_that_cannot_be_reckoned_with(stub: Studio, route: str, given: dict[str, Any]) -> None:
    image = base64.b64encode(png()).decode()
    body = json.dumps({"image": image, "init_images": [image], **given})
    headers = {**stub.headers, "Content-Type": "application/json"}
    reply = httpx.post(f"{stub.url}/sdapi/v1/{route}", content=body, headers=headers, timeout=30, trust_env=False)
    assert reply.status_code == 400 and len(reply.text) < 1000, reply.text


def test_many_values() -> None:
    """A body of 64 MiB was 1.4 GB of lists."""
    for part in ("[],", "1,", '{"a":1},', "[[1],"):
        with pytest.raises(RequestError, match="too many values"):
            reading.parsed(f'{{"prompt":[{part * reading.MOST_VALUES}1]}}'.encode())
    text = "a, b " * 10_000
    assert reading.parsed(json.dumps({"prompt": text}).encode()) == {"prompt": text}


def test_blanks_in_base64() -> None:
    """Each was an object of its own, and the server stood still for two seconds."""
    begun = time.monotonic()
    assert sent("QUJD" + "\n QQ" * 1_000_000 + "==", "image").startswith(b"ABC")
    assert time.monotonic() - begun < 1
    with pytest.raises(ImageError):
        sent("é", "image")


def test_long_names_are_not_told_again(stub: Studio) -> None:
    name = "k" * 200_000
    for request in ({"options": {name: 1}}, {"options": {name: 1e99}}, {"emphasis": name[:90_000]}, {name: 1}):
        reply = httpx.post(stub.url + "/v1/jobs", json={"request": request}, headers=stub.headers, timeout=30, trust_env=False)
        assert reply.status_code == 400 and len(reply.content) < 3 * LONGEST


def test_windows_that_lie_on_one_another() -> None:
    """Of windows a step apart there are hundreds for each pixel, which was not reckoned."""
    size, limits = (1024, 1024), Limits()
    for tile, overlap in ((None, None), (64, None), (64, 32), (1024, 1000)):
        limits.check(Request(steps=100, tile=tile, tile_overlap=overlap), size, 20)
    for most in (60, 64, 8192):
        with pytest.raises(RequestError, match="hours"):
            limits.check(Request(steps=100, tile=64, tile_overlap=most), size, 20)


def test_full_disk_is_no_fault_of_the_client() -> None:
    reply = told(OutputError("a picture cannot be written to /home/somebody"))
    assert reply.status_code == 503 and b"somebody" not in bytes(reply.body)


def test_where_models_lie_is_not_told(tmp_path: Path) -> None:
    for name in ("lost", "damaged"):
        path = tmp_path / "secret folder" / f"{name}.safetensors"
        if name == "damaged":
            path.parent.mkdir()
            path.write_bytes(b"\0" * 100)
        found = Catalogue({name: path})
        with pytest.raises(CheckpointError, match=name) as error:
            found.known(name)
        assert "secret folder" not in str(error.value)
        assert "secret folder" not in json.dumps(found.listing())


def test_replies_that_nobody_takes(begin: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection was held for ever, as were 512 of them, without a key: and nobody else was answered."""
    monkeypatch.setattr(Prompt, "stalled", 0.5)
    studio = begin()
    with socket.create_connection(("127.0.0.1", int(studio.url.rpartition(":")[2]))) as line:
        line.settimeout(10)
        with pytest.raises(ConnectionError):
            for _ in range(100_000):
                line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
    assert httpx.get(studio.url + "/health", headers=studio.headers, trust_env=False).status_code == 200


def test_the_end_does_not_wait_for_pictures(tmp_path: Path) -> None:
    """Those that waited for their turn started the process again that had just been ended."""
    uploads = Uploads(tmp_path)
    uploads.start()
    uploads.close()
    errors = list[type]()

    def send() -> None:
        try:
            uploads.take(png())
        except EngineError as error:
            errors.append(type(error))

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert errors == [EngineError] * 3
