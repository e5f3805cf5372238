"""What a prompt says: text to spans, stages and tokens. No tensor library is loaded here."""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hayate.prompt.chunks import Emphasis, Tokens, chunk, count_tokens, spans_of, tokenize
    from hayate.prompt.extra_networks import ExtraNetwork, split_extra_networks
    from hayate.prompt.grammar import BREAK, MAX_PROMPT_CHARS, Span, parse_attention
    from hayate.prompt.schedule import Prompt, Stage, Subprompt, parse_prompt, parse_schedule
    from hayate.prompt.styles import Style, StyleSheet, apply_styles, choose_styles, read_styles
    from hayate.prompt.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "BREAK",
    "MAX_PROMPT_CHARS",
    "Emphasis",
    "ExtraNetwork",
    "Prompt",
    "Span",
    "Stage",
    "Style",
    "StyleSheet",
    "Subprompt",
    "Tokenizer",
    "Tokens",
    "apply_styles",
    "choose_styles",
    "chunk",
    "count_tokens",
    "load_tokenizer",
    "parse_attention",
    "parse_prompt",
    "parse_schedule",
    "read_styles",
    "spans_of",
    "split_extra_networks",
    "tokenize",
]

_PLACES = MappingProxyType(
    {
        "hayate.prompt.chunks": (
            "Emphasis",
            "Tokens",
            "chunk",
            "count_tokens",
            "spans_of",
            "tokenize",
        ),
        "hayate.prompt.extra_networks": (
            "ExtraNetwork",
            "split_extra_networks",
        ),
        "hayate.prompt.grammar": (
            "BREAK",
            "MAX_PROMPT_CHARS",
            "Span",
            "parse_attention",
        ),
        "hayate.prompt.schedule": (
            "Prompt",
            "Stage",
            "Subprompt",
            "parse_prompt",
            "parse_schedule",
        ),
        "hayate.prompt.styles": (
            "Style",
            "StyleSheet",
            "apply_styles",
            "choose_styles",
            "read_styles",
        ),
        "hayate.prompt.tokenizer": (
            "Tokenizer",
            "load_tokenizer",
        ),
    }
)
"""Where each name is. They are imported when they are asked for: reading styles must not wait for numpy."""


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
