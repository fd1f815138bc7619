"""Draw a sheet of random scenes with their captions, one block for each vocabulary.

    python tools/contact_sheet.py [-o docs/scenes.png] [--size 128] [--columns 8] [--rows 3] [--seed 0] [--only VOCABULARY]

The page in docs/ is the one it draws without options.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from sheets import captioned

from sumi.train.scenes import VOCABULARIES, Scene, World, render


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/scenes.png"))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=VOCABULARIES, help="scenes of this vocabulary alone")
    arguments = parser.parse_args()
    blocks = []
    for vocabulary in (arguments.only,) if arguments.only else VOCABULARIES:
        world, rng = World(vocabulary), np.random.default_rng(arguments.seed)
        scenes: list[Scene] = []
        while len(scenes) < arguments.columns * arguments.rows:
            scene = world.sample(rng)
            if scene.vocabulary == vocabulary:
                scenes.append(scene)
        pictures = [Image.fromarray(render(scene, arguments.size)) for scene in scenes]
        blocks.append(captioned(pictures, [scene.caption for scene in scenes], arguments.columns, vocabulary))
    sheet = Image.new("RGB", (blocks[0].width, sum(each.height for each in blocks)), "white")
    top = 0
    for each in blocks:
        sheet.paste(each, (0, top))
        top += each.height
    sheet.save(arguments.output, optimize=True)


if __name__ == "__main__":
    main()
