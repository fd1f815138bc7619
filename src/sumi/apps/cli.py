"""The command line: `sumi "two stars above a tree"` makes a picture; a first word that is a command does something else.

Paths of pictures go to standard output as they are written, everything else to standard error. Exit status: 0; 2 and one line
for anything wrong in what was asked; 130 after Ctrl-C. Nothing heavy is imported before it is known to be needed.
"""

import argparse
import os
import signal
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import sumi
from sumi.errors import OutputError, RequestError, SumiError
from sumi.request import FIELDS, Request, did_you_mean

if TYPE_CHECKING:
    from sumi.pipeline import Picture, Step

OTHER_FORMATS = (".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line, `sys.argv` by default, and returns the exit status."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    try:
        _run(tokens or ["--help"])
        sys.stdout.flush()
    except SumiError as error:
        print(f"sumi: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output went away: stop, as any other program in the pipe would
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    return 0


def _run(tokens: list[str]) -> None:
    command = COMMANDS.get(tokens[0])
    if command is not None:
        parser = _Parser(f"sumi {tokens[0]}", command.__doc__)
        command(parser, tokens[1:])
    else:
        _make(_Parser("sumi", "Makes pictures from words."), tokens)


class _Parser(ArgumentParser):
    """argparse, with its errors as ours."""

    def __init__(self, prog: str, description: str | None, **settings: Any) -> None:
        super().__init__(prog, description=description, allow_abbrev=False, formatter_class=_Formatter, **settings)

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}: see `{self.prog} --help`")
