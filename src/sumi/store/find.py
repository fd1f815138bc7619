"""Where the model is that somebody names: a path, a file or folder among the user's models, or a repository of Hugging Face's hub.

The folders of other programs are read in place. Nothing is downloaded but what is named by the id of a repository, and that only
if it is not on this machine yet.
"""

import importlib
import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from sumi.errors import CheckpointError, DependencyError
from sumi.request import did_you_mean
from sumi.store.vocabulary import home, hub_cache

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
INDEX = "model_index.json"
ASIDE = {"clip", "controlnet", "embedding", "embeddings", "hypernetworks", "lora", "loras", "lycoris", "text_encoders", "unet", "vae"}
"""Folders of programs in which there is something else than models, which may be called as one is."""
ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
NETWORKS = (
    "unet",
    "vae",
    "vqvae",
    "text_encoder",
    "text_encoder_2",
    "bert",
    "image_encoder",
    "image_normalizer",
    "label_embedding",
    "map_rescaler",
)
SCHEDULERS = ("scheduler", "low_res_scheduler")
TOKENIZERS = ("tokenizer", "tokenizer_2")
NEEDED: dict[str, tuple[set[str], ...]] = {
    **dict.fromkeys(NETWORKS, ({"config.json"},)),
    **dict.fromkeys(SCHEDULERS, ({"scheduler_config.json"},)),
    **dict.fromkeys(TOKENIZERS, ({"vocab.json", "merges.txt"}, {"tokenizer.json"}, {"vocab.txt"})),
}
"""The folders of a model that sumi reads, and files without any of which they are of no use, weights aside."""
UNAVERAGED = "non_ema"
"""The variant that is never taken unless it is asked for."""
LONGEST = 1000
TRUE = ("1", "ON", "YES", "TRUE")


def find(name: str | Path, *, revision: str | None = None, variant: str | None = None) -> Path:
    """The file or folder of a model.

    name: a path; a file's or folder's name, with or without its ending, in the user's model folders (`roots`); or `owner/name`, or
    `owner/name/path/of/a/file`, on the hub. revision: of a repository: a branch, tag or commit. variant: which weight files of it.
    CheckpointError if there is none, or more than one by that name; DependencyError if downloading it needs a package.
    """
    try:
        return _here(str(name)) or _elsewhere(str(name), revision or "main", variant)
    except OSError as error:
        raise CheckpointError(f"{_shown(name)} cannot be read ({error.strerror}): check the path, and who may read it") from error


def roots() -> list[Path]:
    """The user's model folders: those of $SUMI_MODELS, apart by the system's separator, then sumi's own."""
    given = [_expanded(part) for part in os.environ.get("SUMI_MODELS", "").split(os.pathsep) if part]
    return [*map(models_of, given), home() / "models"]


def models_of(folder: Path) -> Path:
    """The folder `models` of a program that keeps its models there (A1111, Forge, ComfyUI, InvokeAI); of others, the folder itself."""
    return folder / "models" if (folder / "models").is_dir() else folder


def models() -> Iterator[tuple[Path, str]]:
    """Every file and folder in the user's model folders that may be a model, with its path in there."""
    for root in roots():
        for path in below(root):
            yield path, path.relative_to(root).as_posix()


def wanted(files: Collection[str], variant: str | None, where: str) -> list[str]:
    """Which files of a repository make a model: descriptions, words, and one set of weights for each part.

    The weights are safetensors, pickles only of a part that has no others; of a variant where a part has it. CheckpointError,
    saying `where`, if there are none.
    """
    if INDEX not in files:
        return [_one([name for name in files if "/" not in name], where)]
    kept, weights = [INDEX], []
    for part in NEEDED:
        own = [f"{part}/{name}" for name in _within(files, part) if "/" not in name]
        kept += sorted(name for name in own if name.endswith((".json", ".txt")) and ".index." not in name)
        if part in NETWORKS and own:
            found = _weights(own, ".safetensors", variant) or _weights(own, ".bin", variant)
            if not found:
                raise CheckpointError(f"{where} has no weights of its {part}: use another")
            weights += found
    if variant and not any(_variant(name) == variant for name in weights):
        raise CheckpointError(f"{where} has no weights of the variant {variant}: leave it out, or use another")
    return kept + weights


