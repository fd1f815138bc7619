"""Draw the glyph atlas of the scenes from the Noto Color Emoji font.

    python tools/make_atlas.py [FONT] [-o src/sumi/train/scenes/glyphs.png]

Needs the font (Debian: fonts-noto-color-emoji); the atlas it makes is in the repository, so training and tests do not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sumi.train.scenes.glyphs import CELL, COLUMNS
from sumi.train.scenes.vocabulary import OBJECTS, WORLD

BITMAP = 109  # the only size that the font holds, in pixels per em


def draw(emoji: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One glyph, cropped, centred in a square cell and filling its longer side; the resize works on premultiplied colours."""
    paper = Image.new("RGBA", (2 * BITMAP, 2 * BITMAP))
    ImageDraw.Draw(paper).text((BITMAP // 4, BITMAP // 4), emoji, font=font, embedded_color=True)
    box = paper.getbbox()
    if box is None:
        raise SystemExit(f"the font has no glyph for {emoji}")
    ink = paper.crop(box)
    side = max(ink.size)
    square = Image.new("RGBA", (side, side))
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    return square.resize((CELL, CELL), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("font", nargs="?", default="/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
    parser.add_argument("-o", "--output", type=Path, default=Path("src/sumi/train/scenes/glyphs.png"))
    arguments = parser.parse_args()
    font = ImageFont.truetype(arguments.font, BITMAP)
    glyphs = [draw(emoji, font) for emoji in (OBJECTS | WORLD).values()]
    atlas = Image.new("RGBA", (COLUMNS * CELL, -(-len(glyphs) // COLUMNS) * CELL))
    for index, glyph in enumerate(glyphs):
        atlas.paste(glyph, (index % COLUMNS * CELL, index // COLUMNS * CELL))
    atlas.save(arguments.output, optimize=True)
    print(f"{arguments.output}: {len(glyphs)} glyphs, {arguments.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
