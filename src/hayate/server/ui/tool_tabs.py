"""The tabs that are no pictures' own, in their order."""

from __future__ import annotations

from hayate.server.ui.controls import Tab

TOOL_TABS: tuple[Tab, ...] = ()
