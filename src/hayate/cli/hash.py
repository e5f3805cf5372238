"""`hayate models hash`: the names that A1111 gives to a file's content."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hayate.errors import ModelFileError, UnknownName
from hayate.settings import Settings, load_settings
from hayate.weights.builtin import builtin_model
from hayate.weights.detect import UNET_PREFIX
from hayate.weights.folders import find_lora, find_model
from hayate.weights.hashes import file_sha256, legacy_hash, lora_hash
from hayate.weights.read import read_header

if TYPE_CHECKING:
    from hayate.weights.merged import ModelSource


def hash_files(
    names: Annotated[list[str], typer.Argument(help="Names of models, LoRAs or VAEs, paths, or recipes.")],
    models_dir: Annotated[Path | None, typer.Option(help="The folder of the checkpoints.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show A1111's hashes of files: of 10 digits, of 8 as until 2023, a LoRA's of 12, and the whole SHA-256."""
    settings = load_settings({"models_dir": models_dir})
    found = [hashes_of(name, settings) for name in names]
    if as_json:
        sys.stdout.write(json.dumps({"files": found}) + "\n")
        return
    for each in found:
        sys.stdout.write(f"{each['file']}\n")
        for key in ("model_hash", "legacy_hash", "lora_hash", "sha256"):
            if each.get(key):
                sys.stdout.write(f"  {key.replace('_', ' ')}: {each[key]}\n")


def hashes_of(name: str, settings: Settings) -> dict[str, Any]:
    """The hashes of what `name` means, ready for JSON; a file that is no checkpoint has a LoRA's as well.

    Raises: UnknownName, UsageError.
    Cost: the file is read once, 1 to 3 s for each GB; then the cache knows.
    """
    from hayate.weights.merged import MergedModel, source_hash

    source = find_any(name, settings)
    if isinstance(source, MergedModel):
        return {"file": source.text, "model_hash": source_hash(source, settings.cache_dir)}
    sha256 = file_sha256(source, settings.cache_dir)
    return {
        "file": str(source),
        "model_hash": sha256[:10],
        "legacy_hash": legacy_hash(source),
        "lora_hash": _lora_hash(source, settings.cache_dir),
        "sha256": sha256,
    }


def find_any(name: str, settings: Settings) -> ModelSource:
    """The checkpoint, the VAE or the LoRA that is called so, whichever comes first; or a merge.

    Raises: UnknownName for none of them, with the nearest names of checkpoints; UsageError.
    """
    from hayate.weights.merged import find_source
    from hayate.weights.recipes import is_recipe

    try:
        return find_source(name, settings.models_dir, builtin_model(), loras_dir=settings.lora_dir)
    except UnknownName as unknown:
        if is_recipe(name):
            raise
        for find, folder in ((find_model, settings.vae_dir), (find_lora, settings.lora_dir)):
            try:
                return find(name, folder)
            except UnknownName:
                continue
        raise unknown from None


def _lora_hash(path: Path, cache_dir: Path) -> str | None:
    try:
        is_checkpoint = any(name.startswith(UNET_PREFIX) for name in read_header(path).tensors)
        return None if is_checkpoint else lora_hash(path, cache_dir)
    except ModelFileError:
        return None  # a pickle, of which only the bytes are looked at
