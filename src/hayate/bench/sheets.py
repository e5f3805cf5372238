"""Contact sheets: pictures side by side, each with its caption."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from hayate.errors import UsageError

GAP_PX = 12
FONT_PX = 14
LINE_PX = 19
LINES = 3
PAPER, INK = "#ffffff", "#1c232b"


def contact_sheet(pictures: Sequence[Image.Image], captions: Sequence[str], columns: int) -> Image.Image:
    """All pictures in rows of `columns`, each in a cell of the largest one's size with its caption below.

    A caption has as many lines as it needs, three at most; what does not fit ends in "…".
    Raises: UsageError when there is no picture, no column, or not one caption for each picture.
    """
    _check(pictures, captions, columns)
    columns = min(columns, len(pictures))
    font = ImageFont.load_default(FONT_PX)
    cell_width_px = max(picture.width for picture in pictures)
    texts = [wrapped(caption, cell_width_px, font) for caption in captions]
    picture_height_px = max(picture.height for picture in pictures)
    step_x_px = cell_width_px + GAP_PX
    step_y_px = picture_height_px + GAP_PX + LINE_PX * max(map(len, texts)) + GAP_PX
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * step_x_px + GAP_PX, rows * step_y_px + GAP_PX), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (picture, lines) in enumerate(zip(pictures, texts, strict=True)):
        left_px, top_px = GAP_PX + index % columns * step_x_px, GAP_PX + index // columns * step_y_px
        sheet.paste(picture.convert("RGB"), (left_px, top_px))
        for line, text in enumerate(lines):
            draw.text((left_px, top_px + picture_height_px + 6 + line * LINE_PX), text, fill=INK, font=font)
    return sheet


def wrapped(text: str, width_px: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """`text` in lines of at most `width_px`, broken between words, or inside one that is wider than a line."""
    lines, rest = [], " ".join(text.split())
    while rest and len(lines) < LINES:
        if font.getlength(rest) <= width_px:
            return [*lines, rest]
        fits = _fitting(rest, width_px, font)
        if len(lines) == LINES - 1:
            return [*lines, rest[: _fitting(rest, width_px - font.getlength("…"), font)].rstrip() + "…"]
        space = rest.rfind(" ", 1, fits + 1)
        end = space if space > 0 else fits
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return lines


def _check(pictures: Sequence[Image.Image], captions: Sequence[str], columns: int) -> None:
    if not pictures:
        raise UsageError("a contact sheet of no pictures can't be", hint="one picture is enough")
    if columns < 1:
        raise UsageError(f"a contact sheet with {columns} columns can't be", hint="1 or more")
    if len(captions) != len(pictures):
        raise UsageError(f"{len(captions)} captions for {len(pictures)} pictures", hint="one for each")


def _fitting(text: str, width_px: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    """How many characters of `text` fit into the width; at least one, so that every line gets on."""
    count = len(text)
    while count > 1 and font.getlength(text[:count]) > width_px:
        count -= 1
    return count
