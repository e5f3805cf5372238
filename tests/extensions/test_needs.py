"""What packages need is followed to its end, as pip would; nothing that Hayate is tested with is ever free to go."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hayate.extensions.needs import NEVER, needed_by, pinned

NAMES = "abcdefgh"
GRAPHS = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=4))


def reached(roots: list[str], edges: dict[str, list[str]]) -> set[str]:
    """By the definition: until nothing is added any more."""
    found = set(roots)
    while more := {each for name in found for each in edges.get(name, [])} - found:
        found |= more
    return found


@given(st.lists(st.sampled_from(NAMES), max_size=3), GRAPHS)
def test_all_that_is_reached_is_needed_and_nothing_else(roots: list[str], edges: dict[str, list[str]]) -> None:
    assert set(needed_by({"root": roots}, edges)) == reached(roots, edges)


def test_who_asks_is_named() -> None:
    needs = needed_by({"the extension mine": ["Some_Thing>=2"], "other": ["deeper"]}, {"some-thing": ["below"]})
    assert needs == {"some-thing": "the extension mine", "deeper": "other", "below": "some-thing"}


def test_extras_count_where_somebody_asks_for_them() -> None:
    installed = {"frame": ["fast ; extra == 'speed'", "base"]}
    assert set(needed_by({"x": ["frame"]}, installed)) == {"frame", "base"}
    assert set(needed_by({"x": ["frame[speed]"]}, installed)) == {"frame", "base", "fast"}
    assert set(needed_by({"hayate": ["fast ; extra == 'speed'"]}, {})) == {"fast"}
    assert set(needed_by({"x": ["old ; python_version < '3'", "new ; python_version > '3'"]}, {})) == {"new"}


def test_what_can_not_be_understood_is_passed() -> None:
    assert needed_by({"x": ["???", "fine"]}, {}) == {"fine": "x"}


def test_what_hayate_is_tested_with_is_pinned(tmp_path: Path) -> None:
    assert {"torch", "jinja2", "numpy", "pip"} <= pinned()
    assert pinned(tmp_path / "none.txt") == frozenset(NEVER)
