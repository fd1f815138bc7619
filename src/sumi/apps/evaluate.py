"""`sumi eval`: how well a model does each task, beside real renders."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sumi.apps.options import Parser, add_field, add_model, source
from sumi.errors import RequestError
from sumi.request import Request, did_you_mean

if TYPE_CHECKING:
    from argparse import Namespace

    import numpy as np
    from numpy.typing import NDArray

    from sumi.models.latent_diffusion import Inputs, LatentDiffusion
    from sumi.train.evaluate import Report
    from sumi.train.measures import Figure
    from sumi.train.scenes import Scene
    from sumi.train.trials import Scores

TASKS = ("text", "label", "unconditional", "inpaint", "map", "low_res")
TWICE = 100
"""Captions of which a second picture is made."""


def evaluate(words: Sequence[str]) -> None:
    """Score a model: the share of its pictures that show what was asked for."""
    parser = Parser("sumi eval", evaluate)
    add_model(parser)
    parser.add_argument("--task", metavar="NAME", default="text", help=f"{', '.join(TASKS)} or all (default: text)")
    parser.add_argument("--count", metavar="N", type=int, default=1000, help="how many pictures (default: 1000)")
    parser.add_argument("--vocabulary", metavar="NAME", default="objects", help="shapes, objects or world (default: objects)")
    parser.add_argument("--kind", metavar="NAME", help="one kind of scene (default: all)")
    parser.add_argument("--json", action="store_true", help="print every number, with its interval of confidence, as JSON")
    for name in ("seed", "steps", "guidance"):
        add_field(parser, name)
    args = parser.read(words)
    asked = {name: getattr(args, name) for name in ("seed", "steps", "guidance") if hasattr(args, name)}
    request = Request(**{"seed": 0, **asked}, count=args.count)

    from sumi.resolve.defaults import resolve
    from sumi.store.assembly import load
    from sumi.train.scenes import KINDS, VOCABULARIES
    from sumi.train.trials import lacks

    for name, value, known in (
        ("task", args.task, (*TASKS, "all")),
        ("vocabulary", args.vocabulary, VOCABULARIES),
        ("kind", args.kind, (None, *KINDS)),
    ):
        if value not in known:
            names = list(filter(None, known))
            raise RequestError(f"there is no {name} {value!r}{did_you_mean(value, names)}: use {', '.join(names)}")
    model = load(args.model, device=args.device, precision=args.precision, **source(args))
    request = resolve(request, model.spec)
    reports = {}
    for task in TASKS if args.task == "all" else (args.task,):
        if reason := lacks(model.spec, task, args.vocabulary, args.kind):
            if args.task != "all":
                raise RequestError(f"{reason}: give it another task")
            print(f"sumi: task {task} is left out: {reason}", file=sys.stderr)
            continue
        reports[task] = _scored(task, model, request, args)
        if not args.json:
            print("\n".join(_lines(task, reports[task])), flush=True)
    if not reports:
        raise RequestError(f"{model.spec.name} can be given none of the tasks of {args.vocabulary}: use a model that was trained on it")
    if args.json:
        found = {task: report.to_dict() for task, report in reports.items()}
        print(json.dumps(found if args.task == "all" else found[args.task], indent=2))


def _scored(task: str, model: "LatentDiffusion", request: Request, args: "Namespace") -> "Report | Scores":
    """The scores of one task."""
    import numpy as np

    from sumi.pipeline import illustrate
    from sumi.train.evaluate import evaluate as score_text
    from sumi.train.evaluate import reconstructions
    from sumi.train.trials import score

    def painter(scenes: "Sequence[Scene]") -> "Iterator[NDArray[np.uint8]]":
        return (np.asarray(picture.image) for picture in illustrate(model, [scene.caption for scene in scenes], request))

    def maker(prompts: Sequence[str], inputs: "Inputs") -> "Iterator[NDArray[np.uint8]]":
        return (np.asarray(picture.image) for picture in illustrate(model, prompts, request, inputs=inputs))

    size = model.spec.size[0]
    settings = {"model": model.spec.name, **{name: getattr(request, name) for name in ("steps", "guidance", "sampler", "spacing")}}
    of = {"count": args.count, "vocabulary": args.vocabulary, "kind": args.kind, "seed": request.seed or 0, "settings": settings}
    autoencoder = reconstructions(model.autoencoder, size)
    if task == "text":
        return score_text(painter, autoencoder=autoencoder, twice=min(args.count, TWICE), **of)
    return score(task, maker, autoencoder=autoencoder, size=size, **of)


def _lines(task: str, report: "Report | Scores") -> "Iterator[str]":
    """What was asked, and a table of every figure, each with its 95 % interval."""
    of, columns = report.settings, report.columns
    guidance = f"{of['steps']} steps of {of['sampler']}, guidance {of['guidance']:g}"
    yield f"{task}: {of['count']} held-out scenes of {of['vocabulary']}, seed {of['seed']}; {of['model']}, {guidance}; intervals of 95%"
    yield f"{'':14} {'n':>6}  {'  '.join(f'{name:24}' for name in columns)}".rstrip()
    rows = dict.fromkeys(name for column in columns.values() for name in column)
    for row in rows:
        found = [column.get(row) for column in columns.values()]
        count = max(figure.n for figure in found if figure is not None)
        if count:
            yield f"{row:14} {count:6}  {'  '.join(f'{_told(figure):24}' for figure in found)}".rstrip()


def _told(figure: "Figure | None") -> str:
    """A share in percent, another figure as it is."""
    from sumi.train.measures import Distance
    from sumi.train.metrics import Share

    if figure is None or figure.value is None:
        return ""
    if isinstance(figure, Distance):
        return f"{figure.value:.3f}"
    if isinstance(figure, Share):
        return f"{figure.value:.1%} ({100 * figure.low:.1f} to {100 * figure.high:.1f})"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"