def _here(name: str) -> Path | None:
    """What there is by a path, or by a name in the user's folders."""
    path = _expanded(name)
    if name and path.exists():
        return _model_in(path) if path.is_dir() else path
    if path.is_symlink():
        raise CheckpointError(f"{_shown(path)} is a link that leads nowhere: mend it, or give another path")
    if path.is_absolute() or name.startswith("."):
        raise CheckpointError(f"{_shown(path)} is missing: check the path")
    # By their real paths: a model that is linked to from several folders is one.
    found = {os.path.realpath(path): (path, inside) for path, inside in models() if _is_called(inside, Path(name).as_posix())}
    likely = [path for path, inside in found.values() if not ASIDE.intersection(inside.casefold().split("/")[:-1])]
    paths = sorted(likely or [path for path, _ in found.values()])
    if len(paths) > 1:
        raise CheckpointError(f"{_shown(name)} may be {' or '.join(map(_shown, paths[:3]))}: give the path of one")
    return _here(str(paths[0])) if paths else None


def _elsewhere(name: str, revision: str, variant: str | None) -> Path:
    """What a name stands for on the hub, if it is one of there."""
    pieces = name.split("/")
    repository, file = "/".join(pieces[:2]), "/".join(pieces[2:])
    if ID.fullmatch(repository) and ".." not in pieces and name.endswith(SUFFIXES) == bool(file):
        return _from_hub(repository, file, revision, variant)
    hint = did_you_mean(name[:LONGEST], {_plain(PurePosixPath(inside).name) for _, inside in models()})
    places = " or ".join(map(_shown, roots()))
    raise CheckpointError(f"{_shown(name)} is no path, no model in {places}, and no id of a repository{hint}: check its spelling")


def below(folder: Path) -> Iterator[Path]:
    """Files and folders in a folder, and in those in it, that may be models; a loop of links is walked once."""
    seen: set[str] = set()
    for at, folders, files in os.walk(folder, followlinks=True):
        here, real = Path(at), os.path.realpath(at)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if real in seen:
            folders.clear()
        elif INDEX in files:
            folders.clear()  # the parts of one model
            yield here
        else:
            yield from (here / file for file in _candidates(files) if (here / file).is_file())
        seen.add(real)


def _is_called(inside: str, name: str) -> bool:
    """Whether a model at a path in a model folder is called so: by the end of that path, with or without the file's ending."""
    return any(f"/{path}".endswith(f"/{name}") for path in (inside, _plain(inside)))


def _plain(name: str) -> str:
    """Without the ending of a weight file."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def _candidates(files: Collection[str]) -> list[str]:
    """Files that may hold weights, by their names; no pickle of which there are safetensors, too."""
    named = sorted(name for name in files if name.endswith(SUFFIXES) and not name.startswith("."))
    return [name for name in named if name.endswith(SUFFIXES[0]) or _plain(name) + SUFFIXES[0] not in named]


def _one(files: Collection[str], where: str) -> str:
    """The one file of a folder that may be a model."""
    found = _candidates(files)
    if not found:
        raise CheckpointError(f"{where} holds no model: neither {INDEX} nor a file that ends in {' or '.join(SUFFIXES[:2])}")
    if len(found) > 1:
        some = f"{_shown(found[0])} and {_shown(found[1])}{' first' * (len(found) > 2)}"
        raise CheckpointError(f"{where} holds {len(found)} files that may be models, {some}: name one")
    return found[0]


def _model_in(folder: Path) -> Path:
    """The folder itself, or the one file in it that may be a model."""
    if (folder / INDEX).is_file():
        return folder
    if parts := [name for name in (*NETWORKS, *SCHEDULERS) if any((folder / name).glob("*config.json"))]:
        told = f"{_shown(folder)} has {', '.join(parts)} and no {INDEX}, which says what they are"
        raise CheckpointError(f"{told}: copy the whole folder again")
    return folder / _one([path.name for path in folder.iterdir() if path.is_file()], _shown(folder))


def _from_hub(repository: str, file: str, revision: str, variant: str | None) -> Path:
    """A repository's folder or file in the cache of Hugging Face; what is not there is downloaded, unless HF_HUB_OFFLINE is set."""
    cache, where = hub_cache(), f"{repository} at {revision}"
    offline = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name, "").upper() in TRUE]
    if (found := _cached(cache, repository, file, revision, variant, offline=bool(offline))) is not None:
        return found
    if offline:
        what = f"{file} of {where}" if file else f"{where}{f' in {variant}' if variant else ''}"
        raise CheckpointError(f"{what} is not in {_shown(cache)}, not wholly at least, and {offline[0]} is set: unset it, or give a path")
    try:
        hub = importlib.import_module("huggingface_hub")  # by name: sumi works without it
    except ImportError as error:
        raise DependencyError(f"to download {repository}: pip install 'sumi[hub]'; or give the path of a model") from error
    try:
        if not file:
            files = [each.rfilename for each in hub.model_info(repository, revision=revision).siblings or ()]
            chosen = wanted(files, variant, where)
            if INDEX in chosen:  # the library resolves the revision once, so that all files are of one commit
                return Path(hub.snapshot_download(repository, revision=revision, allow_patterns=chosen, cache_dir=cache))
            file = chosen[0]
        return Path(hub.hf_hub_download(repository, file, revision=revision, cache_dir=cache))
    except CheckpointError:
        raise
    except Exception as error:  # the library's own, and those of what it is built on
        reason = _shown(" ".join(str(error).split())[:200])
        raise CheckpointError(f"{where} cannot be downloaded ({reason}): check its name and the network, or give a path") from error


