"""Lazy registries: nothing is imported before it is asked for, and each mistake is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hayate.errors import MissingDependency, UnknownName
from hayate.registry import Registry


def test_an_entry_is_imported_when_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_lazy_engine.py").write_text("class Engine: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry(kind="engine", places={"lazy": "a_lazy_engine:Engine"})
    assert "a_lazy_engine" not in sys.modules
    assert (list(registry), "lazy" in registry) == (["lazy"], True)
    assert registry.load("lazy").__name__ == "Engine"
    assert "a_lazy_engine" in sys.modules


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown engine 'tensort'.*nearest: tensorrt"):
        Registry(kind="engine", places={"torch": "x:y", "tensorrt": "x:y"}).load("tensort")


def test_a_missing_package_is_named_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("import a_package.that_is_not_here\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    places = {"plain": "needs_more:x", "told": "needs_more:x"}
    registry = Registry(kind="engine", places=places, packages={"told": "pip install hayate[more]"})
    with pytest.raises(MissingDependency, match=r"'a_package'.*pip install a_package"):
        registry.load("plain")
    with pytest.raises(MissingDependency, match=r"hayate\[more\]"):
        registry.load("told")


@pytest.mark.parametrize("place", ["no_such_module_at_all:x", "hayate.no_such_room.at_all:x"])
def test_a_wrong_place_is_our_bug_and_not_a_missing_package(place: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        Registry(kind="engine", places={"wrong": place}).load("wrong")
