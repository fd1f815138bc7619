"""The command line: `sumi "two stars above a tree"` makes a picture; a first word that is a command does something else.

The paths of pictures go to standard output as they are written, everything else about them to standard error. Exit status:
0; 2 and one line for anything wrong in what was asked; 130 after Ctrl-C. Nothing heavy is imported before it is needed.
"""

import io
import itertools
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumi.apps.files import convert, inspect
from sumi.apps.options import Parser, Version, add_field, add_model, source, summary
from sumi.errors import ModelWarning, OutputError, RequestError, SumiError
from sumi.request import FIELDS, Request

if TYPE_CHECKING:
    from sumi.pipeline import Step

OTHER_FORMATS = (".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line, `sys.argv` by default, and returns the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a path need not be Unicode
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    command, rest = (COMMANDS[words[0]], words[1:]) if words[0] in COMMANDS else (make, words)
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


def make(words: Sequence[str]) -> None:
    """Make pictures from words."""
    commands = "\n".join(f"  {name:10} {summary(run)}" for name, run in COMMANDS.items())
    parser = Parser("sumi", make, epilog=f"commands:\n{commands}", commands=COMMANDS)
    parser.usage = "sumi PROMPT [options]\n       sumi COMMAND ..."
    parser.add_argument("prompt", metavar="PROMPT", help=FIELDS["prompt"].doc + "; after -- if it is the name of a command")
    for name in FIELDS:
        if name != "prompt":
            add_field(parser, name)
    parser.add_argument("-o", "--output", metavar="PATH", help="a .png file, replaced, or a folder (default: this one, names numbered)")
    add_model(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.add_argument("--version", action=Version, help="print the version of sumi")
    args = parser.read(words)
    request, quiet = Request(**{name: value for name, value in vars(args).items() if name in FIELDS}), args.quiet
    destination = _destination(args.output, request.count)

    from sumi.pipeline import Decoded, Encoded, Step, load, stream

    progress = Progress(quiet)
    try:
        for event in stream(load(args.model, device=args.device, precision=args.precision, **source(args)), request):
            match event:
                case Encoded():
                    request = event.request
                    for notice in event.notices:
                        print(f"sumi: {notice}", file=sys.stderr)
                case Step():
                    progress.show(event, request)
                case Decoded():
                    progress.clear()
                    for picture in event.pictures:
                        path = destination(picture.request)
                        picture.save(path)
                        print(path, flush=True)
    finally:
        progress.clear()


def samplers(words: Sequence[str]) -> None:
    """List the samplers and the spacings of their steps."""
    Parser("sumi samplers", samplers).read(words)
    from sumi.diffusion.samplers.table import SAMPLERS
    from sumi.diffusion.spacings import SPACINGS

    print("samplers (network calls a step; options)")
    for name, sampler in SAMPLERS.items():
        options = ", ".join(f"{option} {value:g}" for option, value in sampler.options.items())
        print(f"  {name:16} {sampler.calls}  {options:6}  {summary(sampler.function)}")
    print("spacings")
    for name, spacing in SPACINGS.items():
        print(f"  {name:16} {summary(spacing)}")


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
    parser.add_argument("--vocabulary", metavar="NAME", default="shapes", help="shapes, objects or world (default: shapes)")
    parser.add_argument("--kind", metavar="NAME", help="one kind of scene (default: all)")
    parser.add_argument("--json", action="store_true", help="print every number, with its interval of confidence, as JSON")
    for name in ("seed", "steps", "guidance"):
        add_field(parser, name)
    args = parser.read(words)
    asked = {name: getattr(args, name) for name in ("seed", "steps", "guidance") if hasattr(args, name)}
    request = Request(**{"seed": 0, **asked}, count=args.count)

    import numpy as np

    from sumi.pipeline import illustrate, load, resolve
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
    "convert": convert,
    "eval": evaluate,
    "inspect": inspect,
    "samplers": samplers,
    "train": train,
}


class Progress:
    """How far sampling is, on standard error: one line that rewrites itself on a terminal, else a line each quarter."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.terminal = quiet, sys.stderr.isatty()

    def show(self, step: "Step", request: Request) -> None:
        """Says that the step is done."""
        text = f"step {step.index} of {step.total}"
        if len(step.images) < request.count:
            done = step.images[-1] - request.first + 1
            text = f"pictures {done - len(step.images) + 1} to {done} of {request.count}, {text}"
        quarter = 4 * step.index // step.total > 4 * (step.index - 1) // step.total
        if not self.quiet and (self.terminal or quarter):
            print(f"\r\x1b[K{text}" if self.terminal else text, end="" if self.terminal else "\n", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Takes the line off a terminal."""
        if not self.quiet and self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """One line, without the place in the code that a programmer would want."""
    print(f"sumi: {message}", file=sys.stderr)


def _drop_output() -> None:
    """What is still buffered must not fail once more when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _destination(output: str | None, count: int) -> Callable[[Request], Path]:
    """Where the picture of a request goes. OutputError, before anything is computed, if nothing can be written there."""
    path = Path(output or ".")
    is_file = not path.is_dir() and not (output or "").endswith("/")
    if is_file and path.suffix.lower() in OTHER_FORMATS:
        raise OutputError(f"pictures are written as PNG: name the file {path.with_suffix('.png')}")
    is_file = is_file and path.suffix.lower() == ".png"
    if is_file and count > 1:
        raise OutputError(f"{path} is one file and {count} pictures were asked for: name a folder, such as {path.with_suffix('')}/")
    folder = path.parent if is_file else path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another place with -o") from error
    if not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write into the folder {folder}: choose another place with -o")
    return lambda request: path if is_file else _unused(folder / f"sumi-{request.seed}-{request.first}.png")


def _unused(path: Path) -> Path:
    """The path, numbered if there is such a file already: it may be another prompt's."""
    others = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(candidate for candidate in itertools.chain([path], others) if not candidate.exists())
