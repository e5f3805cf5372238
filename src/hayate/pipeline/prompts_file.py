"""A file of prompts, one job a line, with A1111's options per line."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hayate.errors import HayateError, UnknownName, UsageError, clip
from hayate.request import TextToImage

MAX_BYTES = 16 * 2**20

_TEXTS: Mapping[str, str] = MappingProxyType({"prompt": "prompt", "negative_prompt": "negative_prompt"})
"""Options that take all words up to the next option, as in A1111."""
_VALUES: Mapping[str, tuple[str, Callable[[str], Any]]] = MappingProxyType(
    {
        "styles": ("styles", lambda text: tuple(name.strip() for name in text.split(",") if name.strip())),
        "sd_model": ("model", str),
        "seed": ("seed", int),
        "subseed": ("subseed", int),
        "subseed_strength": ("subseed_strength", float),
        "seed_resize_from_w": ("seed_resize_from_w_px", int),
        "seed_resize_from_h": ("seed_resize_from_h_px", int),
        "sampler_name": ("sampler", str),
        "scheduler": ("scheduler", str),
        "batch_size": ("batch_size", int),
        "n_iter": ("batch_count", int),
        "steps": ("steps", int),
        "cfg_scale": ("cfg", float),
        "width": ("width_px", int),
        "height": ("height_px", int),
    }
)
_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "outpath_samples": "choose the place of all pictures with -o",
        "outpath_grids": "choose the place of all pictures with -o",
        "prompt_for_display": "the infotext always has the prompt itself",
        "sampler_index": "name the sampler with --sampler_name",
        "restore_faces": "faces are not restored here",
        "tiling": "pictures that tile are not made here",
        "do_not_save_samples": "pictures are always saved",
        "do_not_save_grid": "a grid is saved with --grid only",
    }
)


def read_prompts_file(path: Path, base: TextToImage) -> tuple[tuple[int, TextToImage], ...]:
    """The requests of a file, each with the number of its line; `base` has what a line leaves open.

    Raises: UsageError for a file that can't be read or has no line, and for a bad line, with its number.
    """
    return requests_of_text(_text_of(path), base, clip(path.name, 80))


def requests_of_text(text: str, base: TextToImage, title: str = "the prompts") -> tuple[tuple[int, TextToImage], ...]:
    """The requests of a text's lines, each with its number.

    A line that begins with `--` is options; any other is a prompt as it stands. Empty lines are passed over.
    Raises: UsageError for a text without a line, and for a bad line, with its number.
    Source: A1111 behaviour.
    """
    jobs: list[tuple[int, TextToImage]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            with numbered(title, number):
                jobs.append((number, read_line(line.strip(), base)))
    if not jobs:
        raise UsageError(f"{title} has no prompts", hint="write one on each line")
    return tuple(jobs)


def read_line(line: str, base: TextToImage) -> TextToImage:
    """The request of one line.

    Raises: UsageError, UnknownName.
    """
    if not line.startswith("--"):
        return replace(base, prompt=line)
    changes: dict[str, Any] = {}
    words = _words(line)
    while words:
        option = words.pop(0)
        if not option.startswith("--"):
            raise UsageError(f"{clip(option)!r} belongs to no option", hint="quote a value that has spaces")
        name = option.removeprefix("--")
        taken = _taken(name, words)
        changes |= _change(name, taken)
    return replace(base, **changes)


@contextmanager
def numbered(title: str, number: int) -> Iterator[None]:
    """Inside it an error's message begins with the file's name and the line."""
    try:
        yield
    except HayateError as error:
        error.message = f"{title}, line {number}: {error.message}"
        raise


def _text_of(path: Path) -> str:
    shown = clip(str(path), 200)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UsageError(f"{shown} is larger than {MAX_BYTES // 2**20} MiB", hint="is it a file of prompts?")
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is not UTF-8 text"
        raise UsageError(f"{shown} can't be read: {reason}", hint="name a text file of prompts") from error


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError("a quote is not closed", hint='write "…" around a text, and \\" inside it') from error


def _taken(name: str, words: list[str]) -> str:
    """The option's value, taken from the front of `words`."""
    if name not in _TEXTS:
        return words.pop(0) if words else ""
    taken: list[str] = []
    while words and not words[0].startswith("--"):
        taken.append(words.pop(0))
    return " ".join(taken)


def _change(name: str, text: str) -> dict[str, Any]:
    if name in _TEXTS:
        return {_TEXTS[name]: text}
    if name in _REFUSED:
        raise UsageError(f"--{name} can't be had", hint=_REFUSED[name])
    if name not in _VALUES:
        raise UnknownName("option", f"--{name}", [f"--{known}" for known in (*_TEXTS, *_VALUES)])
    if not text:
        raise UsageError(f"--{name} has no value", hint=f"write --{name} and a value behind it")
    field, kind = _VALUES[name]
    try:
        return {field: kind(text)}
    except ValueError:
        raise UsageError(f"--{name} {clip(text, 40)!r} is no number", hint="write a number behind it") from None
