"""The sheet of an X/Y/Z plot: pictures in rows and columns with the values beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

GAP_PX, FONT_PX, LINE_PX = 8, 16, 22
PAPER, INK, PALE = "#ffffff", "#1c232b", "#5c6670"
MAX_LABEL_PX, MAX_LINES = 320, 3
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def axes_sheet(
    pictures: Mapping[tuple[int, int, int], Image.Image],
    captions: Mapping[tuple[int, int, int], str],
    labels: tuple[Sequence[str], Sequence[str], Sequence[str]],
) -> Image.Image:
    """Columns for x, rows for y, and for each z a sheet below the other; what is missing stays white.

    `pictures` and `captions` go by the places on the three axes.
    """
    font = ImageFont.load_default(FONT_PX)
    width = max(picture.width for picture in pictures.values())
    height = max(picture.height for picture in pictures.values())
    x_labels, y_labels, z_labels = labels
    left = min(MAX_LABEL_PX, int(max(font.getlength(label) for label in y_labels))) + 2 * GAP_PX
    step_x, step_y = width + GAP_PX, height + LINE_PX + GAP_PX
    heads = [_wrapped(label, width, font) for label in x_labels]
    head_px = max(map(len, heads)) * LINE_PX if any(x_labels) else 0
    top = (LINE_PX if any(z_labels) else 0) + head_px + GAP_PX
    block = top + len(y_labels) * step_y
    sheet = Image.new("RGB", (left + len(x_labels) * step_x, len(z_labels) * block), PAPER)
    draw = ImageDraw.Draw(sheet)
    for z, z_label in enumerate(z_labels):
        start = z * block
        draw.text((GAP_PX, start + 2), z_label, fill=INK, font=font)
        for x, lines in enumerate(heads):
            for above, line in enumerate(reversed(lines), start=1):
                draw.text((left + x * step_x, start + top - above * LINE_PX - 2), line, fill=INK, font=font)
        for y, label in enumerate(y_labels):
            row = start + top + y * step_y
            draw.text((GAP_PX, row + height // 2), fitting(label, left - 2 * GAP_PX, font), fill=INK, font=font)
            for x in range(len(x_labels)):
                if (x, y, z) in pictures:
                    sheet.paste(pictures[x, y, z].convert("RGB"), (left + x * step_x, row))
                    caption = fitting(captions.get((x, y, z), ""), width, font)
                    draw.text((left + x * step_x, row + height + 2), caption, fill=PALE, font=font)
    return sheet


def _wrapped(text: str, width_px: float, font: Font) -> list[str]:
    """`text` in at most `MAX_LINES` lines, parted at its spaces."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if len(lines) < MAX_LINES and lines[-1] and font.getlength(longer) > width_px:
            lines.append(word)
        else:
            lines[-1] = longer
    return [fitting(line, width_px, font) for line in lines]


def fitting(text: str, width_px: float, font: Font) -> str:
    """`text`, ended by "…" where it is too long."""
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "…") > width_px:
        text = text[:-1]
    return text + "…"
