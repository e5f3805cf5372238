"""The strings of the tabs that are no pictures' own: extras, merger, tune and the like."""

from __future__ import annotations

TOOLS: dict[str, tuple[str, str]] = {}
