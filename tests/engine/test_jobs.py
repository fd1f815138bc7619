"""The queue: order, states, who may say what, and what a file that is no queue is told."""

import sqlite3
import threading
import time
from pathlib import Path

import pytest

from engine.helpers import GUARD, WORKER, kept
from sumi.engine.database import SCHEMA
from sumi.engine.job import OWN, Failure, shape
from sumi.engine.jobs import Jobs
from sumi.engine.rows import STOPS
from sumi.engine.shelf import Gallery
from sumi.errors import ConflictError, EngineError, JobError, RequestError, SumiError
from sumi.request import FIELDS, FILES, Request

CAT = Request(prompt="a cat", seed=7)
PICTURE = "b" * 32


@pytest.fixture(autouse=True)
def enlisted(jobs: Jobs) -> None:
    jobs.enlist(WORKER)


def kinds(jobs: Jobs, id: str) -> list[str]:
    return [event.kind for event in jobs.events(id)]


def test_a_job_goes_its_way(jobs: Jobs) -> None:
    job = jobs.submit(CAT, model="m", priority=3)
    assert (job.state, job.request, job.model, job.priority, job.tries, job.position, job.number) == ("queued", CAT, "m", 3, 0, 0, 1)
    assert [each.id for each in jobs.claim(WORKER)] == [job.id]
    assert jobs.progress(WORKER, [job.id], 1, 4) == {job.id}
    job = jobs.get(job.id)
    assert (job.state, job.position, job.step, job.steps, job.pictures) == ("running", None, 1, 4, ())
    jobs.note(WORKER, job.id, "seen")
    assert kinds(jobs, job.id) == ["queued", "running", "step", "note"]
    assert jobs.finish(WORKER, job.id, kept(PICTURE, "c" * 32))
    job = jobs.get(job.id)
    assert (job.state, job.pictures, job.notes, job.error) == ("done", (PICTURE, "c" * 32), ("seen",), None)
    assert job.started is not None and job.finished is not None and job.created <= job.started <= job.finished
    assert kinds(jobs, job.id) == ["queued", "running", "note", "done"]
    assert Gallery(jobs.database).pictures() == set(job.pictures)
    assert jobs.counts() == {"queued": 0, "running": 0, "done": 1, "failed": 0, "cancelled": 0}


def test_it_is_there_when_the_file_is_opened_again(jobs: Jobs) -> None:
    job = jobs.submit(Request(prompt="ein Bäumchen 木", options={"order": 2.0}, sigmas=(3.0, 1.0, 0.0)))
    jobs.close()
    assert Jobs(jobs.database.path).get(job.id) == job


def test_a_seed_that_is_left_open_is_drawn_once(jobs: Jobs) -> None:
    one, other = jobs.submit(Request()), jobs.submit(Request(variation=0.5))
    assert one.request.seed is not None and other.request.seed is not None and one.request.seed != other.request.seed
    assert one.request.variation_seed is None and other.request.variation_seed is not None
    assert jobs.claim(WORKER)[0].request == one.request


def test_first_by_priority_then_by_age(jobs: Jobs) -> None:
    submitted = [jobs.submit(CAT, priority=priority).id for priority in (0, 5, 0, -5, 5)]
    order = [submitted[place] for place in (1, 4, 0, 2, 3)]
    assert [jobs.position(id) for id in order] == [0, 1, 2, 3, 4]
    assert {job.id: job.position for job in jobs.list()} == {id: place for place, id in enumerate(order)}
    assert [jobs.claim(WORKER)[0].id for _ in order] == order
    assert jobs.claim(WORKER) == ()


def test_pages(jobs: Jobs) -> None:
    ids = [jobs.submit(CAT).id for _ in range(7)][::-1]
    jobs.cancel(ids[0])
    assert [job.id for job in jobs.list()] == ids
    first = jobs.list(limit=3)
    assert [job.id for job in first] == ids[:3]
    assert [job.id for job in jobs.list(before=first[-1].number)] == ids[3:]
    assert [job.id for job in jobs.list(state="cancelled")] == ids[:1]
    assert jobs.list(before=0) == () == jobs.list(limit=-1) and len(jobs.list(before=2**70)) == 7


def test_the_same_key_is_the_same_job(jobs: Jobs) -> None:
    job = jobs.submit(Request(prompt="a cat"), key="k")
    assert jobs.submit(Request(prompt="a cat"), key="k") == job
    assert jobs.submit(Request(prompt="a cat"), key="l").id != job.id != jobs.submit(Request(prompt="a cat")).id
    for other in ({"request": Request(prompt="a cat", steps=3)}, {"model": "m"}, {"priority": 1}, {"group": "g"}, {"see": True}):
        with pytest.raises(ConflictError, match="the key k was given with another request: take another key"):
            jobs.submit(**{"request": Request(prompt="a cat"), "key": "k", **other})  # type: ignore[arg-type]
    assert jobs.counts()["queued"] == 3


