"""Pictures side by side, with words at their edges. Beside `sumi.store.images`, the only module that uses Pillow."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP = 4
INK, PAPER = (32, 32, 32), (255, 255, 255)


def sheet(rows: Sequence[Sequence[Image.Image]], above: Sequence[str] = (), beside: Sequence[str] = (), title: str = "") -> Image.Image:
    """Rows of pictures on white, each at its own size in a cell of the largest, with a label for each column and each row, and a title.

    Labels that do not fit are written in several lines. Of a character that the font does not have there is a box.
    """
    width, height = (max(side) for side in zip(*(picture.size for row in rows for picture in row), strict=True))
    font = ImageFont.load_default(size=max(12, min(width, height) // 12))
    canvas = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    most = max(map(len, rows))
    columns = [_broken(canvas, text, font, width) for text in above]
    labels = [_broken(canvas, text, font, 2 * width) for text in beside]
    heading = _broken(canvas, title, font, most * (width + GAP)) if title else ""
    left = max((_size(canvas, text, font)[0] for text in labels), default=-GAP) + 2 * GAP
    top = max((_size(canvas, text, font)[1] for text in columns), default=-GAP) + 2 * GAP
    head = _size(canvas, heading, font)[1] + 2 * GAP if heading else 0
    page = Image.new("RGB", (left + most * (width + GAP), head + top + len(rows) * (height + GAP)), PAPER)
    draw = ImageDraw.Draw(page)
    if heading:
        draw.multiline_text((left, GAP), heading, INK, font)
    for number, text in enumerate(columns):
        draw.multiline_text((left + number * (width + GAP) + width // 2, head + GAP), text, INK, font, "ma", align="center")
    for number, row in enumerate(rows):
        y = head + top + number * (height + GAP)
        if number < len(labels):
            draw.multiline_text((left - GAP, y + height // 2), labels[number], INK, font, "rm", align="right")
        for place, picture in enumerate(row):
            page.paste(picture, (left + place * (width + GAP) + (width - picture.width) // 2, y + (height - picture.height) // 2))
    return page


def stacked(pages: Sequence[Image.Image]) -> Image.Image:
    """Pages one below the other on white."""
    whole = Image.new("RGB", (max(page.width for page in pages), sum(page.height + 2 * GAP for page in pages) - 2 * GAP), PAPER)
    y = 0
    for page in pages:
        whole.paste(page, (0, y))
        y += page.height + 2 * GAP
    return whole


def _broken(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """The text in lines of at most so many pixels, as far as its words allow."""
    lines: list[str] = []
    for word in text.split():
        if lines and draw.textlength(f"{lines[-1]} {word}", font) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def _size(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> tuple[int, int]:
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font)
    return int(right - left), int(bottom - top)
