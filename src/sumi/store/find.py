"""Where the model is that somebody names: a path, a file or folder among the user's models, or a repository of Hugging Face's hub.

The folders of other programs are read in place. Nothing is downloaded but what is named by the id of a repository, and that only
if it is not on this machine yet.
"""

import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from sumi.errors import CheckpointError, DependencyError
from sumi.store.vocabulary import home, hub_cache

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
INDEX = "model_index.json"
# Below a folder that holds a program's models, or the program itself: A1111's and Forge's, ComfyUI's, InvokeAI's.
TREES = ("", "models/Stable-diffusion", "Stable-diffusion", "models/checkpoints", "checkpoints", "models/diffusers", "diffusers", "models")
ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
MOST = 20_000
"""Files that are looked through for a name: more is no folder of models."""
PARTS = ("unet", "vae", "vqvae", "text_encoder", "text_encoder_2", "bert", "tokenizer", "tokenizer_2", "scheduler", "low_res_scheduler")
"""Folders of a repository that are downloaded."""


def find(name: str | Path, *, revision: str | None = None, variant: str | None = None) -> Path:
    """The file or folder of a model.

    name: a path; a file's or folder's name, with or without its ending, in the user's model folders (`roots`); or `owner/name`, or
    `owner/name/path/of/a/file`, on the hub. revision: of a repository: a branch, tag or commit. variant: which weight files of it.
    CheckpointError if there is none, or more than one by that name.
    """
    path = Path(name).expanduser()
    try:
        if path.exists():
            return _model_in(path) if path.is_dir() else path
        found = sorted(set(_named(str(name))))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): check who may read it") from error
    if len(found) > 1:
        raise CheckpointError(f"{name} may be {' or '.join(map(str, found[:3]))}: give the path of one")
    if found:
        return _model_in(found[0]) if found[0].is_dir() else found[0]
    owner, _, file = _split(str(name))
    if owner:
        return _from_hub(owner, file, revision or "main", variant)
    places = ", ".join(map(str, roots()))
    raise CheckpointError(f"{name} is no path, no model in the model folders ({places}) and no id of a repository: check its spelling")


def roots() -> list[Path]:
    """The user's model folders: those of $SUMI_MODELS, apart by the system's separator, then sumi's own."""
    given = [Path(part).expanduser() for part in os.environ.get("SUMI_MODELS", "").split(os.pathsep) if part]
    return [*given, home() / "models"]


def models() -> Iterator[Path]:
    """Every model in the user's folders: files with a model's ending, folders with an index."""
    for root in roots():
        for tree in TREES:
            if (folder := root / tree).is_dir():
                yield from _below(folder)


def _named(name: str) -> Iterator[Path]:
    wanted = Path(name).as_posix()
    for path in models():
        for root in roots():
            if path.is_relative_to(root):
                whole = path.relative_to(root).as_posix()
                plain = path.relative_to(root).with_suffix("").as_posix() if path.suffix in SUFFIXES else whole
                if any(each == wanted or each.endswith(f"/{wanted}") for each in (whole, plain)):
                    yield path.resolve()


def _below(folder: Path) -> Iterator[Path]:
    """Models in a folder and those in it, a loop of links walked once."""
    seen: set[Path] = set()
    count = 0
    for at, folders, files in os.walk(folder, followlinks=True):
        here = Path(at)
        count += len(files)
        if here.resolve() in seen or count > MOST:
            folders.clear()
            continue
        seen.add(here.resolve())
        if INDEX in files:
            folders.clear()  # a model's own folders
            yield here
            continue
        yield from (here / file for file in files if file.endswith(SUFFIXES) and not file.startswith("."))


def _model_in(folder: Path) -> Path:
    """The folder itself, or the one file in it that may be a model."""
    if (folder / INDEX).is_file():
        return folder
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
    parts = [name for name in PARTS if (folder / name).is_dir()]
    if parts:
        raise CheckpointError(f"{folder} has {', '.join(parts)} and no {INDEX}, which says what they are: copy the whole folder again")
    if len(files) > 1:
        raise CheckpointError(f"{folder} holds {len(files)} files that may be models, {files[0].name} and {files[1].name} first: name one")
    if not files:
        raise CheckpointError(f"{folder} holds no model: neither {INDEX} nor a file that ends in {' or '.join(SUFFIXES[:2])}")
    return files[0]


def _split(name: str) -> tuple[str, str, str]:
    """The id of a repository and the path of a file in it, as far as a name is that."""
    pieces = name.split("/")
    repository, file = "/".join(pieces[:2]), "/".join(pieces[2:])
    if not ID.fullmatch(repository) or (file and not file.endswith(SUFFIXES)) or ".." in pieces:
        return "", "", ""
    return repository, "", file


def _from_hub(repository: str, file: str, revision: str, variant: str | None) -> Path:
    """A repository's folder or file in the cache of Hugging Face; what is not there is downloaded, unless HF_HUB_OFFLINE is set."""
    if (cached := _cached(repository, revision)) is not None and (not file or (cached / file).is_file()):
        if file:
            return cached / file
        if (cached / INDEX).is_file():
            return cached
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise CheckpointError(f"{repository} at {revision} is not in {hub_cache()}, and HF_HUB_OFFLINE is set: unset it, or give a path")
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise DependencyError(f"to download {repository}: pip install huggingface_hub; or give the path of a model") from error
    try:
        if file:
            return Path(hub.hf_hub_download(repository, file, revision=revision))
        # Resolved once, so that all files are of one commit; no code, no pickle, and no copy in another precision.
        commit = hub.model_info(repository, revision=revision).sha
        files = hub.list_repo_files(repository, revision=commit)
        return Path(hub.snapshot_download(repository, revision=commit, allow_patterns=wanted(files, variant)))
    except Exception as error:  # the library's own, and those of what it is built on
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{repository} cannot be downloaded ({reason}): check its name and the network, or give a path") from error


def wanted(files: list[str], variant: str | None) -> list[str]:
    """Which files of a repository make a model: descriptions, words, and one safetensors set of weights for each part."""
    kept = [INDEX] if INDEX in files else []
    for part in PARTS:
        own = [name for name in files if name.startswith(f"{part}/")]
        kept += [name for name in own if name.endswith((".json", ".txt")) and ".index." not in name]
        weights = [name for name in own if name.endswith((".safetensors", ".safetensors.index.json")) or ".safetensors.index." in name]
        plain = [name for name in weights if _variant(name) is None]
        kept += [name for name in weights if _variant(name) == variant] if variant else (plain or weights)
    return kept


def _variant(name: str) -> str | None:
    """The word between the stem and the ending of a weight file's name, shards and indices left aside."""
    stem = re.sub(r"-\d+-of-\d+", "", name.rsplit("/", 1)[-1]).replace(".index", "")
    words = stem.removesuffix(".json").replace(".safetensors", "").split(".")
    return words[1] if len(words) > 1 else None


def _cached(repository: str, revision: str) -> Path | None:
    """The folder of a commit in the cache, by the layout that huggingface_hub keeps; None if it was never downloaded."""
    folder = hub_cache() / f"models--{repository.replace('/', '--')}"
    reference = folder / "refs" / revision
    if not re.fullmatch(r"[\w./-]+", revision) or ".." in revision:
        raise CheckpointError(f"{revision!r} is no revision: use a branch, a tag or a commit")
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    snapshot = folder / "snapshots" / commit
    return snapshot if re.fullmatch(r"[0-9a-f]{40}", commit) and snapshot.is_dir() else None
