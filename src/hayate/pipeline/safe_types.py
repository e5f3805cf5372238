"""What was learnt of model files: the type in which a part of them gives finite numbers, kept for the next start."""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch

from hayate.engines.base import Part
from hayate.errors import HayateError
from hayate.pipeline.guards import TITLES
from hayate.runtime.precision import DTYPES, Precision, dtype_name
from hayate.weights.hashes import file_stamp
from hayate.weights.learnt_types import SAFE_TYPES, read_learnt
from hayate.weights.merged import MergedModel, ModelSource
from hayate.weights.read import read_header

logger = logging.getLogger(__name__)

REACH = (torch.float16, torch.bfloat16, torch.float32)
"""From the narrowest to the widest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeTypes:
    """The memory of one job: which file each part comes from, and the JSON file in which the types are kept.

    Entries go by path and hold the model file's size and time: a replaced file is a new one, and its entry is written
    over. Two processes that write at once may lose one's entry, which then is learnt again.
    """

    path: Path
    files: Mapping[Part, ModelSource]

    def applied_to(self, precision: Precision) -> tuple[Precision, list[str]]:
        """`precision` with every part at least as wide as it is known to need, and a note for each that changed.

        A damaged memory is one note and counts as empty.
        """
        entries, notes = read_learnt(self.path)
        for part, file in self.files.items():
            learnt, said, asked = _types(entries, file).get(part), _said(file).get(part), getattr(precision, part)
            safe = max((each for each in (learnt, said) if each is not None), key=REACH.index, default=None)
            if safe is None or REACH.index(safe) <= REACH.index(asked):
                continue
            precision = replace(precision, **{part: safe})
            before = f"in {dtype_name(asked)} it made values that are not finite before"
            why = before if safe == learnt else "its file was probed when it was converted, and says so"
            notes.append(f"the {TITLES[part]} computes in {dtype_name(safe)}: {why}")
        return precision, notes

    def keep(self, part: Part, dtype: torch.dtype) -> bool:
        """Remembers that `part` needs `dtype`; whether that succeeded. It is only slower if not."""
        entries, _ = read_learnt(self.path)
        file = self.files[part]
        try:
            types = {known: dtype_name(type_) for known, type_ in (_types(entries, file) | {part: dtype}).items()}
            entries[_place(file)] = {"stamp": _stamp(file), "types": types}
            _write(self.path, entries)
        except OSError as error:
            logger.warning("safe types can't be remembered in %s: %s", self.path, error)
            return False
        return True


def _types(entries: Mapping[str, Any], file: ModelSource) -> dict[Part, torch.dtype]:
    """The types that the parts of `file`, as it is now, are known to need; what makes no sense is nothing."""
    try:
        entry = entries.get(_place(file))
        if not isinstance(entry, dict) or entry.get("stamp") != _stamp(file):
            return {}
    except OSError:
        return {}
    return _understood(entry.get("types"))


def _said(file: ModelSource) -> dict[Part, torch.dtype]:
    """The types that a converted file's header says its parts need. Cost: its header is read, a few milliseconds."""
    if isinstance(file, MergedModel):  # what its files need says nothing of it
        return {}
    try:
        return _understood(json.loads(read_header(file).metadata.get(SAFE_TYPES, "{}")))
    except (HayateError, ValueError, RecursionError):  # what is wrong with the file is said when it is loaded
        return {}


def _understood(types: object) -> dict[Part, torch.dtype]:
    found = {part: DTYPES.get(str(types.get(part))) for part in get_args(Part)} if isinstance(types, dict) else {}
    return {part: dtype for part, dtype in found.items() if dtype is not None}


def _place(file: ModelSource) -> str:
    return " ".join([file.text, *map(_place, file.files)]) if isinstance(file, MergedModel) else str(file.resolve())


def _stamp(file: ModelSource) -> list[int]:
    """What changes when a file, or one that is merged, is replaced. Raises: OSError."""
    files = file.files if isinstance(file, MergedModel) else (file,)
    return [part for path in files for part in file_stamp(path)]


def _write(path: Path, entries: Mapping[str, Any]) -> None:
    """Replaces the file whole, so that a reader finds the old or the new one. Raises: OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        temporary.write_text(json.dumps(entries, indent=1), encoding="utf-8")
        os.replace(temporary, path)  # noqa: PTH105
    finally:
        temporary.unlink(missing_ok=True)
