"""The pages in docs/ that come from the code are fresh."""

from __future__ import annotations

from pathlib import Path

from hayate.cli.page import cli_page
from hayate.extensions.kinds import HOOKS
from hayate.extensions.page import extensions_page
from hayate.samplers.catalogue import SAMPLERS, samplers_page

DOCS = Path(__file__).parent.parent / "docs"


def test_the_samplers_page_is_fresh() -> None:
    page = (DOCS / "samplers.md").read_text(encoding="utf-8")
    assert page == samplers_page(), "run scripts/docs"
    assert all(f"| {info.name} |" in page for info in SAMPLERS)


def test_the_extensions_page_is_fresh() -> None:
    page = (DOCS / "extensions.md").read_text(encoding="utf-8")
    assert page == extensions_page(), "run scripts/docs"
    assert all(f"| `{name}` |" in page for name in HOOKS)


def test_the_cli_page_is_fresh() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert page == cli_page(), "run scripts/docs"
    assert "--sampler" in page
