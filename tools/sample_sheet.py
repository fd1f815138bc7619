"""Draw a sheet of what a model makes of 64 held-out captions: none chosen, none made twice.

    python tools/sample_sheet.py [-o docs/objects.png] [--model FOLDER] [--vocabulary objects] [--kind KIND]

Caption i is that of scene i of `sumi eval`; its picture is the first of seed i, at the model's own settings. The page in docs/
is the one it draws of the model that comes with sumi, without options.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sheets import captioned

import sumi
from sumi.errors import SumiError
from sumi.train.scenes import KINDS, VOCABULARIES, World

COUNT, COLUMNS, WIDTH = 64, 8, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/objects.png"))
    parser.add_argument("--model", type=Path, help="folder of a model (default: the one that comes with sumi)")
    parser.add_argument("--vocabulary", choices=VOCABULARIES, default="objects")
    parser.add_argument("--kind", choices=KINDS, help="scenes of this kind alone")
    arguments = parser.parse_args()
    world = World(arguments.vocabulary)
    captions = [world.sample(np.random.default_rng([0, number]), arguments.kind, "held-out").caption for number in range(COUNT)]
    try:
        model = sumi.load(arguments.model)
        pictures = []
        for seed, caption in enumerate(captions):
            [picture] = sumi.generate(model, prompt=caption, seed=seed)
            width, height = picture.image.size
            pictures.append(picture.image.resize((WIDTH, WIDTH * height // width), Image.Resampling.LANCZOS))
    except SumiError as error:
        sys.exit(f"error: {error}")
    captioned(pictures, captions, COLUMNS).save(arguments.output, optimize=True)


if __name__ == "__main__":
    main()
