"""Studios that are served: with the model that comes with sumi, and with one that makes no pictures; and their page in a browser."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page

from explain import conftest as explained
from serve.at_gallery import ASKED, COUNT, Visit, visiting
from serve.desk import Opens as Desks
from serve.desk import desks
from serve.gallery import shelve
from serve.gated import MAKER, Gate
from serve.pages import Opens, stop, tabs
from serve.serving import STUB, Studio, serving

browser = explained.browser


@contextmanager
def gated(folder: Path, **how: Any) -> Iterator[Studio]:
    """With the model that comes with sumi. A test may keep its jobs waiting."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        with serving(folder / "studio", maker=MAKER, **how) as studio:
            yield studio


@contextmanager
def shut(studio: Studio) -> Iterator[Gate]:
    """Jobs that are begun now wait after each step until they are let go on."""
    gate = Gate(studio.engine.folder)
    gate.shut()
    try:
        yield gate
    finally:
        gate.open()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """It wants a key."""
    with gated(tmp_path_factory.mktemp("studio")) as studio:
        yield studio


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """It wants no key."""
    with gated(tmp_path_factory.mktemp("studio"), key=None) as studio:
        yield studio


@pytest.fixture
def gate(opened: Studio) -> Iterator[Gate]:
    with shut(opened) as gate:
        yield gate


@pytest.fixture
def served_gate(served: Studio) -> Iterator[Gate]:
    with shut(served) as gate:
        yield gate


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A server that wants a key, and makes no pictures."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with serving(tmp_path_factory.mktemp("studio"), maker=STUB) as studio:
        yield studio
    patch.undo()


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Studio]]:
    """Starts studios whose workers make no pictures (`engine.stub`); all are closed in the end."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with ExitStack() as stack:

        def begun(**given: Any) -> Studio:
            return stack.enter_context(serving(tmp_path / "studio", **{"maker": STUB, **given}))

        yield begun


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for screenshots: SUMI_ARTIFACTS, or one of the tests' own."""
    named = os.environ.get("SUMI_ARTIFACTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def opens(browser: Browser, opened: Studio) -> Iterator[Opens]:
    """Opens the page; several tabs of one browser."""
    with tabs(browser, opened.url) as (_, opens):
        yield opens
    stop(opened)


@pytest.fixture
def tab(opens: Opens) -> Page:
    return opens()


@pytest.fixture(scope="module")
def same(browser: Browser, opened: Studio) -> Iterator[Page]:
    """One for all tests that make nothing."""
    with tabs(browser, opened.url) as (_, opens):
        yield opens()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """100,000 pictures of which there are rows alone, and a worker whose pictures are none that a browser shows."""
    folder = tmp_path_factory.mktemp("many")
    shelve(folder, COUNT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        with serving(folder, key=None, maker=STUB) as studio:
            yield studio


@pytest.fixture(scope="module")
def few(opened: Studio) -> list[dict[str, Any]]:
    """Three pictures by the model that comes with sumi: what the server tells of them, the newest first."""
    job = httpx.post(f"{opened.url}/v1/jobs", json={"request": ASKED}).json()
    with httpx.stream("GET", f"{opened.url}/v1/jobs/{job['id']}/events", timeout=120) as told:
        told.read()
    items = httpx.get(f"{opened.url}/v1/pictures").json()["items"]
    assert len(items) == 3
    return [dict(item) for item in items]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens the page of a studio at its gallery, with nothing kept from before."""
    with visiting(browser) as visit:
        yield visit


@pytest.fixture
def desk(browser: Browser, opened: Studio) -> Iterator[Desks]:
    """Opens the page, to paint on it."""
    with desks(browser, opened) as desk:
        yield desk
