"""`hayate import-a1111`: what an installation of A1111 has, and the settings that use it from here on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from hayate.cli.a1111_folders import Config, layout, read_config
from hayate.cli.a1111_models import chosen_in
from hayate.errors import UsageError
from hayate.settings import given_keys, load_settings, settings_file

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
_PICKLES = frozenset({".ckpt", ".pt", ".pth", ".bin"})
_FILES = _PICKLES | {".safetensors"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A folder or file of the installation, with what is in it."""

    key: str
    path: Path
    files: int
    pickles: int
    size_bytes: int


@app.command(name="import-a1111")
def import_a1111(
    folder: Annotated[Path, typer.Argument(help="A1111's folder, with its models and config.json.")],
    writes: Annotated[bool, typer.Option("--write", help="Write it into the settings file.")] = False,
    replaces: Annotated[bool, typer.Option("--replace", help="Also over settings that you have changed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show what an installation of A1111 has; with --write, use it from here on. Nothing is copied or changed there."""
    folder = folder.expanduser().absolute()
    found = [_look(key, path) for key, path in layout(folder).items() if path.exists()]
    config = read_config(folder)
    if not found and not config.settings:
        raise UsageError(f"{folder} is no installation of A1111", hint="the folder with models/Stable-diffusion in it")
    wanted = {place.key: str(place.path) for place in found} | dict(config.settings)
    mine = _mine()
    names, notes = chosen_in(config, {place.key: place.path for place in found})
    taken = {key: value for key, value in wanted.items() if replaces or key not in mine}
    stays = (key for key, value in wanted.items() if key not in taken and mine[key] != value)
    notes = (*config.notes, *notes, *(f"{key} stays as you have it: {mine[key]}; see --replace" for key in stays))
    written = _write(taken, names, config) if writes else ()
    if as_json:
        places = [_object(each) for each in found]
        about = {"kept": dict(config.kept), "unknown": config.unknown, "notes": notes, "written": written}
        typer.echo(json.dumps({"places": places, "settings": taken, **names, **about}))
        return
    _print(found, config, names, notes)
    typer.echo("\n".join(written) if writes else f"--write puts this into {settings_file(os.environ)}")


def _look(key: str, path: Path) -> Place:
    """Cost: names and sizes only; no file is opened."""
    inner = (each for each in path.rglob("*") if each.is_file()) if path.is_dir() else (path,)
    files = [each for each in inner if key in ("styles_file", "outputs_dir") or each.suffix.lower() in _FILES]
    pickles = sum(each.suffix.lower() in _PICKLES for each in files)
    size_bytes = sum(each.stat().st_size for each in files)
    return Place(key=key, path=path, files=len(files), pickles=pickles, size_bytes=size_bytes)


def _object(place: Place) -> dict[str, Any]:
    return {**asdict(place), "path": str(place.path)}


def _mine() -> dict[str, Any]:
    """What the user's environment and settings file give already."""
    settings = load_settings()
    values = {key: getattr(settings, key) for key in given_keys()}
    return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


def _write(taken: Mapping[str, Any], names: Mapping[str, str], config: Config) -> tuple[str, ...]:
    """Writes the settings file line by line, and what the server keeps. Returns what was done.

    Raises: UsageError, OutputError.
    """
    from hayate.doctor.finding import Action, Job
    from hayate.doctor.remedies.setting import SettingLine
    from hayate.server.preferences import Preferences

    lines = SettingLine(os.environ)
    done = [
        lines.do(lines.plan(Action(job=Job.WRITE_SETTING, subject=key, value=str(value)))).text
        for key, value in taken.items()
    ]
    settings = load_settings()
    preferences = Preferences(settings.data_dir / "server", settings)
    preferences.change(others=config.kept, names=dict(names))
    if config.kept or names:
        done.append(f"for the server, from its next start on: {', '.join([*names, *config.kept])}")
    return tuple(done)


def _print(found: list[Place], config: Config, names: Mapping[str, str], notes: tuple[str, ...]) -> None:
    for each in found:
        pickles = (
            f", {each.pickles} of them pickles (`hayate models convert` makes safetensors)" if each.pickles else ""
        )
        typer.echo(f"{each.key:<15} {each.path}  {each.files} files, {each.size_bytes / 1e9:.2f} GB{pickles}")
    for key, value in config.settings.items():
        typer.echo(f"{key:<15} {value}")
    for kind, name in names.items():
        typer.echo(f"{kind:<15} {name}")
    if config.kept:
        typer.echo(f"kept for the API: {', '.join(config.kept)}")
    if config.unknown:
        typer.echo(f"not taken over, {len(config.unknown)} keys: {', '.join(config.unknown)}")
    for note in notes:
        typer.echo(f"note: {note}", err=True)
