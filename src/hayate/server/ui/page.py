"""The page as HTML: the tabs' templates, filled with their controls and strings."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from hayate import __version__
from hayate.server.ui.built_in import BUILT_IN, NOT_HERE
from hayate.server.ui.controls import Control
from hayate.server.ui.lent_controls import NOTHING_LENT, Lent
from hayate.server.ui.picture_controls import TOP
from hayate.server.ui.setting_controls import FIXED
from hayate.server.ui.static_files import StaticFile, as_file, ui_folder
from hayate.server.ui.strings import LANGUAGES, for_scripts, in_language
from hayate.server.ui.tabs import TABS
from hayate.settings import Settings

THEMES = ("auto", "light", "dark")


@functools.lru_cache(maxsize=16)
def page_file(language: str, theme: str, settings: Settings, lent: Lent = NOTHING_LENT) -> StaticFile:
    """The page as it is served. Cost: 20 ms, 150 more on the first start; nothing while the settings stay."""
    return as_file(render_page(language, theme, asdict(settings), lent).encode(), "text/html; charset=utf-8")


def render_page(language: str, theme: str, defaults: Mapping[str, Any], lent: Lent = NOTHING_LENT) -> str:
    """The whole page; `defaults` are the settings' values, which empty controls show, `lent` what extensions add."""
    strings = lent.words(in_language(language))
    return (
        _templates(defaults.get("cache_dir"))
        .get_template("page.html")
        .render(
            t=strings,
            language=language,
            languages=LANGUAGES,
            theme=theme,
            themes=THEMES,
            tabs=tuple(map(lent.tab, TABS)),
            top=TOP,
            strings_json=_for_html(for_scripts(language)),
            defaults=defaults,
            fixed_settings=FIXED,
            built_in=BUILT_IN,
            not_here=NOT_HERE,
            version=__version__,
            python=".".join(map(str, sys.version_info[:3])),
        )
    )


@functools.cache
def _templates(cache_dir: Path | None) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ui_folder() / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=_compiled_templates(cache_dir),
    )
    environment.filters["dom_id"] = dom_id
    environment.filters["depends"] = depends
    environment.filters["shown"] = _shown
    return environment


def _compiled_templates(cache_dir: Path | None) -> jinja2.FileSystemBytecodeCache | None:
    """Where compiled templates are kept, or None where nothing can be; each carries its source's checksum."""
    if cache_dir is None:
        return None
    folder = cache_dir / "page"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return jinja2.FileSystemBytecodeCache(str(folder)) if os.access(folder, os.W_OK) else None


def dom_id(control: Control, tab: str) -> str:
    """The control's id in the page."""
    return f"{tab}-{control.key.replace('.', '-').replace('_', '-')}"


def depends(condition: str) -> dict[str, str]:
    """The key and the value of a `shown_when`."""
    key, _, value = condition.partition("=")
    return {"key": key, "value": value}


def _shown(value: object) -> str:
    """A default as an input has it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _for_html(words: Mapping[str, str]) -> str:
    """JSON that can stand in a script element: no `<` ends it."""
    return json.dumps(words, ensure_ascii=False).replace("<", "\\u003c")
