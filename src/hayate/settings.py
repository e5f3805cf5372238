"""The settings: one literal table, read from flags, then the environment, then a TOML file, then the defaults."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hayate.errors import UnknownName, UsageError, clip, nearest

PREFIX = "HAYATE_"
CONFIG_VARIABLE = "HAYATE_CONFIG"
MAX_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """One key: its type, its unit and bounds, its default and what it does."""

    key: str
    kind: Literal["text", "path", "integer", "number"]
    default: str | int | float | None
    """None means that the value follows from the model or the machine, as `doc` says."""
    doc: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    is_for_start: bool = False
    """Whether it acts where a program is started, and nowhere else."""

    @property
    def is_fixed(self) -> bool:
        """Whether nobody changes it from outside, for a job or for good."""
        return self.kind == "path" or self.is_for_start


SETTINGS = (
    Setting("models_dir", "path", "models/Stable-diffusion", "Where the checkpoints are; sub-folders count."),
    Setting("vae_dir", "path", "models/VAE", "Where the separate VAE files are."),
    Setting("lora_dir", "path", "models/Lora", "Where the LoRAs are that prompts name; sub-folders count."),
    Setting("embeddings_dir", "path", "embeddings", "Where the textual inversions are; sub-folders count."),
    Setting(
        "upscalers_dir",
        "path",
        "models/ESRGAN",
        "Where the upscalers' files are; sub-folders count. They need the extra `upscalers`.",
    ),
    Setting(
        "upscaler_tile_px",
        "integer",
        192,
        "The side of the parts in which upscalers work; 0 takes pictures whole.",
        "px",
        0,
        4096,
    ),
    Setting("upscaler_overlap_px", "integer", 8, "What those parts have in common.", "px", 0, 48),
    Setting("extensions_dir", "path", "extensions", "Where the extensions are, each in a folder of its own."),
    Setting(
        "extension_import_s",
        "number",
        15.0,
        "How long an extension may take to be imported before it is left out.",
        "seconds",
        0.1,
        3600,
    ),
    Setting(
        "extension_stop_s",
        "number",
        5.0,
        "How long an extension may go on after its job was cancelled before it is ended and left out.",
        "seconds",
        0.1,
        3600,
    ),
    Setting("styles_file", "path", "styles.csv", "A1111's styles: name, prompt, negative prompt."),
    Setting("outputs_dir", "path", "outputs", "Where pictures go when no place is given."),
    Setting("format", "text", "png", "What pictures are saved as.", choices=("png", "jpeg", "webp", "avif")),
    Setting("quality", "integer", 80, "Of JPEG, WebP and AVIF.", "", 1, 100),
    Setting(
        "filename_pattern",
        "text",
        "[seed]",
        "What follows the number in a picture's name, in A1111's words, such as `[seed]-[prompt_spaces]`.",
    ),
    Setting("cache_dir", "path", None, "Hashes and prepared artefacts; by default the user's cache folder."),
    Setting("data_dir", "path", None, "Measurements and tuned profiles; by default the user's data folder."),
    Setting("device", "text", "auto", "What computes: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."),
    Setting(
        "devices",
        "text",
        None,
        "The server's workers, one per device, such as `cuda:0,cuda:1`; by default one, on `device`.",
        is_for_start=True,
    ),
    Setting("dtype", "text", "auto", "What the networks compute in.", choices=("auto", "fp32", "fp16", "bf16")),
    Setting("attention", "text", "auto", "The attention backend, as `hayate plan` names them; `auto` is the fastest."),
    Setting(
        "compile",
        "text",
        "off",
        "Compiles the networks beside the work.",
        choices=("off", "default", "reduce-overhead", "max-autotune"),
    ),
    Setting(
        "offload",
        "text",
        "auto",
        "What stays on the GPU: all, one network, two blocks; `auto` by free memory.",
        choices=("auto", "none", "medvram", "lowvram"),
    ),
    Setting(
        "promise",
        "text",
        "exact",
        "What a plan may do to pictures: nothing, not even to a bit between runs, or small differences.",
        choices=("exact", "deterministic", "fast"),
    ),
    Setting(
        "checkpoints_cache_bytes",
        "integer",
        4 * 2**30,
        "Checkpoints to cache in RAM, beside the one in use; commands of one job keep what it comes back to.",
        "bytes",
        0,
        2**44,
    ),
    Setting(
        "vae_cache_bytes",
        "integer",
        512 * 2**20,
        "VAE checkpoints to cache in RAM, beside the one in use.",
        "bytes",
        0,
        2**44,
    ),
    Setting("threads", "integer", 0, "Threads of the CPU; 0 leaves it to PyTorch.", "threads", 0, 1024),
    Setting("sampler", "text", "DPM++ 2M", "The sampler's name, as in A1111."),
    Setting("scheduler", "text", "Automatic", "The schedule's name; `Automatic` is the sampler's own."),
    Setting("steps", "integer", 20, "Sampling steps.", "steps", 1, 1000),
    Setting("cfg", "number", 7.0, "Classifier-free guidance; 1 turns it off.", "", 0, 100),
    Setting("width_px", "integer", None, "Width; by default the model's own size.", "px, a multiple of 8", 64, 4096),
    Setting("height_px", "integer", None, "Height; by default the model's own size.", "px, a multiple of 8", 64, 4096),
    Setting("batch_size", "integer", 1, "Pictures that are made at once.", "pictures", 1, 64),
    Setting(
        "clip_skip",
        "integer",
        None,
        "The text encoder's layer, from the end; by default the model's own.",
        "layers",
        1,
        12,
    ),
    Setting(
        "emphasis",
        "text",
        "Original",
        "How `(weights)` in prompts act.",
        choices=("Original", "No norm", "Ignore", "None"),
    ),
    Setting(
        "rng",
        "text",
        "GPU",
        "Where noise is drawn; without a GPU, `GPU` is `NV`: CUDA's numbers, computed.",
        choices=("GPU", "CPU", "NV"),
    ),
    Setting("ensd", "integer", 0, "Added to the seed after the first noise; 31337 for NovelAI.", "", -(2**31), 2**32),
    Setting(
        "a1111_unknown_names",
        "text",
        "refuse",
        "What A1111's API does with an unknown sampler, schedule, model …: an error, or A1111's choice and a note.",
        choices=("refuse", "substitute"),
    ),
    Setting("comma_backtrack", "integer", 20, "How far back a full chunk may break at a comma.", "tokens", 0, 74),
)
"""Every setting there is. Flags, `HAYATE_<KEY>`, the file's keys and docs/settings.md all come from here."""

