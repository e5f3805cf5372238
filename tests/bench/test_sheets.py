"""Contact sheets: every picture's pixels and every caption are where the reader looks for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from hayate.bench.sheets import FONT_PX, contact_sheet, wrapped
from hayate.errors import UsageError

FONT = ImageFont.load_default(FONT_PX)


def plain(index: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A picture of one colour that nothing else on a sheet has."""
    return Image.new("RGB", size, (200, index, 100))


def places(sheet: Image.Image, index: int) -> tuple[int, int, int]:
    """Left, top and number of pixels of a plain picture on the sheet."""
    rows, columns = np.nonzero((np.asarray(sheet) == (200, index, 100)).all(axis=2))
    return int(columns.min()), int(rows.min()), len(rows)


@given(count=st.integers(1, 12), columns=st.integers(1, 15))
def test_every_picture_is_whole_and_in_reading_order(count: int, columns: int) -> None:
    sheet = contact_sheet([plain(index) for index in range(count)], [str(index) for index in range(count)], columns)
    found = [places(sheet, index) for index in range(count)]
    assert all(pixels == 96 * 64 for _, _, pixels in found)
    corners = [(top, left) for left, top, _ in found]
    assert corners == sorted(corners)
    assert len({left for _, left in corners}) == min(count, columns)
    assert len({top for top, _ in corners}) == -(-count // columns)


def test_a_caption_is_written_below_its_own_picture() -> None:
    captions = ["", "20 steps", ""]
    sheet = np.asarray(contact_sheet([plain(index) for index in range(3)], captions, 3))
    left, top, _ = places(Image.fromarray(sheet), 1)
    below = sheet[top + 64 :]
    inked = np.nonzero((below < 128).all(axis=2))[1]
    assert inked.size > 50
    assert left <= inked.min() <= inked.max() < left + 96


def test_pictures_of_several_sizes_and_modes_stand_side_by_side() -> None:
    pictures = [plain(0, (40, 90)), plain(1, (120, 30)), Image.new("L", (16, 16), 77), Image.new("RGBA", (8, 8), "red")]
    sheet = contact_sheet(pictures, ["a", "b", "c", "d"], 2)
    assert places(sheet, 0)[2] == 40 * 90
    assert places(sheet, 1)[2] == 120 * 30
    assert (np.asarray(sheet) == 77).all(axis=2).sum() == 16 * 16


@given(text=st.text(), width_px=st.integers(30, 300))
def test_no_line_is_wider_than_the_picture(text: str, width_px: int) -> None:
    lines = wrapped(text, width_px, FONT)
    assert len(lines) <= 3
    assert all(FONT.getlength(line) <= width_px or len(line) <= 2 for line in lines)


@given(words=st.lists(st.text("abcde", min_size=1, max_size=5), max_size=6))
def test_a_caption_that_fits_keeps_every_word(words: list[str]) -> None:
    lines = wrapped(" ".join(words), 300, FONT)
    assert " ".join(lines).split() == words


def test_a_long_caption_says_that_it_goes_on() -> None:
    assert wrapped("word " * 100, 100, FONT)[-1].endswith("…")


@pytest.mark.parametrize(("count", "captions", "columns"), [(0, 0, 2), (2, 2, 0), (2, 1, 2)])
def test_what_cannot_be_a_sheet_is_refused(count: int, captions: int, columns: int) -> None:
    with pytest.raises(UsageError):
        contact_sheet([plain(index) for index in range(count)], ["x"] * captions, columns)
