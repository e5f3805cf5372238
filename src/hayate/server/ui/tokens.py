"""How many tokens a prompt has, for the counter above its box."""

from __future__ import annotations

from collections.abc import Sequence

from hayate.errors import HayateError
from hayate.prompt.styles import apply_styles, choose_styles
from hayate.server.ui.style_sheet import styles_of
from hayate.settings import Settings


def count_prompts(
    prompt: str, negative_prompt: str, styles: Sequence[str], steps: int, settings: Settings
) -> list[tuple[int | None, int]]:
    """For prompt and negative prompt, styles applied: the tokens used and how many fit before another chunk.

    None where nothing can be counted: a style that is gone, or no vocabulary; whoever generates is told so.
    """
    from hayate.prompt import count_tokens, load_tokenizer

    counts: list[tuple[int | None, int]] = []
    for text, is_negative in ((prompt, False), (negative_prompt, True)):
        try:
            chosen = choose_styles(styles, styles_of(settings)) if styles else ()
            whole = apply_styles(text, chosen, is_negative=is_negative)
            counts.append(count_tokens(whole, load_tokenizer(), steps=steps))
        except HayateError:
            counts.append((None, 75))
    return counts
