"""The settings as controls: each row of `settings.SETTINGS`, with its bounds, in the section where people look."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hayate.server.ui.controls import Control, Group, Tab
from hayate.settings import KEYS, Setting

SECTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "set_pictures": ("sampler", "scheduler", "steps", "cfg", "width_px", "height_px", "batch_size", "clip_skip"),
        "set_prompts": ("emphasis", "comma_backtrack", "rng", "ensd"),
        "set_files": ("format", "quality", "filename_pattern"),
        "set_speed": ("device", "dtype", "attention", "compile", "offload", "promise", "threads"),
        "set_memory": ("checkpoints_cache_bytes", "vae_cache_bytes"),
        "set_api": ("a1111_unknown_names",),
        "set_upscalers": ("upscaler_tile_px", "upscaler_overlap_px"),
        "set_extensions": ("extension_import_s", "extension_stop_s"),
    }
)
"""Every setting that may be changed, in the order of the page."""
FIXED = tuple(key for key, setting in KEYS.items() if setting.is_fixed)
"""Shown, and changed where the server is started: whoever may draw pictures must not choose where files go."""

_SOURCES = MappingProxyType({"sampler": "samplers", "scheduler": "schedules", "attention": "attention"})


def setting_control(key: str) -> Control:
    """The control of a setting; empty, it leaves the value to the file, the environment and the default."""
    setting = KEYS[key]
    if source := _SOURCES.get(key):
        return Control(key=f"settings.{key}", kind="choice", source=source, empty="unchanged", span=4)
    if setting.choices:
        return Control(key=f"settings.{key}", kind="choice", choices=setting.choices, empty="unchanged", span=4)
    if setting.kind == "text":
        return Control(key=f"settings.{key}", kind="text", empty="unchanged", span=4)
    return Control(
        key=f"settings.{key}",
        kind="number",
        low=setting.low,
        high=setting.high,
        step=_step(setting),
        empty="unchanged",
        span=4,
    )


def _step(setting: Setting) -> float:
    if setting.kind == "number":
        return 0  # any
    return 8 if setting.unit.endswith("multiple of 8") else 1


SETTINGS_TAB = Tab(
    id="settings",
    groups=tuple(Group(id=id_, controls=tuple(map(setting_control, keys))) for id_, keys in SECTIONS.items()),
)
