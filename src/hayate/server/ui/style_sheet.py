"""The user's styles as the page changes them."""

from __future__ import annotations

from collections.abc import Sequence

from hayate.errors import UnknownName, UsageError
from hayate.prompt.styles import Style, apply_styles, choose_styles, read_styles, write_styles
from hayate.settings import Settings

MOST_NAME_CHARACTERS = 200


def styles_of(settings: Settings) -> tuple[Style, ...]:
    """Those that are there; none where there is no file.

    Raises: UsageError for a file that is no table of styles.
    """
    return read_styles(settings.styles_file).styles if settings.styles_file.exists() else ()


def with_styles(prompt: str, negative_prompt: str, names: Sequence[str], settings: Settings) -> tuple[str, str]:
    """Both prompts with the styles put in. Raises: UnknownName, UsageError."""
    chosen = choose_styles(names, styles_of(settings))
    return apply_styles(prompt, chosen), apply_styles(negative_prompt, chosen, is_negative=True)


def save_style(style: Style, settings: Settings) -> None:
    """Adds a style, or puts it in the place of the one of that name. Raises: UsageError, OutputError."""
    if not style.name.strip() or len(style.name) > MOST_NAME_CHARACTERS or not style.name.isprintable():
        raise UsageError("the style has no name that can be kept", hint=f"up to {MOST_NAME_CHARACTERS} characters")
    kept = {each.name: each for each in styles_of(settings)} | {style.name: style}
    write_styles(settings.styles_file, kept.values())


def delete_style(name: str, settings: Settings) -> None:
    """Raises: UnknownName, OutputError."""
    kept = {each.name: each for each in styles_of(settings)}
    if name not in kept:
        raise UnknownName("style", name, kept)
    del kept[name]
    write_styles(settings.styles_file, kept.values())
