"""`hayate models extract-lora` and `merge-loras`: new LoRAs from two models, and from other LoRAs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hayate.cli.merge import (
    LoraDir,
    ModelsDir,
    Output,
    Replaces,
    lora_path,
    name_and_strength,
    say,
    share_bar,
    with_suffix,
)
from hayate.errors import UsageError
from hayate.settings import load_settings
from hayate.weights.builtin import builtin_model
from hayate.weights.folders import find_model

if TYPE_CHECKING:
    import torch

    from hayate.models.config import ModelConfig
    from hayate.weights.lora_make import MadeLora

Rank = Annotated[int | None, typer.Option(help="At most so many directions for each layer.")]
DType = Annotated[str, typer.Option(help="fp16, bf16 or fp32.")]


def extract_lora(  # noqa: PLR0917 - Typer makes a flag of each
    first: Annotated[str, typer.Argument(metavar="A", help="The model that the LoRA is for.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The model that A shall become like.")],
    output: Output,
    rank: Rank = None,
    energy: Annotated[float | None, typer.Option(help="The share of each layer's difference to hold, 0 to 1.")] = None,
    dtype: DType = "fp16",
    models_dir: ModelsDir = None,
    replaces: Replaces = False,
) -> None:
    """Make a LoRA of what sets two models apart."""
    from hayate.weights.lora_make import extract_lora as extract
    from hayate.weights.lora_make import write_lora
    from hayate.weights.merge_inputs import source_of
    from hayate.weights.read import open_checkpoint
    from hayate.weights.write import check_room

    if rank is None and energy is None:
        raise UsageError("how much of the difference to hold is not said", hint="--rank 32 or --energy 0.95")
    folder, path, number = load_settings({"models_dir": models_dir}).models_dir, with_suffix(output), lora_dtype(dtype)
    files = [find_model(name, folder, builtin_model()) for name in (first, second)]
    check_room(path, 0, may_replace=replaces)
    with open_checkpoint(files[0]) as a, open_checkpoint(files[1]) as b, share_bar("extracting") as on_share:
        made = extract(source_of(a), source_of(b), rank=rank, energy=energy, on_share=on_share)
    comment = f"{files[1].stem} - {files[0].stem}"
    write_lora(made, path, number, may_replace=replaces, comment=comment)
    _show(made, path)


def merge_loras(  # noqa: PLR0917 - Typer makes a flag of each
    loras: Annotated[list[str], typer.Argument(metavar="NAME:STRENGTH…", help="LoRAs and their strengths.")],
    output: Output,
    rank: Rank = None,
    model: Annotated[str | None, typer.Option(help="A model that they are for; by default told by the files.")] = None,
    dtype: DType = "fp16",
    models_dir: ModelsDir = None,
    lora_dir: LoraDir = None,
    replaces: Replaces = False,
) -> None:
    """Make one LoRA of several; without --rank it is exact, and as large as all of them."""
    from hayate.weights.lora_make import merge_loras as merge
    from hayate.weights.lora_make import write_lora
    from hayate.weights.write import check_room

    settings = load_settings({"models_dir": models_dir, "lora_dir": lora_dir})
    path, number = with_suffix(output), lora_dtype(dtype)
    named = [name_and_strength(text) for text in loras]
    files = [(lora_path(name, settings.lora_dir), strength) for name, strength in named]
    check_room(path, 0, may_replace=replaces)
    made = merge(files, _config(model, settings.models_dir, files[0][0]), rank)
    comment = " + ".join(f"{strength:g} {file.stem}" for file, strength in files)
    write_lora(made, path, number, may_replace=replaces, comment=comment)
    _show(made, path)


def lora_dtype(name: str) -> torch.dtype:
    """Raises: UnknownName, UsageError."""
    from hayate.weights.merge_file import dtype_named

    dtype = dtype_named(name)
    if dtype is None:
        raise UsageError("a new LoRA has no numbers to keep", hint="fp16, bf16 or fp32")
    return dtype


def _config(model: str | None, folder: Path, lora: Path) -> ModelConfig:
    """The architecture that the LoRAs are for. Raises: UsageError where neither is said."""
    from hayate.weights.detect import PUBLISHED, detect_checkpoint
    from hayate.weights.lora import family_of
    from hayate.weights.read import open_checkpoint

    if model is not None:
        with open_checkpoint(find_model(model, folder, builtin_model())) as checkpoint:
            return detect_checkpoint(checkpoint)
    family = family_of(lora)
    if family is None:
        raise UsageError(f"{lora} does not tell what models it is for", hint="name one of them with --model")
    return PUBLISHED[family]


def _show(made: MadeLora, path: Path) -> None:
    for note in made.notes:
        say(note)
    low, high = min(made.ranks), max(made.ranks)
    ranks = f"rank {high}" if low == high else f"ranks {low} to {high}"
    say(f"{len(made.ranks)} layers, {ranks}, {made.kept:.1%} of the difference held")
    sys.stdout.write(f"{path}\n")
