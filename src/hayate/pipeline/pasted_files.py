"""The models and the VAE that a picture's text names, found among the user's files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hayate.errors import HayateError, UsageError, clip
from hayate.pipeline.infotext import DEFAULTS, RECIPE_KEY, Infotext
from hayate.request import TextToImage
from hayate.settings import Settings
from hayate.weights.builtin import builtin_model
from hayate.weights.folders import BUILT_IN, model_files, title_and_hash
from hayate.weights.hashes import file_sha256, known_sha256, legacy_hash
from hayate.weights.merged import MergedModel, find_source, source_hash
from hayate.weights.recipes import is_recipe

LEGACY_DIGITS = 8
HIRES_MODEL = "hires.model"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """A file as a text names it."""

    field: str
    """Of the request; with a prefix where it belongs to the second pass."""
    title: str
    name: str
    digits: str
    folder: Path


def files_named(info: Infotext, settings: Settings, given: Collection[str] = ()) -> tuple[dict[str, str], list[str]]:
    """The request's models and VAE as the text has them, and notes on what is not here or is another file.

    The fields are `model`, `vae`, `refiner` and `hires.model`. Those that are `given` beside the text are not looked
    for. A name from a text is only ever compared with names of files in the user's folders, so it can't lead anywhere
    else.
    """
    found: dict[str, str] = {}
    notes: list[str] = []
    for each in _named(info, settings):
        if each.field.partition(".")[0] in given:
            continue
        if is_recipe(each.name) and each.field != "vae" and _is_merge(each, settings):
            found[each.field] = each.name
            continue
        own = [] if each.field == "vae" else [builtin_model()]
        path, note = _find(each.name, each.digits, [*own, *model_files(each.folder)], settings.cache_dir)
        if path is not None:
            found[each.field] = BUILT_IN if path in own else str(path)
            notes += [f"{each.title} {clip(path.name, 80)}: {note}"] if note else []
        else:
            wanted = clip(f"{each.name} [{each.digits}]" if each.digits else each.name, 100)
            flag = each.field.replace(".", "-")
            notes.append(f"not honoured: {each.title} {wanted} is not in {each.folder}; --{flag} chooses another")
    return found, notes


def with_files(request: TextToImage, files: Mapping[str, str]) -> TextToImage:
    """The request with the files that were found for it."""
    fields = {field: path for field, path in files.items() if field != HIRES_MODEL}
    if HIRES_MODEL in files and request.hires is not None:
        request = replace(request, hires=replace(request.hires, model=files[HIRES_MODEL]))
    return replace(request, **fields)


def _named(info: Infotext, settings: Settings) -> Iterator[_Named]:
    """Every file that a text names."""
    values, models = info.parameters, settings.models_dir
    for field, title, folder in (("model", "Model", models), ("vae", "VAE", settings.vae_dir)):
        name = values.get(RECIPE_KEY if field == "model" and RECIPE_KEY in values else title, "")
        digits = values.get(f"{title} hash", "").lower()
        if name or digits:
            yield _Named(field=field, title=title, name=name, digits=digits, folder=folder)
    for field, title in ((HIRES_MODEL, "Hires checkpoint"), ("refiner", "Refiner")):
        value = values.get(title, "")
        if value and value != DEFAULTS.get(title) and value != "None":
            name, digits = title_and_hash(value)
            yield _Named(field=field, title=title, name=name, digits=digits.lower(), folder=models)


def _is_merge(named: _Named, settings: Settings) -> bool:
    """Whether a recipe's models are all here and are those that made the picture.

    Cost: they are read for their hashes if they were not yet.
    """
    try:
        source = find_source(
            named.name, settings.models_dir, builtin_model(), loras_dir=settings.lora_dir, allows_paths=False
        )
        return isinstance(source, MergedModel) and named.digits in ("", source_hash(source, settings.cache_dir))
    except HayateError:
        return False


def _find(name: str, digits: str, files: list[Path], cache_dir: Path) -> tuple[Path | None, str]:
    """The file with the hash, else the one with the name, with a note if its hash is another one.

    Cost: files of that name and the built-in model are read for their hash if they were not yet; of the others counts
    what the cache knows.
    """
    named = [path for path in files if name.casefold() in (path.name.casefold(), path.stem.casefold())]
    if not digits:
        return (named[0] if named else None), ""
    for path in [*named, *files]:
        is_read = path in named or path == builtin_model()
        if _is_hash_of(path, digits, file_sha256(path, cache_dir) if is_read else known_sha256(path, cache_dir)):
            return path, ""
    return (named[0], f"the picture was made with one whose hash is {digits}") if named else (None, "")


def _is_hash_of(path: Path, digits: str, sha256: str | None) -> bool:
    """Whether a text's hash is the file's: the first digits of its SHA-256, or A1111's old one of 8 digits."""
    if len(digits) > LEGACY_DIGITS:
        return sha256 is not None and sha256.startswith(digits)
    try:
        return len(digits) == LEGACY_DIGITS and legacy_hash(path) == digits
    except UsageError:
        return False
