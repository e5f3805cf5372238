"""What a merged file says of how it was made, as AUTOMATIC1111's merger says it, and what it keeps of A."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from hayate.weights.hashes import file_sha256, legacy_hash
from hayate.weights.merge import Merge
from hayate.weights.merge_nodes import METHODS, Blend
from hayate.weights.recipes import MODELS, RECIPE, loaded

_KEPT = ("hayate.config", "modelspec.architecture", "modelspec.prediction_type")
"""What tells the architecture, which is A's."""
_RANKS = ("primary", "secondary", "tertiary")


def merge_metadata(
    merge: Merge, name: str, dtype: torch.dtype | None = None, cache_dir: Path | None = None
) -> dict[str, str]:
    """The metadata of the file called `name`: recipe, hashes of the inputs, and of theirs.

    Source: A1111 behaviour, "Add merge recipe metadata"; the expression is an addition.
    Raises: UsageError when an input can't be read. Cost: reads every input whose hash is not in the cache.
    """
    hashes = {model: file_sha256(source.checkpoint.path, cache_dir) for model, source in merge.sources.items()}
    kept = {key: value for key in _KEPT if (value := merge.first.checkpoint.metadata.get(key)) is not None}
    models: dict[str, Any] = {}
    for model, source in merge.sources.items():
        said = source.checkpoint.metadata
        models[hashes[model]] = {
            "name": source.checkpoint.path.name,
            "legacy_hash": legacy_hash(source.checkpoint.path),
            RECIPE: loaded(said.get(RECIPE)),
        }
        if isinstance(before := loaded(said.get(MODELS)), dict):
            models |= {key: value for key, value in before.items() if key not in models}
    recipe = _recipe(merge, name, dtype, tuple(hashes.values()))
    texts = {RECIPE: recipe, MODELS: models}
    return {"format": "pt", **kept, **{key: json.dumps(value, ensure_ascii=False) for key, value in texts.items()}}


def _recipe(merge: Merge, name: str, dtype: torch.dtype | None, hashes: tuple[str, ...]) -> dict[str, Any]:
    root = merge.recipe.root
    ranked = dict(zip(_RANKS, (*hashes, None, None), strict=False))
    channels = merge.config.unet.in_channels
    return {
        "type": "hayate",
        **{f"{rank}_model_hash": digest for rank, digest in ranked.items()},
        "interp_method": METHODS[root.method].title if isinstance(root, Blend) else "No interpolation",
        "multiplier": root.ratios[0].base if isinstance(root, Blend) else None,
        "save_as_half": dtype is torch.float16,
        "custom_name": name,
        "config_source": 0,
        "bake_in_vae": None,
        "discard_weights": None,
        "is_inpainting": channels == 9,
        "is_instruct_pix2pix": channels == 8,
        "expression": _portable(merge),
    }


def _portable(merge: Merge) -> str:
    """The expression with the names of files in the place of their paths, which are nobody else's business."""
    text = merge.recipe.text
    for name in sorted((*merge.recipe.inputs, *merge.recipe.loras), key=len, reverse=True):
        if "/" in name or "\\" in name:
            text = text.replace(name, name.replace("\\", "/").rpartition("/")[2])
    return text
