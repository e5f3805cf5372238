"""X/Y/Z plots: which values an axis has, and what each one changes of a request or of how it is computed.

Source: A1111's X/Y/Z plot, docs/compat.md; the axes of computing are Hayate's own.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any

from hayate.errors import UnknownName, UsageError, clip
from hayate.extensions.chosen import chosen, held
from hayate.extensions.current import current
from hayate.request import Hires, StartImage, TextToImage
from hayate.runtime.asked import Asked

MAX_VALUES = 1000
MAX_CELLS = 1000
_RANGE = re.compile(r"\s*(-?[\d.]+)\s*-\s*(-?[\d.]+)\s*(?:\(\s*([+-][\d.]+)\s*\)|\[\s*(\d+)\s*\])?\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One picture of a plot: what is asked for, and how it is to be computed."""

    request: TextToImage
    asked: Asked


Change = Callable[[Cell, str], Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A name, its values as texts, and the change that each makes."""

    title: str
    values: tuple[str, ...]
    change: Change

    def labels(self) -> tuple[str, ...]:
        """What stands beside the pictures."""
        return tuple(f"{self.title}: {value}" if self.title else "" for value in self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisKind:
    """An axis that an extension adds."""

    read: Callable[[str], Any]
    """Makes a value of a text; raises ValueError where that is none. With int or float, ranges are understood."""
    change: Change


NOTHING = Axis(title="", values=("",), change=lambda cell, value: cell)


def parse_axis(text: str | None) -> Axis:
    """The axis of "Steps=10,20" or "CFG Scale=1-10 [5]"; None is an axis of one value that changes nothing.

    Raises: UnknownName for an axis, UsageError for values that can't be.
    """
    if text is None:
        return NOTHING
    name, is_given, values = text.partition("=")
    title, kind, make = find_axis(name.strip())
    parts = _split(values) if is_given else []
    if not parts:
        raise UsageError(f"the axis {title} has no values", hint=f'write "{title}=…", such as "Steps=10,20,30"')
    if kind is _permutation:
        found = [", ".join(each) for each in itertools.islice(itertools.permutations(parts), MAX_VALUES + 1)]
    else:
        found = [each for part in parts for each in _ranged(part, kind)]
    if len(found) > MAX_VALUES:
        raise UsageError(f"the axis {title} has more than {MAX_VALUES} values", hint="take fewer")
    for value in found:
        _checked(title, value, kind)
    return Axis(title=title, values=tuple(found), change=make(found))


def find_axis(name: str) -> tuple[str, Callable[[str], Any], Callable[[list[str]], Change]]:
    """The title of an axis, how its values are read, and what makes their change.

    Raises: UnknownName; UsageError for one of an extension that fails.
    """
    known = {each.casefold(): each for each in AXES}
    title = known.get(name.casefold())
    if title is not None:
        return title, *AXES[title]
    lent = chosen("axes", name, AxisKind)
    if lent is None:
        raise UnknownName("axis", name, [*AXES, *current().names("axes")])
    hook, own = lent
    change = held(hook, own.change)
    return hook.name, own.read, lambda values: change


def cells(cell: Cell, x: Axis, y: Axis, z: Axis) -> Iterator[tuple[tuple[int, int, int], Cell]]:
    """Every cell with its place; the axis that loads models changes least often.

    Raises: UsageError where a value can't be applied.
    """
    axes = (x, y, z)
    order = sorted(range(3), key=lambda index: (axes[index].title not in _SLOW, index))
    for places in itertools.product(*(range(len(axes[index].values)) for index in order)):
        place = [0, 0, 0]
        for index, at in zip(order, places, strict=True):
            place[index] = at
        made = cell
        for axis, at in zip(axes, place, strict=True):
            made = axis.change(made, axis.values[at])
        yield (place[0], place[1], place[2]), made


def _split(values: str) -> list[str]:
    """Commas part values; a value with a comma in it stands in double quotes."""
    try:
        row = next(csv.reader([" ".join(values.split())], skipinitialspace=True), [])
    except csv.Error as error:
        raise UsageError(
            f"the values can't be read: {error}", hint="commas between them, double quotes around"
        ) from error
    return [part.strip() for part in row if part.strip()]


def _ranged(text: str, kind: Callable[[str], Any]) -> Iterator[str]:
    """Every value of "1-10", "1-10 (+3)" or "1-10 [4]"; of an axis that is no number the text itself."""
    found = _RANGE.fullmatch(text) if kind in (int, float) else None
    if found is None:
        yield text
        return
    try:
        first, last = Decimal(found[1]), Decimal(found[2])
        step = Decimal(found[3]) if found[3] else Decimal(1 if last >= first else -1)
    except InvalidOperation:
        yield text
        return
    count = int(found[4]) if found[4] else None
    if count is not None:
        step = (last - first) / (count - 1) if count > 1 else Decimal(0)
    elif step == 0 or (last - first) / step < 0:
        raise UsageError(f"{clip(text)} never comes to its end", hint="such as 1-10 (+3) or 10-1 (-3)")
    else:
        count = min(int((last - first) / step) + 1, MAX_VALUES + 1)
    for index in range(min(count, MAX_VALUES + 1)):
        value = first + index * step
        yield str(int(value)) if kind is int else f"{float(value):g}"


def _checked(title: str, value: str, kind: Callable[[str], Any]) -> None:
    try:
        kind(value)
    except ValueError:
        raise UsageError(f"{clip(value)!r} is no value of the axis {title}", hint="see docs/xyz.md") from None


def _permutation(text: str) -> str:
    return text


def _of_request(name: str, kind: Callable[[str], Any] = str) -> tuple[Callable[[str], Any], Callable[..., Change]]:
    def make(values: list[str]) -> Change:
        del values
        return lambda cell, value: replace(cell, request=replace(cell.request, **{name: kind(value)}))

    return kind, make


def _of_asked(name: str, kind: Callable[[str], Any] = str) -> tuple[Callable[[str], Any], Callable[..., Change]]:
    def make(values: list[str]) -> Change:
        del values
        return lambda cell, value: replace(cell, asked=replace(cell.asked, **{name: kind(value)}))

    return kind, make


def _of_start(name: str, kind: Callable[[str], Any] = str) -> tuple[Callable[[str], Any], Callable[..., Change]]:
    def change(cell: Cell, value: str) -> Cell:
        start: StartImage | None = cell.request.start
        if start is None:
            raise UsageError("this axis is for pictures that start from one", hint="--image FILE")
        return replace(cell, request=replace(cell.request, start=replace(start, **{name: kind(value)})))

    return kind, lambda values: change


def _of_hires(name: str, kind: Callable[[str], Any] = str) -> tuple[Callable[[str], Any], Callable[..., Change]]:
    def change(cell: Cell, value: str) -> Cell:
        hires = cell.request.hires or Hires()
        return replace(cell, request=replace(cell.request, hires=replace(hires, **{name: kind(value)})))

    return kind, lambda values: change


def _replacing(values: list[str]) -> Change:
    """Prompt S/R: the first value is looked for, and each stands in its place once."""

    def change(cell: Cell, value: str) -> Cell:
        wanted, request = values[0], cell.request
        if wanted not in request.prompt and wanted not in request.negative_prompt:
            raise UsageError(f"{clip(wanted)!r} is not in the prompt", hint="Prompt S/R looks for its first value")
        texts = {name: getattr(request, name).replace(wanted, value) for name in ("prompt", "negative_prompt")}
        return replace(cell, request=replace(request, **texts))

    return change


def _ordering(values: list[str]) -> Change:
    """Prompt order: the words, where they stand, in every order."""
    words = [word.strip() for word in values[0].split(",")]

    def change(cell: Cell, value: str) -> Cell:
        text, request = cell.request.prompt, cell.request
        if missing := [word for word in words if word not in text]:
            raise UsageError(f"{clip(missing[0])!r} is not in the prompt", hint="Prompt order puts its words in order")
        order = iter(word.strip() for word in value.split(","))
        pattern = re.compile("|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)))
        seen: set[str] = set()

        def put(found: re.Match[str]) -> str:
            if found[0] in seen:
                return found[0]
            seen.add(found[0])
            return next(order, found[0])

        return replace(cell, request=replace(request, prompt=pattern.sub(put, text)))

    return change


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    return int(width), int(height)


def _sizing(values: list[str]) -> Change:
    del values

    def change(cell: Cell, value: str) -> Cell:
        width_px, height_px = _size(value)
        return replace(cell, request=replace(cell.request, width_px=width_px, height_px=height_px))

    return change


AXES: Mapping[str, tuple[Callable[[str], Any], Callable[[list[str]], Change]]] = MappingProxyType(
    {
        "Seed": _of_request("seed", int),
        "Var. seed": _of_request("subseed", int),
        "Var. strength": _of_request("subseed_strength", float),
        "Steps": _of_request("steps", int),
        "CFG Scale": _of_request("cfg", float),
        "Prompt S/R": (str, _replacing),
        "Prompt order": (_permutation, _ordering),
        "Negative prompt": _of_request("negative_prompt"),
        "Sampler": _of_request("sampler"),
        "Schedule type": _of_request("scheduler"),
        "Checkpoint name": _of_request("model"),
        "VAE": _of_request("vae"),
        "Refiner checkpoint": _of_request("refiner"),
        "Refiner switch at": _of_request("refiner_switch_at", float),
        "Clip skip": _of_request("clip_skip", int),
        "Size": (_size, _sizing),
        "Eta": _of_request("eta", float),
        "Schedule min sigma": _of_request("sigma_min", float),
        "Schedule max sigma": _of_request("sigma_max", float),
        "Schedule rho": _of_request("rho", float),
        "RNG": _of_request("noise_source"),
        "Emphasis": _of_request("emphasis"),
        "Denoising": _of_start("denoising", float),
        "Initial noise multiplier": _of_start("noise_multiplier", float),
        "Hires upscaler": _of_hires("upscaler"),
        "Hires steps": _of_hires("steps", int),
        "Hires denoising": _of_hires("denoising", float),
        "Hires sampler": _of_hires("sampler"),
        "Hires checkpoint": _of_hires("model"),
        "Attention": _of_asked("attention"),
        "Precision": _of_asked("dtype"),
        "Layers": _of_asked("layers"),
        "Compile": _of_asked("compile"),
        "DeepCache": _of_asked("deepcache", int),
        "Token merging ratio": _of_asked("tome", float),
        "NGMS": _of_asked("s_min_uncond", float),
    }
)
"""Every axis: how its values are read, and what makes their change."""
_SLOW = frozenset(
    {"Checkpoint name", "Refiner checkpoint", "Hires checkpoint", "VAE", "Precision", "Layers", "Compile"}
)


def axes_page() -> str:
    """docs/xyz.md."""
    rows = "\n".join(f"| {title} | {_KINDS.get(kind, 'a text')} |" for title, (kind, _) in AXES.items())
    return f"""# X/Y/Z plots

Written by `scripts/docs` from `src/hayate/pipeline/axes.py`.

`hayate plot PROMPT --x "Steps=10,20,30" --y "Sampler=Euler,DPM++ 2M" --z "Attention=math,sdp"` makes a picture for
every combination, and a sheet of them with the seconds and the speed of each. Values are parted by commas; one with a
comma in it stands in double quotes. Numbers may be ranges: `1-5`, `1-10 (+3)`, `10-1 (-3)`, `1-10 [4]` (so many).

![Five samplers at 4, 8 and 20 steps](images/xyz.png)

Here `--x "Sampler=Euler,Euler a,Heun,DPM++ 2M,UniPC" --y "Steps=4,8,20"` with the built-in model and one thread: at 4
steps the samplers still disagree about the land, at 20 all but the ancestral one have come to one picture.

| Axis | Values |
|---|---|
{rows}
"""


_KINDS: Mapping[Callable[[str], Any], str] = MappingProxyType(
    {int: "whole numbers", float: "numbers", _size: "sizes such as 512x768", _permutation: "words, put in every order"}
)


if __name__ == "__main__":
    import sys

    sys.stdout.write(axes_page())
