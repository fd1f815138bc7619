"""Sheets of captioned pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP, HEADING, LINE, LETTER = 12, 30, 15, 6


def captioned(pictures: Sequence[Image.Image], captions: Sequence[str], columns: int, title: str = "") -> Image.Image:
    """Pictures of one size in rows on white, each with its caption below; the title, if there is one, above them all."""
    width, height = pictures[0].size
    wrapped = [textwrap.wrap(caption, width // LETTER, break_long_words=False) for caption in captions]
    top = HEADING if title else GAP
    across, down = width + GAP, height + GAP + LINE * max(map(len, wrapped))
    sheet = Image.new("RGB", (columns * across + GAP, -(-len(pictures) // columns) * down + top), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    draw.text((GAP, 6), title, "black", ImageFont.load_default(18))
    for index, (picture, lines) in enumerate(zip(pictures, wrapped, strict=True)):
        x, y = GAP + index % columns * across, top + index // columns * down
        sheet.paste(picture, (x, y))
        draw.rectangle((x - 1, y - 1, x + width, y + height), outline="lightgray")
        for row, line in enumerate(lines):
            draw.text((x, y + height + 4 + row * LINE), line, "black", font)
    return sheet
