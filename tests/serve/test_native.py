"""sumi's own routes, by a client that nobody here has written (httpx), against an engine whose workers do what a prompt says."""

import json
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import sumi
from engine.helpers import ended
from serve.serving import Studio
from sumi.serve.settings import Limits


def client(studio: Studio) -> httpx.Client:
    return httpx.Client(base_url=studio.url, headers=studio.headers, timeout=60.0, trust_env=False)


def told(lines: Iterator[str], *, ends: tuple[str, ...] = ("done", "failed", "cancelled")) -> Iterator[tuple[str, str, Any]]:
    """Server-sent events as the standard reads them: id, kind, data."""
    id, kind, data = "", "", []
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if data:
                yield id, kind, json.loads("\n".join(data))
                if kind in ends:
                    return
            kind, data = "", []
        elif name == "id":
            id = value
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)


def test_a_job_from_its_request_to_its_picture(served: Studio) -> None:
    with client(served) as http:
        reply = http.post("/v1/jobs", json={"request": {"prompt": "a red circle", "seed": "7", "steps": 6}, "group": "mine"})
        assert reply.status_code == 201
        job = reply.json()
        assert (job["state"], job["seed"], job["group"], job["model"]) == ("queued", "7", "mine", None)
        with http.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            seen = list(told(stream.iter_lines()))
        kinds = [kind for _, kind, _ in seen]
        assert kinds[0] == "queued" and kinds[-1] == "done" and "step" in kinds
        numbers = [int(id) for id, kind, _ in seen if kind != "preview"]
        assert numbers == sorted(numbers)
        done = http.get(f"/v1/jobs/{job['id']}").json()
        [picture] = done["pictures"]
        image = Image.open(BytesIO(http.get(picture["url"]).content))
        alone = sumi.generate(sumi.load(), prompt="a red circle", seed=7, steps=6)[0].image
        assert np.abs(np.asarray(image, int) - np.asarray(alone, int)).max() <= 1
        assert Image.open(BytesIO(http.get(picture["thumbnail"]).content)).format == "WEBP"
        info = http.get(f"/v1/pictures/{picture['id']}/info").json()
        assert info["request"]["prompt"] == "a red circle" and info["parameters"].startswith("a red circle\n")
        read = http.post("/v1/read", content=http.get(picture["url"]).content, headers={"Content-Type": "image/png"}).json()
        assert read["program"] == "sumi" and read["request"]["seed"] == 7
        assert [each["id"] for each in http.get("/v1/jobs", params={"group": "mine"}).json()["jobs"]] == [job["id"]]


def test_previews_come_while_it_runs(served: Studio) -> None:
    with client(served) as http:
        job = http.post("/v1/jobs", json={"request": {"prompt": "a cat on the grass", "steps": 100}}).json()
        with http.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
            seen = [data for _, kind, data in told(stream.iter_lines()) if kind == "preview"]
        assert len(seen) >= 2 and seen[0]["image"] != seen[-1]["image"]
        assert all(data["image"].startswith("data:image/png;base64,") and 1 <= data["step"] <= 100 for data in seen)


