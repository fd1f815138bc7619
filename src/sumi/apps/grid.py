"""`sumi grid`: one request with one, two or three of its fields varied."""

import sys
from collections.abc import Sequence

from sumi.apps.draw import destination_of
from sumi.apps.options import Parser, add_fields, add_model, asked, source
from sumi.request import FIELDS, Request


def grid(words: Sequence[str]) -> None:
    """Make a sheet of pictures that differ in one, two or three things."""
    parser = Parser("sumi grid", grid)
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", default="", help=FIELDS["prompt"].doc)
    parser.add_argument("-o", "--output", metavar="PATH", help="a .png file, replaced, or a folder (default: this one, names numbered)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.add_argument("--pictures", metavar="FOLDER", help="keep each picture, too, in this folder")
    for axis, way in (("x", "from left to right"), ("y", "from top to bottom"), ("z", "sheet below sheet")):
        example = "steps=5,10,20, or replace=cat,dog for words of the prompt; | parts values with commas"
        parser.add_argument(
            f"-{axis}", metavar="FIELD=VALUES", required=axis == "x", help=f"{way}: " + (example if axis == "x" else "likewise")
        )
    add_model(parser)
    add_fields(parser, "prompt", "count", "digests")
    args = parser.read(words)
    request = Request(**asked(args))
    destination = destination_of(args.output, 1, "grid")
    folder = None if args.pictures is None else destination_of(args.pictures.rstrip("/") + "/", 2)

    from sumi.grid import Axis
    from sumi.grid import grid as made
    from sumi.store.assembly import load
    from sumi.store.images import save_png

    x, y, z = Axis.read(args.x), *(None if text is None else Axis.read(text) for text in (args.y, args.z))
    terminal = sys.stderr.isatty()

    def say(done: int, total: int) -> None:
        if not args.quiet:
            print(f"\rpicture {done} of {total}", end="" if done < total and terminal else "\n", file=sys.stderr, flush=True)

    model = load(args.model, device=args.device, precision=args.precision, **source(args))
    found = made(model, request, x, y, z, say=say)
    if folder is not None:
        for picture in found.pictures.values():
            path = folder(picture.request)
            picture.save(path)
            print(path)
    path = destination(found.request)
    save_png(found.image, path, found.texts())
    print(path, flush=True)
