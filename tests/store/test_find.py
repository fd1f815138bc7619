"""Models are found by paths, by names in the folders of programs, and by ids; what is on this machine is not asked for elsewhere."""

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from sumi.errors import CheckpointError, DependencyError
from sumi.store.find import find, roots, wanted

FIRST, SECOND = "1" * 40, "2" * 40
VARIABLES = ("SUMI_HOME", "SUMI_MODELS", "XDG_DATA_HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
}
MODEL = {
    "model_index.json": json.dumps(INDEX),
    "README.md": "",
    "v1-5.ckpt": "",
    "v1-5.safetensors": "",
    "unet/config.json": "{}",
    "unet/diffusion_pytorch_model.safetensors": "",
    "unet/diffusion_pytorch_model.bin": "",
    "unet/diffusion_pytorch_model.fp16.safetensors": "",
    "unet/diffusion_pytorch_model.non_ema.safetensors": "",
    "unet/code.py": "",
    "text_encoder/config.json": "{}",
    "text_encoder/model-00001-of-00002.safetensors": "",
    "text_encoder/model-00002-of-00002.safetensors": "",
    "text_encoder/model.safetensors.index.json": json.dumps({"weight_map": {n: f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}}),
    "text_encoder/pytorch_model.bin": "",
    "tokenizer/merges.txt": "",
    "tokenizer/vocab.json": "{}",
    "scheduler/scheduler_config.json": "{}",
    "safety_checker/model.safetensors": "",
    "feature_extractor/preprocessor_config.json": "{}",
}
PLAIN = sorted(
    set(MODEL)
    - {
        "README.md",
        "v1-5.ckpt",
        "v1-5.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/code.py",
        "text_encoder/pytorch_model.bin",
        "safety_checker/model.safetensors",
        "feature_extractor/preprocessor_config.json",
    }
)


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One without models, network or Hugging Face's client; the current folder, and the user's, is empty."""
    for name in (*VARIABLES, *OFFLINE):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "me"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    return home


def touch(*paths: Path) -> Path:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths[0]


def refused(name: str | Path, **how: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        find(name, **how)
    message = str(caught.value)
    assert message.isprintable() and ": " in message
    return message


# Paths


def test_a_path_is_a_path(machine: Path) -> None:
    file = touch(machine / "my models" / "größe 1.5.safetensors")
    index = touch(machine / "folder" / "model_index.json")
    assert find(file) == find(str(file)) == find("~/my models/größe 1.5.safetensors") == file
    assert find("my models/größe 1.5.safetensors") == Path("my models/größe 1.5.safetensors")
    assert find("my models") == Path("my models/größe 1.5.safetensors")
    assert find("folder") == find("folder/") == Path("folder") and find(index.parent) == index.parent


def test_a_folder_with_the_same_weights_twice_is_the_safe_ones(machine: Path) -> None:
    touch(machine / "vae" / "model.bin", machine / "vae" / "model.safetensors", machine / "vae" / "._model.ckpt", machine / "vae" / "a.txt")
    assert find("vae") == Path("vae/model.safetensors")


def test_what_is_wrong_with_a_path_is_said(machine: Path) -> None:
    touch(machine / "part" / "unet" / "config.json", machine / "part" / "unet" / "diffusion_pytorch_model.safetensors")
    touch(machine / "two" / "b.ckpt", machine / "two" / "a.safetensors")
    touch(machine / "three" / "a.ckpt", machine / "three" / "b.ckpt", machine / "three" / "c.ckpt")
    (machine / "empty").mkdir()
    (machine / "broken.ckpt").symlink_to(machine / "gone.ckpt")
    (machine / "loop.ckpt").symlink_to(machine / "loop.ckpt")
    assert refused("part") == "part has unet and no model_index.json, which says what they are: copy the whole folder again"
    assert "two holds 2 files that may be models, a.safetensors and b.ckpt: name one" in refused("two")
    assert "three holds 3 files that may be models, a.ckpt and b.ckpt first: name one" in refused("three")
    assert "empty holds no model: neither model_index.json nor a file that ends in .safetensors or .ckpt" in refused("empty")
    assert "broken.ckpt is a link that leads nowhere" in refused("broken.ckpt")
    assert "loop.ckpt is a link that leads nowhere" in refused("loop.ckpt")
    for missing in (machine / "gone.ckpt", Path("../gone"), "~/gone", "./gone"):
        assert "gone" in refused(missing) and "is missing: check the path" in refused(missing)


NONE = ["", "..", "a/../b", "a/..", "a\0b", "x" * 5000, "\x1b[2J", "a\nb", "~nobody-here/x", "a/b/c", "//", "ä/ö", "/"]


@pytest.mark.parametrize("name", NONE, ids=lambda name: ascii(name)[:12])
def test_a_name_that_is_none_is_refused_in_one_line(name: str) -> None:
    assert len(refused(name)) < 1500


@pytest.mark.parametrize("name", ["sd.ckpt", "models/sd.safetensors"])
def test_a_file_that_is_not_there_is_not_looked_for_on_the_hub(name: str) -> None:
    assert f"{name} is no path, no model in " in refused(name)


def test_what_may_not_be_read_is_said(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    (machine / "theirs").mkdir()
    monkeypatch.setattr(Path, "iterdir", forbidden)
    assert refused("theirs") == "theirs cannot be read (Permission denied): check the path, and who may read it"


# Names


TREES = {
    "A1111": ("webui", "webui/models/Stable-diffusion", "webui/models/Lora"),
    "Forge": ("forge/webui", "forge/webui/models/Stable-diffusion/xl", "forge/webui/models/VAE"),
    "ComfyUI": ("ComfyUI", "ComfyUI/models/checkpoints/sd1", "ComfyUI/models/loras/sd1"),
    "ComfyUI's models": ("ComfyUI/models", "ComfyUI/models/checkpoints", "ComfyUI/models/controlnet"),
    "InvokeAI 3": ("invokeai", "invokeai/models/sd-1/main", "invokeai/models/sd-1/lora"),
    "InvokeAI 6": ("invokeai", "invokeai/models/0f2b7c1e-6a61-4d53-9c1b-2f0e3a5f1b11", "invokeai/models/any/vae"),
    "a folder of one's own": ("stuff", "stuff", "stuff/embeddings"),
}


@pytest.mark.parametrize("tree", TREES)
def test_the_folders_of_programs_are_read_in_place(machine: Path, tree: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root, models, aside = (machine / place for place in TREES[tree])
    file = touch(models / "Deliberate v2.1.safetensors", aside / "Deliberate v2.1.safetensors", machine / "elsewhere" / "x.ckpt")
    folder = touch(models / "dreams" / "model_index.json", models / "dreams" / "unet" / "diffusion_pytorch_model.safetensors").parent
    touch(models / ".cache" / "hidden.safetensors")
    if (root / "models").is_dir():
        touch(root / "venv" / "lib" / "hidden.safetensors")
    monkeypatch.setenv("SUMI_MODELS", os.pathsep.join([str(machine / "elsewhere"), f"~/{TREES[tree][0]}"]))
    assert find("Deliberate v2.1") == find("Deliberate v2.1.safetensors") == file
    assert find("dreams") == folder
    assert find("x") == machine / "elsewhere" / "x.ckpt"
    inside = models.relative_to(roots()[1])
    assert find(str(inside / "Deliberate v2.1")) == file and find(str(inside / "dreams")) == folder
    for none in ("hidden", "diffusion_pytorch_model", "v2.1", "eliberate v2.1"):
        assert f"{none} is no path, no model in " in refused(none)


def test_names_in_sumis_own_folder(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = touch(machine / ".local" / "share" / "sumi" / "models" / "anime" / "sd.ckpt")
    assert find("sd") == find("anime/sd") == file
    monkeypatch.setenv("SUMI_HOME", str(machine / "ink"))
    assert f"no model in {machine}/ink/models, and no id of a repository: check its spelling" in refused("sd")
    touch(machine / "ink" / "models" / "realistic.ckpt")
    assert "(did you mean realistic?)" in refused("realstic")


def test_something_aside_is_found_where_no_model_is_called_so(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = touch(machine / "ui" / "models" / "Lora" / "ink.safetensors")
    monkeypatch.setenv("SUMI_MODELS", "ui")
    assert find("ink") == Path("ui/models/Lora/ink.safetensors") and file.exists()


def test_of_two_models_of_one_name_both_are_named(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = touch(machine / "a" / "sd.ckpt"), touch(machine / "b" / "c" / "sd.safetensors")
    monkeypatch.setenv("SUMI_MODELS", os.pathsep.join([str(machine / "a"), str(machine / "b"), str(machine / "a")]))
    assert refused("sd") == f"sd may be {one} or {two}: give the path of one"
    assert find("sd.ckpt") == one and find("c/sd") == two
    two.unlink()
    two.symlink_to(one)
    assert find("sd") in (one, two)  # one model, by two names
    (machine / "sd").mkdir()
    touch(machine / "sd" / "model_index.json")
    assert find("sd") == Path("sd")  # a path comes first


def test_loops_and_strangers_in_a_model_folder(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = touch(machine / "m" / "sub" / "sd.ckpt")
    (machine / "m" / "again").symlink_to(machine / "m")
    (machine / "m" / "loop.ckpt").symlink_to(machine / "m" / "loop.ckpt")
    (machine / "m" / "gone.ckpt").symlink_to(machine / "nowhere")
    os.mkfifo(machine / "m" / "pipe.ckpt")
    monkeypatch.setenv("SUMI_MODELS", f"{machine}/m{os.pathsep}{machine}/nowhere{os.pathsep}")
    assert find("sd") == file
    for name in ("loop", "gone", "pipe"):
        assert "is no path" in refused(name)


# The hub, as far as it is on this machine


@pytest.fixture
def cache(machine: Path) -> Path:
    """A repository as huggingface_hub keeps it: files by their content, linked to by commit."""
    folder = machine / ".cache" / "huggingface" / "hub" / "models--ink--model"
    for number, (name, text) in enumerate(MODEL.items()):
        link, blob = folder / "snapshots" / FIRST / name, folder / "blobs" / f"{number:040}"
        for each in (link, blob):
            each.parent.mkdir(parents=True, exist_ok=True)
        blob.write_text(text)
        link.symlink_to(os.path.relpath(blob, link.parent))
    for reference in ("main", "v1", "pr/7"):
        (folder / "refs" / reference).parent.mkdir(parents=True, exist_ok=True)
        (folder / "refs" / reference).write_text(FIRST)
    return folder


@pytest.mark.parametrize("revision", [None, "main", "v1", "pr/7", FIRST])
def test_a_snapshot_is_found_by_branch_tag_and_commit(cache: Path, revision: str | None) -> None:
    assert find("ink/model", revision=revision) == cache / "snapshots" / FIRST
    assert find("ink/model", revision=revision, variant="fp16") == cache / "snapshots" / FIRST
    assert find("ink/model/v1-5.ckpt", revision=revision) == cache / "snapshots" / FIRST / "v1-5.ckpt"


@pytest.mark.parametrize(("name", "value"), [("HF_HOME", "hf"), ("HF_HUB_CACHE", "hf/hub"), ("XDG_CACHE_HOME", ".")])
def test_a_snapshot_is_found_wherever_the_cache_is(cache: Path, name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Path("huggingface/hub" if name == "XDG_CACHE_HOME" else "hf/hub")
    hub.parent.mkdir()
    shutil.move(cache.parent, hub)
    monkeypatch.setenv(name, value)
    assert find("ink/model").samefile(hub / "models--ink--model" / "snapshots" / FIRST)


@pytest.mark.parametrize("revision", ["v2", SECOND, "../v1", "/etc/passwd", "a b", "\x1b[2J", "main\n"])
def test_a_revision_that_is_not_here(cache: Path, revision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in (message := refused("ink/model", revision=revision)) or "is no revision" in message


@pytest.mark.parametrize(
    "lost",
    [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model*",
        "text_encoder/model-00002-of-00002.safetensors",
        "tokenizer/merges.txt",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_snapshot_that_lacks_something_is_not_taken_for_a_model(cache: Path, lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (cache / "snapshots" / FIRST).glob(lost):
        path.resolve().unlink()  # as when a download is broken off
    if lost == "model_index.json":
        for path in (cache / "snapshots" / FIRST).glob("v1-5*"):
            path.unlink()
    with pytest.raises(DependencyError):  # it would be downloaded
        find("ink/model")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "yes")
    hub = cache.parent
    told = f"ink/model at main is not in {hub}, not wholly at least, and TRANSFORMERS_OFFLINE is set: unset it, or give a path"
    assert refused("ink/model") == told


def test_a_variant_that_is_not_here(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "ON")
    assert "ink/model at main in bf16 is not in " in refused("ink/model", variant="bf16")
    assert "x/y.ckpt of ink/model at main is not in " in refused("ink/model/x/y.ckpt")
    assert "ink/other at main is not in " in refused("ink/other")


def test_a_repository_of_one_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(cache / "snapshots" / FIRST)
    touch(cache / "snapshots" / FIRST / "ink.safetensors", cache / "snapshots" / FIRST / "README.md")
    with pytest.raises(DependencyError):  # there may be more on the hub
        find("ink/model")
    monkeypatch.setenv("HF_HUB_OFFLINE", "true")
    assert find("ink/model") == cache / "snapshots" / FIRST / "ink.safetensors"
    touch(cache / "snapshots" / FIRST / "more.ckpt")
    assert "ink/model holds 2 files that may be models, ink.safetensors and more.ckpt: name one" in refused("ink/model")


def test_a_download_needs_a_package() -> None:
    with pytest.raises(DependencyError, match=r"^to download ink/model: pip install 'sumi\[hub\]'; or give the path of a model$"):
        find("ink/model")


# What is downloaded


def test_what_is_wanted_of_a_repository() -> None:
    assert sorted(wanted(list(MODEL), None, "it")) == PLAIN
    fp16 = "unet/diffusion_pytorch_model.fp16.safetensors"
    assert sorted(wanted(list(MODEL), "fp16", "it")) == sorted({*PLAIN, fp16} - {"unet/diffusion_pytorch_model.safetensors"})
    sharded = [f"unet/diffusion_pytorch_model.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)]
    sharded += ["unet/diffusion_pytorch_model.safetensors.index.fp16.json"]
    assert set(wanted([*set(MODEL) - {fp16}, *sharded], "fp16", "it")) == {*PLAIN, *sharded} - {"unet/diffusion_pytorch_model.safetensors"}


def test_what_is_wanted_where_there_is_less() -> None:
    stem = "vqvae/diffusion_pytorch_model"
    others = ["model_index.json", "vqvae/config.json", *(f"{stem}.{kind}.safetensors" for kind in ("bf16", "fp16", "non_ema"))]
    assert wanted([*others, f"{stem}.bin"], None, "it") == others[:3]
    assert wanted([*others[:2], f"{stem}.bin", f"{stem}.fp16.bin"], None, "it") == [*others[:2], f"{stem}.bin"]
    assert wanted(["a.md", "b.safetensors", "b.ckpt", "c/d.safetensors"], None, "it") == ["b.safetensors"]
    for files, variant, told in (
        (["model_index.json", "unet/config.json", "unet/flax_model.msgpack"], None, "it has no weights of its unet"),
        (list(MODEL), "int8", "it has no weights of the variant int8"),
        (["README.md", "c/d.safetensors"], None, "it holds no model"),
        (["a.safetensors", "b.safetensors"], None, "it holds 2 files that may be models"),
    ):
        with pytest.raises(CheckpointError, match=told):
            wanted(files, variant, "it")


REPOSITORIES: dict[str, dict[str, str]] = {
    "ink/model": MODEL,
    "ink/one": {"README.md": "", "ink.safetensors": "weights"},
    "ink/none": {"README.md": ""},
}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """Answers Hugging Face's client as theirs does, and keeps what it was asked for. Somebody pushes to `main` all the time."""
    monkeypatch.undo()
    asked: list[str] = []

    class Service(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            if path.startswith("api/models/"):
                kind = "revision" if "/revision/" in path else "tree"
                repository, _, revision = path.removeprefix("api/models/").partition(f"/{kind}/")
                if (files := REPOSITORIES.get(repository)) is None or (revision not in ("main", "v1") and len(revision) != 40):
                    return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound" if files is None else "RevisionNotFound"})
                asked.append(f"{kind} {repository}")
                commit = f"{len(asked):040x}" if revision == "main" else FIRST if revision == "v1" else revision
                about = {"id": repository, "modelId": repository, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
                tree = [{"type": "file", "path": name, "size": 41 + len(text), "oid": f"{commit}{name}"} for name, text in files.items()]
                return self.answer(200, json.dumps(about if kind == "revision" else tree).encode())
            repository, _, rest = path.partition("/resolve/")
            commit, _, name = rest.partition("/")
            if name not in REPOSITORIES.get(repository, {}):
                return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            commit = commit if len(commit) == 40 else FIRST
            asked.append(f"{self.command} {repository} {name}")
            text = f"{REPOSITORIES[repository][name]}\n{commit}" if name.endswith(".safetensors") else REPOSITORIES[repository][name]
            self.answer(200, text.encode(), {"ETag": f'"{commit}{abs(hash(name)):020}"', "X-Repo-Commit": commit})

        do_HEAD = do_GET

        def do_POST(self) -> None:
            self.answer(404, b"{}")

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_a_download(service: tuple[str, list[str]], tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By their own client: only what is wanted, all of one commit, and found without a network from then on."""
    address, asked = service
    attempts: list[tuple[str, str | None, str | None]] = [
        ("ink/model", None, None),
        ("ink/model", None, None),
        ("ink/model", "v1", "fp16"),
        ("ink/model/v1-5.safetensors", "v1", None),
        ("ink/one", None, None),
        ("ink/none", None, None),
        ("ink/nowhere", None, None),
        ("ink/model", "v3", None),
    ]
    code = f"""
import json
from sumi.errors import SumiError
from sumi.store.find import find
for name, revision, variant in json.loads({json.dumps(json.dumps(attempts))}):
    try:
        print(find(name, revision=revision, variant=variant))
    except SumiError as error:
        print(error)
"""
    own = {"HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_ENDPOINT": address, "NO_COLOR": "1"}
    quiet = {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "no_proxy": "127.0.0.1"}
    own = {name: value for name, value in environment.items() if name not in VARIABLES} | own | quiet
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=own, cwd=tmp_path)
    model, again, tagged, file, one, none, nowhere, unknown = run.stdout.splitlines()
    folder = Path(model)
    assert again == model and sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == PLAIN
    commits = {path.read_text().rpartition("\n")[2] for path in folder.rglob("*.safetensors")}
    assert commits == {folder.name}
    assert Path(tagged).name == FIRST and (Path(tagged) / "unet/diffusion_pytorch_model.fp16.safetensors").is_file()
    assert Path(file).name == "v1-5.safetensors" and Path(one).read_text().startswith("weights\n")
    assert none.startswith("ink/none at main holds no model: ")
    for told, name in ((nowhere, "ink/nowhere at main"), (unknown, "ink/model at v3")):
        assert told.startswith(f"{name} cannot be downloaded (") and told.endswith("): check its name and the network, or give a path")
    assert not any(name.endswith((".bin", ".ckpt", ".py", ".md")) for name in asked)

    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert str(find("ink/model")) == model and str(find("ink/model", revision="v1", variant="fp16")) == tagged
    assert str(find("ink/one")) == one