def test_a_stream_goes_on_where_it_was(begin: Callable[..., Studio]) -> None:
    studio = begin()
    with client(studio) as http:
        job = http.post("/v1/jobs", json={"request": {"prompt": "steps=3"}}).json()
        ended(studio.engine, job["id"])
        with http.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
            whole = list(told(stream.iter_lines(), ends=()))
        assert [kind for _, kind, _ in whole] == ["queued", "running", "note", "done"]  # steps are forgotten when a job ends
        for place, (id, _, _) in enumerate(whole):
            with http.stream("GET", f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": id}) as stream:
                assert list(told(stream.iter_lines(), ends=())) == whole[place + 1 :]
        assert http.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": "x"}).status_code == 400


def test_one_stream_of_all(begin: Callable[..., Studio]) -> None:
    studio = begin()
    with client(studio) as http, http.stream("GET", "/v1/events", params={"after": 0}) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 1000"
        jobs = {http.post("/v1/jobs", json={"request": {"prompt": "steps=2"}}).json()["id"] for _ in range(3)}
        left = set(jobs)
        for _, kind, data in told(lines, ends=()):
            left -= {data["job"]} if kind == "done" else set()
            if not left:
                break


def test_the_same_key_is_the_same_job(begin: Callable[..., Studio]) -> None:
    studio = begin()
    with client(studio) as http:
        ask = {"request": {"prompt": "steps=2"}}
        first = http.post("/v1/jobs", json=ask, headers={"Idempotency-Key": "once"})
        again = http.post("/v1/jobs", json=ask, headers={"Idempotency-Key": "once"})
        other = http.post("/v1/jobs", json={"request": {"prompt": "steps=3"}}, headers={"Idempotency-Key": "once"})
        assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
        assert first.json()["id"] == again.json()["id"] and other.json()["error"]["code"] == "conflict"


def test_cancel_and_retry(begin: Callable[..., Studio], tmp_path: Any) -> None:
    import os

    studio = begin()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with client(studio) as http:
        job = http.post("/v1/jobs", json={"request": {"prompt": f"steps=3 gate={gate}"}}).json()
        waiting = http.post("/v1/jobs", json={"request": {"prompt": "steps=2"}}).json()
        with open(gate, "wb", buffering=0):
            assert http.post(f"/v1/jobs/{waiting['id']}/cancel").json()["state"] == "cancelled"
            assert http.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] == "cancelled"
            assert http.post(f"/v1/jobs/{waiting['id']}/retry").json()["state"] == "queued"
        assert ended(studio.engine, waiting["id"]).state == "done"
        assert http.post(f"/v1/jobs/{waiting['id']}/retry").status_code == 409
        assert http.post(f"/v1/jobs/{'0' * 32}/cancel").status_code == 404


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"width": 4096, "height": 64}, "side"),
        ({"width": 2049, "height": 64}, "side"),
        ({"width": 2048, "height": 2048, "hires": 1.5}, "side"),
        ({"steps": 251}, "steps"),
        ({"steps": 130, "hires": 2.0}, "steps"),
        ({"count": 65}, "count"),
        ({"width": 2048, "height": 2048, "steps": 250, "count": 64}, "work"),
        ({"width": 2048, "height": 2048, "steps": 20, "count": 25, "sampler": "Heun"}, "work"),  # of two calls a step
        ({"sampler": "Restart", "options": {"steps": 30, "times": 8}}, "steps"),
        ({"prompt": "a" * 20_001}, "prompt"),
        ({"prompt": " AND ".join(["a cat"] * 1000), "width": 1024, "height": 1024}, "work"),
        ({"sigmas": [float(1000 - k) for k in range(300)]}, "steps"),
        ({"width": 63}, "width"),
        ({"sampler": "no"}, "sampler"),
        ({"label": "no such thing"}, "class"),
        ({"image": "/etc/passwd"}, "image"),
        ({"image": "file:///etc/passwd"}, "image"),
        ({"image": "http://127.0.0.1:1/x.png"}, "image"),
        ({"image": "upload:" + "0" * 64}, "upload"),
        ({"image": "upload:../../../etc/passwd"}, "upload"),
        ({"image": "data:image/png;base64,AAAA"}, "picture"),
        ({"image": "data:image/svg+xml,<svg/>"}, "picture"),
        ({"low_res": "-"}, "low_res"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"guidance": "3"}, "guidance"),
        ({"promt": "x"}, "prompt"),
        ({"prompt": "(a"}, "never closed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_what_is_too_much_or_wrong_is_told(served: Studio, request_: dict[str, Any], said: str) -> None:
    with client(served) as http:
        before = http.get("/v1/status").json()["queue"]
        reply = http.post("/v1/jobs", json={"request": request_})
        assert reply.status_code == 400
        error = reply.json()["error"]
        assert said in error["message"] and "\n" not in error["message"] and "passwd" not in error["message"]
        assert http.get("/v1/status").json()["queue"] == before


def test_a_queue_has_an_end(begin: Callable[..., Studio], tmp_path: Any) -> None:
    import os

    gate = tmp_path / "gate"
    os.mkfifo(gate)
    studio = begin(settings={"limits": Limits(queue=2)})
    with client(studio) as http:
        first = http.post("/v1/jobs", json={"request": {"prompt": f"gate={gate}", "width": 32}}).json()
        with open(gate, "wb", buffering=0):
            replies = [http.post("/v1/jobs", json={"request": {"prompt": "steps=2"}}) for _ in range(4)]
            assert [reply.status_code for reply in replies] == [201, 201, 429, 429]
            assert int(replies[-1].headers["retry-after"]) > 0 and replies[-1].json()["error"]["code"] == "queue_full"
            http.post(f"/v1/jobs/{first['id']}/cancel")


def test_the_gallery(begin: Callable[..., Studio]) -> None:
    studio = begin(maker="serve.painter:Painter")
    with client(studio) as http:
        for number in range(5):
            job = http.post("/v1/jobs", json={"request": {"prompt": f"picture {number} of cats", "seed": 1000 + number}}).json()
            ended(studio.engine, job["id"])
        page = http.get("/v1/pictures", params={"limit": 2}).json()
        assert (page["total"], [item["seed"] for item in page["items"]]) == (5, ["1004", "1003"])
        further = http.get("/v1/pictures", params={"limit": 2, "offset": 4, "upto": page["upto"]}).json()
        assert [item["seed"] for item in further["items"]] == ["1000"]
        assert [item["seed"] for item in http.get("/v1/pictures", params={"search": "1002"}).json()["items"]] == ["1002"]
        assert http.get("/v1/pictures", params={"search": "cat pict"}).json()["total"] == 5
        assert http.get("/v1/pictures", params={"search": 'dogs" OR "cats'}).json()["total"] == 0
        one = page["items"][0]
        assert http.put(f"/v1/pictures/{one['id']}/star").json()["starred"] is True
        assert http.get("/v1/pictures", params={"starred": True}).json()["total"] == 1
        assert http.delete(f"/v1/pictures/{one['id']}/star").json()["starred"] is False
        assert http.delete(f"/v1/pictures/{one['id']}").status_code == 204
        assert http.get(f"/v1/pictures/{one['id']}/info").status_code == 404
        assert http.get("/v1/pictures").json()["total"] == 4
        assert http.post(f"/v1/pictures/{one['id']}/restore").json()["id"] == one["id"]
        assert http.get("/v1/pictures").json()["total"] == 5


def test_uploads_are_of_pixels_alone(served: Studio) -> None:
    held = BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a secret place"  # turned by a quarter
    Image.new("RGB", (8, 4), "red").save(held, "JPEG", exif=exif)
    with client(served) as http:
        reply = http.post("/v1/uploads", content=held.getvalue(), headers={"Content-Type": "image/jpeg"})
        assert reply.status_code == 201
        told = reply.json()
        assert (told["width"], told["height"]) == (4, 8)
        kept = http.get(told["url"]).content
        assert b"secret" not in kept and Image.open(BytesIO(kept)).size == (4, 8)
        assert http.post("/v1/uploads", content=held.getvalue(), headers={"Content-Type": "image/jpeg"}).json()["id"] == told["id"]
        for data, kind in ((b"GIF89a", "image/png"), (b"<svg/>", "image/png"), (b"", "image/png"), (bytes(100), "image/webp")):
            assert http.post("/v1/uploads", content=data, headers={"Content-Type": kind}).status_code == 400
        assert http.post("/v1/uploads", content=held.getvalue(), headers={"Content-Type": "text/plain"}).status_code == 415


def test_a_bomb_is_refused_and_the_next_picture_taken(served: Studio) -> None:
    held = BytesIO()
    Image.new("1", (9000, 9000)).save(held, "PNG")
    small = BytesIO()
    Image.new("L", (4, 4)).save(small, "PNG")
    with client(served) as http:
        reply = http.post("/v1/uploads", content=held.getvalue(), headers={"Content-Type": "image/png"})
        assert reply.status_code == 400 and "megapixels" in reply.json()["error"]["message"]
        assert http.post("/v1/uploads", content=small.getvalue(), headers={"Content-Type": "image/png"}).status_code == 201


def test_a_story(served: Studio) -> None:
    with client(served) as http:
        ask = {"request": {"prompt": "a red circle", "seed": 7, "steps": 4}, "see": True}
        job = http.post("/v1/jobs", json=ask).json()
        assert ended(served.engine, job["id"]).state == "done"
        told = http.get(f"/v1/jobs/{job['id']}").json()
        page = http.get(told["story"])
        assert "circle" in page.text and page.headers["content-type"].startswith("text/html")
        assert "sandbox allow-scripts" in page.headers["content-security-policy"] and "sha256-" in page.headers["content-security-policy"]
        assert http.post("/v1/jobs", json={"request": {"count": 2}, "see": True}).status_code == 400
        plain = http.post("/v1/jobs", json={"request": ask["request"]}).json()
        ended(served.engine, plain["id"])
        assert http.get(f"/v1/jobs/{plain['id']}/story").status_code == 404
        one, other = (http.get(f"/v1/jobs/{each['id']}").json()["pictures"][0]["url"] for each in (told, plain))
        assert http.get(one).content == http.get(other).content


def test_what_there_is(served: Studio) -> None:
    with client(served) as http:
        [model] = http.get("/v1/models").json()["data"]
        assert model["id"] == "sumi" and model["card"]["width"] == 64 and "low_res" in model["card"]["takes"]
        assert http.get("/v1/models/sumi").json() == model
        assert http.get("/v1/models/no").json()["error"]["code"] == "model_not_found"
        words = http.post("/v1/words", json={"prompt": "a (red:1.5) \U0001f600 circle"}).json()
        assert [word["weight"] for word in words["words"] if word["text"] == "red"] == [1.5] and words["error"] is None
        assert http.post("/v1/words", json={"prompt": "(a"}).json()["error"]["at"] == 0
        assert {each["name"] for each in http.get("/v1/samplers").json()["samplers"]} >= {"ddim", "dpmpp_2m"}
        assert "prompt" in {each["name"] for each in http.get("/v1/fields").json()["fields"]}
        assert http.get("/health").json() == {"status": "ok"}
        status = http.get("/v1/status").json()
        assert status["name"] == "sumi" and status["limits"]["steps"] == 250
        metrics = http.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain") and 'sumi_jobs{state="done"}' in metrics.text
        assert http.get("/openapi.json").json()["components"]["schemas"]["Request"]["properties"]["steps"]["maximum"] == 10_000


def test_metrics_are_as_prometheus_reads_them(begin: Callable[..., Studio]) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    studio = begin(maker="serve.painter:Painter")
    with client(studio) as http:
        job = http.post("/v1/jobs", json={"request": {"count": 3}}).json()
        with http.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
            list(told(stream.iter_lines()))
        found = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(http.get("/metrics").text)
            for sample in family.samples
        }
    assert found[("sumi_jobs", ("state", "done"))] == 1
    assert found[("sumi_workers_alive",)] == 1
    assert found[("sumi_pictures_total",)] == 3
    assert found[("sumi_http_request_seconds_count", ("method", "POST"), ("route", "/v1/jobs"), ("status", "201"))] == 1


def test_a_model_that_is_not_there(served: Studio) -> None:
    with client(served) as http:
        for id in ("no", "../sumi", "/etc/passwd", ""):
            reply = http.post("/v1/jobs", json={"request": {}, "model": id})
            assert reply.status_code == 404 and reply.json()["error"]["code"] == "model_not_found"


def test_small_replies_are_sent_at_once(begin: Callable[..., Studio]) -> None:
    """Else the second half of each waits for the first to be acknowledged, which the other side puts off by 40 ms."""
    import socket

    studio = begin()
    with client(studio) as http:
        http.get("/health")
        [lines] = [server.sockets for server in studio.running.servers]
        assert all(line.proto == socket.IPPROTO_TCP for line in lines)
        delays = [
            each.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for each in studio.running.server_state.connections
        ]
        assert delays and all(delays)
