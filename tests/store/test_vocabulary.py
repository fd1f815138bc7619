"""The two vocabularies are found wherever they commonly are, only they, and without a network."""

import hashlib
import http.server
import importlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers  # noqa: F401 (below, sys.path is emptied)

from sumi.errors import CheckpointError, DependencyError
from sumi.store import vocabulary
from sumi.store.vocabulary import CLIP_FILE, bert_tokenizer, clip_tokenizer, find_clip_vocabulary, home, hub_cache
from sumi.text.bpe import Merges, Tokenizer, Vocabulary, word_vocabulary
from sumi.text.wordpiece import WordPiece

VARIABLES = ("SUMI_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
BERT = {token: id for id, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "##s"])}
BERT_SHA256 = hashlib.sha256("".join(f"{token}\n" for token in BERT).encode()).hexdigest()
SNAPSHOT = "snapshots/0123456789012345678901234567890123456789"


@pytest.fixture(scope="module")
def tables() -> tuple[Vocabulary, Merges]:
    return find_clip_vocabulary()


@pytest.fixture(scope="module")
def packed(tables: tuple[Vocabulary, Merges]) -> bytes:
    """OpenAI's own file."""
    (folder,) = vocabulary._installed(["open_clip"])
    return (folder / CLIP_FILE).read_bytes()


@pytest.fixture
def bare(tmp_path: Path, tables: tuple[Vocabulary, Merges], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no vocabulary, no network and no packages that are not loaded; returns the home folder."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.path", [str(tmp_path / "packages")])
    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    # The real one is not in any package: a small one stands for it.
    monkeypatch.setattr(vocabulary, "BERT_SHA256", BERT_SHA256)
    return tmp_path / "home"


def as_older(folder: Path, tables: tuple[Vocabulary, Merges]) -> None:
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(tables[0]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in tables[1]), encoding="utf-8")


def as_newer(folder: Path, tables: tuple[Vocabulary, Merges]) -> None:
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": tables[0], "merges": tables[1]}}))


PLACES = {
    "beside": ("model", {}),
    "tokenizer beside": ("model/tokenizer", {}),
    "home": ("home/.local/share/sumi/tokenizer", {}),
    "data": ("data/sumi/tokenizer", {"XDG_DATA_HOME": "data"}),
    "own": ("own/tokenizer", {"SUMI_HOME": "own", "XDG_DATA_HOME": "data"}),
    "open_clip": ("packages/open_clip", {}),
    "clip": ("packages/clip", {}),
    "OpenAI's, cached": (f"home/.cache/huggingface/hub/models--openai--clip-vit-large-patch14/{SNAPSHOT}", {}),
    "SD 1.5's, cached": (f"hub/models--stable-diffusion-v1-5--stable-diffusion-v1-5/{SNAPSHOT}/tokenizer", {"HF_HUB_CACHE": "hub"}),
    "SDXL's, cached": (f"hf/hub/models--stabilityai--stable-diffusion-xl-base-1.0/{SNAPSHOT}/tokenizer_2", {"HF_HOME": "hf"}),
}


