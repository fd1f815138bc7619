"""The command line: `sumi "two stars above a tree"` makes a picture; a first word that is a command does something else.

The paths of pictures go to standard output as they are written, everything else about them to standard error. Exit status:
0; 2 and one line for anything wrong in what was asked; 130 after Ctrl-C. Nothing heavy is imported before it is needed.
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
from sumi.apps.files import convert, inspect
from sumi.apps.listing import samplers
from sumi.apps.options import Parser, add_field, add_model, source
from sumi.errors import ModelWarning, RequestError, SumiError
from sumi.request import Request


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
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
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


def evaluate(words: Sequence[str]) -> None:
    """Score a model: the share of its pictures that show what was asked for."""
    parser = Parser("sumi eval", evaluate)
    add_model(parser)
    parser.add_argument("--count", metavar="N", type=int, default=1000, help="how many pictures (default: 1000)")
    parser.add_argument("--vocabulary", metavar="NAME", default="objects", help="shapes, objects or world (default: objects)")
    parser.add_argument("--kind", metavar="NAME", help="one kind of scene (default: all)")
    parser.add_argument("--json", action="store_true", help="print every number, with its interval of confidence, as JSON")
    for name in ("seed", "steps", "guidance"):
        add_field(parser, name)
    args = parser.read(words)
    asked = {name: getattr(args, name) for name in ("seed", "steps", "guidance") if hasattr(args, name)}
    request = Request(**{"seed": 0, **asked}, count=args.count)

    import numpy as np

    from sumi.pipeline import illustrate
    from sumi.resolve import resolve
    from sumi.store.assembly import load
    from sumi.train.evaluate import evaluate as score
    from sumi.train.evaluate import reconstructions
    from sumi.train.scenes import KINDS, VOCABULARIES

    for name, value, known in (("vocabulary", args.vocabulary, VOCABULARIES), ("kind", args.kind, (None, *KINDS))):
        if value not in known:
            raise RequestError(f"there is no {name} {value!r}: use {', '.join(filter(None, known))}")
    model = load(args.model, device=args.device, precision=args.precision, **source(args))
    request = resolve(request, model.spec)
    report = score(
        lambda scenes: (np.asarray(picture.image) for picture in illustrate(model, [scene.caption for scene in scenes], request)),
        autoencoder=reconstructions(model.autoencoder, model.spec.size[0]),
        count=args.count,
        vocabulary=args.vocabulary,
        kind=args.kind,
        seed=request.seed or 0,
        settings={"model": model.spec.name, **{name: getattr(request, name) for name in ("steps", "guidance", "sampler", "spacing")}},
    )
    if args.json:
        print(report.to_json())
        return
    print(f"{'':14} {'n':>6}  generated (95% interval)    autoencoder    real")
    rows = {name: (share, report.autoencoder[name], report.real[name]) for name, share in report.generated.items()}
    kinds = {f"all, {name}": (share, report.autoencoder_kinds[name], None) for name, share in report.kinds.items()}
    for name, (share, first_stage, real) in {**rows, **kinds}.items():
        if share.value is not None:
            interval = f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"
            ceiling = f"{real.value or 0:7.1%}" if real is not None else ""
            print(f"{name:14} {share.n:6}  {interval:26}  {first_stage.value or 0:11.1%} {ceiling}".rstrip())


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "again": again,
    "convert": convert,
    "eval": evaluate,
    "inspect": inspect,
    "samplers": samplers,
    "train": train,
}


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """One line, without the place in the code that a programmer would want."""
    print(f"sumi: {message}", file=sys.stderr)


def _drop_output() -> None:
    """What is still buffered must not fail once more when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
