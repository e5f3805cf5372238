"""What a device may be called; whether it is there is `device.resolve_device`'s to say, which needs torch."""

from __future__ import annotations

from hayate.errors import UnknownName, UsageError, clip

KINDS = ("cuda", "mps", "cpu")
AUTO = "auto"


def split_device_name(name: str) -> tuple[str, int | None]:
    """Kind and number of `cpu`, `cuda`, `cuda:1` …; None where no number was given.

    Raises: UnknownName for a kind that does not exist, UsageError for what is no number.
    """
    kind, colon, number = name.partition(":")
    if kind not in KINDS:
        raise UnknownName("device", name, (AUTO, "cuda", "cuda:0", "mps", "cpu"))
    if colon and not (number.isascii() and number.isdigit() and len(number) < 4):
        raise UsageError(f"device {clip(name)!r} has no number after the colon", hint="write cuda:0")
    return kind, int(number) if colon else None
