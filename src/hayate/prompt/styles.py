"""Styles: named pieces of prompt that are put around or after the user's words."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hayate.errors import OutputError, UnknownName, UsageError, clip
from hayate.prompt.grammar import MAX_PROMPT_CHARS

PLACEHOLDER = "{prompt}"
MAX_FILE_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """A named piece of prompt and of negative prompt."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleSheet:
    """The styles of a file, and what in it could not be used."""

    styles: tuple[Style, ...]
    warnings: tuple[str, ...] = ()


def apply_styles(prompt: str, styles: Iterable[Style], *, is_negative: bool = False) -> str:
    """`prompt` with each style in turn around it (`{prompt}`) or after it (", ").

    Raises: UsageError when the result is longer than any prompt may be.
    Source: A1111 behaviour.
    """
    for style in styles:
        prompt = merge(style.negative_prompt if is_negative else style.prompt, prompt)
    return prompt


def merge(style_prompt: str, prompt: str) -> str:
    """`prompt` within or before `style_prompt`."""
    uses = style_prompt.count(PLACEHOLDER)
    if len(style_prompt) + uses * len(prompt) > 2 * MAX_PROMPT_CHARS:
        raise UsageError(f"the style {clip(style_prompt)!r} makes the prompt too long", hint="use fewer styles")
    if uses:
        return style_prompt.replace(PLACEHOLDER, prompt)
    return ", ".join(part for part in (prompt.strip(), style_prompt.strip()) if part)


def choose_styles(names: Iterable[str], styles: Iterable[Style]) -> tuple[Style, ...]:
    """The styles called `names`, in that order.

    Raises: UnknownName with the nearest names.
    """
    by_name = {style.name: style for style in styles}
    chosen: list[Style] = []
    for name in names:
        if name not in by_name:
            raise UnknownName("style", name, by_name)
        chosen.append(by_name[name])
    return tuple(chosen)


def read_styles(path: Path) -> StyleSheet:
    """The styles in an A1111 `styles.csv`; unusable rows are left out with a warning.

    Raises: UsageError when the file can't be read or is no table of styles.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(f"{path} is larger than {MAX_FILE_BYTES // 2**20} MiB", hint="is it a styles file?")
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return read_rows(csv.DictReader(lines), path)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", hint="name a styles.csv") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text", hint="save it as UTF-8") from error
    except csv.Error as error:
        raise UsageError(f"{path} is not a CSV table: {error}", hint="check the quotes of its last style") from error


def write_styles(path: Path, styles: Iterable[Style]) -> None:
    """Writes an A1111 `styles.csv`, whole or not at all; the one before stays as `.bak`.

    Raises: OutputError.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("w", encoding="utf-8-sig", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("name", "prompt", "negative_prompt"))
            rows.writerows((style.name, style.prompt, style.negative_prompt) for style in styles)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copy2(path, path.with_name(f"{path.name}.bak"))
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise OutputError(f"{path} can't be written: {error.strerror}", hint="check its folder and its disk") from error


def read_rows(rows: csv.DictReader[str], path: Path) -> StyleSheet:
    """The styles in `rows`; of two with one name the later counts."""
    columns = rows.fieldnames or ()
    # A1111's first styles files called the prompt "text".
    prompt_column = "prompt" if "prompt" in columns else "text"
    if "name" not in columns or prompt_column not in columns:
        found = ", ".join(map(clip, columns)) or "none"
        raise UsageError(f"{path} has no columns 'name' and 'prompt'", hint=f"its columns: {clip(found)}")
    styles: dict[str, Style] = {}
    warnings: list[str] = []
    for row in rows:
        name = row["name"]
        where = f"{path.name}, line {rows.line_num}"
        if not name:
            warnings.append(f"{where}: a style without a name is left out")
            continue
        if None in row:
            warnings.append(f"{where}: more fields than columns; is a quote missing around a comma?")
        if name in styles:
            warnings.append(f"{where}: the style {clip(name)!r} stands here again; the later one counts")
        styles[name] = Style(
            name=name, prompt=row[prompt_column] or "", negative_prompt=row.get("negative_prompt") or ""
        )
    return StyleSheet(styles=tuple(styles.values()), warnings=tuple(warnings))
