"""Prompt matrix: a prompt in parts, "a|b|c", as every combination of those behind the first.

Source: A1111 behaviour, docs/compat.md.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from PIL import Image, ImageDraw, ImageFont

from hayate.errors import UnknownName, UsageError
from hayate.pipeline.axes_sheet import FONT_PX, GAP_PX, INK, LINE_PX, MAX_LABEL_PX, PAPER, Font, fitting
from hayate.request import TextToImage

MAX_PARTS = 10
"""A first one and nine others, which are 512 pictures."""
DELIMITERS: Mapping[str, str] = MappingProxyType({"comma": ", ", "space": " "})
FADED = "#9aa3ab"
"""A part that a row or column is without; it is struck through as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Which prompts a matrix has."""

    text: str
    delimiter: str = "comma"
    is_at_start: bool = False
    """Whether the parts that come and go stand before the first one."""
    is_negative: bool = False
    """Whether it is the negative prompt that has parts."""
    has_different_seeds: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Those that come and go, as the sheet is labelled."""
        return tuple(self.text.split("|")[1:])

    @property
    def columns(self) -> int:
        return 2 ** math.ceil(len(self.parts) / 2)

    @property
    def rows(self) -> int:
        return 2 ** (len(self.parts) // 2)

    def prompts(self) -> tuple[str, ...]:
        """All prompts; the bits of a prompt's place say which parts it has.

        Raises: UsageError, UnknownName.
        """
        if not 1 <= len(self.parts) < MAX_PARTS:
            count = len(self.parts) + 1
            raise UsageError(f"a matrix of {count} parts can't be", hint=f'"a cat|in snow|at night": 2 to {MAX_PARTS}')
        if self.delimiter not in DELIMITERS:
            raise UnknownName("delimiter", self.delimiter, DELIMITERS)
        return tuple(self._prompt(number) for number in range(2 ** len(self.parts)))

    def _prompt(self, number: int) -> str:
        first = self.text.split("|")[0]
        chosen = [part.strip().strip(",") for bit, part in enumerate(self.parts) if number >> bit & 1]
        return DELIMITERS[self.delimiter].join([*chosen, first] if self.is_at_start else [first, *chosen])


def requests_of(matrix: Matrix, base: TextToImage) -> tuple[TextToImage, ...]:
    """A request for each prompt: one picture, of the same seed or of the next one.

    Raises: UsageError, UnknownName.
    """
    for count in (base.batch_size, base.batch_count):
        if count not in (None, 1):
            raise UsageError("a matrix has one picture for each prompt", hint="leave batch size and count out")
    seed = secrets.randbelow(2**32) if base.seed in (None, -1) else base.seed
    assert seed is not None
    name = "negative_prompt" if matrix.is_negative else "prompt"
    one = replace(base, batch_size=1, batch_count=1)
    return tuple(
        replace(one, **{name: prompt, "seed": seed + number * matrix.has_different_seeds})
        for number, prompt in enumerate(matrix.prompts())
    )


def matrix_sheet(pictures: Sequence[Image.Image], matrix: Matrix) -> Image.Image:
    """All pictures with their parts above the columns and beside the rows; those that one is without, struck through.

    The first half of the parts, rounded up, goes with the columns.
    """
    font = ImageFont.load_default(FONT_PX)
    across, down = matrix.parts[: matrix.columns.bit_length() - 1], matrix.parts[matrix.columns.bit_length() - 1 :]
    width, height = pictures[0].size
    left = min(MAX_LABEL_PX, int(max((font.getlength(part.strip()) for part in down), default=0))) + 2 * GAP_PX
    top = len(across) * LINE_PX + GAP_PX
    step_x, step_y = width + GAP_PX, max(height, len(down) * LINE_PX) + GAP_PX
    sheet = Image.new("RGB", (left + matrix.columns * step_x, top + matrix.rows * step_y), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column in range(matrix.columns):
        _write(draw, across, column, (left + column * step_x, GAP_PX // 2), width, font=font)
    for row in range(matrix.rows):
        start = top + row * step_y + (height - len(down) * LINE_PX) // 2
        _write(draw, down, row, (GAP_PX, max(top + row * step_y, start)), left - 2 * GAP_PX, font=font)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, matrix.columns)
        sheet.paste(picture.convert("RGB"), (left + column * step_x, top + row * step_y))
    return sheet


def _write(
    draw: ImageDraw.ImageDraw, parts: Sequence[str], bits: int, place: tuple[int, int], width: int, *, font: Font
) -> None:
    """The parts one below the other; those whose bit is not set are faded and struck through."""
    x, y = place
    for bit, part in enumerate(parts):
        label, is_there = fitting(part.strip(), width, font), bits >> bit & 1
        draw.text((x, y + bit * LINE_PX), label, fill=INK if is_there else FADED, font=font)
        if not is_there:
            middle = y + bit * LINE_PX + FONT_PX // 2 + 2
            draw.line((x, middle, x + font.getlength(label), middle), fill=FADED, width=1)
