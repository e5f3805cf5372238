"""`hayate models merge`: a new model from others, by an expression, in the memory of a few tensors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hayate.errors import UnknownName, UsageError
from hayate.settings import load_settings
from hayate.weights.builtin import builtin_model
from hayate.weights.folders import RECIPES, find_lora, find_model

if TYPE_CHECKING:
    import torch

DTYPES = ("keep", "fp16", "bf16", "fp32")
SUFFIX = ".safetensors"

Output = Annotated[Path, typer.Option("--output", "-o", help="The file to write; never over another one.")]
DType = Annotated[str, typer.Option(help="keep (A's), fp16, bf16 or fp32.")]
ModelsDir = Annotated[Path | None, typer.Option(help="The folder of the checkpoints.")]
LoraDir = Annotated[Path | None, typer.Option(help="The folder of the LoRAs.")]
Replaces = Annotated[bool, typer.Option("--replace", help="Write over a file that is there.")]


def merge(  # noqa: PLR0917 - Typer makes a flag of each
    output: Annotated[Path, typer.Option("--output", "-o", help="The model to write; with .recipe its recipe only.")],
    expression: Annotated[
        str | None, typer.Argument(help='Such as "merge(A, B, 0.35)", or a saved one\'s name; a lone name converts.')
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="A file that the expression is in.")] = None,
    dtype: DType = "keep",
    lora: Annotated[list[str] | None, typer.Option(metavar="NAME:STRENGTH", help="A LoRA for its weights.")] = None,
    models_dir: ModelsDir = None,
    lora_dir: LoraDir = None,
    replaces: Replaces = False,
) -> None:
    """Merge models by an expression, and put LoRAs into them."""
    from hayate.engines.blending import blend_once
    from hayate.weights.merge import open_merge, write_merge
    from hayate.weights.merge_metadata import merge_metadata
    from hayate.weights.narrowing import summary
    from hayate.weights.recipes import full_recipe, write_recipe
    from hayate.weights.write import check_room

    settings = load_settings({"models_dir": models_dir, "lora_dir": lora_dir})
    wanted, path = torch_dtype(dtype), output if output.suffix.lower() in RECIPES else with_suffix(output)
    text = _expression(expression, recipe, lora or ())
    full = full_recipe(text, settings.models_dir, builtin_model())
    check_room(path, 0, may_replace=replaces)  # before files are read for their hashes
    find = partial(find_model, folder=settings.models_dir, built_in=builtin_model())
    with open_merge(full, find, partial(lora_path, folder=settings.lora_dir), blend_once) as merged:
        for note in merged.notes:
            say(note)
        if path.suffix.lower() in RECIPES:
            write_recipe(full, path, may_replace=replaces)
        else:
            metadata = merge_metadata(merged, path.stem, wanted, settings.cache_dir)
            with share_bar("merging") as on_share:
                write_merge(merged, path, dtype=wanted, metadata=metadata, may_replace=replaces, on_share=on_share)
        for line in summary(merged.losses()):
            say(line)
    sys.stdout.write(f"{path}\n")


def _expression(expression: str | None, file: Path | None, loras: Sequence[str]) -> str:
    """What to merge, with LoRAs in it. Raises: UsageError unless exactly one of the first is given, BrokenFile."""
    from hayate.weights.merge_recipe import parse_recipe, quoted
    from hayate.weights.recipes import read_recipe

    if (expression is None) == (file is None):
        raise UsageError("what to merge is not said once", hint='give an expression, "merge(A, B, 0.35)", or --recipe')
    text = read_recipe(file) if file is not None else expression or ""
    if not loras:
        return text
    uses = ", ".join(f"{quoted(name)}, {strength!r}" for name, strength in map(name_and_strength, loras))
    return f"lora({parse_recipe(text).text}, {uses})"


def name_and_strength(text: str) -> tuple[str, float]:
    """The parts of "name:0.8"; a name alone has strength 1. Raises: UsageError."""
    from hayate.weights.merge_blocks import read_number

    name, colon, strength = text.rpartition(":")
    if not colon or "/" in strength or "\\" in strength:  # the colon of a drive
        return text, 1.0
    return name, read_number(strength, f"the strength of {name}")


def lora_path(name: str, folder: Path) -> Path:
    """The LoRA's file by its path or name. Raises: UnknownName, UsageError."""
    path = Path(name)
    return path if path.suffix.lower() == SUFFIX and path.is_file() else find_lora(name, folder)


def torch_dtype(name: str) -> torch.dtype | None:
    """Raises: UnknownName."""
    import torch

    if name not in DTYPES:
        raise UnknownName("type of numbers", name, DTYPES)
    return {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}.get(name)


def with_suffix(path: Path) -> Path:
    """`path` with the extension of what is written. Raises: UsageError for another one that models have."""
    if path.suffix.lower() in (".ckpt", ".pt", ".pth", ".bin"):
        raise UsageError(f"{path} would be no pickle", hint=f"only {SUFFIX} files are written")
    return path if path.suffix.lower() == SUFFIX else path.with_name(path.name + SUFFIX)


@contextmanager
def share_bar(title: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error that is told the share that is done; silent where nobody watches."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda share: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda share: bar.update(task, completed=share)


def say(note: str) -> None:
    sys.stderr.write(f"note: {note}\n")
