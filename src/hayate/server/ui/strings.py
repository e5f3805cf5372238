"""What the page says, in every language that it speaks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hayate.server.ui.strings_computing import COMPUTING
from hayate.server.ui.strings_frame import FRAME
from hayate.server.ui.strings_pictures import PICTURES
from hayate.server.ui.strings_tools import TOOLS

LANGUAGES = MappingProxyType({"en": "English", "ja": "日本語"})
"""By their codes, as the page's `lang` has them."""

TABLES = (FRAME, PICTURES, COMPUTING, TOOLS)
STRINGS: Mapping[str, tuple[str, ...]] = MappingProxyType({key: row for table in TABLES for key, row in table.items()})
"""Every string by its name, in the order of `LANGUAGES`."""


def in_language(code: str) -> Mapping[str, str]:
    """Every string in one language."""
    place = list(LANGUAGES).index(code)
    return {key: row[place] for key, row in STRINGS.items()}


def for_scripts(code: str) -> Mapping[str, str]:
    """Those that JavaScript shows: their names begin with `js.`, which is left out."""
    return {key.removeprefix("js."): text for key, text in in_language(code).items() if key.startswith("js.")}


def choose_language(chosen: str | None, accepted: str) -> str:
    """The language that was chosen on the page, else the first of the browser's list that is known, else English."""
    if chosen is not None and chosen in LANGUAGES:
        return chosen
    wanted = (part.partition(";")[0].strip().lower().partition("-")[0] for part in accepted[:500].split(","))
    return next((code for code in wanted if code in LANGUAGES), "en")
