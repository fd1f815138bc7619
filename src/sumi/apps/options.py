"""What every command's arguments have in common: errors as sumi's, fields of a `Request` as options, where a model is and runs."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NoReturn, TypeAlias

from sumi.errors import DependencyError, RequestError
from sumi.request import FIELDS, FILES, did_you_mean

METAVARS = {str: "TEXT", int: "N", float: "X", tuple: "X,X,...", dict: "NAME=X,..."}
SHORT = {"count": ["-n"]}
SOURCE: dict[str, tuple[str, str | None, tuple[str, ...] | None]] = {
    "prediction": ("what the network predicts, for files that do not say: eps, v or x0", "WHAT", ("eps", "v", "x0")),
    "no_ema": ("of a file with averaged weights, take the others", None, None),
    "variant": ("which weight files of a folder: fp16 (default: the plain ones)", "NAME", None),
    "revision": ("branch, tag or commit of a repository (default: main)", "NAME", None),
    "download": ("get a vocabulary that is not on this machine", None, None),
}
"""Which weights: what it is for, what is written after it, and what that may be."""


Command: TypeAlias = Callable[[Sequence[str]], None]


class Parser(argparse.ArgumentParser):
    """argparse, with its errors as ours and its layout left alone."""

    def __init__(self, prog: str, command: Callable[..., None], epilog: str | None = None, commands: Iterable[str] = ()) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, description=summary(command), epilog=epilog, formatter_class=formatter, allow_abbrev=False)
        self.commands = commands

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """The arguments. RequestError for what cannot be understood."""
        found, rest = self.parse_known_args(list(words))
        if not rest:
            return found
        if rest[0].startswith("-"):
            flags = [flag for action in self._actions for flag in action.option_strings]
            self.error(f"there is no option {rest[0]}{did_you_mean(rest[0], flags)}")
        self.error(f"{rest[0]!r} is one word too many (a prompt goes in quotes){did_you_mean(words[0], self.commands)}")

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}; see {self.prog} --help")


class Version(argparse.Action):
    """Looks the version up when it is asked for: that takes as long as the rest of `sumi --help`."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(version("sumi"))
        except PackageNotFoundError as error:
            raise DependencyError("sumi runs from its source and has no version until it is installed: pip install -e .") from error
        parser.exit()


def add_fields(parser: Parser, *without: str) -> None:
    """An option for each field of `Request`, under its headings; what is not given is not among the arguments."""
    groups = {field.group: parser.add_argument_group(field.group) for field in FIELDS.values()}
    for name, field in FIELDS.items():
        if name not in without:
            add_field(groups[field.group], name)


def add_field(parser: argparse._ActionsContainer, name: str) -> None:
    """An option for a field of `Request`; what is not given is not among the arguments."""
    field, flags = FIELDS[name], [*SHORT.get(name, []), "--" + name.replace("_", "-")]
    if field.type is bool:
        parser.add_argument(*flags, action="store_true", default=argparse.SUPPRESS, help=field.doc)
    else:
        read = field.type if field.type in (int, float) else partial(field.read, name)
        metavar = "FILE" if name in FILES else METAVARS[field.type]
        parser.add_argument(*flags, type=read, metavar=metavar, default=argparse.SUPPRESS, help=field.doc)


def asked(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of `Request` that were given."""
    return {name: value for name, value in vars(args).items() if name in FIELDS}


def add_model(parser: Parser) -> None:
    """Which model, and where and how precisely it runs."""
    parser.add_argument("-m", "--model", metavar="MODEL", help="path, name or hub id of a model (default: the one that comes with sumi)")
    parser.add_argument("--device", metavar="NAME", help="a device, as PyTorch names it (default: the fastest here)")
    parser.add_argument("--precision", metavar="NAME", help="float32, bfloat16 or float16 (default: what suits model and hardware)")
    add_source(parser)


def add_source(parser: Parser, *names: str) -> None:
    """Which of the weights that a model's files offer; `names` of `SOURCE`, by default all."""
    for name in names or SOURCE:
        help, metavar, choices = SOURCE[name]
        flag = "--" + name.replace("_", "-")
        if metavar is None:
            parser.add_argument(flag, action="store_true", help=help)
        else:
            parser.add_argument(flag, metavar=metavar, choices=choices, help=help)


def source(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """What `add_source` asked for, as `sumi.load` takes it."""
    given = {name: getattr(args, name) for name in names or SOURCE}
    if "no_ema" in given:
        given["ema"] = not given.pop("no_ema")
    return given


def summary(documented: object) -> str:
    """The first line of a docstring."""
    return (documented.__doc__ or "").split("\n", 1)[0]
