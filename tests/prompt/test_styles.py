"""Styles and the files they come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from hayate.errors import UnknownName, UsageError
from hayate.prompt.styles import Style, apply_styles, choose_styles, read_styles

INK = Style(name="Ink", prompt="ink drawing of {prompt}, fine lines", negative_prompt="photo")
DUSK = Style(name="Dusk", prompt=" at dusk ")


@pytest.mark.parametrize(
    ("prompt", "styles", "expected"),
    [
        ("a boat", [INK], "ink drawing of a boat, fine lines"),
        ("a boat", [DUSK], "a boat, at dusk"),
        ("a boat", [INK, DUSK], "ink drawing of a boat, fine lines, at dusk"),
        ("a boat", [DUSK, INK], "ink drawing of a boat, at dusk, fine lines"),
        ("", [DUSK], "at dusk"),
        ("a boat", [Style(name="empty")], "a boat"),
        (" a boat ", [], " a boat "),
    ],
)
def test_styles_apply_in_turn(prompt: str, styles: list[Style], expected: str) -> None:
    assert apply_styles(prompt, styles) == expected


def test_the_negative_half_applies_to_the_negative_prompt() -> None:
    assert apply_styles("blurry", [INK, DUSK], is_negative=True) == "blurry, photo"


def test_doubling_styles_end_in_an_error() -> None:
    with pytest.raises(UsageError, match="too long"):
        apply_styles("a boat", [Style(name="twice", prompt="{prompt}{prompt}")] * 64)


def test_an_unknown_style_names_the_nearest() -> None:
    assert choose_styles(["Dusk", "Ink"], [INK, DUSK]) == (DUSK, INK)
    with pytest.raises(UnknownName, match="Dusk"):
        choose_styles(["dusc"], [INK, DUSK])


def test_a_file_with_byte_order_mark_and_broken_rows(tmp_path: Path) -> None:
    path = tmp_path / "styles.csv"
    rows = ["name,prompt,negative_prompt", 'Ink,"ink, {prompt}",photo', ",nameless,", "Short", "Dusk,a,b,c", "Ink,new,"]
    path.write_text("\r\n".join(rows), encoding="utf-8-sig")
    sheet = read_styles(path)
    assert sheet.styles == (
        Style(name="Ink", prompt="new"),
        Style(name="Short"),
        Style(name="Dusk", prompt="a", negative_prompt="b"),
    )
    assert [warning.split(":")[0] for warning in sheet.warnings] == [f"styles.csv, line {line}" for line in (3, 5, 6)]


def test_a_file_of_the_first_kind_calls_the_prompt_text(tmp_path: Path) -> None:
    path = tmp_path / "styles.csv"
    path.write_text("name,text\nInk,ink drawing\n")
    assert read_styles(path).styles == (Style(name="Ink", prompt="ink drawing"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no columns"),
        (b"title,words\nInk,x\n", "no columns"),
        (b"\x89PNG\r\n\x1a\n\0\0", "UTF-8"),
        (b'name,prompt\nInk,"' + b"x" * 200_000, "not a CSV"),
        (b"x" * (16 * 2**20 + 1), "larger than 16 MiB"),
    ],
)
def test_what_is_no_styles_file_is_one_clear_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "styles.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_styles(path)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        read_styles(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="can't be read"):
        read_styles(tmp_path)
