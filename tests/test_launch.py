"""The launcher's logic, with an imagined pip: stamps, variables and faults. Nothing is installed here."""

from __future__ import annotations

import errno
import importlib.util
import io
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


class World:
    """A copy of the project in an empty folder, where every process that launch.py starts is imagined."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.steps: list[list[str]] = []
        """The modules that were run, with their arguments."""
        self.fails_at = ""
        self.output = ""
        self.launched: list[str] = []
        spec = importlib.util.spec_from_file_location("launch_under_test", ROOT / "launch.py")
        assert spec
        assert spec.loader
        self.launch: Any = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = self.launch
        spec.loader.exec_module(self.launch)

    def call(self, command: list[str], *, stdout: io.TextIOBase, **_: object) -> int:
        module = command[2:]
        self.steps.append(module)
        if self.fails_at and self.fails_at in " ".join(module):
            stdout.write(self.output)
            return 1
        if module[0] == "venv":
            python = Path(module[1], "Scripts/python.exe" if sys.platform == "win32" else "bin/python")
            python.parent.mkdir(parents=True)
            python.touch()
            Path(module[1], "pyvenv.cfg").write_text("version = 3.11.7\n")
        return 0

    def run(self, command: list[str]) -> int:
        self.launched = command
        return 0

    def start(self, *arguments: str) -> int:
        self.steps.clear()
        return self.launch.main(list(arguments))

    @property
    def modules(self) -> list[str]:
        return [step[0] for step in self.steps]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for name in ("VENV_DIR", "PYTHON", "COMMANDLINE_ARGS", "TORCH_COMMAND", "TORCH_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    world = World(tmp_path)
    launch: ModuleType = world.launch
    monkeypatch.setattr(launch, "ROOT", tmp_path)
    monkeypatch.setattr(launch, "STATE", tmp_path / ".launch")
    monkeypatch.setattr(launch, "run", world.run)
    monkeypatch.setattr(launch, "cuda_index", lambda: "")
    monkeypatch.setattr(launch.subprocess, "call", world.call)
    monkeypatch.setattr(launch, "ask_version", lambda python, _: (3, 11) if Path(python).exists() else ())
    return world


def test_the_first_start_installs_and_the_second_only_runs(world: World) -> None:
    assert world.start("generate", "a boat") == 0
    assert world.modules == ["venv", "pip", "pip", "pip"]
    torch, project, vocabulary = world.steps[1:]
    assert torch[-1] == "torch==2.13.0"
    assert project[-1] == str(world.root)
    assert vocabulary == ["pip", "install", "--no-deps", "open_clip_torch==3.3.0"]
    assert world.start("generate", "a boat") == 0
    assert world.steps == []
    assert world.launched[1:] == ["-P", "-m", "hayate", "generate", "a boat"]
    assert Path(world.launched[0]).is_relative_to(world.root / ".venv")


@pytest.mark.parametrize("change", ["constraints.txt", "pyproject.toml", "TORCH_COMMAND", "pyvenv.cfg"])
def test_whatever_the_stamp_covers_installs_again(world: World, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world.start()
    if change == "TORCH_COMMAND":
        monkeypatch.setenv(change, "pip install torch==2.14.0")
    else:
        file = world.root / (f".venv/{change}" if change == "pyvenv.cfg" else change)
        file.write_text(file.read_text() + "\n# changed\n")
    world.start()
    assert world.modules == ["pip", "pip", "pip"]
    world.start()
    assert world.steps == []


def test_the_test_extra_is_stamped_by_itself(world: World) -> None:
    world.start("test", "-x")
    assert world.steps[2][-1] == f"{world.root}[test]"
    names = [each.partition("==")[0] for each in world.steps[3]]
    assert names == ["pip", "install", "--no-deps", "open_clip_torch", "spandrel", "einops"], "without torchvision"
    assert world.launched[1:] == ["-m", "pytest", "-x"]
    world.start("info")
    assert world.steps == []
    world.start("test")
    assert world.steps == []


def test_without_a_venv_the_interpreter_itself_is_used_and_its_torch_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENV_DIR", "-")
    world.start("info")
    assert world.modules == ["pip", "pip"]
    pins = Path(world.steps[0][3]).read_text()
    assert "\ntorch==" not in pins
    assert "\nnumpy==" in pins
    assert world.launched[0] == sys.executable
    world.start("info")
    assert world.steps == []


def test_venv_dir_and_python_choose_the_place_and_the_interpreter(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENV_DIR", str(world.root / "my envs"))
    monkeypatch.setenv("PYTHON", sys.executable)
    world.start()
    assert world.steps[0] == ["venv", str(world.root / "my envs")]
    monkeypatch.setenv("PYTHON", "no-such-python")
    monkeypatch.setenv("VENV_DIR", "other")
    assert world.start() == 1


def test_commandline_args_are_appended_but_not_to_the_tests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMMANDLINE_ARGS", '--steps 5 -o "my pictures"')
    world.start("generate", "x")
    assert world.launched[4:] == ["generate", "x", "--steps", "5", "-o", "my pictures"]
    world.start("test")
    assert world.launched[1:] == ["-m", "pytest"]


@pytest.mark.parametrize("words", [[], ["--listen", "--api-auth", "me:secret"], ["--xformers"]])
def test_without_a_command_it_opens_the_page(world: World, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMMANDLINE_ARGS", "--medvram")
    world.start(*words)
    assert world.launched[4:] == ["serve", *words, "--medvram"]


@pytest.mark.parametrize("word", ["--help", "-h", "--version"])
def test_help_is_still_help(world: World, word: str) -> None:
    world.start(word)
    assert world.launched[4:] == [word]


@pytest.mark.parametrize(
    "command", ["pip install torch==2.14.0 --index-url u", "python -m pip install torch==2.14.0 --index-url u"]
)
def test_torch_command_replaces_ours(world: World, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("TORCH_COMMAND", command)
    world.start()
    assert world.steps[1] == ["pip", "install", "torch==2.14.0", "--index-url", "u"]
    assert "\ntorch==" not in Path(world.steps[2][3]).read_text()


def test_an_index_of_pytorchs_gives_torch_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_INDEX_URL", "https://example.org/cu126")
    world.start()
    assert world.steps[1] == [
        "pip",
        "install",
        "--no-deps",
        "--index-url",
        "https://example.org/cu126",
        "torch==2.13.0",
    ]
    assert "\ntorch==2.13.0" in Path(world.steps[2][3]).read_text()


@pytest.mark.parametrize(
    ("answer", "system", "expected"),
    [("8.9\n", "nt", "cu130"), ("8.9\n", "posix", ""), ("6.1\n", "nt", "cu126"), ("8.6\n6.1\n", "posix", "cu126")],
)
def test_the_card_decides_the_index(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, system: str, expected: str
) -> None:
    launch = World(tmp_path).launch
    done = launch.subprocess.CompletedProcess([], 0, stdout=answer)
    monkeypatch.setattr(launch.subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(launch, "os", type("os", (), {"name": system}))
    assert launch.cuda_index().rpartition("/")[2] == expected


@pytest.mark.parametrize(
    ("fails_at", "output", "hint"),
    [
        ("venv", "ensurepip is not available", "apt install python3-venv"),
        ("torch==", "ERROR: No matching distribution found for torch==2.13.0", "try Python 3.12"),
        ("--editable", "OSError: [Errno 28] No space left on device", "disk is full"),
        ("--editable", "error: externally-managed-environment", "VENV_DIR"),
        ("open_clip", "NewConnectionError(...)", "no connection"),
        ("open_clip", "something new", "install.log"),
    ],
)
def test_a_failed_step_shows_its_output_and_one_line_and_is_continued_later(
    world: World, capsys: pytest.CaptureFixture[str], fails_at: str, output: str, hint: str
) -> None:
    world.fails_at, world.output = fails_at, output
    assert world.start() == 1
    last = capsys.readouterr().err.splitlines()
    assert last[-1].startswith("error: ")
    assert hint in last[-1]
    assert any(output in line for line in last[:-1])
    world.fails_at = ""
    assert world.start() == 0
    assert world.start() == 0
    assert world.steps == []


def test_an_interrupted_installation_is_made_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(command: list[str], **keywords: Any) -> int:
        if command[2] == "pip":
            raise KeyboardInterrupt
        return world.call(command, **keywords)

    monkeypatch.setattr(world.launch.subprocess, "call", interrupt)
    assert world.start() == 130
    (world.root / ".venv" / "half a package").touch()
    monkeypatch.setattr(world.launch.subprocess, "call", world.call)
    assert world.start() == 0
    assert world.modules == ["venv", "pip", "pip", "pip"]
    assert not (world.root / ".venv" / "half a package").exists()


def test_a_folder_that_is_no_venv_of_ours_is_never_removed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (world.root / ".venv").mkdir()
    (world.root / ".venv" / "diary.txt").write_text("mine")
    assert world.start() == 1
    assert "is not a virtual environment" in capsys.readouterr().err
    assert (world.root / ".venv" / "diary.txt").read_text() == "mine"


@pytest.mark.parametrize("version", [(3, 10), (3, 15), ()])
def test_a_python_without_pins_is_refused(
    world: World, version: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(world.launch, "ask_version", lambda *_: version)
    assert world.start() == 1
    assert "needs Python 3.11 to 3.14" in capsys.readouterr().err
    assert world.steps == []


def test_a_full_disk_and_a_read_only_folder_are_said(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "/somewhere")

    monkeypatch.setattr(world.launch.shutil, "disk_usage", lambda _: type("usage", (), {"free": 10}))
    assert world.start() == 1
    assert "less than 2 GB" in capsys.readouterr().err
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert world.start() == 1
    assert capsys.readouterr().err == (
        "error: can't write /somewhere: Read-only file system (check its permissions and free space)\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="the lock is another one there")
def test_a_second_start_waits_for_the_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    (world.root / ".launch").mkdir()
    first = (world.root / ".launch" / "lock").open("a+")
    fcntl.flock(first, fcntl.LOCK_EX)
    monkeypatch.setattr(world.launch.time, "sleep", lambda _: first.close())
    assert world.start() == 0
    assert first.closed
    assert world.modules == ["venv", "pip", "pip", "pip"]


def test_every_package_of_the_project_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = [
        line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").open() if "==" in line
    ]
    for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
        assert requirement.partition(">")[0].partition("[")[0].lower() in pins
    assert len(pins) == len(set(pins))
