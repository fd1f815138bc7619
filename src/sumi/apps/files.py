"""Commands about files of models: what one is, and the same model in another form."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumi.apps.options import Parser, add_source, source
from sumi.errors import OutputError, RequestError

if TYPE_CHECKING:
    from sumi.store.model import Model

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def inspect(words: Sequence[str]) -> None:
    """Describe a file or folder: what it is, its parts, its defaults."""
    parser = Parser("sumi inspect", inspect)
    parser.add_argument("path", nargs="?", metavar="MODEL", help="path, name or hub id (default: the model that comes with sumi)")
    parser.add_argument("--json", action="store_true", help="print everything, metadata and configuration included, as JSON")
    add_source(parser, "prediction", "revision")
    args = parser.read(words)
    from sumi.pipeline import SHIPPED
    from sumi.store.report import inspect as look

    report = look(SHIPPED if args.path is None else args.path, **source(args, "prediction", "revision"))
    if args.json:
        print(json.dumps(report, indent=2))
        return
    for name, text in _rows(report).items():
        print(f"{name:16}  {text}")


def convert(words: Sequence[str]) -> None:
    """Write a model in another layout or precision, or without what it does not need."""
    parser = Parser("sumi convert", convert)
    parser.add_argument("source", metavar="IN", help="path, name or hub id of a model")
    parser.add_argument("target", metavar="OUT", help="a .safetensors file (the original layout) or a folder (Hugging Face's)")
    parser.add_argument("--precision", metavar="NAME", help="float32, bfloat16 or float16 (default: as it is)")
    parser.add_argument("--prune", action="store_true", help="leave out what no part reads: buffers, unaveraged weights, unused layers")
    parser.add_argument("--only", metavar="PART", help="write one part alone, to a .safetensors file: unet, vae, text_encoder, ...")
    parser.add_argument("--with", metavar="PART=PATH", action="append", default=[], dest="others", help="take a part from elsewhere")
    parser.add_argument("--shard", metavar="SIZE", help="cut the weights of a folder into files of at most so much: 5GB")
    parser.add_argument("--write-variant", metavar="NAME", help="a word in the names of a folder's weight files: fp16")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    add_source(parser)
    args = parser.read(words)
    target, single = Path(args.target), Path(args.target).suffix == ".safetensors"
    if target.exists() and not args.overwrite:
        raise OutputError(f"{target} is there already: choose another name, or replace it with --overwrite")
    if not single and (target.suffix in (".ckpt", ".pt", ".pth", ".bin") or args.only):
        raise OutputError(f"weights are written as safetensors: name the file {target.with_suffix('.safetensors')}")

    from sumi.models.placement import PRECISIONS
    from sumi.store.anything import open_model
    from sumi.store.folder import write_model
    from sumi.store.single import write_part, write_single

    if args.precision is not None and args.precision not in PRECISIONS:
        raise RequestError(f"there is no precision {args.precision!r}: use {', '.join(PRECISIONS)}")
    how: dict[str, Any] = {"precision": PRECISIONS.get(args.precision), "say": None if args.quiet else _progress}
    model = open_model(args.source, **source(args))
    for other in args.others:
        model = _with(model, other)
    if args.prune:
        model = replace(model, trained={}, leftover={})
    for note in model.notes:
        print(f"sumi: {note}", file=sys.stderr)
    if args.only:
        write_part(target, model, args.only, **how)
    elif single:
        write_single(target, model, **how)
    else:
        write_model(target, model, variant=args.write_variant, shard=_bytes(args.shard), **how)
    print(target)


def _with(model: "Model", other: str) -> "Model":
    """The model with one part from somewhere else."""
    from sumi.store.anything import open_part

    part, _, path = other.partition("=")
    if part not in model.states or not path:
        raise RequestError(f"--with takes PART=PATH, PART being one of {', '.join(model.states)}; got {other!r}")
    state = open_part(path, part, model.spec)
    return replace(model, states=model.states | {part: state}, trained={} if part == "unet" else model.trained)


def _bytes(size: str | None) -> int | None:
    """A size such as 5GB in bytes."""
    if size is None:
        return None
    number = size.rstrip("KMGBkmgb")
    try:
        count = int(float(number) * UNITS[size[len(number) :].upper()])
    except (KeyError, ValueError):
        count = 0
    if count < 1:
        raise RequestError(f"--shard takes a size such as 5GB; got {size!r}")
    return count


def _progress(done: int, total: int) -> None:
    """How much is written: one line that rewrites itself on a terminal, else a line at the end."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{done / 1e6:,.0f} of {total / 1e6:,.0f} MB", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif done == total:
        print(f"{total / 1e6:,.1f} MB written", file=sys.stderr)


def _rows(report: dict[str, Any]) -> dict[str, str]:
    """The lines for people."""
    rows = {"file": f"{report['path']} ({report['layout']}, {report['format']}, {report['bytes'] / 1e6:,.1f} MB)"}
    rows["holds"] = f"{report['kind']}: {report['parameters']:,} numbers in {report['tensors']:,} tensors, {_precision(report)}"
    if (spec := report.get("spec")) is not None:
        unet, (height, width) = spec["unet"], spec["size"]
        factor = spec["autoencoder"]["patch_size"] << max(0, len(spec["autoencoder"]["block_channels"]) - 1)
        multiple = factor << (len(unet["block_channels"]) - 1)
        rows["variant"] = f"{report['variant']} ({report['pipeline']})"
        rows["prediction"] = f"{report['prediction'] or 'not known'}: {report['known_by']}"
        rows["weights"] = "averaged over training, and as training left them" if report["ema"] else "one set"
        rows["pictures"] = f"{width} x {height}; sides are multiples of {multiple}"
        rows["latents"] = f"{spec['autoencoder']['latent_channels']} x {height // factor} x {width // factor}"
        rows["prompt"] = _prompt(spec)
        rows["beside it"] = ", ".join(spec["concat"]) or "nothing"
        rows["defaults"] = f"{spec['steps']} steps of {spec['sampler']}, {spec['spacing']}; guidance {spec['guidance']:g}"
        for part, total in report["parts"].items():
            rows[part] = f"{total['parameters']:,} parameters, {_precision(total)}"
    for name in ("base", "ranks", "layers", "vectors"):
        if report.get(name):
            rows[name] = json.dumps(report[name]).strip('"')
    for name, value in report["metadata"].items():
        rows[name] = str(value)
    return rows


def _precision(total: dict[str, Any]) -> str:
    kinds = total["precision"]
    if len(kinds) == 1:
        return str(next(iter(kinds)))
    return ", ".join(f"{count / max(1, total['parameters']):.1%} {kind}" for kind, count in kinds.items())


def _prompt(spec: dict[str, Any]) -> str:
    texts = [text for text in (spec["text"], spec["text_2"]) if text]
    if not texts:
        return "none"
    return f"{texts[0]['length'] - 2} tokens of {texts[0]['vocab_size']:,}" + (", read by two text encoders" if len(texts) > 1 else "")
