"""`hayate models`: which models are here, what each one is, and what can be made of it."""

from __future__ import annotations

import json
import signal
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from hayate.cli.convert import bake, convert, extract
from hayate.cli.diff import diff
from hayate.cli.duplicates import duplicates
from hayate.cli.hash import hash_files
from hayate.cli.inspect import inspect
from hayate.cli.lora import extract_lora, merge_loras
from hayate.cli.merge import merge
from hayate.cli.scan import scan
from hayate.settings import load_settings
from hayate.weights.builtin import builtin_model
from hayate.weights.folders import BUILT_IN, ModelEntry, list_models
from hayate.weights.recipes import list_recipes

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=False)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
ModelsDir = Annotated[Path | None, typer.Option(help="The folder of the checkpoints.")]


@app.callback()
def models() -> None:
    """Show the models here, and what each one is; make other files of them."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends it so leaves nothing half either


@app.command(name="list")
def list_all(models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """Show every model and saved recipe in the folder; the unusable ones with the reason."""
    folder = load_settings({"models_dir": models_dir}).models_dir
    entries, recipes = find_entries(folder), list_recipes(folder, builtin_model())
    if as_json:
        models, saved = ([{**asdict(each), "path": str(each.path)} for each in rows] for rows in (entries, recipes))
        _print_json({"folder": str(folder), "models": models, "recipes": saved})
        return
    for entry in entries:
        what = entry.problem or (entry.family or "unknown")
        sys.stdout.write(f"{entry.name}  {_size(entry.size_bytes)}  {what}\n")
    for recipe in recipes:
        sys.stdout.write(f"{recipe.name}  recipe  {recipe.problem or recipe.text}\n")
    if all(entry.name == BUILT_IN for entry in entries):
        sys.stdout.write(f"no other models in {folder}; put .safetensors files there, or set models_dir\n")


app.command()(inspect)
for command in (convert, bake, extract, scan):
    app.command()(command)

app.command(name="hash")(hash_files)
app.command()(duplicates)
app.command()(diff)


app.command()(merge)
app.command(name="extract-lora")(extract_lora)
app.command(name="merge-loras")(merge_loras)


def find_entries(folder: Path) -> tuple[ModelEntry, ...]:
    """The built-in model, then those of the folder."""
    built_in = builtin_model()
    own = list_models(built_in.parent) if built_in.exists() else ()
    return (*(replace(entry, name=BUILT_IN) for entry in own if entry.path == built_in), *list_models(folder))


def _print_json(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"
