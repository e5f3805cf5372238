"""`hayate models convert`, `bake` and `extract`: a model file made into another one."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from hayate.errors import HayateError, OutputError, UsageError
from hayate.settings import load_settings
from hayate.weights.builtin import builtin_model
from hayate.weights.convert import Conversion, Ema, Treatment
from hayate.weights.diffusers_read import is_diffusers_folder
from hayate.weights.folders import find_model
from hayate.weights.rewrite import extract_part, models_in, replace_part

_SHOWN_EVERY_S = 0.5
_FAILED = 3

Destination = Annotated[Path | None, typer.Argument(help="The file or folder to write; beside the model by default.")]
Model = Annotated[str, typer.Argument(help="A model's name, or the path of its file.")]
ModelsDir = Annotated[Path | None, typer.Option(help="The folder of the checkpoints.")]
Part = Annotated[Treatment | None, typer.Option(help="What becomes of this part.")]


def convert(  # noqa: PLR0917 - Typer makes a flag of each
    source: Annotated[
        Path, typer.Argument(help="A .ckpt, .pt, .bin or .safetensors file, a diffusers folder, or a folder of models.")
    ],
    destination: Destination = None,
    dtype: Annotated[str, typer.Option(help="keep, fp32, fp16, bf16 or fp8.")] = "keep",
    ema: Annotated[Ema, typer.Option(help="The average that training kept: none leaves it, only, or drop.")] = (
        Ema.DROP
    ),
    unet: Part = None,
    text: Part = None,
    vae: Part = None,
    other: Part = None,
    to_diffusers: Annotated[bool, typer.Option("--diffusers", help="Write a diffusers folder.")] = False,
    probe: Annotated[bool, typer.Option(help="Try out whether an fp16 model makes NaN, and write it down.")] = True,
) -> None:
    """Write a model as a safetensors file, smaller if wanted, or as a diffusers folder. Pickles are run by nobody."""
    parts = {"unet": unet, "text": text, "vae": vae, "other": other}
    conversion = Conversion(
        dtype=None if dtype == "keep" else dtype,
        ema=ema,
        parts={name: treatment for name, treatment in parts.items() if treatment is not None},
    )
    is_probed = probe and dtype == "fp16" and not to_diffusers
    if source.is_dir() and not is_diffusers_folder(source):
        _convert_all(source, destination or source, conversion, to_diffusers, is_probed)
    else:
        _convert_one(source, _target(source, destination, conversion, to_diffusers), conversion, is_probed)


def bake(  # noqa: PLR0917 - Typer makes a flag of each
    model: Model,
    destination: Destination = None,
    vae: Annotated[Path | None, typer.Option(help="Take the VAE of this file.")] = None,
    text: Annotated[Path | None, typer.Option(help="Take the text encoders of this file.")] = None,
    unet: Annotated[Path | None, typer.Option(help="Take the U-Net of this file.")] = None,
    models_dir: ModelsDir = None,
) -> None:
    """Write a model with its VAE, text encoders or U-Net replaced by those of another file."""
    path = _found(model, models_dir)
    given = [(part, file) for part, file in (("vae", vae), ("text", text), ("unet", unet)) if file is not None]
    if len(given) != 1:
        raise UsageError("one part is replaced at a time", hint="give one of --vae, --text and --unet")
    part, other = given[0]
    target = destination or path.with_name(f"{path.stem}-{other.name.split('.')[0]}.safetensors")
    with _Progress(path.name) as progress:
        replace_part(path, part, other, target, progress)
    _say(f"{target}: {path.name} with the {part} of {other.name}")


def extract(
    part: Annotated[str, typer.Argument(help="vae, text or unet.")],
    model: Model,
    destination: Destination = None,
    models_dir: ModelsDir = None,
) -> None:
    """Write one part of a model as a file of its own."""
    if part not in ("vae", "text", "unet"):
        raise UsageError(f"there is no part {part!r}", hint="one of: vae, text, unet")
    path = _found(model, models_dir)
    target = destination or path.with_name(f"{path.stem}.{part}.safetensors")
    with _Progress(path.name) as progress:
        extract_part(path, part, target, progress)
    _say(f"{target}: the {part} of {path.name}")


def _found(model: str, models_dir: Path | None) -> Path:
    path = Path(model).expanduser()
    if is_diffusers_folder(path):
        return path
    return find_model(model, load_settings({"models_dir": models_dir}).models_dir, builtin_model())


def _target(source: Path, destination: Path | None, conversion: Conversion, to_diffusers: bool) -> Path:
    """The place of a model's result; a folder that is there gets it inside."""
    name = source.name if source.is_dir() else source.stem
    if destination is None or destination.is_dir():
        folder = source.parent if destination is None else destination
        if to_diffusers:
            return folder / name
        made = folder / f"{name}.safetensors"
        is_itself = made.exists() and made.resolve() == source.resolve()
        return folder / f"{name}-{conversion.dtype or 'converted'}.safetensors" if is_itself else made
    if not to_diffusers and destination.suffix != ".safetensors":
        raise OutputError(
            f"{destination} has no .safetensors ending", hint="give it one, or --diffusers to write a folder"
        )
    if to_diffusers and destination.suffix == ".safetensors":
        raise OutputError(f"{destination} is no name of a folder", hint="leave out the ending, or --diffusers")
    return destination


def _convert_all(folder: Path, destination: Path, conversion: Conversion, to_diffusers: bool, is_probed: bool) -> None:
    """Every model of a folder; those whose result is there are skipped, and one that fails costs no other."""
    if destination.exists() and not destination.is_dir():
        raise OutputError(f"{destination} is no folder", hint="the models of a folder need a folder")
    models = models_in(folder)
    if not models:
        raise UsageError(f"there are no models in {folder}", hint="give a model's file, or another folder")
    done = skipped = failed = 0
    for index, path in enumerate(models, start=1):
        target = (
            destination / path.parent.relative_to(folder) / (path.name if to_diffusers else f"{path.stem}.safetensors")
        )
        if target.exists() or target.resolve() == path.resolve():
            skipped += 1
            continue
        sys.stderr.write(f"{index} of {len(models)}\n")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _convert_one(path, target, conversion, is_probed)
            done += 1
        except HayateError as error:
            failed += 1
            sys.stderr.write(f"{path.name}: {error}\n")
    _say(f"{done} converted, {skipped} there already, {failed} failed")
    if failed:
        raise typer.Exit(_FAILED)


def _convert_one(source: Path, target: Path, conversion: Conversion, is_probed: bool) -> None:
    from hayate.pipeline.converted import convert_model  # imported here: `models list` needs no torch

    with _Progress(source.name) as progress:
        done = convert_model(source, target, conversion, is_probed=is_probed, on_tensor=progress)
    if done.problem:
        sys.stderr.write(f"not tried out: {done.problem}\n")
    _say(f"{target}: {_size(target)}")
    for line in done.lines():
        _say(f"  {line}")


def _size(path: Path) -> str:
    files = path.rglob("*") if path.is_dir() else [path]
    return f"{sum(file.stat().st_size for file in files if file.is_file()) / 1e9:.2f} GB"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


class _Progress:
    """A line on a terminal that says which tensor is being written; nothing elsewhere."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0
        self._shown_s = 0.0

    def __call__(self, tensor: str) -> None:
        self._count += 1
        if sys.stderr.isatty() and time.monotonic() - self._shown_s > _SHOWN_EVERY_S:
            self._shown_s = time.monotonic()
            sys.stderr.write(f"\r{self._name}: {self._count} tensors, {tensor[:60]:<60}")

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown_s:
            sys.stderr.write("\r" + " " * 100 + "\r")
