"""The door: who may ask, by which name, from which page, and how much and how slowly may be sent. Everything passes here; nothing is open.

A page of another site in the same browser can reach a server on this machine, also by a name that it lets point here. So a request has to
call this server by a name it knows, must not come from another site, and has to show the key.
"""

import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlencode

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response

from sumi.serve.metrics import Metrics
from sumi.serve.problems import Refusal, told
from sumi.serve.settings import Settings, same, secret

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; frame-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""What every reply says, unless its route says otherwise."""
BASIC = ("/sdapi/", "/controlnet/")
"""Where a key may be shown as a password: A1111's clients know nothing else."""
BODIES = 16
"""The largest bodies that may be under way at a time."""
SAFE = ("same-origin", "none")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Those that are counted by name: anybody can make up others, each of which would be kept."""
FORM = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>sumi</title></head>
<body><main><h1>sumi</h1>
<form method="get" action="/"><label>The key that sumi serve said when it was started
<input name="key" type="password" autocomplete="current-password" autofocus required></label> <button>Open</button></form>
</main></body></html>
"""

log = logging.getLogger("sumi.serve")


@dataclass
class Held:
    """How many bytes of bodies are being read or answered at the moment."""

    bytes: int = 0


class Guard:
    """An application behind a door."""

    def __init__(self, app: App, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self.hosts = settings.known_hosts
        self._held = Held()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        reply = _Reply(send)
        body = _Body(receive, self.settings, self._held)
        try:
            answer = self._admitted(scope)
            if answer is not None:
                await answer(scope, receive, reply)
            else:
                body.check(Headers(scope=scope))
                await self.app(scope, body, reply)
        except Refusal as error:  # of the body, while the application reads it
            if reply.status is None:
                await told(error)(scope, receive, reply)
        finally:
            body.end()
            self._log(scope, reply)

    def _admitted(self, scope: Scope) -> Response | None:
        """None if the request may pass; else the answer."""
        headers = Headers(scope=scope)
        try:
            self._named(headers)
            self._from_here(headers)
            if scope["path"] == "/" and scope["method"] == "GET" and (shown := self._shown(scope)) is not None:
                return self._opened(scope, shown)
            self._keyed(scope, headers)
        except Refusal as error:
            if error.status == 401 and scope["path"] == "/" and scope["method"] == "GET":
                return HTMLResponse(FORM, 401, {"www-authenticate": error.headers["WWW-Authenticate"]})
            return told(error)
        return None

    def _named(self, headers: Headers) -> None:
        """Refusal if the request calls this server by a name that it does not know."""
        given = headers.getlist("host")
        name, bracket, rest = given[0].partition("]") if given and given[0].startswith("[") else ("", "", "")
        name = name + bracket if bracket else (given[0].partition(":")[0] if given else "")
        port = rest.removeprefix(":") if bracket else (given[0].partition(":")[2] if given else "")
        if len(given) != 1 or name.lower().rstrip(".") not in self.hosts or (port and not port.isdecimal()):
            raise Refusal(421, "host", "this server is not known by that name: see --host-name of sumi serve")

    def _from_here(self, headers: Headers) -> None:
        """Refusal if a page of another site sends the request. What is no browser sends none of these headers."""
        site = headers.get("sec-fetch-site")
        if site is not None and site.lower() not in SAFE:
            raise Refusal(403, "origin", "another site's page cannot use this server")
        for origin in headers.getlist("origin"):
            scheme, separator, name = origin.lower().partition("://")
            if not separator or scheme not in ("http", "https") or name != headers["host"].lower():
                raise Refusal(403, "origin", "another site's page cannot use this server")

    def _keyed(self, scope: Scope, headers: Headers) -> None:
        """Refusal if the key is not shown: in a header, or by the page's cookie."""
        key = self.settings.key
        if key is None:
            return
        basic = str(scope["path"]).startswith(BASIC)
        given = [value for value in headers.getlist("authorization") if value.strip()]
        if given:
            if len(given) == 1 and secret(given[0], key, basic=basic):
                return
        elif self._cookie(headers):
            return
        raise Refusal(401, "key", "show the key that sumi serve told", {"WWW-Authenticate": 'Basic realm="sumi"' if basic else "Bearer"})

    def _cookie(self, headers: Headers) -> bool:
        """Whether the page's cookie is there, and is of this key."""
        try:
            found = SimpleCookie("; ".join(headers.getlist("cookie"))).get(self.cookie)
        except CookieError:
            return False
        return found is not None and self.settings.pass_ is not None and same(found.value, self.settings.pass_)

    @property
    def cookie(self) -> str:
        """Its name: cookies of all ports of a host lie together."""
        return f"sumi-{self.settings.port}"

    @staticmethod
    def _shown(scope: Scope) -> str | None:
        """The key in the address of the page."""
        given = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("key")
        return given[0] if given else None

    def _opened(self, scope: Scope, shown: str) -> Response:
        """The page's cookie for whoever has the key, and the page without it in its address."""
        if self.settings.key is not None and not same(shown, self.settings.key):
            raise Refusal(401, "key", "this is not the key that sumi serve told", {"WWW-Authenticate": "Bearer"})
        rest = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        del rest["key"]
        answer = RedirectResponse("/" + ("?" + urlencode(rest, doseq=True) if rest else ""), 303)
        if self.settings.pass_ is not None:
            answer.set_cookie(self.cookie, self.settings.pass_, max_age=365 * 86400, httponly=True, samesite="strict", path="/")
        return answer

    def _log(self, scope: Scope, reply: "_Reply") -> None:
        """One line of JSON for a request: by its route, which tells nothing that was asked."""
        route = scope.get("route")
        method, named = scope["method"], getattr(route, "path", None)
        method = method if method in METHODS else "?"
        line = {
            "event": "request",
            "method": method,
            "route": named,
            "status": reply.status,
            "ms": round(1000 * reply.seconds, 1),
        }
        log.info(json.dumps(line))
        self.metrics.answered(method, named or "none", reply.status or 0, reply.seconds)


class _Reply:
    """What is sent, with the headers that are always there."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None
        self._begun = time.monotonic()
        self.seconds = 0.0
        """Until the head of the reply was sent."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message["headers"])
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            message["headers"] = headers.raw
            self.seconds = time.monotonic() - self._begun
        await self._send(message)


class _Body:
    """What is received: no more than the limit, and no slower."""

    def __init__(self, receive: Receive, settings: Settings, held: Held) -> None:
        self._receive, self._limits, self._held = receive, settings.limits, held
        self._until = time.monotonic() + self._limits.hurry
        self._size, self._whole = 0, False

    def check(self, headers: Headers) -> None:
        """Refusal for a body that says itself that it is too large."""
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdecimal():
            raise Refusal(400, "length", "the length of the body must be a number")
        if len(length) > 15 or int(length) > self._limits.body:
            raise self._large()

    async def __call__(self) -> Message:
        if self._whole:  # from here on it tells when who asked goes away
            return await self._receive()
        patience = min(self._limits.patience, self._until - time.monotonic())
        try:
            with anyio.fail_after(max(0.0, patience)):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(408, "slow", "the body did not come in time: send it again, at once", {"Connection": "close"}) from None
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._held.bytes += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._size > self._limits.body:
                raise self._large()
            if self._held.bytes > BODIES * self._limits.body:
                raise Refusal(
                    503, "busy", "too much is being sent at the moment: ask again later", {"Retry-After": "5", "Connection": "close"}
                )
        return message

    def end(self) -> None:
        """The request is over."""
        self._held.bytes -= self._size

    def _large(self) -> Refusal:
        most = self._limits.body >> 20
        return Refusal(413, "too_large", f"a body may be of {most} MiB: send less", {"Connection": "close"})
