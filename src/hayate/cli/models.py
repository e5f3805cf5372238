"""`hayate models`: which models are here, what each one is, and what can be made of it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from hayate.cli.convert import bake, convert, extract
from hayate.cli.scan import scan
from hayate.settings import load_settings
from hayate.weights.builtin import builtin_model
from hayate.weights.detect import detect_checkpoint
from hayate.weights.folders import BUILT_IN, ModelEntry, find_model, list_models
from hayate.weights.read import open_checkpoint

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=False)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
ModelsDir = Annotated[Path | None, typer.Option(help="The folder of the checkpoints.")]


for command in (convert, bake, extract, scan):
    app.command()(command)


@app.callback()
def models() -> None:
    """Show the models here, and what each one is; make other files of them."""


@app.command(name="list")
def list_all(models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """Show every model in the folder; the unusable ones with the reason."""
    folder = load_settings({"models_dir": models_dir}).models_dir
    entries = find_entries(folder)
    if as_json:
        rows = [{**asdict(entry), "path": str(entry.path)} for entry in entries]
        _print_json({"folder": str(folder), "models": rows})
        return
    for entry in entries:
        what = entry.problem or (entry.family or "unknown")
        sys.stdout.write(f"{entry.name}  {_size(entry.size_bytes)}  {what}\n")
    if all(entry.name == BUILT_IN for entry in entries):
        sys.stdout.write(f"no other models in {folder}; put .safetensors files there, or set models_dir\n")


@app.command()
def inspect(
    name: Annotated[str, typer.Argument(help="A model's name, or the path of its file.")],
    models_dir: ModelsDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what a checkpoint is, read from the names and shapes of its tensors."""
    content = describe_model(name, load_settings({"models_dir": models_dir}).models_dir)
    if as_json:
        _print_json(content)
        return
    for key, value in content.items():
        if not isinstance(value, dict):
            sys.stdout.write(f"{key.replace('_', ' ')}: {value}\n")


def find_entries(folder: Path) -> tuple[ModelEntry, ...]:
    """The built-in model, then those of the folder."""
    built_in = builtin_model()
    own = list_models(built_in.parent) if built_in.exists() else ()
    return (*(replace(entry, name=BUILT_IN) for entry in own if entry.path == built_in), *list_models(folder))


def describe_model(name: str, folder: Path) -> dict[str, Any]:
    """What `name` means and what that file holds, ready for JSON.

    Raises: UnknownName, ModelFileError.
    """
    with open_checkpoint(find_model(name, folder, builtin_model())) as checkpoint:
        config = detect_checkpoint(checkpoint)
        return {
            "file": str(checkpoint.path),
            "size_bytes": checkpoint.size_bytes,
            "family": config.family,
            "prediction": config.prediction,
            "zero_terminal_snr": config.is_zero_terminal_snr,
            "native_size_px": config.native_size_px,
            "inpainting": config.is_inpainting,
            "tensors": len(checkpoint.tensors),
            "dtypes": ", ".join(sorted({info.dtype for info in checkpoint.tensors.values()})),
            "config": asdict(config),
            "metadata": dict(checkpoint.metadata),
        }


def _print_json(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"
