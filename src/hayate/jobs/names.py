"""Names that callers give, held to what the user's folders have: a job never names a path.

Whoever sends jobs may be anybody who reaches the port; the command line's user may name files, and does so elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from hayate.errors import UnknownName, UsageError, clip
from hayate.extensions.current import current
from hayate.request import LATENT_UPSCALERS, PIXEL_UPSCALERS, Hires, StartImage, TextToImage
from hayate.samplers.catalogue import resolve_sampler
from hayate.samplers.sigmas import resolve_schedule
from hayate.settings import Settings
from hayate.weights.builtin import builtin_model
from hayate.weights.folders import find_lora, find_model
from hayate.weights.merge_recipe import Recipe
from hayate.weights.recipes import full_recipe, recipe_named
from hayate.weights.upscalers import find_upscaler

MOST_NAME_CHARACTERS = 120
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
)
"""What Windows takes for no file, with any ending."""
_FORBIDDEN = frozenset('<>:"/\\|?*') | {chr(code) for code in range(32)}


def check_request_names(request: TextToImage, settings: Settings) -> None:
    """Looks up every name of a request that needs no torch. Raises: UnknownName, UsageError."""
    current().refresh()
    current().asked_of(request.extensions)
    _check_sampling(request)
    for name in (request.model, request.refiner):
        check_model(name, settings)
    if request.vae is not None:
        find_vae(request.vae, settings)
    if request.hires is not None:
        _check_sampling(request.hires)
        check_model(request.hires.model, settings)
        check_upscaler(request.hires.upscaler, settings, is_for_latents=True)


def check_model(name: str | None, settings: Settings) -> None:
    """A model of the folder, the built-in one, or a merge of them, saved or not. Raises: UnknownName, UsageError."""
    if name is None:
        return
    try:
        find_registered(name, settings)
    except UnknownName:
        _check_recipe(recipe_named(name, settings.models_dir, builtin_model(), allows_paths=False), settings)


def check_recipe(text: str, settings: Settings) -> None:
    """A merge whose models and LoRAs are all in the folders. Raises: UnknownName, UsageError, ModelFileError."""
    _check_recipe(full_recipe(text, settings.models_dir, builtin_model(), allows_paths=False), settings)


def _check_recipe(recipe: Recipe, settings: Settings) -> None:
    for each in recipe.inputs:
        find_registered(each, settings)
    for each in recipe.loras:
        find_lora(each, settings.lora_dir)


def find_registered(name: str, settings: Settings) -> Path:
    """The file of a model's name. Raises: UnknownName, UsageError."""
    return find_model(name, settings.models_dir, builtin_model(), allows_paths=False)


def find_vae(name: str, settings: Settings) -> Path:
    """The file of a separate VAE's name. Raises: UnknownName, UsageError."""
    return find_model(name, settings.vae_dir, allows_paths=False)


def check_upscaler(name: str, settings: Settings, *, is_for_latents: bool = False) -> None:
    """Raises: UnknownName."""
    built_in = (*(LATENT_UPSCALERS if is_for_latents else ()), *PIXEL_UPSCALERS)
    if name not in built_in:
        find_upscaler(name, settings.upscalers_dir, built_in)


def check_start(start: StartImage | None, inputs_dir: Path) -> None:
    """Pictures to start from are those that were handed in. Raises: UsageError."""
    for path in () if start is None else (start.path, start.mask):
        if path is not None:
            check_input(path, inputs_dir)


def check_input(path: str, inputs_dir: Path) -> None:
    """Raises: UsageError for a file that is not one of the pictures that were handed in."""
    if "\0" in path or Path(path).parent != inputs_dir or not Path(path).is_file():
        raise UsageError("a job starts only from pictures that were handed in", hint="send the picture itself")


def check_file_name(name: str) -> None:
    """Raises: UsageError for a name that is no plain file's on every system."""
    is_device = name.partition(".")[0].rstrip().casefold() in _DEVICES
    is_plain = name.strip(". ") == name and not _FORBIDDEN & set(name) and not is_device
    if not name or not is_plain or len(name) > MOST_NAME_CHARACTERS:
        hint = f"letters, digits, spaces, - and _; at most {MOST_NAME_CHARACTERS} of them"
        raise UsageError(f"{clip(name)!r} can't be a file's name", hint=hint)


def _check_sampling(asked: TextToImage | Hires) -> None:
    if asked.sampler is not None:
        resolve_sampler(asked.sampler)
    if asked.scheduler is not None:
        resolve_schedule(asked.scheduler)
