"""The door: hosts by origins by keys, every route, bodies that are too large or too slow."""

import socket
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import httpx
import pytest

from serve.serving import KEY, Studio
from sumi.serve.settings import Limits

PATIENT = {"timeout": 30.0, "trust_env": False}


def port(studio: Studio) -> int:
    return int(studio.url.rpartition(":")[2])


HOSTS = {
    "127.0.0.1:{port}": True,
    "localhost:{port}": True,
    "LOCALHOST.:{port}": True,
    "[::1]:{port}": True,
    "evil.example": False,
    "evil.example:{port}": False,
    "127.0.0.1.evil.example:{port}": False,
    "192.168.0.1:{port}": False,
    "": False,
    "127.0.0.1@evil.example": False,
    "localhost:80:80": False,
}
ORIGINS = {
    None: True,
    "http://{host}": True,
    "null": False,
    "http://evil.example": False,
    "https://{host}.evil": False,
    "file://": False,
    "": False,
}
SITES = {None: True, "same-origin": True, "none": True, "same-site": False, "cross-site": False}
KEYS = {
    None: False,
    "": False,
    f"Bearer {KEY}": True,
    f"bearer {KEY}": True,
    f"Bearer {KEY}x": False,
    "Bearer": False,
    f"Basic {KEY}": False,
    f"Token {KEY}": False,
    "Bearer ключ": False,
}


@pytest.mark.parametrize("host", HOSTS)
def test_hosts_origins_and_keys(stub: Studio, host: str) -> None:
    """Whoever is at the wrong door is not let in, whatever else is right; of several faults the first is told."""
    name = host.format(port=port(stub))
    wrong = []
    with httpx.Client(**PATIENT) as client:
        for origin, site, key in product(ORIGINS, SITES, KEYS):
            headers = [("Host", name)]
            headers += [] if origin is None else [("Origin", origin.format(host=name))]
            headers += [] if site is None else [("Sec-Fetch-Site", site)]
            headers += [] if key is None else [("Authorization", key)]
            encoded = [(each.encode(), value.encode("utf-8")) for each, value in headers]
            expected = 421 if not HOSTS[host] else 403 if not (ORIGINS[origin] and SITES[site]) else 401 if not KEYS[key] else 200
            found = client.get(f"{stub.url}/v1/status", headers=encoded).status_code
            if found not in ((400, 421) if expected == 421 else (expected,)):  # a name that is none is no HTTP either
                wrong.append((origin, site, key, found, expected))
    assert wrong == []


def routes(studio: Studio) -> Iterator[tuple[str, str]]:
    """Every method of every route that the application has, also of those that its schema does not tell."""
    waiting: list[Any] = list(studio.served.api.routes)
    while waiting:
        route = waiting.pop()
        for method in getattr(route, "methods", None) or ():
            yield method, route.path
        if not hasattr(route, "methods"):  # a router that is included: it holds routes, or what holds them
            waiting += [each for inside in (route, *vars(route).values()) for each in getattr(inside, "routes", None) or []]


def test_no_route_is_open(stub: Studio) -> None:
    found = sorted(set(routes(stub)))
    assert len(found) > 60 and ("GET", "/") in found and ("GET", "/openapi.json") in found and ("POST", "/sdapi/v1/txt2img") in found
    with httpx.Client(**PATIENT) as client:
        told = {(method, path): client.request(method, stub.url + path).status_code for method, path in found}
        told |= {("GET", path): client.get(stub.url + path).status_code for path in ("/no", "/page/main.js", "/docs", "/sdapi/no")}
    assert {pair: status for pair, status in told.items() if status != 401} == {}


def test_a_password_is_for_a1111_alone(stub: Studio) -> None:
    with httpx.Client(**PATIENT) as client:
        assert client.get(f"{stub.url}/sdapi/v1/options", auth=("anyone", KEY)).status_code == 200
        assert client.get(f"{stub.url}/sdapi/v1/options", auth=("anyone", "another")).status_code == 401
        assert client.get(f"{stub.url}/sdapi/v1/options").headers["www-authenticate"].startswith("Basic")
        assert client.get(f"{stub.url}/v1/status", auth=("anyone", KEY)).status_code == 401


def test_the_page_s_cookie(stub: Studio) -> None:
    with httpx.Client(**PATIENT) as client:
        form = client.get(f"{stub.url}/")
        assert form.status_code == 401 and 'name="key"' in form.text
        assert client.get(f"{stub.url}/", params={"key": "another"}).status_code == 401
        answer = client.get(f"{stub.url}/", params={"key": KEY, "mode": "paint"})
        assert answer.status_code == 303 and answer.headers["location"] == "/?mode=paint"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and KEY not in cookie
        assert client.get(f"{stub.url}/").status_code == 200
        assert client.get(f"{stub.url}/v1/status").status_code == 200
        assert client.get(f"{stub.url}/v1/status", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert client.get(f"{stub.url}/v1/status", headers={"Authorization": "Bearer another"}).status_code == 401


def test_every_reply_is_fenced(stub: Studio) -> None:
    with httpx.Client(**PATIENT) as client:
        for path in ("/", "/v1/status", "/no", "/page/main.js", "/sdapi/v1/options"):
            for headers in ({}, stub.headers):
                answer = client.get(stub.url + path, headers=headers)
                assert "default-src 'none'" in answer.headers["content-security-policy"]
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert "access-control-allow-origin" not in answer.headers
                assert "server" not in answer.headers


def test_without_a_key_an_empty_one_may_be_sent(begin: Callable[..., Studio]) -> None:
    studio = begin(key=None)
    for value in ("", "Bearer", "Bearer anything"):
        assert httpx.get(f"{studio.url}/v1/status", headers={"Authorization": value}, **PATIENT).status_code == 200


def test_bodies_are_capped(stub: Studio) -> None:
    most = stub.served.studio.settings.limits.body
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {most + 1}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port(stub)), timeout=30) as line:
        line.sendall(head.encode())
        assert b" 413 " in line.recv(65536)

    def endless() -> Iterator[bytes]:
        for _ in range(most // 65536 + 2):
            yield bytes(65536)

    try:
        told = httpx.post(f"{stub.url}/v1/uploads", headers={**stub.headers, "Content-Type": "image/png"}, content=endless(), **PATIENT)
    except (httpx.WriteError, httpx.RemoteProtocolError):  # the server had enough
        return
    assert told.status_code == 413


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n%sContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", b"408"),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0", b""),
        (b"", b""),
    ],
    ids=["half a body", "half a head", "nothing"],
)
def test_who_is_slow_is_not_waited_for(begin: Callable[..., Studio], sent: bytes, status: bytes) -> None:
    studio = begin(settings={"limits": Limits(patience=0.3)})
    sent = sent.replace(b"%s", f"Authorization: {studio.headers['Authorization']}\r\n".encode())
    with socket.create_connection(("127.0.0.1", port(studio)), timeout=30) as line:
        line.sendall(sent)
        received = b""
        while part := line.recv(65536):  # it ends by itself, or the socket's own clock raises
            received += part
        assert received.split(b" ")[1:2] == ([status] if status else [])


def test_slow_ones_keep_nobody_waiting(begin: Callable[..., Studio]) -> None:
    studio = begin(settings={"limits": Limits(patience=600.0)})
    lines = [socket.create_connection(("127.0.0.1", port(studio)), timeout=30) for _ in range(100)]
    try:
        for line in lines:
            line.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le")
        assert httpx.get(f"{studio.url}/v1/status", headers=studio.headers, **PATIENT).status_code == 200
    finally:
        for line in lines:
            line.close()
