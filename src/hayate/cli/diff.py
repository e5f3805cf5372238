"""`hayate models diff`: how far two models are apart, by block and as a picture."""

from __future__ import annotations

import json
import os
import secrets
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hayate.errors import OutputError, UsageError
from hayate.settings import load_settings

if TYPE_CHECKING:
    from hayate.weights.differences import Differences

_KINDS = (".png", ".svg")
_WIDTH = 40


def diff(
    first: Annotated[str, typer.Argument(help="A model's name, a path, or a recipe.")],
    second: Annotated[str, typer.Argument(help="Another of the same family.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A picture of it, .png or .svg.")] = None,
    models_dir: Annotated[Path | None, typer.Option(help="The folder of the checkpoints.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show the relative difference of two models, by block of the U-Net and by part."""
    from hayate.weights.builtin import builtin_model
    from hayate.weights.differences import differences
    from hayate.weights.merged import find_source, open_source

    if output is not None and output.suffix.lower() not in _KINDS:
        raise UsageError(f"{output} is neither a .png nor an .svg file", hint="such as -o difference.png")
    if output is not None and output.exists():
        raise OutputError(f"{output} is there already", hint="choose another name")
    settings = load_settings({"models_dir": models_dir})
    sources = [
        find_source(name, settings.models_dir, builtin_model(), loras_dir=settings.lora_dir) for name in (first, second)
    ]
    with open_source(sources[0]) as a, open_source(sources[1]) as b:
        found = differences(a, b)
    if output is not None:
        _save(found, (sources[0].stem, sources[1].stem), output)
    if as_json:
        sys.stdout.write(json.dumps({**asdict(found), "picture": str(output) if output else None}) + "\n")
        return
    _print(found)
    if output is not None:
        sys.stdout.write(f"{output}\n")


def _print(found: Differences) -> None:
    from hayate.bench.difference_chart import percent

    if found.is_none:
        sys.stdout.write("no tensor differs\n")
        return
    most = max((each.relative for each in found.blocks.values()), default=0.0) or 1.0
    for part, each in found.parts.items():
        sys.stdout.write(f"{part}: {percent(each.relative)}, {each.changed} of {each.tensors} tensors differ\n")
    for block, each in found.blocks.items():
        bar = "#" * round(_WIDTH * min(each.relative / most, 1.0))
        sys.stdout.write(f"{block:5} {percent(each.relative):>9} {bar}".rstrip() + "\n")
    for title, names in (("only in the first", found.only_a), ("only in the second", found.only_b)):
        if names:
            sys.stdout.write(f"{title}: {len(names)} tensors, such as {names[0]}\n")
    if found.other_shape:
        sys.stdout.write(f"of other shapes: {len(found.other_shape)} tensors, such as {found.other_shape[0]}\n")


def _save(found: Differences, names: tuple[str, str], output: Path) -> None:
    """The picture, whole or not at all."""
    from hayate.bench.difference_chart import chart_picture, chart_svg

    unfinished = output.with_name(f".{output.name}.{secrets.token_hex(4)}.part")
    try:
        with unfinished.open("wb") as file:
            if output.suffix.lower() == ".svg":
                file.write(chart_svg(found, names).encode())
            else:
                chart_picture(found, names).save(file, "PNG")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(output)
    except OSError as error:
        raise OutputError(f"{output} can't be written: {error.strerror or error}", hint="check the folder") from error
    finally:
        unfinished.unlink(missing_ok=True)
