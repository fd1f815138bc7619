"""The command line: `sumi "two stars above a tree"` makes a picture; a first word that is a command does something else.

The paths of pictures go to standard output as they are written, everything else about them to standard error. Exit status:
0; 2 and one line for anything wrong in what was asked; 130 after Ctrl-C, 143 after SIGTERM. Nothing heavy is imported before it is needed.
"""

import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from sumi.apps.draw import again, make
from sumi.apps.evaluate import evaluate
from sumi.apps.explain import explain
from sumi.apps.files import convert, inspect
from sumi.apps.grid import grid
from sumi.apps.listing import samplers
from sumi.apps.options import Parser
from sumi.apps.serve import serve
from sumi.errors import ModelWarning, SumiError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line, `sys.argv` by default, and returns the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a path need not be Unicode
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    command, rest = (COMMANDS[words[0]], words[1:]) if words[0] in COMMANDS else (_make, words)
    try:
        with suppress(SystemExit), warnings.catch_warnings():  # argparse's, after --help and --version
            warnings.simplefilter("always", ModelWarning)
            warnings.showwarning = _show_warning
            command(rest)
        print(end="", flush=True)
    except SumiError as error:
        print(f"sumi: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:  # of which other signals may be made, told as its argument
        return 128 + (error.args[0] if error.args else signal.SIGINT)
    except BrokenPipeError:  # whoever read our output has left
        _drop_output()
        return 128 + 13  # SIGPIPE, which Windows does not define
    except OSError as error:  # standard output is full; faults of files are SumiErrors
        _drop_output()
        print(f"sumi: {error}", file=sys.stderr)
        return SumiError.exit_code
    return 0


def _make(words: Sequence[str]) -> None:
    make(words, COMMANDS)


def train(words: Sequence[str]) -> None:
    """Run a training recipe, from where it stopped."""
    parser = Parser("sumi train", train)
    parser.add_argument("recipe", metavar="RECIPE", help="a .toml file, as in recipes/")
    parser.add_argument("--out", metavar="DIR", help="folder of the results (default: training/ and the recipe's name)")
    parser.add_argument("--device", metavar="NAME", help="a device, as PyTorch names it (default: the fastest here)")
    parser.add_argument("--minutes", metavar="X", type=float, help="stop after so long; run again to go on (default: to the end)")
    parser.add_argument("--fresh", action="store_true", help="from the start, whatever the folder holds")
    args = parser.read(words)
    from sumi.train.run import train as run

    print(run(args.recipe, out=args.out, device=args.device, minutes=args.minutes, fresh=args.fresh))


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "again": again,
    "convert": convert,
    "eval": evaluate,
    "explain": explain,
    "grid": grid,
    "inspect": inspect,
    "samplers": samplers,
    "serve": serve,
    "train": train,
}


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """One line, without the place in the code that a programmer would want."""
    print(f"sumi: {message}", file=sys.stderr)


def _drop_output() -> None:
    """What is still buffered must not fail once more when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
