"""`hayate models inspect`: what a checkpoint is, and what is in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from hayate.errors import ModelFileError, clip
from hayate.settings import Settings, load_settings
from hayate.weights.builtin import builtin_model
from hayate.weights.detect import detect_checkpoint
from hayate.weights.folders import model_files

RECIPE, INPUTS = "sd_merge_recipe", "sd_merge_models"
"""A1111's metadata of a merged file, each a JSON text."""
_SHOWN = 3


def inspect(
    name: Annotated[str, typer.Argument(help="A model's name, the path of its file, or a recipe.")],
    models_dir: Annotated[Path | None, typer.Option(help="The folder of the checkpoints.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show what a checkpoint is and holds, from the names and shapes of its tensors; a VAE by its numbers."""
    content = describe_model(name, load_settings({"models_dir": models_dir}))
    if as_json:
        sys.stdout.write(json.dumps(content) + "\n")
        return
    for key, value in content.items():
        for line in _lines(key, value):
            sys.stdout.write(line + "\n")


def describe_model(name: str, settings: Settings) -> dict[str, Any]:
    """What `name` means and what that file, or merge, holds, ready for JSON.

    Raises: UnknownName, UsageError, ModelFileError.
    Cost: milliseconds, and the reading of its VAE and of those in the folder of VAEs, once.
    """
    from hayate.weights.contents import missing_and_extra, part_sizes
    from hayate.weights.merged import MergedModel, find_source, open_source

    source = find_source(name, settings.models_dir, builtin_model(), loras_dir=settings.lora_dir)
    with open_source(source) as checkpoint:
        config = detect_checkpoint(checkpoint)
        parts = part_sizes(checkpoint.tensors)
        missing, extra = missing_and_extra(checkpoint.tensors, config)
        return {
            "file": source.text if isinstance(source, MergedModel) else str(checkpoint.path),
            "size_bytes": checkpoint.size_bytes,
            "family": config.family,
            "prediction": config.prediction,
            "zero_terminal_snr": config.is_zero_terminal_snr,
            "native_size_px": config.native_size_px,
            "inpainting": config.is_inpainting,
            "tensors": len(checkpoint.tensors),
            "dtypes": ", ".join(sorted({info.dtype for info in checkpoint.tensors.values()})),
            "parts": {part: asdict(size) for part, size in parts.items()},
            "has_ema": "ema" in parts,
            "vae_is_that_of": _vae_names(source, settings) if isinstance(source, Path) and "vae" in parts else [],
            "missing": list(missing),
            "extra": list(extra),
            "merge_recipe": _json_of(checkpoint.metadata.get(RECIPE)),
            "merge_models": _json_of(checkpoint.metadata.get(INPUTS)),
            "config": asdict(config),
            "metadata": dict(checkpoint.metadata),
        }


def _vae_names(path: Path, settings: Settings) -> list[str]:
    """The files in the folder of VAEs whose numbers, as fp16 has them, are those of the checkpoint's own VAE."""
    from hayate.weights.contents import find_vae

    try:
        found = find_vae(path, model_files(settings.vae_dir), settings.cache_dir)
    except ModelFileError:
        return []
    return [each.name for each in found]


def _json_of(text: str | None) -> Any:
    """What a JSON text in the metadata says; a text that is none stays as it is."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


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
