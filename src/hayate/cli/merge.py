"""`hayate models merge`: a new model from others, by an expression, in the memory of a few tensors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from hayate.errors import UsageError
from hayate.settings import load_settings
from hayate.weights.builtin import builtin_model
from hayate.weights.folders import RECIPES, find_lora, find_model

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
    from hayate.weights.merge_file import Places, check_merge, dtype_named, write_recipe
    from hayate.weights.recipes import full_recipe, save_recipe

    settings = load_settings({"models_dir": models_dir, "lora_dir": lora_dir})
    wanted, path = dtype_named(dtype), output if output.suffix.lower() in RECIPES else with_suffix(output)
    full = full_recipe(_expression(expression, recipe, lora or ()), settings.models_dir, builtin_model())
    places = Places(
        find=partial(find_model, folder=settings.models_dir, built_in=builtin_model()),
        find_lora=partial(lora_path, folder=settings.lora_dir),
        cache_dir=settings.cache_dir,
        blend=blend_once,
    )
    if path.suffix.lower() in RECIPES:
        notes = check_merge(full, places)
        save_recipe(full, path, may_replace=replaces)
    else:
        with share_bar("merging") as on_share:
            notes = write_recipe(full, path, places, dtype=wanted, may_replace=replaces, on_share=on_share)
    for note in notes:
        say(note)
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
