"""A sheet of facts as a JSON file: recorded on one machine, judged on any."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hayate.doctor.facts import SHEET_VERSION, Facts
from hayate.errors import OutputError, UsageError, clip

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MAX_BYTES = 16 * 2**20


def read_sheet(path: Path) -> Facts:
    """The facts in a sheet.

    Raises: UsageError that names the first field which makes no sense.
    """
    from pydantic import ValidationError

    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", hint="record one: hayate doctor --facts") from error
    if len(raw) > MAX_BYTES:
        raise UsageError(
            f"{path} is larger than {MAX_BYTES >> 20} MiB", hint="a sheet of facts has a few thousand lines"
        )
    try:
        facts = _adapter().validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        message = f"{path} is no sheet of facts: {place}: {clip(first['msg'], 120)}"
        raise UsageError(message, hint="record one: hayate doctor --facts FILE") from error
    if facts.version != SHEET_VERSION:
        hint = "record it again: hayate doctor --facts FILE"
        raise UsageError(f"{path} is a sheet of version {facts.version}, and this is {SHEET_VERSION}", hint=hint)
    return facts


def write_sheet(facts: Facts, path: Path) -> None:
    """Raises: OutputError."""
    try:
        path.write_bytes(_adapter().dump_json(facts, indent=1) + b"\n")
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}", hint="give another place") from error


def as_json(facts: Facts) -> dict[str, Any]:
    """The facts as JSON can hold them."""
    return _adapter().dump_python(facts, mode="json")


@cache
def _adapter() -> TypeAdapter[Facts]:
    """Cost: 0.1 s to import pydantic and build the rules, at the first call."""
    from pydantic import TypeAdapter

    return TypeAdapter(Facts)
