"""`hayate models inspect`: what a checkpoint is, and what is in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hayate.errors import clip
from hayate.settings import load_settings

_SHOWN = 3


def inspect(
    name: Annotated[str, typer.Argument(help="A model's name, the path of its file, or a recipe.")],
    models_dir: Annotated[Path | None, typer.Option(help="The folder of the checkpoints.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show what a checkpoint is and holds, from the names and shapes of its tensors; a VAE by its numbers."""
    from hayate.weights.described import describe_model

    content = describe_model(name, load_settings({"models_dir": models_dir}))
    if as_json:
        sys.stdout.write(json.dumps(content) + "\n")
        return
    for key, value in content.items():
        for line in _lines(key, value):
            sys.stdout.write(line + "\n")


def _lines(key: str, value: Any) -> list[str]:
    """What is printed of one entry; what is empty is not."""
    title = key.replace("_", " ")
    if key == "parts":
        return [f"{part}: {_size(each['size_bytes'])}, {_counted(each)}" for part, each in value.items()]
    if key in ("missing", "extra"):
        names = ", ".join(clip(name, 80) for name in value[:_SHOWN])
        return [f"{title}: {len(value)} tensors, such as {names}"] if value else []
    if key == "merge_recipe" and value is not None:
        return _pairs(title, value)
    if key in ("merge_models", "metadata", "config") or value in (None, []):
        return []
    return [f"{title}: {', '.join(value) if isinstance(value, list) else value}"]


def _counted(part: Mapping[str, Any]) -> str:
    return f"{part['tensors']} tensors, {', '.join(part['dtypes'])}"


def _pairs(title: str, value: Any) -> list[str]:
    if not isinstance(value, dict):
        return [f"{title}: {clip(str(value), 200)}"]
    return [f"{title} {key}: {clip(str(each), 200)}" for key, each in value.items() if each not in (None, "", False)]


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"
