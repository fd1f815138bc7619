"""What a server is told when it is started: where it listens, who may ask, and how much. Frozen data."""

import hmac
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sumi.diffusion.names import find
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.errors import RequestError
from sumi.request import Request

SHORTEST_KEY = 16
LOCAL = ("localhost", "127.0.0.1", "[::1]")
"""What a browser on this machine calls it."""


@dataclass(frozen=True)
class Limits:
    """How much one client may ask for. What is beyond is refused before anything is computed.

    side: of a picture, in pixels, after `hires`. pixels: of a picture. steps: of both passes together, with those that the sampler adds.
    count: pictures of a job. work: pixels x steps x network calls a step x pictures x parts of the prompt; a pixel as often as it lies in a
    window. queue: jobs that wait. prompt: characters. body: bytes of a request's body.
    patience: seconds in which a part of a body, or the rest of a request's head, has to come. hurry: seconds for all of a body.
    """

    side: int = 2048
    pixels: int = 2048 * 2048
    steps: int = 250
    count: int = 64
    work: int = 4_000_000_000
    queue: int = 1000
    prompt: int = 20_000
    body: int = 64 << 20
    patience: float = 10.0
    hurry: float = 120.0

    def check(self, request: Request, size: tuple[int, int], steps: int) -> None:
        """RequestError for what asks for more. size: height and width of pictures before `hires`. steps: where nothing says how many."""
        larger = request.hires or 1.0
        side, area = max(size) * larger, size[0] * size[1] * larger * larger
        first = len(request.sigmas) - 1 if request.sigmas else request.steps or steps
        passes = 2 if request.hires else 1
        calls, again = _calls(request)
        total = first + ((request.hires_steps or first) if request.hires else 0) + passes * again
        overlap = (request.tile or 0) // 2 if request.tile_overlap is None else request.tile_overlap
        windows = (request.tile / max(1, request.tile - overlap)) ** 2 if request.tile and request.tile < side else 1.0
        parts = 1 + len(re.findall(r"\bAND\b", request.prompt)) + sum(map(bool, (request.pag, request.skip, request.sag)))
        for asked, most, what in (
            (side, self.side, f"a side of a picture may be {self.side} pixels here at most"),
            (area, self.pixels, f"a picture may have {self.pixels} pixels here at most"),
            (total, self.steps, f"steps may be {self.steps} here at most"),
            (request.count, self.count, f"count may be {self.count} here at most"),
            (max(len(request.prompt), len(request.negative)), self.prompt, f"a prompt may be {self.prompt} characters long here"),
            (
                area * total * calls * request.count * parts * windows,
                self.work,
                "pixels times steps times pictures are too many: this is the work of hours",
            ),
        ):
            if asked > most:
                raise RequestError(f"{what}: ask for less")


def _calls(request: Request) -> tuple[int, float]:
    """Network calls that the sampler takes a step, and the steps that it adds to a pass by its options."""
    named = None if request.sampler is None else find(request.sampler)
    if named is None:
        return 1, 0
    sampler = SAMPLERS[named.sampler]
    options = {**sampler.options, **named.options, **(request.options or {})}
    return sampler.calls, max(0, options["times"] * options["steps"]) if "times" in sampler.options else 0


@dataclass(frozen=True)
class Settings:
    """Where a server listens and whom it answers.

    host: an address or name. key: what everyone has to show; None: nothing, which only loopback addresses allow. hosts: more names by
    which it is called, as a proxy in front of it is. prompts: whether logs may hold them. RequestError for what would not be safe.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    key: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()
    prompts: bool = False
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise RequestError(f"a port is from 0 to 65535; got {self.port}")
        if self.key is None and not is_loopback(self.host):
            raise RequestError(f"{self.host} can be reached from other machines: listen there with a key, or on 127.0.0.1 without")
        if self.key is not None and (len(self.key) < SHORTEST_KEY or not (self.key.isascii() and self.key.isprintable())):
            raise RequestError(f"a key must be {SHORTEST_KEY} printable ASCII characters or more: take a longer one")
        for name in self.hosts:
            if not re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]", name):
                raise RequestError(f"{name!a} is no name of a host: give it without a scheme and without a port")

    @property
    def known_hosts(self) -> frozenset[str]:
        """What a request may call this server, in lower case and without the port."""
        own = f"[{self.host}]" if ":" in self.host else self.host
        local = LOCAL if is_loopback(self.host) or self.host in ("0.0.0.0", "::") else ()
        return frozenset(name.lower().rstrip(".") for name in (own, *local, *self.hosts))

    @property
    def pass_(self) -> str | None:
        """What the page's cookie holds: it follows from the key, and does not tell it."""
        return None if self.key is None else hmac.new(self.key.encode(), b"sumi: the page of this key", "sha256").hexdigest()

    def at(self, port: int) -> "Settings":
        """The same on the port that was found free."""
        return replace(self, port=port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def secret(header: str, key: str, *, basic: bool) -> bool:
    """Whether an Authorization header shows the key: as a bearer token, or as a password where `basic`."""
    import base64

    scheme, _, rest = header.strip().partition(" ")
    shown = rest.strip()
    if basic and scheme.lower() == "basic":
        try:
            shown = base64.b64decode(shown, validate=True).decode("utf-8").partition(":")[2]
        except ValueError:  # it is not base64, or not ASCII, or what it holds is not UTF-8
            return False
    elif scheme.lower() != "bearer":
        return False
    return same(shown, key)


def same(shown: str, key: str) -> bool:
    """Whether two texts are the same, in a time that does not tell how far they are."""
    return hmac.compare_digest(shown.encode("utf-8", "replace"), key.encode())


def names(hosts: Sequence[str]) -> tuple[str, ...]:
    """Names of hosts as `Settings` takes them."""
    return tuple(host.strip() for host in hosts if host.strip())