@pytest.mark.parametrize("key", ["", "x" * 201, "\ud800", "a\nb", "ä"])
def test_keys_are_short_plain_text(jobs: Jobs, key: str) -> None:
    with pytest.raises(RequestError, match="a key must be from 1 to 200 printable ASCII characters; got"):
        jobs.submit(CAT, key=key)


def test_groups(jobs: Jobs) -> None:
    ids = [jobs.submit(CAT, group=group).id for group in ("a b", None, "c", "a b", "a b")]
    assert [jobs.get(id).group for id in ids] == ["a b", None, "c", "a b", "a b"]
    jobs.cancel(ids[0])
    found = jobs.list(group="a b", limit=2)
    assert [job.id for job in found] == [ids[4], ids[3]]
    assert (
        [job.id for job in jobs.list(group="a b", before=found[-1].number)]
        == [ids[0]]
        == [job.id for job in jobs.list(group="a b", state="cancelled")]
    )
    assert jobs.list(group="d") == () and len(jobs.list()) == 5
    for group in ("", "x" * 65, "ä", "a\nb", "\ud800"):
        with pytest.raises(RequestError, match="group must be from 1 to 64 printable ASCII characters; got"):
            jobs.submit(CAT, group=group)


def test_what_is_to_be_seen_is_computed_alone(jobs: Jobs) -> None:
    ids = [jobs.submit(CAT, see=see).id for see in (False, True, True, False)]
    assert [jobs.get(id).see for id in ids] == [False, True, True, False]
    assert [[job.id for job in jobs.claim(WORKER, 16)] for _ in ids] == [[ids[0], ids[3]], [ids[1]], [ids[2]], []]
    with pytest.raises(RequestError, match="see is for one picture; got a count of 2"):
        jobs.submit(Request(count=2), see=True)


def test_which_uploads_are_named(jobs: Jobs) -> None:
    one, other = (f"upload:{digit * 64}" for digit in "ab")
    jobs.submit(Request(prompt='"upload:', image=one, mask=other))
    jobs.submit(Request(image=one))
    jobs.submit(Request(prompt="upload:"))
    assert jobs.uploads() - {"upload:"} == {one, other}


def test_threads_never_claim_the_same_job(jobs: Jobs) -> None:
    ids = {jobs.submit(Request(prompt="a", steps=1 + place)).id for place in range(50)}
    claimed: list[str] = []
    ready = threading.Barrier(8)

    def claim(number: int) -> None:
        worker = f"{number:032x}"
        jobs.enlist(worker)
        ready.wait(GUARD)
        while found := jobs.claim(worker):
            claimed.extend(job.id for job in found)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    assert len(claimed) == 50 and set(claimed) == ids


def test_jobs_of_one_shape_are_claimed_together(jobs: Jobs) -> None:
    alike = [jobs.submit(Request(prompt=prompt, seed=seed, first=seed)).id for seed, prompt in enumerate("abc")]
    other = jobs.submit(Request(prompt="a", steps=3)).id
    large, later = jobs.submit(Request(count=6)).id, jobs.submit(Request(prompt="d")).id
    urgent = jobs.submit(Request(prompt="u"), priority=1).id
    assert [job.id for job in jobs.claim(WORKER, 8)] == [urgent]
    assert [job.id for job in jobs.claim(WORKER, 8)] == alike
    assert [job.id for job in jobs.claim(WORKER, 8)] == [other]
    assert [job.id for job in jobs.claim(WORKER, 8)] == [large, later]


def test_workers_share_jobs_of_one_shape(jobs: Jobs) -> None:
    jobs.enlist("c" * 32)
    for _ in range(5):
        jobs.submit(CAT)
    assert [len(jobs.claim(worker, 16)) for worker in (WORKER, "c" * 32, WORKER)] == [3, 1, 1]


def test_shapes() -> None:
    """Every field but the pictures' own says what is computed together, and so does which files there are."""
    values = {str: "x", bool: True, tuple: (1.0, 2.0), dict: {"a": 1.0}}
    for name, field in FIELDS.items():
        low, high = field.range or (0, 0)
        numbers = {int: int(low) + 2, float: low + 0.25 * (high - low)}
        value = field.choice[1] if field.choice else {"digests": {"image": "0"}, "outpaint": (1, 2, 3, 4)}.get(name)
        changed = Request(**{name: value or {**values, **numbers}[field.type]})
        assert changed != Request()
        assert (shape(changed, None) == shape(Request(), None)) == (name in OWN and name not in ("label", *FILES)), name
    assert shape(Request(seed=1), None) == shape(Request(seed=2, prompt="x", count=3), None) != shape(Request(seed=1), "m")
    assert shape(Request(image="a"), None) == shape(Request(image="b"), None)