@pytest.mark.parametrize("place", PLACES)
def test_clip_is_found(bare: Path, packed: bytes, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = bare.parent
    where, environment = PLACES[place]
    for name, folder in environment.items():
        monkeypatch.setenv(name, str(root / folder))
    with pytest.raises(CheckpointError):
        find_clip_vocabulary(root / "model" / "sd.safetensors")
    (root / where).mkdir(parents=True)
    (root / where / CLIP_FILE).write_bytes(packed)
    importlib.invalidate_caches()
    (root / "model").mkdir(exist_ok=True)
    for beside in (root / "model" / "sd.safetensors", root / "model"):
        vocab, merges = find_clip_vocabulary(beside)
        assert (len(vocab), vocab["photo</w>"], len(merges)) == (49_408, 1125, 48_894)
    if "beside" in place:
        with pytest.raises(CheckpointError):
            find_clip_vocabulary(None)


@pytest.mark.parametrize("write", [as_older, as_newer])
def test_clip_in_other_forms(bare: Path, tables: tuple[Vocabulary, Merges], write: object) -> None:
    assert callable(write)
    write(bare.parent / "tokenizer", tables)
    tokenizer = clip_tokenizer(bare.parent / "sd.ckpt", pad_id=0, length=7)
    assert tokenizer("a cat!") == [49406, 320, 2368, 256, 49407, 0, 0]
    assert (tokenizer.vocab, tokenizer.merges) == tables
    assert clip_tokenizer(bare.parent / "sd.ckpt", pad_id=None).pad_id == 49407


def test_another_vocabulary_is_passed_over_and_named(bare: Path, tables: tuple[Vocabulary, Merges], packed: bytes) -> None:
    root = bare.parent
    swapped = tables[0] | {"cat</w>": tables[0]["dog</w>"], "dog</w>": tables[0]["cat</w>"]}
    as_older(root / "model", (swapped, tables[1]))
    as_newer(root / "model" / "tokenizer", (tables[0], [tables[1][1], tables[1][0], *tables[1][2:]]))
    Tokenizer(*word_vocabulary(["cat"])).save(bare / ".local" / "share" / "sumi" / "tokenizer")
    for package, data in (("open_clip", packed[:-1]), ("clip", b"")):
        (root / "packages" / package).mkdir(parents=True)
        (root / "packages" / package / CLIP_FILE).write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        find_clip_vocabulary(root / "model" / "sd.safetensors")
    for wrong in ("model/vocab.json", "model/tokenizer/tokenizer.json", "sumi/tokenizer/vocab.json", f"open_clip/{CLIP_FILE}"):
        assert f"{wrong}" in str(caught.value)
    (root / "packages" / "clip" / CLIP_FILE).write_bytes(packed)
    assert find_clip_vocabulary(root / "model" / "sd.safetensors") == tables


def test_a_file_that_is_far_too_large_is_not_read(bare: Path, tables: tuple[Vocabulary, Merges]) -> None:
    as_newer(bare.parent / "model", tables)
    assert find_clip_vocabulary(bare.parent / "model") == tables
    with open(bare.parent / "model" / "tokenizer.json", "a") as file:
        file.write(" " * vocabulary.MAX_FILE)
    with pytest.raises(CheckpointError):
        find_clip_vocabulary(bare.parent / "model")


def test_where_it_was_looked_for_is_said_in_one_line(bare: Path) -> None:
    for find, kind in (
        (lambda: clip_tokenizer(bare / "sd.ckpt", pad_id=None), "CLIP"),
        (lambda: bert_tokenizer(bare / "ldm.ckpt"), "BERT"),
    ):
        with pytest.raises(CheckpointError, match=kind) as caught:
            find()
        own = bare / ".local" / "share" / "sumi" / "tokenizer"
        for place in (f"{bare}, ", f"{bare / 'tokenizer'}, ", f"{own}, ", f"{bare / '.cache' / 'huggingface' / 'hub'}", f"into {own}"):
            assert place in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "where",
    [
        "model",
        "model/tokenizer",
        "home/.local/share/sumi/tokenizer",
        f"home/.cache/huggingface/hub/models--bert-base-uncased/{SNAPSHOT}",
        f"home/.cache/huggingface/hub/models--google-bert--bert-base-uncased/{SNAPSHOT}",
        f"home/.cache/huggingface/hub/models--CompVis--ldm-text2im-large-256/{SNAPSHOT}/tokenizer",
    ],
)
def test_bert_is_found(bare: Path, where: str) -> None:
    root = bare.parent
    WordPiece(BERT | {"dog": 8}).save(root / where)
    with pytest.raises(CheckpointError):
        bert_tokenizer(root / "model" / "ldm.ckpt")
    WordPiece(BERT).save(root / where)
    assert bert_tokenizer(root / "model" / "ldm.ckpt", length=6)("cats a") == [2, 6, 7, 5, 3, 0]
    (root / where / "vocab.txt").unlink()
    normaliser = {"type": "BertNormalizer", "lowercase": True}
    (root / where / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece", "vocab": BERT}, "normalizer": normaliser}))
    assert bert_tokenizer(root / "model" / "ldm.ckpt").vocab == BERT


def test_folders_of_the_user(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home() == bare / ".local" / "share" / "sumi"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert home() == Path("/data/sumi")
    monkeypatch.setenv("SUMI_HOME", "~/ink")
    assert home() == bare / "ink"


def test_the_cache_is_where_hugging_face_has_it(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [{}, {"XDG_CACHE_HOME": "/x"}, {"HF_HOME": "~/hf"}, {"HF_HOME": "/hf", "XDG_CACHE_HOME": "/x"}]
    cases += [{"HF_HUB_CACHE": "$HOME/hub", "HF_HOME": "/hf"}, {"HUGGINGFACE_HUB_CACHE": "/old", "HF_HOME": "/hf"}]
    ask = f"import importlib, os\nimport huggingface_hub.constants as c\nfor case in {cases}:\n"
    ask += f"  [os.environ.pop(name, None) for name in {VARIABLES}]; os.environ.update(case); print(importlib.reload(c).HF_HUB_CACHE)"
    found = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, env=dict(os.environ))
    for case, theirs in zip(cases, found.stdout.splitlines(), strict=True):
        with monkeypatch.context() as patched:
            for name, value in case.items():
                patched.setenv(name, value)
            assert str(hub_cache()) == theirs, case


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Answers Hugging Face's client as theirs does, from the folder beside its address."""

    class Service(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "served"))

        def end_headers(self) -> None:
            path = Path(self.translate_path(self.path))
            if path.is_file():
                version = hashlib.sha1(path.read_bytes()).hexdigest()
                self.send_header("ETag", f'"{version}"')
                self.send_header("X-Repo-Commit", version)
            super().end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", tmp_path / "served"
    server.shutdown()
    server.server_close()


def test_a_download_that_is_asked_for(service: tuple[str, Path], tmp_path: Path, environment: dict[str, str]) -> None:
    """By their own client, into their own cache, where it is found from then on; what is not the vocabulary is refused."""
    address, served = service
    served = served / "google-bert" / "bert-base-uncased" / "resolve" / "main"
    code = f"""
from pathlib import Path
from sumi.errors import CheckpointError
from sumi.store import vocabulary
from sumi.text.wordpiece import WordPiece
vocabulary.BERT_SHA256 = {BERT_SHA256!r}
def attempt(download):
    try:
        print(vocabulary.bert_tokenizer(None, download=download).vocab == {BERT})
    except CheckpointError as error:
        print(error)
attempt(True)
WordPiece({BERT | {"dog": 8}}).save(Path({str(served)!r}))
attempt(True)
WordPiece({BERT}).save(Path({str(served)!r}))
attempt(False)
attempt(True)
attempt(False)
"""
    own = {"HOME": str(tmp_path), "SUMI_HOME": str(tmp_path / "sumi"), "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_ENDPOINT": address}
    quiet = {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "no_proxy": "127.0.0.1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment | own | quiet)
    missing, wrong, refused, fetched, cached = result.stdout.splitlines()
    assert missing.startswith("cannot download vocab.txt of google-bert/bert-base-uncased (") and "try again, or put vocab.txt" in missing
    assert "another vocabulary, or damaged" in wrong and "was not found" in refused
    assert (fetched, cached) == ("True", "True")


def test_a_download_needs_a_package(bare: Path) -> None:
    with pytest.raises(DependencyError, match="pip install huggingface_hub"):
        clip_tokenizer(None, pad_id=None, download=True)
