"""Updating against a real git: a clone that is behind, one that was edited, one that went its own way."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from launcher.checkout import NotUpdatedError, update

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git")


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def commit(folder: Path, text: str) -> None:
    (folder / "file").write_text(text)
    git(folder, "add", "file")
    git(folder, "commit", "-m", text)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    git(source, "init", "-b", "main")
    commit(source, "one")
    git(tmp_path, "clone", str(source), "clone")
    return tmp_path / "clone"


def test_a_clean_clone_follows(clone: Path) -> None:
    assert not update(clone, "git")
    commit(clone.parent / "source", "two")
    (clone / "outputs.png").touch()
    assert update(clone, "git")
    assert (clone / "file").read_text() == "two"


def test_edits_stay(clone: Path) -> None:
    commit(clone.parent / "source", "two")
    (clone / "file").write_text("mine")
    with pytest.raises(NotUpdatedError, match="git stash"):
        update(clone, "git")
    assert (clone / "file").read_text() == "mine"


def test_commits_of_ones_own_stay(clone: Path) -> None:
    commit(clone.parent / "source", "two")
    commit(clone, "mine")
    with pytest.raises(NotUpdatedError, match="git pull: fatal"):
        update(clone, "git")
    assert (clone / "file").read_text() == "mine"


def test_what_stands_in_the_way_is_said(clone: Path, tmp_path: Path) -> None:
    with pytest.raises(NotUpdatedError, match="no git checkout"):
        update(tmp_path, "git")
    with pytest.raises(NotUpdatedError, match="no-such-git was not found"):
        update(clone, "no-such-git")
    shutil.rmtree(clone.parent / "source")
    with pytest.raises(NotUpdatedError, match="git pull: fatal"):
        update(clone, "git")
