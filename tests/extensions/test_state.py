"""What is remembered of extensions survives damage, and half a file is never seen."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.errors import OutputError
from hayate.extensions.state import Installed, LastTime, State, StateFile

NAMES = st.text("abcdefgh-", min_size=1, max_size=8)
ROWS = st.builds(
    Installed,
    source=st.text(),
    version=st.text(),
    at_s=st.floats(0, 2e9),
    packages=st.lists(st.text(), max_size=3).map(tuple),
)


@given(disabled=st.frozensets(NAMES), installed=st.dictionaries(NAMES, ROWS, max_size=3))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, disabled: frozenset[str], installed: dict[str, Installed]
) -> None:
    file = StateFile(tmp_path_factory.mktemp("state"))
    state = State(disabled=disabled, installed=installed)
    file.write(state)
    assert (file.read(), file.notes) == (state, [])


DAMAGED = {
    "half a file": b'{"disabled": ["a"',
    "nothing": b"",
    "another thing": b"[1, 2]",
    "rows of another kind": b'{"installed": {"a": 3}}',
    "names of another kind": b'{"disabled": 3}',
    "no text": b"\xff\xfe",
    "nested without end": b"[" * 200_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_put_aside_and_said(tmp_path: Path, content: bytes) -> None:
    file = StateFile(tmp_path)
    file.path.write_bytes(content)
    assert file.read() == State()
    assert "was damaged" in file.notes[0]
    [aside] = tmp_path.glob("extensions.json.broken-*")
    assert aside.read_bytes() == content
    file.write(State(disabled=frozenset({"a"})))
    assert StateFile(tmp_path).read().disabled == {"a"}


def test_damaged_times_are_put_aside_too(tmp_path: Path) -> None:
    (tmp_path / "extension-times.json").write_text('{"a": {"nothing": 1}}')
    file = StateFile(tmp_path)
    assert file.last_times() == {}
    file.keep_times({"b": LastTime(at_s=1.0, import_s=0.5)})
    assert StateFile(tmp_path).last_times()["b"].import_s == 0.5


def test_times_of_others_stay(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.keep_times({"a": LastTime(at_s=1.0, hook_s=2.0)})
    file.keep_times({"b": LastTime(at_s=2.0)})
    assert StateFile(tmp_path).last_times()["a"].hook_s == 2.0


def test_a_process_that_measured_nothing_adds_only_why(tmp_path: Path) -> None:
    """As the server, which is told of what failed in its worker."""
    file = StateFile(tmp_path)
    file.keep_times({"a": LastTime(at_s=1.0, import_s=15.0)})
    file.keep_times({"a": LastTime(at_s=2.0, problem="it hung")})
    assert file.last_times()["a"] == LastTime(at_s=1.0, import_s=15.0, problem="it hung")


def test_a_write_that_fails_leaves_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = StateFile(tmp_path)
    file.write(State(disabled=frozenset({"a"})))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        file.write(State())
    assert StateFile(tmp_path).read().disabled == {"a"}
    assert [path.name for path in tmp_path.iterdir()] == ["extensions.json"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError):
        StateFile(tmp_path / "deeper").write(State())
