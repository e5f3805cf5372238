"""The page's tabs, in their order."""

from __future__ import annotations

from hayate.server.ui.controls import Tab
from hayate.server.ui.picture_controls import PICTURE_TABS
from hayate.server.ui.tool_tabs import TOOL_TABS

TABS: tuple[Tab, ...] = (*PICTURE_TABS, *TOOL_TABS)