KEYS = {setting.key: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The value of every setting; `SETTINGS` says what each one means."""

    models_dir: Path
    vae_dir: Path
    lora_dir: Path
    embeddings_dir: Path
    upscalers_dir: Path
    upscaler_tile_px: int
    upscaler_overlap_px: int
    extensions_dir: Path
    extension_import_s: float
    extension_stop_s: float
    styles_file: Path
    outputs_dir: Path
    format: str
    quality: int
    filename_pattern: str
    cache_dir: Path
    data_dir: Path
    device: str
    devices: str | None
    dtype: str
    attention: str
    compile: str
    offload: str
    promise: str
    checkpoints_cache_bytes: int
    vae_cache_bytes: int
    threads: int
    sampler: str
    scheduler: str
    steps: int
    cfg: float
    width_px: int | None
    height_px: int | None
    batch_size: int
    clip_skip: int | None
    emphasis: str
    rng: str
    ensd: int
    a1111_unknown_names: str
    comma_backtrack: int


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Every setting, from the first of flags, environment, file and default that gives it; None gives nothing.

    Raises: UsageError for a value of the wrong type or out of range, UnknownName for a key that doesn't exist; both
    say where it stands.
    """
    environment = os.environ if environment is None else environment
    values = {setting.key: _default(setting, environment) for setting in SETTINGS}
    values |= _from_file(file, environment)
    values |= _from_environment(environment)
    for key, value in (flags or {}).items():
        if value is not None:
            values[key] = _check(_known(key), value, f"--{key.replace('_', '-')}")
    return Settings(**values)


def given_keys(environment: Mapping[str, str] | None = None, *, file: Path | None = None) -> frozenset[str]:
    """The settings that the user's environment or settings file gives.

    Raises: as `load_settings`.
    """
    environment = os.environ if environment is None else environment
    return frozenset({**_from_file(file, environment), **_from_environment(environment)})


def changed_settings(settings: Settings, changes: Mapping[str, Any], *, allows_paths: bool = True) -> Settings:
    """The same with some values changed; None changes nothing.

    Without `allows_paths`, for a server's callers, those that are fixed stay as they are, and so does the device of
    workers that have one each.
    Raises: UsageError, UnknownName.
    """
    checked: dict[str, Any] = {}
    for key, value in changes.items():
        setting = _known(key)
        is_workers = key == "device" and settings.devices is not None and value is not None
        if (setting.is_fixed or is_workers) and not allows_paths:
            hint = (
                f"the settings file, {PREFIX}{'DEVICES' if is_workers else key.upper()} or a flag at the start says it"
            )
            raise UsageError(f"the setting {key} can't be changed from here", hint=hint)
        if value is not None:
            checked[key] = _check(setting, value, f"the setting {key}")
    return replace(settings, **checked)


def lossless(settings: Settings) -> Settings:
    """The same, but pictures are written as PNG under plain names: for whoever compares their pixels."""
    return replace(settings, format="png", filename_pattern="[seed]")


def settings_file(environment: Mapping[str, str]) -> Path:
    """Where this user's settings are: HAYATE_CONFIG, else the platform's place for them."""
    if named := environment.get(CONFIG_VARIABLE):
        return _expanded(named)
    return _user_folder(environment, "XDG_CONFIG_HOME", ".config", "APPDATA", "Application Support") / "settings.toml"


def settings_page() -> str:
    """docs/settings.md."""
    rows = "\n".join(
        f"| `{each.key}` | {_type_of(each)} | {each.unit or '–'} | {_range_of(each)} | {_shown(each)} | {each.doc} |"
        for each in SETTINGS
    )
    return f"""# Settings

Written by `scripts/docs` from `src/hayate/settings.py`.

The first that gives a value wins: the command's flag, the environment variable `{PREFIX}<KEY>` (such as
`{PREFIX}STEPS=30`), the settings file, the default. The file is TOML, one `key = value` per line:

- Linux: `~/.config/hayate/settings.toml` (or under `XDG_CONFIG_HOME`)
- macOS: `~/Library/Application Support/hayate/settings.toml`
- Windows: `%APPDATA%\\hayate\\settings.toml`
- or the file that `{CONFIG_VARIABLE}` names

A relative path starts at the current folder, and `~` is the home folder. An unknown key, a wrong type and a value out
of range are errors that name the place.

| Key | Type | Unit | Range | Default | What it does |
|---|---|---|---|---|---|
{rows}
"""


def _from_file(file: Path | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """The checked values of the settings file; none if the user has no such file."""
    path = file or settings_file(environment)
    is_named = file is not None or bool(environment.get(CONFIG_VARIABLE))
    try:
        with path.open("rb") as opened:
            raw = opened.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise UsageError(f"{path}: larger than 1 MB", hint="a settings file has a few lines")
        text = raw.decode("utf-8-sig")
        table = tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        if is_named:
            raise UsageError(f"no settings file {path}", hint=f"create it, or unset {CONFIG_VARIABLE}") from None
        return {}
    except OSError as error:
        raise UsageError(
            f"can't read the settings file {path}: {error.strerror}", hint="check its permissions"
        ) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or a number of thousands of digits
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{path} is not TOML: {clip(reason, 120)}", hint="write one key = value per line") from error
    values: dict[str, Any] = {}
    for key, value in table.items():
        origin = f"{path} line {_line_of(key, text)}"
        values[key] = _check(_known(key, origin), value, f"{origin}, key {key}")
    return values


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE or not environment[name]:
            continue
        key = name.removeprefix(PREFIX).lower()
        values[key] = _check(_known(key, name), _parsed(KEYS[key], environment[name], name), name)
    return values


def _known(key: str, origin: str = "") -> Setting:
    if key in KEYS:
        return KEYS[key]
    if not origin:
        raise UnknownName("setting", key, KEYS)
    raise UsageError(f"{origin}: unknown setting {clip(key)!r}", hint=f"nearest: {', '.join(nearest(key, KEYS))}")


def _parsed(setting: Setting, text: str, origin: str) -> str | int | float:
    """An environment variable's text as the setting's type."""
    try:
        if setting.kind == "integer":
            return int(text)
        if setting.kind == "number":
            return float(text)
    except ValueError:
        raise _wrong_type(setting, text, origin) from None
    return text


def _check(setting: Setting, value: Any, origin: str) -> Any:
    """`value` as the setting's type, if it is one of its values."""
    if setting.kind in ("text", "path"):
        return _checked_text(setting, value, origin)
    kinds = int if setting.kind == "integer" else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise _wrong_type(setting, value, origin)
    if setting.low is not None and setting.high is not None and not setting.low <= value <= setting.high:
        raise UsageError(f"{origin}: {clip(str(value))} is out of range", hint=f"{setting.key} is {_range_of(setting)}")
    if setting.unit.endswith("multiple of 8") and value % 8:
        raise UsageError(f"{origin}: {value} is not a multiple of 8", hint=f"nearest: {round(value / 8) * 8}")
    return value if setting.kind == "integer" else float(value)


def _checked_text(setting: Setting, value: Any, origin: str) -> str | Path:
    if isinstance(value, Path) and setting.kind == "path":
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise _wrong_type(setting, value, origin)
    if setting.choices and value not in setting.choices:
        hint = f"one of: {', '.join(setting.choices)}"
        raise UsageError(f"{origin}: {clip(value)!r} is no {setting.key}", hint=hint)
    return _expanded(value) if setting.kind == "path" else value


def _expanded(text: str) -> Path:
    """A path with ~ put in; an unknown ~user, at which Path raises, stays and is simply not found later."""
    return Path(os.path.expanduser(text))  # noqa: PTH111


def _wrong_type(setting: Setting, value: object, origin: str) -> UsageError:
    return UsageError(f"{origin}: {clip(repr(value))} is not {_type_of(setting)}", hint=setting.doc.rstrip("."))


def _type_of(setting: Setting) -> str:
    names = {"text": "a text", "path": "a path", "integer": "a whole number", "number": "a number"}
    return names[setting.kind]


def _range_of(setting: Setting) -> str:
    if setting.choices:
        return ", ".join(f"`{choice}`" for choice in setting.choices)
    return "–" if setting.low is None else f"{setting.low:.10g} to {setting.high:.10g}"


def _shown(setting: Setting) -> str:
    return "automatic" if setting.default is None else f"`{setting.default}`"


def _default(setting: Setting, environment: Mapping[str, str]) -> Any:
    if setting.key == "cache_dir":
        return _user_folder(environment, "XDG_CACHE_HOME", ".cache", "LOCALAPPDATA", "Caches")
    if setting.key == "data_dir":
        return _user_folder(environment, "XDG_DATA_HOME", ".local/share", "LOCALAPPDATA", "Application Support")
    return Path(str(setting.default)) if setting.kind == "path" else setting.default


def _user_folder(environment: Mapping[str, str], xdg: str, dotted: str, windows: str, mac: str) -> Path:
    """This user's folder for one purpose, by the platform's own custom."""
    home = _expanded(environment.get("HOME") or environment.get("USERPROFILE") or "~")
    if sys.platform == "win32":
        return Path(environment.get(windows) or home / "AppData") / "hayate"
    if sys.platform == "darwin":
        return home / "Library" / mac / "hayate"
    chosen = environment.get(xdg, "")
    # The XDG standard: a relative path there is invalid and ignored.
    return (Path(chosen) if chosen.startswith("/") else home / dotted) / "hayate"


def _line_of(key: str, text: str) -> int:
    """The line where `key` is set, counted from 1."""
    lines = enumerate(text.splitlines(), start=1)
    return next((number for number, line in lines if line.lstrip(" \t[\"'").startswith(key)), 1)


if __name__ == "__main__":
    sys.stdout.write(settings_page())
