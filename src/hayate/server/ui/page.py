"""The page as HTML: the tabs' templates, filled with their controls and strings."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import jinja2

from hayate import __version__
from hayate.server.ui.built_in import BUILT_IN, NOT_HERE
from hayate.server.ui.controls import Control
from hayate.server.ui.picture_controls import TOP
from hayate.server.ui.setting_controls import PATHS
from hayate.server.ui.static_files import StaticFile, as_file, ui_folder
from hayate.server.ui.strings import LANGUAGES, for_scripts, in_language
from hayate.server.ui.tabs import TABS
from hayate.settings import Settings

THEMES = ("auto", "light", "dark")


@functools.lru_cache(maxsize=16)
def page_file(language: str, theme: str, settings: Settings) -> StaticFile:
    """The page as it is served. Cost: a tenth of a second the first time, nothing while the settings stay."""
    return as_file(render_page(language, theme, asdict(settings)).encode(), "text/html; charset=utf-8")


def render_page(language: str, theme: str, defaults: Mapping[str, Any]) -> str:
    """The whole page; `defaults` are the settings' values, which empty controls show."""
    strings = in_language(language)
    return (
        _templates()
        .get_template("page.html")
        .render(
            t=strings,
            language=language,
            languages=LANGUAGES,
            theme=theme,
            themes=THEMES,
            tabs=TABS,
            top=TOP,
            strings_json=_for_html(for_scripts(language)),
            defaults=defaults,
            setting_paths=PATHS,
            built_in=BUILT_IN,
            not_here=NOT_HERE,
            version=__version__,
            python=".".join(map(str, sys.version_info[:3])),
        )
    )


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ui_folder() / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["dom_id"] = dom_id
    environment.filters["depends"] = depends
    environment.filters["shown"] = _shown
    return environment


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
