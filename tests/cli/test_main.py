"""The command line's door: every failure is one line with a hint and its exit code, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hayate import __version__
from hayate.cli import main as door
from hayate.cli.main import COMMANDS, main
from hayate.errors import BrokenFile, EngineError, MissingDependency, UsageError


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_no_words_and_help_print_the_short_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    shown = capsys.readouterr()
    assert all(f"\n  {name}" in shown.out for name in COMMANDS)
    assert shown.err == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hayate {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_page(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert "--json" in capsys.readouterr().out or name in ("models", "bench", "tune", "serve")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["generat", "x"], "unknown command 'generat' (nearest: generate"),
        (["--verion"], "unknown option '--verion' (nearest: --version"),
        (["generate", "--stpes", "3", "x"], "no such option: --stpes (nearest: --steps"),
        (["generate", "--steps", "many", "x"], "--steps"),
        (["generate"], "missing argument"),
        (["generate", "a", "b"], "(see hayate generate --help)"),
        (["generate", "--steps"], "--steps"),
        (["models", "lst"], "(one of: list, inspect"),
        (["models"], "(one of: list, inspect"),
        (["info"], "(see hayate info --help)"),
        (["info", "a\nb.png"], "no file a b.png"),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert expected in shown.err


@pytest.mark.parametrize("error", [UsageError("u"), BrokenFile("b"), EngineError("e"), MissingDependency("m")])
def test_each_error_has_its_exit_code(
    error: UsageError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(door, "run", fail)
    assert main(["info"]) == error.exit_code
    assert capsys.readouterr().err == f"error: {error.message}\n"
    assert main(["info", "--traceback"]) == error.exit_code
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_is_one_line_that_names_the_saved_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: list[str]) -> int:
        return 1 // 0

    monkeypatch.setattr(door, "run", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["info"]) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: unexpected ZeroDivisionError")
    assert line.count("\n") == 1
    (saved,) = tmp_path.iterdir()
    assert str(saved) in line
    assert "Traceback" in saved.read_text()


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(door, "run", interrupt)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_traceback_after_two_dashes_is_a_prompt() -> None:
    words = ["generate", "--", "--traceback"]
    assert not door._take_flag(words, "--traceback")
    assert words == ["generate", "--", "--traceback"]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end differently there")
def test_a_reader_that_goes_away_is_no_failure() -> None:
    code = "import sys; from hayate.cli.main import main; sys.exit(main(['--help']))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
