"""The tabs that are no pictures' own, in their order."""

from __future__ import annotations

from hayate.server.ui.controls import Tab
from hayate.server.ui.setting_controls import SETTINGS_TAB
from hayate.server.ui.tool_controls import BENCH, DOCTOR, EXTENSIONS, EXTRAS, GALLERY, MERGER, MODELS, PNG_INFO, TUNE

TOOL_TABS: tuple[Tab, ...] = (EXTRAS, PNG_INFO, MERGER, MODELS, TUNE, BENCH, GALLERY, SETTINGS_TAB, EXTENSIONS, DOCTOR)
