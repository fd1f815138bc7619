"""The models of a server: where they are, by the names that clients give, and what they are. Weights are never read."""

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from sumi.config import ModelSpec
from sumi.errors import CheckpointError, RequestError
from sumi.request import Request, did_you_mean
from sumi.resolve.defaults import resolve
from sumi.resolve.given import class_number
from sumi.running import script
from sumi.serve.cards import Card
from sumi.store import single
from sumi.store.anything import readable
from sumi.store.assembly import SHIPPED
from sumi.store.described import read_description, read_index
from sumi.store.find import ASIDE, INDEX, SUFFIXES, below, find, models_of
from sumi.store.model import Words

FRESH = 1.0
"""Seconds for which what was seen of a model's files holds."""
OWN = "sumi"
"""The id of the model that comes with sumi, which jobs call None."""

log = logging.getLogger("sumi.serve")


@dataclass(frozen=True, eq=False)
class Known:
    """A model as its files describe it.

    tokenizers: of its text encoders, read once, when they are first wanted. CheckpointError if their vocabulary is not on this machine.
    """

    spec: ModelSpec
    card: Card
    tokenizers: Callable[[], tuple[Words, ...]]


class Catalogue:
    """The model that comes with sumi, and those of `models`, paths by name. RequestError if one is called as the first.

    Each is looked at when it is first asked for, and again when its files have changed. A name that is None, or `OWN`, is the model that
    comes with sumi. Whatever asks for one raises RequestError if there is none of that name, and CheckpointError if its files are no model.
    """

    def __init__(self, models: Mapping[str, str | Path]) -> None:
        if OWN in models:
            raise RequestError(f"{OWN} is the model that comes with sumi: call {models[OWN]} otherwise")
        self._paths = {OWN: SHIPPED, **{name: Path(path) for name, path in models.items()}}
        self._known: dict[str, tuple[float, object, Known]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The ids of all models, the one that comes with sumi first."""
        return tuple(self._paths)

    def known(self, name: str | None) -> Known:
        """What there is to know of a model."""
        name = OWN if name is None else name
        if name not in self._paths:
            raise RequestError(f"there is no model {name[:80]!a}{did_you_mean(name[:80], self.names)}: use {', '.join(self.names)}")
        path = self._paths[name]
        looked, stamp, known = self._known.get(name, (0.0, None, None))
        if known is not None and time.monotonic() - looked < FRESH:
            return known
        try:
            with readable(path):
                now = _stamp(path)
                if known is None or stamp != now:
                    known = described(path, name)
        except CheckpointError as error:  # where a model lies is nobody's business
            raise CheckpointError(str(error).replace(f"{path.parent}{os.sep}", "")) from error
        self._known[name] = time.monotonic(), now, known
        return known

    def spec(self, name: str | None) -> ModelSpec:
        """What the model is."""
        return self.known(name).spec

    def card(self, name: str | None) -> Card:
        """The model at a glance."""
        return self.known(name).card

    def check(self, request: Request, name: str | None) -> None:
        """RequestError, or PromptError, for what the model cannot serve, as far as that shows before its pictures are looked at."""
        spec = self.spec(name)
        resolve(request, spec)
        if request.label is not None:
            class_number(request.label, spec)
        script(request.prompt, request)
        script(request.negative, request, "negative")

    @property
    def first(self) -> str:
        """With which clients begin: the model that was named, if it is one alone, else the one that comes with sumi."""
        named = [name for name in self._paths if name != OWN]
        return named[0] if len(named) == 1 else OWN

    def listing(self) -> list[dict[str, Any]]:
        """All models as GET /v1/models tells of them. Of one that cannot be opened, `error` says why, and there is no card."""
        return [self._told(name) for name in self.names]

    def _told(self, name: str) -> dict[str, Any]:
        card, error, created = None, None, 0
        try:
            card = vars(self.card(name))
            created = int(self._paths[name].stat().st_mtime)
        except (CheckpointError, OSError) as fault:
            error = str(fault)
        owner = "sumi" if name == OWN else "user"
        return {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": owner,
            "default": name == OWN,
            "card": card,
            "error": error,
        }


def described(path: Path, name: str) -> Known:
    """The model in a file or folder; CheckpointError if there is none. name: its title, where it has none of its own."""
    with readable(path):
        if path.is_dir():
            spec, tokenizers = read_description(path, read_index(path))
            return Known(spec, Card.of(spec, spec.name, tokenizers[0].length if tokenizers else None), lambda: tokenizers)
        forms, says = single.describe(path)
        spec = single.identify(path, forms, says).spec
        return Known(spec, Card.of(spec, str(says.get("modelspec.title") or name)), cache(partial(single.tokenizers, spec, path, says)))


def found(given: Iterable[str]) -> dict[str, Path]:
    """Models by name: each of `given` is the path of one, of a folder of models, of a program that keeps some, or a name (`find`).

    The names are those of files and folders, without what is neither letter nor digit nor . - or _, and with a number where two are the
    same. What is in a folder of models and is none is left out, and the log says why. CheckpointError, in one line, for anything else
    that is no model.
    """
    paths: dict[str, Path] = {}
    for each in given:
        for path in _models(each):
            paths.setdefault(os.path.realpath(path), path)
    named: dict[str, Path] = {}
    taken = {OWN}
    for path in paths.values():
        plain = _name(path)
        numbers = ("", *(f"-{number}" for number in range(2, len(paths) + 2)))
        name = next(plain + number for number in numbers if (plain + number).casefold() not in taken)
        taken.add(name.casefold())
        named[name] = path
    return named


def _models(given: str) -> Iterator[Path]:
    """The models that a path or a name stands for."""
    folder = Path(os.path.expanduser(given))
    inside = []
    if given and os.path.isdir(folder) and not (folder / INDEX).is_file():
        inside = [path for path in below(models_of(folder)) if not _aside(path, folder)]
    if not inside:
        path = find(given)
        described(path, path.name)
        yield path
        return
    opened = []
    for path in inside:
        try:
            described(path, path.name)
            opened.append(path)
        except CheckpointError as error:
            log.warning("left out: %s", error)
    if not opened:
        raise CheckpointError(f"{folder} holds no model of the latent diffusion family: name a file or folder that is one")
    yield from opened


def _aside(path: Path, folder: Path) -> bool:
    """Whether it lies in a folder for something else than models."""
    return bool(ASIDE.intersection(path.relative_to(folder).as_posix().casefold().split("/")[:-1]))


def _name(path: Path) -> str:
    """What a model's file or folder is called; of a repository in the cache of Hugging Face, the repository."""
    name = next((path.name.removesuffix(ending) for ending in SUFFIXES if path.is_file() and path.name.endswith(ending)), path.name)
    repository = next((parent.name for parent in path.parents if parent.name.startswith("models--")), None)
    if repository is not None and path.parent.name == "snapshots":
        name = repository.rpartition("--")[2]
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"


def _stamp(path: Path) -> object:
    """What changes when the files that describe a model do."""
    files = [path.with_suffix(".yaml"), path]
    if path.is_dir():
        files = sorted(file for pattern in ("*.json", "*/*.json", "*/*.txt") for file in path.glob(pattern))
    stamp = []
    for file in files:
        with suppress(FileNotFoundError):
            state = file.stat()
            stamp.append((str(file), state.st_mtime_ns, state.st_size))
    return stamp
