"""Where the words come from when a checkpoint has no tokenizer inside: a single file holds weights alone.

Every model of the family reads one of two vocabularies, OpenAI's of CLIP or Google's of bert-base-uncased, and both are on
many a machine already. They are looked for beside the checkpoint, in sumi's own folder, in installed packages (as files:
nothing is imported) and in the cache of Hugging Face. Whatever is found counts only if it is the very vocabulary, by its
digest, so that it does not matter where it was. Nothing is downloaded unless that is asked for.
"""

import gzip
import hashlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from sumi.errors import CheckpointError, DependencyError
from sumi.text.bpe import Merges, Tokenizer, Vocabulary, read_tables, vocabulary
from sumi.text.wordpiece import WordPiece, read_vocabulary

CLIP_FILE = "bpe_simple_vocab_16e6.txt.gz"
CLIP_FILE_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
CLIP_MERGES = 48_894
# Of the merges, one a line as in merges.txt, and of vocab.txt.
CLIP_SHA256 = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"
BERT_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
# Above any file of either vocabulary; caches hold tokenizers of language models that are ten times as large.
MAX_FILE = 1 << 23

Found = TypeVar("Found")


@dataclass(frozen=True)
class _Kind(Generic[Found]):
    """A vocabulary: what it is called, how it is read, and where it may be."""

    name: str
    files: tuple[str, ...]
    read: Callable[[Path], Found | None]
    """Of a folder; None if the vocabulary in it is another one."""
    packages: tuple[str, ...]
    cached: tuple[str, ...]
    """Patterns of folders in the cache of Hugging Face, the likeliest first."""
    repository: str
    wanted: tuple[str, ...]
    """The files of that repository that are enough."""
    remedy: str


def clip_tokenizer(beside: Path | None, *, pad_id: int | None, length: int = 77, download: bool = False) -> Tokenizer:
    """CLIP's tokenizer, by the vocabulary found first, for a checkpoint (a file or a folder) at `beside`.

    CheckpointError that says where it was looked for if there is none. `download`: get it from Hugging Face then; DependencyError
    if that needs a package.
    """
    return Tokenizer(*find_clip_vocabulary(beside, download=download), length=length, pad_id=pad_id)


def bert_tokenizer(beside: Path | None, *, length: int = 77, download: bool = False) -> WordPiece:
    """BERT's tokenizer, as `clip_tokenizer`."""
    vocab = _find(BERT, beside, download)
    return WordPiece(vocab, length=length)


def find_clip_vocabulary(beside: Path | None = None, *, download: bool = False) -> tuple[Vocabulary, Merges]:
    """OpenAI's vocabulary of 49,408 tokens, and its merges; errors as `clip_tokenizer`."""
    return _find(CLIP, beside, download)


def home() -> Path:
    """The user's folder of sumi's things: $SUMI_HOME, or `sumi` where the system keeps the data of programs."""
    given, data = os.environ.get("SUMI_HOME"), os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(os.path.expanduser(given or f"{data}/sumi"))


def hub_cache() -> Path:
    """Where Hugging Face's programs keep what they download, by the same variables as theirs."""
    given = (
        os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"),
        (path := os.environ.get("HF_HOME")) and f"{path}/hub",
        (path := os.environ.get("XDG_CACHE_HOME")) and f"{path}/huggingface/hub",
    )
    return Path(os.path.expandvars(os.path.expanduser(next(filter(None, given), "~/.cache/huggingface/hub"))))


