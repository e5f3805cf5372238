"""What a model's file, or a merge, is and holds, as JSON can hold it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hayate.errors import ModelFileError
from hayate.settings import Settings
from hayate.weights.builtin import builtin_model
from hayate.weights.contents import find_vae, missing_and_extra, part_sizes
from hayate.weights.detect import detect_checkpoint
from hayate.weights.folders import model_files
from hayate.weights.merged import MergedModel, find_source, open_source

RECIPE, INPUTS = "sd_merge_recipe", "sd_merge_models"
"""A1111's metadata of a merged file, each a JSON text."""


def describe_model(name: str, settings: Settings) -> dict[str, Any]:
    """What `name` means and what that file, or merge, holds, ready for JSON.

    Raises: UnknownName, UsageError, ModelFileError.
    Cost: milliseconds, and the reading of its VAE and of those in the folder of VAEs, once.
    """
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
