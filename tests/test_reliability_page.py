"""Every promise of docs/reliability.md names tests that are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = {
    cells[0]: cells[2]
    for line in PAGE.splitlines()
    if line.startswith("| ")
    and len(cells := [each.strip() for each in line.strip("|").split(" | ")]) == 3
    and cells[0] not in ("Threat", "Fault")
}


@cache
def names_in(path: Path) -> frozenset[str]:
    """The tests of a file: functions, and machines of states."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))
    )


def test_no_row_is_passed_over() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    assert len(ROWS) == len(lines) - 2, "a row has other than three cells, or stands twice"
    assert len(ROWS) > 25


@pytest.mark.parametrize("row", ROWS)
def test_every_promise_is_held_by_tests_that_are_there(row: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", ROWS[row])
    assert named
    for path, name in named:
        assert (TESTS / path).is_file(), path
        assert name in names_in(TESTS / path), f"{path} has no {name}"
    for path in re.findall(r"`(benchmarks/\w+\.py)`", ROWS[row]):
        assert (ROOT / path).is_file(), path
