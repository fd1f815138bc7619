"""Draw a sheet of random scenes with their captions, one block for each vocabulary.

    python tools/contact_sheet.py [-o docs/scenes.png] [--size 128] [--columns 8] [--rows 3] [--seed 0] [--only VOCABULARY]

The page in docs/ is the one it draws without options.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sumi.train.scenes import VOCABULARIES, Scene, World, render

GAP, HEADING, LINE, LINES = 12, 30, 15, 4


def block(title: str, scenes: Sequence[Scene], size: int, columns: int) -> Image.Image:
    """A heading, then rows of pictures with their captions below."""
    font, heading = ImageFont.load_default(12), ImageFont.load_default(18)
    across, down = size + GAP, size + GAP + LINE * LINES
    rows = -(-len(scenes) // columns)
    sheet = Image.new("RGB", (columns * across + GAP, rows * down + HEADING), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 6), title, "black", heading)
    for index, scene in enumerate(scenes):
        x, y = GAP + index % columns * across, HEADING + index // columns * down
        sheet.paste(Image.fromarray(render(scene, size)), (x, y))
        draw.rectangle((x - 1, y - 1, x + size, y + size), outline="lightgray")
        for row, line in enumerate(textwrap.wrap(scene.caption, size // 6, break_long_words=False)[:LINES]):
            draw.text((x, y + size + 4 + row * LINE), line, "black", font)
    return sheet


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
        blocks.append(block(vocabulary, scenes, arguments.size, arguments.columns))
    sheet = Image.new("RGB", (blocks[0].width, sum(each.height for each in blocks)), "white")
    top = 0
    for each in blocks:
        sheet.paste(each, (0, top))
        top += each.height
    sheet.save(arguments.output, optimize=True)


if __name__ == "__main__":
    main()