def _cached(cache: Path, repository: str, file: str, revision: str, variant: str | None, *, offline: bool) -> Path | None:
    """What of a repository is in the cache, by the layout that huggingface_hub keeps; None if it is not, or not all of it.

    Of a repository without an index only the hub knows what else it has: one file is taken for all of it `offline` alone.
    """
    if not re.fullmatch(r"[\w./-]+", revision, re.ASCII) or ".." in revision or revision.startswith("/"):
        raise CheckpointError(f"{_shown(revision)} is no revision: use a branch, a tag or a commit")
    folder = cache / f"models--{repository.replace('/', '--')}"
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="utf-8", errors="replace").strip() if reference.is_file() else revision
    snapshot = folder / "snapshots" / commit
    if not re.fullmatch(r"[0-9a-f]{40}", commit) or not snapshot.is_dir():
        return None
    if file:
        return snapshot / file if (snapshot / file).is_file() else None
    files = {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()}
    if INDEX in files:
        return snapshot if _whole(snapshot, files, variant) else None
    top = [name for name in files if "/" not in name]
    return snapshot / _one(top, repository) if offline and _candidates(top) else None


def _whole(snapshot: Path, files: Collection[str], variant: str | None) -> bool:
    """Whether all that makes a model is there: another program may have wanted less, or a download may have been broken off."""
    try:
        table = json.loads((snapshot / INDEX).read_text(encoding="utf-8"))
        parts = [name for name, value in table.items() if name in NEEDED and value not in (None, [], [None, None])]
        shards = {
            f"{index.partition('/')[0]}/{shard}"
            for index in wanted(files, variant, "")
            if ".index." in index
            for shard in json.loads((snapshot / index).read_text(encoding="utf-8"))["weight_map"].values()
        }
    except (CheckpointError, OSError, ValueError, LookupError, AttributeError, TypeError):
        return False
    return shards <= set(files) and all(any(some <= _within(files, part) for some in NEEDED[part]) for part in parts)


def _within(files: Collection[str], folder: str) -> set[str]:
    return {name.removeprefix(f"{folder}/") for name in files if name.startswith(f"{folder}/")}


def _weights(files: Collection[str], ending: str, variant: str | None) -> list[str]:
    """One set of a part's weight files: of a variant, else the plain ones, else those of the first variant by name, as they are read."""
    kinds: dict[str, list[str]] = {}
    for name in sorted(files):
        if name.endswith(ending) or f"{ending}.index." in name:
            kinds.setdefault(_variant(name), []).append(name)
    order = [variant, *sorted(kinds.keys() - {UNAVERAGED})]  # the plain ones' is the empty word
    found = next((kinds[kind] for kind in order if kind in kinds), [])
    whole = [name for name in found if not re.search(r"-\d+-of-\d+|\.index\.", name)]
    return whole or found


def _variant(name: str) -> str:
    """The word between the stem and the ending of a weight file's name, shards and indices left aside."""
    stem = re.sub(r"-\d+-of-\d+|\.index|\.json|\.safetensors|\.bin", "", name.rpartition("/")[2])
    return stem.partition(".")[2]


def _expanded(name: str) -> Path:
    """The path, ~ being the user's home."""
    with suppress(RuntimeError):  # the home of somebody whom the system does not know
        return Path(name).expanduser()
    return Path(name)


def _shown(name: object) -> str:
    """A name as it fits into a message of one line."""
    text = str(name)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return text if text.isprintable() else ascii(text)
