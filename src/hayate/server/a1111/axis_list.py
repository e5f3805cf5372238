"""The axes of A1111's X/Y/Z plot by their numbers, of which callers send three.

Source: A1111 v1.10.1, whose list depends on the tab.
"""

from __future__ import annotations

from typing import Any

from hayate.errors import UnknownName, UsageError, clip
from hayate.pipeline.axes import AXES

_TEXT, _IMAGE = "txt2img", "img2img"
_LISTED: tuple[tuple[str, str], ...] = (
    ("Nothing", ""),
    ("Seed", ""),
    ("Var. seed", ""),
    ("Var. strength", ""),
    ("Steps", ""),
    ("Hires steps", _TEXT),
    ("CFG Scale", ""),
    ("Image CFG Scale", _IMAGE),
    ("Prompt S/R", ""),
    ("Prompt order", ""),
    ("Sampler", _TEXT),
    ("Hires sampler", _TEXT),
    ("Sampler", _IMAGE),
    ("Checkpoint name", ""),
    ("Negative Guidance minimum sigma", ""),
    ("Sigma Churn", ""),
    ("Sigma min", ""),
    ("Sigma max", ""),
    ("Sigma noise", ""),
    ("Schedule type", ""),
    ("Schedule min sigma", ""),
    ("Schedule max sigma", ""),
    ("Schedule rho", ""),
    ("Beta schedule alpha", ""),
    ("Beta schedule beta", ""),
    ("Eta", ""),
    ("Clip skip", ""),
    ("Denoising", ""),
    ("Initial noise multiplier", ""),
    ("Extra noise", ""),
    ("Hires upscaler", _TEXT),
    ("Cond. Image Mask Weight", _IMAGE),
    ("VAE", ""),
    ("Styles", ""),
    ("UniPC Order", ""),
    ("Face restore", ""),
    ("Token merging ratio", ""),
    ("Token merging ratio high-res", ""),
    ("Always discard next-to-last sigma", ""),
    ("SGM noise multiplier", ""),
    ("Refiner checkpoint", ""),
    ("Refiner switch at", ""),
    ("RNG source", ""),
    ("FP8 mode", ""),
    ("Size", ""),
)
"""Title, and the only tab that has it."""
_OWN = {"Negative Guidance minimum sigma": "NGMS", "RNG source": "RNG"}
"""What the same axis is called here."""


def axis_titles(*, is_img2img: bool) -> tuple[str, ...]:
    """The titles in the order in which callers number them."""
    here = _IMAGE if is_img2img else _TEXT
    return tuple(title for title, tab in _LISTED if tab in ("", here))


def axis_title(chosen: Any, *, is_img2img: bool) -> str | None:
    """What an axis is called here, by its number or its title there; None for Nothing.

    Raises: UnknownName, UsageError for one that is not there.
    """
    titles = axis_titles(is_img2img=is_img2img)
    if isinstance(chosen, bool) or not isinstance(chosen, int | str):
        raise UsageError(f"{clip(repr(chosen), 40)} is no axis", hint="the number or the name of one")
    if isinstance(chosen, int):
        if not 0 <= chosen < len(titles):
            raise UsageError(f"there is no axis {chosen}", hint=f"0 to {len(titles) - 1}")
        chosen = titles[chosen]
    if chosen.strip().casefold() in ("nothing", ""):
        return None
    title = _OWN.get(chosen, chosen)
    if is_img2img or title != "Denoising":
        known = {each.casefold(): each for each in AXES}
        if title.casefold() in known:
            return known[title.casefold()]
    elif title == "Denoising":
        return "Hires denoising"
    raise UnknownName("axis", chosen, AXES)
