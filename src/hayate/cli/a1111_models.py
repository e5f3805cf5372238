"""The checkpoint and the VAE that A1111's config.json, --ckpt or --vae-path begin with, by their names here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hayate.cli.a1111_folders import Config, read_config
from hayate.errors import UsageError
from hayate.flags import TakenFlags
from hayate.settings import Settings
from hayate.weights.folders import find_model

if TYPE_CHECKING:
    from hayate.server.preferences import Preferences

_FOLDERS = {"model": "models_dir", "vae": "vae_dir"}
_FLAGS = {"model": "--ckpt", "vae": "--vae-path"}


def chosen_in(config: Config, folders: Mapping[str, Path]) -> tuple[dict[str, str], tuple[str, ...]]:
    """What config.json chose, as `model` and `vae`, and why not where that can't be used."""
    names: dict[str, str] = {}
    notes: list[str] = []
    for kind, name in (("model", config.model), ("vae", config.vae)):
        folder = folders.get(_FOLDERS[kind])
        if name is None or folder is None:
            continue
        try:
            path = find_model(name, folder, allows_paths=False)
            names[kind] = path.relative_to(folder).as_posix()
        except UsageError as error:
            notes.append(f"config.json chose a {kind} that can't be used: {error}")
    return names, tuple(notes)


def begin(
    preferences: Preferences, settings: Settings, flags: TakenFlags, asked: Mapping[str, str | None]
) -> tuple[str, ...]:
    """Lets a server begin with what A1111 would begin with; `asked` is what --ckpt and --vae-path say. Returns notes.

    What config.json chose gives way to what was chosen here; the flags don't, as in A1111.
    Raises: UsageError for a flag that names no file.
    """
    folders = {"models_dir": settings.models_dir, "vae_dir": settings.vae_dir}
    notes: tuple[str, ...] = ()
    if (data := flags.value("--data-dir")) is not None:
        names, notes = chosen_in(read_config(Path(data).expanduser()), folders)
        preferences.begin_with(names, replaces=False)
    found = {kind: _named(kind, name, folders[_FOLDERS[kind]]) for kind, name in asked.items() if name is not None}
    preferences.begin_with({kind: name for kind, name in found.items() if name is not None}, replaces=True)
    outside = (kind for kind, name in found.items() if name is None)
    return (*notes, *(f"{_FLAGS[kind]}: the server offers what is in {folders[_FOLDERS[kind]]}" for kind in outside))


def _named(kind: str, name: str, folder: Path) -> str | None:
    """The name of a flag's file in its folder; None where it is another one.

    Raises: UsageError.
    """
    try:
        path = find_model(name, folder)
    except UsageError as error:
        raise UsageError(f"{_FLAGS[kind]}: {error.message}", hint=error.hint) from error
    path, place = path.resolve(), folder.resolve()
    return path.relative_to(place).as_posix() if path.is_relative_to(place) else None