def test_cancelled_while_it_waits(jobs: Jobs) -> None:
    job = jobs.submit(CAT)
    assert jobs.cancel(job.id).state == "cancelled" and jobs.claim(WORKER) == ()
    assert kinds(jobs, job.id) == ["queued", "cancelled"]
    assert jobs.cancel(job.id).state == "cancelled" and kinds(jobs, job.id) == ["queued", "cancelled"]


def test_what_a_worker_says_of_a_cancelled_job_changes_nothing(jobs: Jobs) -> None:
    job = jobs.submit(CAT)
    jobs.claim(WORKER)
    cancelled = jobs.cancel(job.id)
    assert jobs.progress(WORKER, [job.id], 1, 4) == set()
    assert not jobs.finish(WORKER, job.id, kept(PICTURE))
    assert not jobs.fail(WORKER, job.id, Failure("x", "y"))
    jobs.note(WORKER, job.id, "n")
    assert jobs.get(job.id) == cancelled and Gallery(jobs.database).pictures() == set()


def test_done_is_done(jobs: Jobs) -> None:
    job = jobs.submit(CAT)
    jobs.claim(WORKER)
    assert jobs.finish(WORKER, job.id, kept(PICTURE))
    assert not jobs.finish(WORKER, job.id, kept("c" * 32))
    assert jobs.cancel(job.id).state == "done" and jobs.get(job.id).pictures == (PICTURE,)
    with pytest.raises(ConflictError, match="the job is done: only one that has failed or was cancelled can be tried again"):
        jobs.retry(job.id)


def test_tried_again(jobs: Jobs) -> None:
    old, young = jobs.submit(CAT), jobs.submit(CAT)
    jobs.claim(WORKER)
    jobs.fail(WORKER, old.id, Failure("nan", "black"))
    failed = jobs.get(old.id)
    assert (failed.state, failed.error) == ("failed", Failure("nan", "black"))
    again = jobs.retry(old.id)
    assert (again.state, again.error, again.finished, again.position) == ("queued", None, None, 0)
    assert jobs.position(young.id) == 1 and jobs.claim(WORKER)[0].request == CAT


def test_a_dead_workers_jobs_go_back_to_their_places_and_are_parked_at_the_second_time(jobs: Jobs) -> None:
    ids = [jobs.submit(CAT).id for _ in range(3)]
    assert [job.id for job in jobs.claim(WORKER, 2)] == ids[:2]
    assert jobs.lost(WORKER, died=True) == tuple(ids[:2])
    assert [(jobs.get(id).state, jobs.get(id).tries) for id in ids] == [("queued", 1), ("queued", 1), ("queued", 0)]
    with pytest.raises(ConflictError, match="given up"):
        jobs.claim(WORKER)
    jobs.enlist("c" * 32)
    assert [job.id for job in jobs.claim("c" * 32, 16)] == ids[:1], "what a worker died of is computed alone"
    assert not jobs.finish(WORKER, ids[0], kept(PICTURE)), "of the dead nothing is taken"
    jobs.lost("c" * 32, died=True)
    parked = jobs.get(ids[0])
    assert parked.state == "failed" and parked.error is not None and parked.error.kind == "poison"
    assert [jobs.get(id).tries for id in ids] == [2, 1, 0]
    assert jobs.retry(ids[0]).tries == 0


def test_a_worker_that_is_not_to_blame_costs_no_try(jobs: Jobs) -> None:
    id = jobs.submit(CAT).id
    for _ in range(5):
        jobs.claim(WORKER)
        assert jobs.lost(WORKER, died=False) == (id,)
        jobs.enlist(WORKER)
    assert (jobs.get(id).state, jobs.get(id).tries) == ("queued", 0)


def test_an_engine_takes_over(jobs: Jobs) -> None:
    id = jobs.submit(CAT).id
    for stop in range(1, STOPS + 1):
        jobs.claim(WORKER)
        assert jobs.recover() == (id,)
        assert jobs.get(id).state == ("queued" if stop < STOPS else "failed")
        jobs.enlist(WORKER)
    assert jobs.claim(WORKER) == () == jobs.recover()


def test_events_are_waited_for(jobs: Jobs) -> None:
    job = jobs.submit(CAT)
    seen = jobs.events(job.id)[-1].number
    assert jobs.events(job.id, after=seen) == () == jobs.events(job.id, after=seen, wait=0.01)
    thread = threading.Thread(target=lambda: jobs.cancel(job.id))
    thread.start()
    assert [event.kind for event in jobs.events(job.id, after=seen, wait=GUARD)] == ["cancelled"]
    thread.join()