def _find(kind: _Kind[Found], beside: Path | None, download: bool) -> Found:
    own = [] if beside is None else [folder := beside if beside.is_dir() else beside.parent, folder / "tokenizer"]
    own.append(home() / "tokenizer")
    remedy = f"put {kind.remedy.format(own[-1])}"
    packages = list(_installed(kind.packages))
    for folder in (*own, *packages, *_cached(kind.cached)):
        if _files(folder, kind.files) and (found := kind.read(folder)) is not None:
            return found
    others = [file for folder in (*own, *packages) for file in _files(folder, kind.files)]
    if download:
        folder = _download(kind.repository, kind.wanted, remedy)
        if (found := kind.read(folder)) is not None:
            return found
        others.append(folder)
    places = [*map(str, own), *(f"the package {name}" for name in kind.packages), f"the Hugging Face cache {hub_cache()}"]
    wrong = f" ({', '.join(map(str, others))}: another vocabulary, or damaged)" if others else ""
    raise CheckpointError(f"{kind.name} was not found in {', '.join(places)}{wrong}: {remedy}")


def _files(folder: Path, names: Sequence[str]) -> list[Path]:
    """Those that can be read and are not far too large."""
    there = []
    for path in (folder / name for name in names):
        try:
            if path.is_file() and path.stat().st_size <= MAX_FILE:
                there.append(path)
        except OSError:  # a folder that this user may not enter
            pass
    return there


def _installed(packages: Sequence[str]) -> Iterator[Path]:
    for package in packages:
        spec = importlib.util.find_spec(package)
        yield from map(Path, (spec.submodule_search_locations if spec else None) or ())


def _cached(patterns: Sequence[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(hub_cache().glob(pattern))


def _download(repository: str, names: Sequence[str], remedy: str) -> Path:
    try:
        hub = importlib.import_module("huggingface_hub")  # by name: sumi works without it
    except ImportError as error:
        raise DependencyError("downloading a vocabulary needs huggingface_hub: pip install huggingface_hub") from error
    try:
        paths = [Path(hub.hf_hub_download(repository, name, cache_dir=hub_cache())) for name in names]
    except Exception as error:  # of the network, the service or the disk, by whichever library met it
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"cannot download {' and '.join(names)} of {repository} ({reason}): try again, or {remedy}") from error
    return paths[0].parent


def _read_clip(folder: Path) -> tuple[Vocabulary, Merges] | None:
    try:
        data = (folder / CLIP_FILE).read_bytes() if _files(folder, [CLIP_FILE]) else b""
        if hashlib.sha256(data).hexdigest() == CLIP_FILE_SHA256:
            lines = gzip.decompress(data).decode("utf-8").split("\n")[1 : CLIP_MERGES + 1]
            merges = [(left, right) for left, right in (line.split() for line in lines)]
            return vocabulary(merges), merges
        vocab, merges, _ = read_tables(folder)
    except (CheckpointError, OSError):
        return None
    same = _digest("\n".join(f"{left} {right}" for left, right in merges)) == CLIP_SHA256 and vocab == vocabulary(merges)
    return (vocab, merges) if same else None


def _read_bert(folder: Path) -> Vocabulary | None:
    try:
        vocab = read_vocabulary(folder)
    except CheckpointError:
        return None
    return vocab if _digest("".join(f"{token}\n" for token in sorted(vocab, key=vocab.__getitem__))) == BERT_SHA256 else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


CLIP = _Kind(
    name="CLIP's vocabulary",
    files=(CLIP_FILE, "vocab.json", "tokenizer.json"),
    read=_read_clip,
    packages=("open_clip", "clip"),
    cached=("models--openai--clip-vit-*/snapshots/*", "models--*/snapshots/*/tokenizer", "models--*/snapshots/*/tokenizer_2"),
    repository="openai/clip-vit-large-patch14",
    wanted=("vocab.json", "merges.txt"),
    remedy="vocab.json and merges.txt of any Stable Diffusion into {}, or pip install --no-deps open_clip_torch",
)
BERT = _Kind(
    name="BERT's vocabulary",
    files=("vocab.txt", "tokenizer.json"),
    read=_read_bert,
    packages=(),
    cached=("models--bert-base-uncased/snapshots/*", "models--*--bert-base-uncased/snapshots/*", "models--*/snapshots/*/tokenizer"),
    repository="google-bert/bert-base-uncased",
    wanted=("vocab.txt",),
    remedy="vocab.txt of bert-base-uncased into {}",
)
