"""An installation of A1111: its folders as settings, used where they are, and what its config.json says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hayate.errors import HayateError, UsageError, clip
from hayate.flags import TakenFlags
from hayate.settings import KEYS, PREFIX, given_keys, load_settings

MAX_CONFIG_BYTES = 4 * 2**20
_MODELS: Mapping[str, str] = {
    "models_dir": "Stable-diffusion",
    "vae_dir": "VAE",
    "lora_dir": "Lora",
    "upscalers_dir": "ESRGAN",
}
"""Where A1111 has what, below its folder of models."""
_REST: Mapping[str, str] = {"embeddings_dir": "embeddings", "styles_file": "styles.csv", "outputs_dir": "outputs"}
_FLAGS: Mapping[str, str] = {
    "--lyco-dir-backcompat": "lora_dir",
    "--lora-dir": "lora_dir",
    "--ckpt-dir": "models_dir",
    "--vae-dir": "vae_dir",
    "--embeddings-dir": "embeddings_dir",
    "--styles-file": "styles_file",
    "--esrgan-models-path": "upscalers_dir",
}
"""The setting that each flag gives; of two the later in this table counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a config.json says that differs from how it is here anyway."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Values of Hayate's settings, checked."""
    kept: Mapping[str, Any] = field(default_factory=dict)
    """Options that Hayate's server keeps under A1111's names."""
    model: str | None = None
    vae: str | None = None
    unknown: tuple[str, ...] = ()
    """Keys that mean nothing here."""
    notes: tuple[str, ...] = ()


def is_a1111_models(folder: str) -> bool:
    """Whether this is A1111's folder of folders, rather than one of checkpoints."""
    return (_absolute(folder) / "Stable-diffusion").is_dir()


@contextmanager
def at_places(flags: TakenFlags, tell: Callable[[str], None]) -> Iterator[None]:
    """Runs a command, and the processes that it starts, with the places that the flags name.

    They are put into the environment, whence every `load_settings` has them, and taken out again.
    Raises: UsageError for a --data-dir that is no folder.
    """
    values = {key: str(path) for key, path in places(flags).items()}
    if (data := flags.value("--data-dir")) is not None:
        config = read_config(_absolute(data))
        # The flags name places; the rest of a config.json gives way to what the user has set here.
        mine = given_keys()
        values = {key: str(value) for key, value in config.settings.items() if key not in mine} | values
        for note in config.notes:
            tell(f"note: {note}")
    before = {name: os.environ.get(name) for name in (PREFIX + key.upper() for key in values)}
    os.environ.update({PREFIX + key.upper(): value for key, value in values.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def places(flags: TakenFlags) -> dict[str, Path]:
    """The settings that are paths, as the flags give them; what is narrower wins.

    Raises: UsageError for a --data-dir that is no folder.
    """
    found: dict[str, Path] = {}
    if (data := flags.value("--data-dir")) is not None:
        found |= layout(_absolute(data))
    if (models := flags.value("--models-dir")) is not None:
        folder = _absolute(models)
        found |= _below(folder, _MODELS) if is_a1111_models(models) else {"models_dir": folder}
    given = ((flag, flags.value(flag)) for flag in _FLAGS)
    return found | {_FLAGS[flag]: _absolute(value) for flag, value in given if value is not None}


def layout(folder: Path) -> dict[str, Path]:
    """Where an installation of A1111 has its files, by the names of our settings.

    Raises: UsageError where there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}", hint="the one with A1111's models and config.json in it")
    found = _below(folder / "models", _MODELS) | _below(folder, _REST)
    outputs = _outputs(folder, _raw_config(folder))
    return found | ({"outputs_dir": outputs} if outputs else {})


def read_config(folder: Path) -> Config:
    """What of the folder's config.json differs from how it is here anyway; no such file says nothing.

    Raises: UsageError for a file that is no JSON object.
    """
    from hayate.server.a1111.option_keys import ACTING, KEPT, MODEL, NAMES, READ_ONLY, VAE

    settings: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    notes: list[str] = []
    raw = _raw_config(folder)
    for key, value in raw.items():
        try:
            if key in ACTING and value != ACTING[key].show(KEYS[ACTING[key].setting].default):
                settings |= _setting(ACTING[key].setting, ACTING[key].read(value))
            elif key in KEPT and value != KEPT[key].default:
                kept[key] = KEPT[key].check(key, value)
        except (HayateError, TypeError) as error:
            notes.append(f"config.json, {key}: {error}; left out")
    if pattern := raw.get("samples_filename_pattern"):
        settings |= _setting("filename_pattern", pattern)
    unknown = (key for key in raw if key not in ACTING and key not in KEPT and key not in (*NAMES, *READ_ONLY))
    return Config(
        settings=settings,
        kept=kept,
        model=_name(raw.get(MODEL)),
        vae=_name(raw.get(VAE)),
        unknown=tuple(sorted(map(clip, unknown))),
        notes=tuple(notes),
    )


def _setting(key: str, value: Any) -> dict[str, Any]:
    """Raises: UsageError for a value that the setting can't have."""
    return {key: getattr(load_settings({key: value}), key)}


def _name(value: Any) -> str | None:
    is_name = isinstance(value, str) and value.strip() and value not in ("None", "Automatic")
    return value if is_name else None


def _raw_config(folder: Path) -> dict[str, Any]:
    """Raises: UsageError."""
    file = folder / "config.json"
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_CONFIG_BYTES + 1)
        if len(raw) > MAX_CONFIG_BYTES:
            raise UsageError(f"{file} is larger than {MAX_CONFIG_BYTES // 2**20} MiB", hint="is it A1111's?")
        content = json.loads(raw.decode("utf-8-sig"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror}", hint="check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not JSON: {clip(str(error), 120)}", hint="A1111 writes it anew") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file} is no JSON object", hint="is it A1111's?")
    return content


def _outputs(folder: Path, raw: Mapping[str, Any]) -> Path | None:
    """The one folder of pictures, where config.json moved it: all of them, else the one above txt2img's."""
    if named := _name(raw.get("outdir_samples")):
        return folder / Path(named).expanduser()
    named = _name(raw.get("outdir_txt2img_samples"))
    return (folder / Path(named.replace("\\", "/")).expanduser()).parent if named else None


def _below(folder: Path, names: Mapping[str, str]) -> dict[str, Path]:
    return {key: folder / name for key, name in names.items()}


def _absolute(text: str) -> Path:
    return Path(os.path.expanduser(text)).absolute()  # noqa: PTH111 - an unknown ~user stays as it is