def test_events_of_another_process_are_seen(jobs: Jobs) -> None:
    other = Jobs(jobs.database.path)
    waited: list[str] = []
    thread = threading.Thread(target=lambda: waited.extend(event.kind for event in jobs.events(wait=GUARD)))
    thread.start()
    other.submit(CAT)
    thread.join(GUARD)
    assert waited == ["queued"]
    other.close()


def test_listeners(jobs: Jobs) -> None:
    heard: list[int] = []
    end = jobs.listen(lambda: heard.append(1))
    jobs.submit(CAT)
    assert heard
    end()
    heard.clear()
    jobs.submit(CAT)
    assert not heard


@pytest.mark.parametrize("id", ["", "x", "../../etc/passwd", "A" * 32, "\ud800" * 32, "a" * 33, "a" * 31 + "\n", "d" * 32])
def test_unknown_ids(jobs: Jobs, id: str) -> None:
    for asked in (jobs.get, jobs.cancel, jobs.retry, jobs.position):
        with pytest.raises(JobError, match="there is no such job: "):
            asked(id)


def test_refusals(jobs: Jobs) -> None:
    with pytest.raises(RequestError, match="priority must be from -1000000 to 1000000; got 9999999"):
        jobs.submit(CAT, priority=9_999_999)
    with pytest.raises(RequestError, match="there is no state 'asleep': use queued, running, done, failed, cancelled"):
        jobs.list(state="asleep")  # type: ignore[arg-type]


def test_failures() -> None:
    assert Failure.of(RequestError("a\nb")) == Failure("request", "a b")
    assert Failure.of(SumiError("a")) == Failure("sumi", "a")
    defect = Failure.of(KeyError("x" * 1000))
    assert defect.kind == "defect" and "KeyError" in defect.message and len(defect.message) < 500 and "\n" not in defect.message


def test_what_is_no_queue(tmp_path: Path, jobs: Jobs) -> None:
    foreign = tmp_path / "foreign.sqlite3"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE songs (name)")
    connection.close()
    before = foreign.read_bytes()
    with pytest.raises(EngineError, match=r"foreign.sqlite3 is another program's: choose another folder"):
        Jobs(foreign)
    text = tmp_path / "text.sqlite3"
    text.write_text("no database, " * 100)
    with pytest.raises(EngineError, match=r"text.sqlite3 is damaged \(file is not a database\): move it away to begin another"):
        Jobs(text)
    with pytest.raises(EngineError, match="cannot be used"):
        Jobs(tmp_path)
    with pytest.raises(EngineError, match="cannot be used"):
        Jobs(tmp_path / "none" / "jobs.sqlite3")
    assert text.read_text().startswith("no database") and sqlite3.connect(foreign).execute("SELECT * FROM songs").fetchall() == []
    assert len(before) == foreign.stat().st_size


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_version_is_left_alone(jobs: Jobs, version: int) -> None:
    jobs.submit(CAT)
    with jobs.database.reading() as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(EngineError, match=f"is of version {version}, and this sumi reads 1: use the sumi that made it, or another folder"):
        Jobs(jobs.database.path)


def test_an_sqlite_that_cannot_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made without FTS5, it does not know the module."""
    monkeypatch.setattr("sumi.engine.database.SCHEMA", SCHEMA.replace("fts5", "fts0"))
    with pytest.raises(
        EngineError, match=r"^SQLite cannot search texts here \(no such module: fts0\): use a Python whose SQLite has FTS5$"
    ):
        Jobs(tmp_path / "none.sqlite3")


def test_damage_is_told_in_one_line(jobs: Jobs) -> None:
    for _ in range(200):
        jobs.submit(CAT)
    jobs.close()
    path = jobs.database.path
    data = bytearray(path.read_bytes())
    data[8192 : len(data) // 2] = b"\xaa" * (len(data) // 2 - 8192)
    path.write_bytes(data)
    with pytest.raises(EngineError, match=r"is damaged \(.*\): move it away to begin another") as told:
        opened = Jobs(path)
        opened.database.check()
    assert "\n" not in str(told.value)


def test_connections_of_ended_threads_are_closed(jobs: Jobs) -> None:
    for _ in range(20):
        thread = threading.Thread(target=jobs.counts)
        thread.start()
        thread.join()
    assert len(jobs.database._open) <= 2


def test_a_step_is_cheap_to_tell(jobs: Jobs) -> None:
    """Not flushed to the disk: less than the time of a small step. Generous, for slow machines."""
    ids = [jobs.submit(CAT).id for _ in range(16)]
    jobs.claim(WORKER, 16)
    begun = time.process_time()
    for step in range(100):
        assert jobs.progress(WORKER, ids, step, 100) == set(ids)
    assert (time.process_time() - begun) / 100 < 0.05
