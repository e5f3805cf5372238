"""The model and the VAE that a picture's text names, found among the user's files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from hayate.errors import UsageError, clip
from hayate.pipeline.infotext import Infotext
from hayate.settings import Settings
from hayate.weights.builtin import builtin_model
from hayate.weights.folders import BUILT_IN, model_files
from hayate.weights.hashes import file_sha256, known_sha256, legacy_hash

LEGACY_DIGITS = 8


def files_named(info: Infotext, settings: Settings, given: Collection[str] = ()) -> tuple[dict[str, str], list[str]]:
    """The request's `model` and `vae` as the text has them, and notes on what is not here or is another file.

    Those that are `given` beside the text are not looked for. A name from a text is only ever compared with names of
    files in the user's folders, so it can't lead anywhere else.
    """
    found: dict[str, str] = {}
    notes: list[str] = []
    for field, title, folder in (("model", "Model", settings.models_dir), ("vae", "VAE", settings.vae_dir)):
        name, digits = info.parameters.get(title, ""), info.parameters.get(f"{title} hash", "").lower()
        if field in given or not (name or digits):
            continue
        own = [builtin_model()] if field == "model" else []
        path, note = _find(name, digits, [*own, *model_files(folder)], settings.cache_dir)
        if path is not None:
            found[field] = BUILT_IN if path in own else str(path)
            notes += [f"{title} {clip(path.name, 80)}: {note}"] if note else []
        else:
            wanted = clip(f"{name} [{digits}]" if digits else name, 100)
            notes.append(f"not honoured: {title} {wanted} is not in {folder}; --{field} chooses another")
    return found, notes


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
