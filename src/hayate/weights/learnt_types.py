"""Where it is written which types the parts of model files need: in their headers, and in a file of what was learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hayate.weights.hashes import file_stamp

SAFE_TYPES = "hayate.safe_types"
"""The metadata in which a file says in which types its networks must compute: JSON, {"vae": "fp32"}."""
FILE_NAME = "safe-types.json"
MAX_BYTES = 4 * 1024 * 1024


def read_learnt(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The entries by place, none if there is no file; a note if it can't be understood."""
    try:
        with path.open("rb") as file:
            entries = json.loads(file.read(MAX_BYTES))
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict):
        return {}, [f"{path} is damaged and was left out of account: what was learnt of models is learnt again"]
    return entries, []


def learnt_of(entries: dict[str, Any], file: Path) -> dict[str, str]:
    """The names of the types that the parts of one file, as it is now, need; what makes no sense is nothing."""
    try:
        entry = entries.get(str(file.resolve()))
        if not isinstance(entry, dict) or entry.get("stamp") != list(file_stamp(file)):
            return {}
    except OSError:
        return {}
    types = entry.get("types")
    return {str(part): str(name) for part, name in types.items()} if isinstance(types, dict) else {}
