"""webui-user files as people have them: what a shell would make of them, without running one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from launcher.variables import MEANINGLESS, read_variables, reason_against


def shell(folder: Path, text: str, **environment: str) -> tuple[dict[str, str], tuple[str, ...]]:
    (folder / "webui-user.sh").write_text(text)
    return read_variables(folder, environment, is_windows=False)


def batch(folder: Path, text: str, **environment: str) -> tuple[dict[str, str], tuple[str, ...]]:
    (folder / "webui-user.bat").write_bytes(text.replace("\n", "\r\n").encode())
    return read_variables(folder, environment, is_windows=True)


LINES = (
    'export COMMANDLINE_ARGS="--medvram --opt-split-attention"',
    "export COMMANDLINE_ARGS='--api-auth $me:secret'",
    'COMMANDLINE_ARGS="--ckpt-dir \\"/my models\\""',
    "COMMANDLINE_ARGS=--listen",
    'COMMANDLINE_ARGS="--data-dir $HOME/sd"  # as before',
    'COMMANDLINE_ARGS="--xformers \\\n--api"',
    'COMMANDLINE_ARGS=--xformers\nexport COMMANDLINE_ARGS="${COMMANDLINE_ARGS} --api"',
)


@pytest.mark.skipif(shutil.which("sh") is None, reason="no shell to agree with")
@pytest.mark.parametrize("text", LINES)
def test_a_line_means_what_a_shell_makes_of_it(tmp_path: Path, text: str) -> None:
    script = f'HOME=/home/x\n{text}\nprintf %s "$COMMANDLINE_ARGS"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    values, notes = shell(tmp_path, text, HOME="/home/x")
    assert values == {"COMMANDLINE_ARGS": done.stdout}
    assert notes == ()


def test_the_files_that_a1111_ships_say_nothing(tmp_path: Path) -> None:
    assert shell(tmp_path, '#!/bin/bash\n####\n#install_dir="/home/$(whoami)"\n#export GIT="git"\n\n') == ({}, ())
    text = "@echo off\n\nset PYTHON=\nset GIT=\nset VENV_DIR=\nset COMMANDLINE_ARGS=\n\ncall webui.bat\n"
    assert batch(tmp_path, text) == ({}, ())


def test_batch_files_keep_quotes_and_backslashes(tmp_path: Path) -> None:
    text = (
        '@echo off\nrem mine\nSET "VENV_DIR=D:\\my envs\\x"\nset commandline_args=%IGNORED%\n'
        'set COMMANDLINE_ARGS=--ckpt-dir "D:\\a b" ^\n--medvram\nset COMMANDLINE_ARGS=%COMMANDLINE_ARGS% --api\n'
    )
    values, notes = batch(tmp_path, text)
    assert values["COMMANDLINE_ARGS"] == '--ckpt-dir "D:\\a b" --medvram --api'
    assert values["VENV_DIR"] == "D:\\my envs\\x"
    assert notes == ()


def test_what_would_have_to_run_is_said(tmp_path: Path) -> None:
    values, notes = shell(tmp_path, "export A=$(id)\nB=`id`\nC=1 rm x\nsource other.sh\nif true; then\n")
    assert values == {}
    assert [note.partition(":")[0] for note in notes[:3]] == [f"webui-user.sh line {number}" for number in (1, 2, 3)]
    assert all("was not read" in note for note in notes)
    assert len(notes) == 5


def test_the_environment_wins_and_other_variables_pass(tmp_path: Path) -> None:
    text = "export COMMANDLINE_ARGS=--lowvram\nexport PYTORCH_ALLOC_CONF=x\npython_cmd=python3.12\nvenv_dir=env\n"
    values, notes = shell(tmp_path, text, COMMANDLINE_ARGS="--medvram")
    assert values == {"PYTORCH_ALLOC_CONF": "x", "PYTHON": "python3.12", "VENV_DIR": "env"}
    assert notes == ()


def test_skip_venv_is_no_environment(tmp_path: Path) -> None:
    assert shell(tmp_path, "export SKIP_VENV=1\n")[0]["VENV_DIR"] == "-"
    assert read_variables(tmp_path / "none", {"SKIP_VENV": "1"}, is_windows=True).values == {"VENV_DIR": "-"}


def test_variables_without_meaning_are_said_once_with_a_reason(tmp_path: Path) -> None:
    _, notes = shell(tmp_path, "export NO_TCMALLOC=True\nexport BLIP_COMMIT_HASH=abc\n", ACCELERATE="True")
    assert [note.partition(":")[0] for note in notes] == ["NO_TCMALLOC", "BLIP_COMMIT_HASH", "ACCELERATE"]
    assert all(reason_against(name) for name in MEANINGLESS)


def test_letters_of_an_old_windows_do_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "webui-user.bat").write_bytes("rem モデル\r\nset COMMANDLINE_ARGS=--api\r\n".encode("cp932"))
    assert read_variables(tmp_path, {}, is_windows=True).values == {"COMMANDLINE_ARGS": "--api"}
