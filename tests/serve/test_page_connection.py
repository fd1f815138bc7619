"""Between the page and its server: reloads, several tabs, a connection that is lost, a server that is started again, another key."""

import json
import os
import re
import socket
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from serve.gated import Gate
from serve.pages import STEPS, Opens, done, made, make, newest, prompt, settings, tabs, watched
from serve.serving import STUB, Studio, serving


def test_a_page_from_another_machine_over_http_works(browser: Browser, opened: Studio) -> None:
    """There, browsers have neither crypto.randomUUID nor a clipboard."""
    with tabs(browser, opened.url) as (context, opens):
        context.add_init_script("delete Crypto.prototype.randomUUID; delete Navigator.prototype.clipboard;")
        tab = opens()
        assert tab.evaluate("[typeof crypto.randomUUID, typeof navigator.clipboard]") == ["undefined", "undefined"]
        made(tab, "a cat")
        copied = """(async () => {
          const text = new Promise((resolve) => document.addEventListener("copy", ({ target }) => resolve(target.value), { once: true }));
          (await import("/page/facts.js")).copy("two stars", "Prompt");
          return text;
        })()"""
        assert tab.evaluate(copied) == "two stars"
        expect(tab.get_by_text("Prompt copied")).to_be_visible()


def test_numbers_keep_all_their_digits(same: Page) -> None:
    said = {"seed": 2**64 - 1, "at": 1763768473.123456, "text": 'a "9999999999999999999" \\', "few": [1, -2.5e-9]}
    both = """async (text) => {
      const {readJson, writeJson} = await import("/page/api.js");
      return [readJson(text), writeJson({...readJson(text), variation_seed: "12"})];
    }"""
    read, written = same.evaluate(both, json.dumps(said))
    assert read == {**said, "seed": str(2**64 - 1)}
    assert json.loads(written) == {**said, "variation_seed": 12}


def test_what_is_called_off_is_not_called_unreachable(same: Page) -> None:
    told = """import("/page/api.js").then(async ({ api }) => {
      const controller = new AbortController(), asked = api.get("/v1/status", { signal: controller.signal });
      controller.abort();
      return asked.then(() => "answered", ({ name }) => name);
    })"""
    assert same.evaluate(told) == "AbortError"


def test_state_survives_a_reload_and_is_shared_by_tabs(opens: Opens, opened: Studio, gate: Gate) -> None:
    one = opens()
    settings(one)
    one.get_by_role("spinbutton", name="Steps").fill(str(STEPS))
    make(one, "a ghost")
    watched(one, gate, 4)
    film = one.locator("step-film li").all_inner_texts()
    assert len(film) > 1
    one.reload()
    expect(prompt(one)).to_have_value("a ghost")
    expect(one.get_by_role("spinbutton", name="Steps")).to_have_value(str(STEPS))
    expect(one.locator("making-stage .step")).to_contain_text(f"of {STEPS}")
    expect(one.locator("making-stage .frame.running img")).to_have_attribute("src", re.compile("^data:"))
    expect(one.locator("step-film li")).to_have_text(film)
    two = opens()
    expect(two.locator("making-stage .step")).to_contain_text(f"of {STEPS}")
    expect(two.get_by_role("button", name="Stop", exact=True)).to_be_disabled()
    expect(prompt(two)).to_have_value("a ghost")
    prompt(two).fill("a robot")
    expect(prompt(one)).to_have_value("a robot")
    two.get_by_role("spinbutton", name="Steps").fill("3")
    expect(one.get_by_role("spinbutton", name="Steps")).to_have_value("3")
    one.get_by_role("button", name="Stop", exact=True).click()
    expect(two.locator("making-stage .step")).to_contain_text("Stopped")
    gate.open()
    picture = made(two)
    two.reload()
    assert done(two) == picture
    assert newest(opened).state == "done"


class Line:
    """Between a browser and a server: a door of its own, which can be shut, and lead to another server then."""

    def __init__(self) -> None:
        self.port = 0
        self.to: int | None = None
        self._open: list[socket.socket] = []
        self._door: socket.socket | None = None
        self._lock = threading.Lock()

    def open(self, to: int) -> None:
        self.to = to
        self._door = socket.create_server(("127.0.0.1", self.port))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._let, args=(self._door,), daemon=True).start()

    def shut(self) -> None:
        """As if a cable were pulled: what is open ends, what comes is refused."""
        assert self._door is not None
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            self._open.clear()

    def _let(self, door: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = door.accept()
                far = socket.create_connection(("127.0.0.1", self.to or 0))
                with self._lock:
                    self._open += [near, far]
                    if door.fileno() < 0:  # shut in the meantime
                        near.close()
                        far.close()
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def port(studio: Studio) -> int:
    return int(studio.url.rpartition(":")[2])


def test_a_lost_connection_is_told_and_mended(browser: Browser, opened: Studio, gate: Gate) -> None:
    line = Line()
    line.open(port(opened))
    with tabs(browser, f"http://127.0.0.1:{line.port}", lost=True) as (_, opens):
        tab = opens()
        settings(tab)
        tab.get_by_role("spinbutton", name="Steps").fill(str(STEPS))
        make(tab, "a red house")
        watched(tab, gate, 1)
        line.shut()
        expect(tab.locator("#offline")).to_contain_text("Not connected, trying again")
        prompt(tab).fill("a blue house")
        make(tab)
        expect(tab.locator("make-row .failure")).to_contain_text("cannot be reached")
        opened.engine.cancel(newest(opened).id)
        gate.open()
        line.open(port(opened))
        expect(tab.locator("#offline")).to_be_empty()
        expect(tab.locator("making-stage .step")).to_contain_text("Stopped")
        tab.get_by_role("spinbutton", name="Steps").fill("2")
        made(tab)
        assert newest(opened).request.prompt == "a blue house"
    line.shut()


def test_a_server_that_is_started_again_is_taken_up(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    line, gate, first = Line(), tmp_path / "gate", ExitStack()
    os.mkfifo(gate)
    line.open(port(first.enter_context(serving(tmp_path / "studio", key=None, maker=STUB))))
    with tabs(browser, f"http://127.0.0.1:{line.port}", lost=True) as (_, opens):
        tab = opens()
        rows = tab.locator("queue-list li")
        make(tab, f"steps=2 gate={gate}")
        expect(rows).to_have_class("running")
        make(tab, "after it")
        expect(rows).to_have_count(2)
        line.shut()
        first.close()
        expect(tab.locator("#offline")).to_contain_text("Not connected, trying again")
        with serving(tmp_path / "studio", key=None, maker=STUB) as studio:
            line.open(port(studio))
            expect(tab.locator("#offline")).to_be_empty()
            expect(rows).to_have_count(2)
            with gate.open("wb", buffering=0) as let:
                let.write(b"..")
            expect(tab.locator("queue-list")).to_be_hidden()
            assert [job.state for job in studio.engine.list()] == ["done", "done"]
            line.shut()


def test_a_new_key_is_asked_for(browser: Browser, served: Studio) -> None:
    with tabs(browser, served.url, lost=True) as (context, opens):
        tab = opens(f"/?key={quote(served.key or '')}")
        assert tab.url == f"{served.url}/"
        context.clear_cookies()
        served.served.end()
        expect(tab.locator("#offline")).to_contain_text("The key has changed")
