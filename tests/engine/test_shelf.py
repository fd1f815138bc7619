"""The gallery: what is found, in which order, by which page; what becomes of pictures that are removed."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from engine.helpers import WORKER, ended, files, kept, whole
from sumi.engine.engine import Engine
from sumi.engine.jobs import Jobs
from sumi.engine.shelf import Gallery, Shelf
from sumi.errors import JobError, RequestError
from sumi.request import Request

Shelve = Callable[..., list[str]]


@pytest.fixture
def gallery(jobs: Jobs) -> Gallery:
    jobs.enlist(WORKER)
    return Gallery(jobs.database)


@pytest.fixture
def shelve(jobs: Jobs, gallery: Gallery) -> Iterator[Shelve]:
    """Makes a job of a request, done at once. The ids of its pictures."""
    made = 0

    def shelve(prompt: str = "", *, model: str | None = None, **fields: object) -> list[str]:
        nonlocal made
        job = jobs.submit(Request(**{"prompt": prompt, "seed": 1, **fields}), model=model)  # type: ignore[arg-type]
        jobs.claim(WORKER)
        ids = [f"{made + number:032x}" for number in range(job.request.count)]
        made += len(ids)
        assert jobs.finish(WORKER, job.id, kept(*ids))
        return ids

    yield shelve


def ids(shelf: Shelf) -> list[str]:
    return [item.id for item in shelf.items]


def test_a_picture_says_what_it_is(jobs: Jobs, gallery: Gallery, shelve: Shelve) -> None:
    before = time.time()
    one, other = shelve("a cat", model="m", seed=2**64 - 1, count=2)
    item = gallery.item(other)
    assert (item.number, item.place, item.width, item.height, item.starred) == (2, 1, 8, 6, False)
    assert (item.prompt, item.seed, item.model) == ("a cat", 2**64 - 1, "m") and before <= item.at <= time.time()
    job = jobs.get(item.job)
    assert job.pictures == (one, other) and job.removed == ()
    assert gallery.page() == Shelf(2, 2, (item, gallery.item(one)))
    assert gallery.page(starred=True) == Shelf(0, 2, ()) and gallery.page(limit=0) == Shelf(2, 2, ())


def test_an_empty_one(gallery: Gallery) -> None:
    assert gallery.page() == gallery.page("a") == Shelf(0, 0, ())


@pytest.fixture
def shelved(shelve: Shelve) -> dict[str, str]:
    """Pictures by what they are called here."""
    asked: dict[str, dict[str, object]] = {
        "cat": {"prompt": "Two stars above a cat", "seed": 1234567},
        "tree": {"prompt": "a red tree, (two:1.2) stars", "negative": "blurred, Café", "seed": 2**64 - 1},
        "words": {"prompt": '星と木 über "quoted" it\'s a_b 3/4', "seed": 99, "model": "my model-v1.5"},
        "none": {"prompt": "", "seed": 7},
    }
    return {name: shelve(**fields)[0] for name, fields in asked.items()}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("cat", ["cat"]),
        ("CAT", ["cat"]),
        ("ca", ["tree", "cat"]),
        ("at", []),
        ("stars two", ["tree", "cat"]),
        ("sta tw", ["tree", "cat"]),
        ("two stars cat", ["cat"]),
        ("cat tree", []),
        ("yes", []),
        ("cafe", ["tree"]),
        ("CAFÉ", ["tree"]),
        ("uber", ["words"]),
        ("星", ["words"]),
        ("1234567", ["cat"]),
        ("1234", ["cat"]),
        (str(2**64 - 1), ["tree"]),
        ("99 quoted", ["words"]),
        ("v1.5", ["words"]),
        ("my model-v1", ["words"]),
        ("two:1.2", ["tree"]),
        ('"quoted', ["words"]),
        ("it's", ["words"]),
        ("a_b 3/4", ["words"]),
        ("  ", ["none", "words", "tree", "cat"]),
    ],
)
def test_found_by_the_beginnings_of_words(gallery: Gallery, shelved: dict[str, str], search: str, found: Sequence[str]) -> None:
    shelf = gallery.page(search)
    assert ids(shelf) == [shelved[name] for name in found] and shelf.total == len(found)


@pytest.mark.parametrize(
    "search",
    [
        *('"', '""', "'", "*", "cat*", "^cat", "NOT cat", "cat OR tree", "NEAR(cat tree)", "prompt:cat", "{prompt}: cat", "(", "-cat", "+"),
        *("a\0b", "\ud800", "\0", "!!!", "; DROP TABLE words", "%", "_", "\\", "\U0001f600", "\u0301", "a " * 500, "x" * 1000),
    ],
)
def test_whatever_is_typed_is_words(gallery: Gallery, shelved: dict[str, str], search: str) -> None:
    found = gallery.page(search)
    assert found.total == len(found.items) < (5 if search == "\0" else 4) and gallery.page().total == 4


def test_a_search_has_an_end(gallery: Gallery) -> None:
    with pytest.raises(RequestError, match="a search must be at most 1000 characters; got 1001"):
        gallery.page("x" * 1001)


def test_pages_stay_right_while_new_pictures_come(gallery: Gallery, shelve: Shelve) -> None:
    old = [shelve(f"a cat {number}")[0] for number in range(7)][::-1]
    for search in ("", "cat"):
        first = gallery.page(search, limit=3)
        assert ids(first) == old[:3] and first.total == 7
        new = shelve("a new cat")
        second = gallery.page(search, limit=3, offset=3, upto=first.upto)
        assert ids(second) == old[3:6] and (second.total, second.upto) == (7, first.upto)
        assert ids(gallery.page(search, limit=1)) == new
        old = [*new, *old][:7] if search == "" else old
        gallery.remove(new[0])
        old = [id for id in old if id != new[0]] if search == "" else old
    assert gallery.page(offset=100, upto=2**70).items == () and gallery.page(offset=2**70).items == ()


def test_stars(gallery: Gallery, shelve: Shelve) -> None:
    one, other, third = (shelve(prompt)[0] for prompt in ("a cat", "a tree", "a cat and a tree"))
    assert gallery.star(one, True).starred and gallery.star(other, True) == gallery.star(other, True) == gallery.item(other)
    assert ids(gallery.page(starred=True)) == [other, one] and gallery.page(starred=True).total == 2
    assert ids(gallery.page("cat", starred=True)) == [one] and ids(gallery.page("cat")) == [third, one]
    assert not gallery.star(one, False).starred and ids(gallery.page(starred=True)) == [other]


def test_removed_and_restored(jobs: Jobs, gallery: Gallery, shelve: Shelve) -> None:
    one, other = shelve("a cat", count=2)
    before = gallery.star(one, True)
    gallery.remove(one)
    for search in ("", "cat"):
        assert ids(gallery.page(search)) == [other] and gallery.page(search).total == 1
        assert gallery.page(search, starred=True).total == 0
    job = jobs.list()[0]
    assert job.pictures == (one, other) and job.removed == (one,), "the places of the others stay"
    for asked in (gallery.item, gallery.remove, lambda id: gallery.star(id, True)):
        with pytest.raises(JobError, match="there is no such picture: it may have been removed"):
            asked(one)
    assert gallery.restore(one) == gallery.restore(one) == before
    assert gallery.page("cat") == gallery.page() and gallery.page().total == 2
    assert gallery.page(starred=True).items == gallery.page("cat", starred=True).items == (before,) and jobs.list()[0].removed == ()


def test_purged_for_good(jobs: Jobs, gallery: Gallery, shelve: Shelve) -> None:
    one, other = shelve("a cat", count=2)
    gallery.remove(one)
    assert gallery.purge(time.time() - 60) == () and gallery.restore(one)
    gallery.remove(one)
    assert gallery.purge(time.time()) == (one,) and gallery.pictures() == {other}
    with pytest.raises(JobError):
        gallery.restore(one)
    gallery.remove(other)
    gallery.purge(time.time())
    job = jobs.list()[0]
    assert (job.state, job.pictures, job.removed) == ("done", (one, other), (one, other)), "the job stays"
    assert gallery.page() == Shelf(0, 0, ())
    assert gallery.item(shelve("next")[0]).number == 3, "numbers are not used again"


@pytest.mark.parametrize("id", ["", "x", "../../etc/passwd", "A" * 32, "\ud800" * 32, "a" * 31 + "\n", "d" * 32])
def test_unknown_ids(gallery: Gallery, id: str) -> None:
    for asked in (gallery.item, gallery.remove, gallery.restore, lambda id: gallery.star(id, True)):
        with pytest.raises(JobError, match="there is no such picture: "):
            asked(id)


def test_a_hundred_thousand_pictures(jobs: Jobs, gallery: Gallery, shelve: Shelve) -> None:
    """Rows put in by hand. Generous, for slow machines: a way through all of the pictures' words would take seconds."""
    job, many = jobs.get(gallery.item(shelve("a cat")[0]).job), 100_000
    prompts = ["two stars above a tree", "a red circle on a green background", "a cat on the grass", "a blue boat and three birds"]
    with jobs.database.writing() as connection:
        connection.executemany(
            "INSERT INTO pictures (id, job, place, at, width, height, starred) VALUES (?, ?, ?, 0, 64, 64, ?)",
            ((f"{number:032x}", job.id, number, number % 2) for number in range(1, many)),
        )
        connection.executemany(
            "INSERT INTO words (rowid, prompt, negative, model, seed, starred) VALUES (?, ?, '', '', ?, ?)",
            ((number + 1, prompts[number % 4], str(number * 40_503), "yes" * (number % 2)) for number in range(1, many)),
        )
    pages: dict[str, tuple[dict[str, object], int]] = {
        "last": ({"offset": 99_000}, many),
        "all": ({"search": "a"}, many),
        "some": ({"search": "st tr", "offset": 20_000}, many // 4 - 1),
        "seed": ({"search": str(77_777 * 40_503)}, 1),
        "starred": ({"starred": True, "offset": 40_000}, many // 2),
        "starred and found": ({"search": "boat", "starred": True}, many // 4),
    }
    for name, (asked, total) in pages.items():
        found = gallery.page(**asked)  # type: ignore[arg-type]
        assert found.total == total and len(found.items) == min(100, total), name


# Of an engine, with the files


def test_what_was_removed_long_ago_is_gone_with_its_files(begin: Callable[..., Engine], tmp_path: Path) -> None:
    engine = begin()
    seen, two = (ended(engine, engine.submit(request, see=see).id) for request, see in ((Request(), True), (Request(count=2), False)))
    assert len(files(engine)) == 3 + 4 and engine.story(seen.id)
    for id in (*seen.pictures, two.pictures[0]):
        engine.remove(id)
        for asked in (engine.picture, engine.thumbnail):
            with pytest.raises(JobError, match="there is no such picture"):
                asked(id)
    with pytest.raises(JobError, match="there is no such picture"):
        engine.story(seen.id)
    engine.close()
    engine = begin()
    assert len(files(engine)) == 7, "not an hour ago"
    engine.restore(seen.pictures[0])
    assert engine.story(seen.id) and engine.picture(seen.pictures[0])
    engine.remove(seen.pictures[0])
    with engine.jobs.database.writing() as connection:
        connection.execute("UPDATE pictures SET removed = removed - 3601 WHERE removed IS NOT NULL")
    engine.close()
    engine = begin()
    assert files(engine) == whole(engine) and len(files(engine)) == 2
    assert engine.get(seen.id).state == "done" and engine.picture(two.pictures[1])


def test_it_is_gone_while_the_engine_runs(begin: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sumi.engine.engine.TIDIED", 0.02)
    monkeypatch.setattr("sumi.engine.engine.KEPT", -1.0)
    engine = begin()
    job = ended(engine, engine.submit(Request(count=2)).id)
    engine.remove(job.pictures[0])
    until = time.monotonic() + 60
    while len(files(engine)) > 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert files(engine) == whole(engine) and engine.picture(job.pictures[1])


def test_pictures_that_lie_in_no_gallery(begin: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = begin()
    [loose] = ended(engine, engine.submit(Request(prompt="steps=2 loose"), shelf=False).id).pictures
    [shelved] = ended(engine, engine.submit(Request(prompt="steps=2 shelved")).id).pictures
    assert [item.id for item in engine.gallery().items] == [shelved]
    assert engine.gallery("loose").total == 0 and engine.gallery("steps").total == 1
    assert engine.picture(loose) and engine.thumbnail(loose) and engine.item(loose).prompt == "steps=2 loose"
    engine.remove(loose)
    engine.restore(loose)
    assert engine.gallery("loose").total == 0
    engine.close()
    monkeypatch.setattr("sumi.engine.shelf.LOOSE", 0.0)
    engine = begin()
    assert engine.picture(shelved)
    with pytest.raises(JobError):
        engine.picture(loose)
