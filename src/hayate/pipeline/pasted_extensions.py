"""The extensions that a picture was made with, for making it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hayate.errors import UsageError, clip
from hayate.extensions.control import checked_values
from hayate.extensions.current import current
from hayate.pipeline.infotext import EXTENSIONS_KEY, Infotext


def pasted_extensions(
    info: Infotext, record: Mapping[str, Any] | None
) -> tuple[dict[str, Mapping[str, Any]], tuple[str, ...]]:
    """What a request says to extensions so that they act again, and a note for each one that won't as it did.

    The infotext has their names alone; what was said to them is in Hayate's own record.
    """
    asked: dict[str, Mapping[str, Any]] = {}
    notes: list[str] = []
    said = _values(record)
    for title in filter(None, map(str.strip, info.parameters.get(EXTENSIONS_KEY, "").split(","))):
        name, _, version = title.partition(" ")
        standing = next((each for each in current().standings if each.name == name and each.acts), None)
        if standing is None:
            notes.append(f"not honoured: the extension {clip(title)}, which is not here or off")
            continue
        if standing.manifest.version != version:
            notes.append(f"the extension {name} is {standing.manifest.version} here and was {clip(version)}")
        if not standing.manifest.controls:
            continue  # it acts on every job
        try:
            asked[name] = dict(checked_values(standing.manifest.controls, said.get(name, {}), f"the extension {name}"))
        except UsageError as error:
            notes.append(f"not honoured: what was said to the extension {name}: {error.message}")
    return asked, tuple(notes)


def _values(record: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """By extension, as far as a record can be trusted to be one."""
    rows = (record or {}).get("extensions")
    found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return {str(row.get("name")): row["values"] for row in found if isinstance(row.get("values"), dict)}
