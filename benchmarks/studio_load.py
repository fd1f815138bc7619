"""64 clients at once: does every one get its own picture, how long do they wait for an answer, and what does batching gain?

    python benchmarks/studio_load.py [--minutes 5] [--clients 64]

Clients ask over HTTP for pictures of several tasks, each waiting for one before it asks for the next. Before that, each request is made by
itself in a plain loop, with the same threads: that is how fast it goes without a server, and what each picture has to be.
"""

import argparse
import base64
import hashlib
import http.client
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import sumi

POLL = 1.0
"""Seconds between two looks of a client at its job."""
THINGS = ("cat", "dog", "tree", "house", "star", "boat", "apple", "robot", "heart", "bell")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")


def data_url(image: Image.Image) -> str:
    held = io.BytesIO()
    image.save(held, "PNG")
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()


def requests(count: int) -> list[sumi.Request]:
    """Mixed: half words alone, at two numbers of steps, the rest by class, from a picture, with a mask, by a map, enlarged."""
    drawn = random.Random(0)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    picture = data_url(Image.fromarray(pixels).resize((8, 8)).resize((64, 64), Image.Resampling.BICUBIC))
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    classes = np.full((64, 64), 255, np.uint8)
    classes[20:50, 20:50] = 10
    small = data_url(Image.fromarray(pixels[:16, :16]))
    made = []
    for number in range(count):
        words = f"a {drawn.choice(COLOURS)} {drawn.choice(('circle', 'square', 'star', 'heart', 'ring'))}"
        words = words if drawn.random() < 0.5 else f"a {drawn.choice(THINGS)} on the grass"
        request = sumi.Request(prompt=words, seed=number, steps=20)
        kinds = (
            request,
            request,
            request,
            replace(request, steps=12),
            replace(request, prompt="", label=drawn.choice(("cat", "penguin", "star"))),
            replace(request, image=picture, strength=0.6),
            replace(request, image=picture, mask=data_url(Image.fromarray(mask))),
            replace(request, map=data_url(Image.fromarray(classes))),
            replace(request, prompt="", low_res=small),
        )
        made.append(kinds[number % len(kinds)])
    return made


def pixels_of(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def plain_loop(asked: list[sumi.Request]) -> tuple[list[np.ndarray[Any, Any]], float]:
    """Each by itself, one after the other: the pictures, and how many a second."""
    model = sumi.load()
    sumi.generate(model, asked[0])
    begun = time.perf_counter()
    made = [sumi.generate(model, request)[0].image for request in asked]
    return [np.asarray(image).astype(int) for image in made], len(asked) / (time.perf_counter() - begun)


@dataclass
class Seen:
    """What the clients saw."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    first: list[float] = field(default_factory=list)
    submits: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    differences: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)


class Client(threading.Thread):
    """Asks for a picture, waits for it, compares it, and asks for the next."""

    def __init__(self, place: int, port: int, asked: list[bytes], golden: list[np.ndarray[Any, Any]], until: float, seen: Seen) -> None:
        super().__init__(daemon=True)
        self.line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.drawn, self.asked, self.golden, self.until, self.seen = random.Random(place), asked, golden, until, seen

    def call(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes, float]:
        begun = time.perf_counter()
        self.line.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        reply = self.line.getresponse()
        data = reply.read()
        return reply.status, data, time.perf_counter() - begun

    def run(self) -> None:
        times = self.seen.first
        while time.monotonic() < self.until:
            number = self.drawn.randrange(len(self.asked))
            status, data, seconds = self.call("POST", "/v1/jobs", self.asked[number])
            job = json.loads(data)
            looks = []
            while status in (200, 201) and job["state"] in ("queued", "running") and time.monotonic() < self.until:
                time.sleep(POLL)
                status, data, look = self.call("GET", f"/v1/jobs/{job['id']}")
                job = json.loads(data)
                looks.append(look)
            ended = status in (200, 201) and job["state"] == "done"
            picture = self.call("GET", job["pictures"][0]["url"])[1] if ended else b""
            with self.seen.lock:
                times.append(seconds)
                times = self.seen.submits
                self.seen.looks += looks
                if ended:
                    self.seen.ends.append(time.monotonic())
                    self.seen.differences[int(np.abs(pixels_of(picture) - self.golden[number]).max())] += 1
                elif status not in (200, 201) or job["state"] not in ("queued", "running"):
                    self.seen.failures.append(data.decode()[:200])


def told(name: str, seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p50, p99 = (1000 * ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99))
    return f"{name}: {len(ordered)}, p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {1000 * ordered[-1]:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=90, help="different ones")
    args = parser.parse_args()
    asked = requests(args.requests)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} processors")
    golden, alone = plain_loop(asked)
    print(f"plain loop: {alone:.2f} pictures a second ({len(asked)} requests)", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sumi", "serve", "--open", "--quiet", "--port", "0", "--folder", str(Path(folder) / "studio")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline().partition(";")[0].rpartition(":")[2])
            bodies = [json.dumps({"request": request.to_dict()}).encode() for request in asked]
            warm = Client(0, port, bodies[:1], golden[:1], time.monotonic() + 30, Seen())
            while warm.call("GET", "/health")[0] != 200:
                time.sleep(0.2)
            warm.until = time.monotonic() + 5
            warm.run()
            seen, begun = Seen(), time.monotonic()
            clients = [Client(place, port, bodies, golden, begun + 60 * args.minutes, seen) for place in range(args.clients)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            lasted = time.monotonic() - begun
            server.send_signal(signal.SIGTERM)
            ending = time.monotonic()
            server.wait(30)
            print(f"the server ended {time.monotonic() - ending:.1f} s after SIGTERM, status {server.returncode}")
    print(f"served: {len(seen.ends) / lasted:.2f} pictures a second to {args.clients} clients for {lasted:.0f} s")
    print(f"ratio: {len(seen.ends) / lasted / alone:.2f}")
    print(told("submit, all clients at the same moment", seen.first))
    print(told("submit, from then on", seen.submits))
    print(told("status", seen.looks))
    print(f"largest difference of a picture from its golden, of 255: {dict(sorted(seen.differences.items()))}")
    print(f"failed: {len(seen.failures)} {seen.failures[:3]}")
    print(f"golden pictures: {hashlib.sha256(b''.join(each.astype(np.uint8).tobytes() for each in golden)).hexdigest()[:12]}")


if __name__ == "__main__":
    main()
