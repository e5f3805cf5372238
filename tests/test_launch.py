"""The launcher's logic, with an imagined pip: stamps, variables and faults. Nothing is installed here."""

from __future__ import annotations

import errno
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from launcher import pythons, steps, swap
from launcher.home import locate_home
from launcher.lock import only_one
from launcher.variables import MEANINGLESS

ROOT = Path(__file__).resolve().parent.parent
VARIABLES = ("VENV_DIR", "PYTHON", "COMMANDLINE_ARGS", "TORCH_COMMAND", "TORCH_INDEX_URL", "GIT", *MEANINGLESS)


class World:
    """A copy of the project in an empty folder, where every process that launch.py starts is imagined."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.steps: list[list[str]] = []
        """The modules that were run, with their arguments."""
        self.fails_at = ""
        self.output = ""
        self.launched: list[str] = []
        self.version: tuple[int, ...] = (3, 11)
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
            python.with_name("pip").write_text(f"#!{python}\n")
            Path(module[1], "pyvenv.cfg").write_text(f"version = 3.11.7\ncommand = python -m venv {module[1]}\n")
        return 0

    def run(self, command: list[str]) -> int:
        self.launched = command
        return 0

    def start(self, *arguments: str) -> int:
        self.steps.clear()
        return self.launch.main(list(arguments), self.root)

    @property
    def modules(self) -> list[str]:
        return [step[0] for step in self.steps]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    # launch.py puts what it reads from files there, which must not outlive the test.
    monkeypatch.setattr(os, "environ", {name: text for name, text in os.environ.items() if name not in VARIABLES})
    monkeypatch.chdir(tmp_path)
    for name in ("constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    world = World(tmp_path)
    launch: ModuleType = world.launch
    monkeypatch.setattr(launch, "run", world.run)
    monkeypatch.setattr(steps, "cuda_index", lambda: "")
    monkeypatch.setattr(subprocess, "call", world.call)
    monkeypatch.setattr(pythons, "ask_version", lambda python, _: world.version if Path(python).exists() else ())
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
def test_help_is_still_help(world: World, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    world.start()
    capsys.readouterr()
    world.start(word)
    assert world.launched[4:] == [word]
    assert ("--rebuild-venv" in capsys.readouterr().err) == (word != "--version")


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

    monkeypatch.setattr(subprocess, "call", interrupt)
    assert world.start() == 130
    (world.root / ".venv" / "half a package").touch()
    monkeypatch.setattr(subprocess, "call", world.call)
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
    monkeypatch.setattr(pythons, "ask_version", lambda *_: version)
    assert world.start() == 1
    assert "needs Python 3.11 to 3.14" in capsys.readouterr().err
    assert world.steps == []


def test_a_full_disk_and_a_read_only_folder_are_said(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "/somewhere")

    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("usage", (), {"free": 10}))
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
    monkeypatch.setattr(time, "sleep", lambda _: first.close())
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


# ------------------------------------------------------------------------------------------ the launcher's own flags


def test_the_launchers_flags_are_taken_out_of_both_places_and_not_from_text(world: World) -> None:
    os.environ["COMMANDLINE_ARGS"] = "--skip-python-version-check --medvram"
    world.version = (3, 15)
    assert world.start("generate", "--exit", "--", "--update") == 0
    assert world.launched == []
    assert world.start("generate", "--", "--update") == 0
    assert world.launched[4:] == ["generate", "--medvram", "--", "--update"]


def test_sysinfo_is_the_doctors_sheet(world: World) -> None:
    world.start("--dump-sysinfo")
    command, flag, file = world.launched[4:]
    assert (command, flag) == ("doctor", "--facts")
    assert file.startswith("sysinfo-20")


def test_skip_install_starts_what_is_there(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.start("--skip-install") == 1
    assert "start once without --skip-install" in capsys.readouterr().err
    world.start()
    (world.root / "pyproject.toml").write_text("[project]\nname='other'\n")
    assert world.start("info", "--skip-install") == 0
    assert world.steps == []
    assert world.launched[4:] == ["info"]


def test_torch_is_installed_again_on_request(world: World) -> None:
    world.start()
    world.start("--reinstall-torch")
    assert world.modules == ["pip", "pip", "pip"]
    assert world.steps[0][:3] == ["pip", "install", "--force-reinstall"]
    assert world.steps[0][-1] == "torch==2.13.0"
    world.start()
    assert world.steps == []


def test_a_torch_that_could_not_be_installed_again_leaves_the_old_one_in_use(world: World) -> None:
    world.start()
    world.fails_at = "--force-reinstall"
    assert world.start("--reinstall-torch") == 1
    assert world.start("info") == 0
    assert world.steps == []


def test_xformers_is_looked_for_before_anything_is_changed(world: World) -> None:
    world.start()
    world.fails_at = "--dry-run"
    assert world.start("--reinstall-xformers") == 1
    assert len(world.steps) == 1
    world.fails_at = ""
    os.environ["XFORMERS_PACKAGE"] = "xformers==0.0.35"
    assert world.start("--reinstall-xformers") == 0
    looking, installing = world.steps
    assert "torch==3.11\n" in Path(looking[5]).read_text(), "the one that is installed, as imagined here"
    assert installing == ["pip", "install", "--force-reinstall", "--no-deps", "xformers==0.0.35"]


def test_a_newer_version_starts_its_own_launcher(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.launch, "update", lambda root: True)
    os.environ["COMMANDLINE_ARGS"] = "--medvram"
    assert world.start("--update", "--port", "7861") == 0
    assert world.launched == [sys.executable, str(world.root / "launch.py"), "--port", "7861"]


def test_no_checkout_is_said_and_started(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.start("info", "--update") == 0
    assert "not updated: it is no git checkout" in capsys.readouterr().err
    assert world.launched[4:] == ["info"]


# ------------------------------------------------------------------------------------------------------ rebuilding


def test_an_environment_is_made_beside_the_old_one_and_put_in_its_place(world: World) -> None:
    world.start("test")
    old = world.root / ".venv"
    (old / "lib/python3.11/site-packages/xFormers-0.0.35.dist-info").mkdir(parents=True)
    (old / "old").touch()
    assert world.start("info", "--rebuild-venv") == 0
    assert world.steps[0] == ["venv", str(world.root / ".ven~")]
    assert world.steps[2][-1] == f"{world.root}[test]", "what the old one had"
    assert "import torch" in world.steps[-1][0]
    assert not (old / "old").exists()
    assert (old / "bin/pip").read_text() == f"#!{old}/bin/python\n" or sys.platform == "win32"
    assert sorted(each.name for each in world.root.iterdir() if each.name.startswith(".ven")) == [".venv"]
    assert world.start("test") == 0
    assert world.steps == []


def test_what_the_new_one_lacks_is_said(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.start()
    (world.root / ".venv/lib/python3.11/site-packages/xFormers-0.0.35.dist-info").mkdir(parents=True)
    world.start("--rebuild-venv")
    assert "note: no longer installed: xformers\n" in capsys.readouterr().err


@pytest.mark.parametrize("fails_at", ["venv", "torch==", "--editable", "open_clip", "import torch"])
def test_a_new_environment_that_does_not_work_leaves_the_old_one(world: World, fails_at: str) -> None:
    world.start()
    (world.root / ".venv" / "old").touch()
    world.fails_at = fails_at
    assert world.start("--rebuild-venv") == 1
    assert world.start("info") == 0
    assert world.steps == []
    assert (world.root / ".venv" / "old").exists()


class Killed(BaseException):
    """The machine went away."""


PRIMITIVES = (
    (Path, "rename"),
    (Path, "replace"),
    (Path, "touch"),
    (Path, "unlink"),
    (Path, "rmdir"),
    (Path, "mkdir"),
    (Path, "write_text"),
    (Path, "write_bytes"),
    (shutil, "rmtree"),
    (subprocess, "call"),
)
"""Everything by which a rebuild changes the disk."""


def killed_at(count: int, world: World) -> bool:
    """Rebuilds, and is killed just before the change with that number; whether it came to it."""
    left = count

    def counted(act: Any) -> Any:
        def once(*arguments: Any, **keywords: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return act(*arguments, **keywords)

        return once

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in PRIMITIVES:
            patch.setattr(owner, name, counted(getattr(owner, name)))
        try:
            assert world.start("info", "--rebuild-venv") == 0
        except Killed:
            return True
    return False


def test_a_rebuild_that_is_killed_anywhere_leaves_an_installation_that_works(world: World) -> None:
    world.start()
    count = 0
    while killed_at(count, world):
        world.launched = []
        assert world.start("info") == 0, count
        assert world.steps == [], f"killed at change {count}: something was installed again"
        assert Path(world.launched[0]).exists()
        assert environments(world) == [".venv"], f"killed at change {count}: gigabytes were left"
        count += 1
    assert count > 20
    assert environments(world) == [".venv"]


def environments(world: World) -> list[str]:
    return sorted(each.name for each in world.root.iterdir() if each.name.startswith(".ven"))


def test_a_start_beside_a_rebuild_leaves_it_alone(world: World) -> None:
    world.start()
    making = world.root / ".ven~"
    making.mkdir()
    (making / "hayate-venv").touch()
    with only_one(locate_home(world.root)):
        assert world.start("info") == 0
        assert making.exists()
    assert world.start("info") == 0
    assert environments(world) == [".venv"]


def test_a_strange_folder_in_the_way_is_not_removed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.start()
    (world.root / ".ven~").mkdir()
    (world.root / ".ven~" / "diary.txt").write_text("mine")
    assert world.start("--rebuild-venv") == 1
    assert "is in the way" in capsys.readouterr().err
    assert (world.root / ".ven~" / "diary.txt").read_text() == "mine"
    (world.root / ".venv" / "hayate-venv").unlink()
    assert world.start("--rebuild-venv") == 1
    assert "was not made by launch.py" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="scripts are programs there")
def test_a_real_environments_scripts_run_in_their_new_place(tmp_path: Path) -> None:
    venv = tmp_path / ".venv"
    new = swap.side(venv)
    for place in (venv, new):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True, timeout=60)
        (place / swap.OWN).touch()
        (place / swap.STAMP).touch()
    script = new / "bin" / "where"
    script.write_text(f"#!{new}/bin/python\nimport sys\nprint(sys.prefix)\n")
    script.chmod(0o755)
    swap.relocate(venv)
    swap.exchange(venv)
    done = subprocess.run([venv / "bin" / "where"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == str(venv)
    assert [each.name for each in tmp_path.iterdir()] == [".venv"]
    assert str(new) not in (venv / "bin" / "activate").read_text()


# ----------------------------------------------------------------------------------------- A1111's file of variables


@pytest.mark.skipif(sys.platform == "win32", reason="the other file is read there")
def test_a_webui_user_file_is_read_and_not_executed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = world.root / "theirs"
    theirs.mkdir()
    (theirs / "pyvenv.cfg").touch()
    (world.root / "webui-user.sh").write_text(
        'export COMMANDLINE_ARGS="--xformers --port 7861"\n'
        f'venv_dir="{theirs}"\npython_cmd="no-such-python3.10"\nexport NO_TCMALLOC="True"\n'
        "export TORCH_COMMAND=$(touch made)\nfind / -delete\n"
    )
    assert world.start() == 0
    assert world.launched[4:] == ["serve", "--xformers", "--port", "7861"]
    assert Path(world.launched[0]).is_relative_to(world.root / ".venv")
    said = capsys.readouterr().err
    for part in ("another program's", "no Python 3.11", "NO_TCMALLOC", "TORCH_COMMAND would have", "line 6 is no"):
        assert part in said


@pytest.mark.skipif(sys.platform == "win32", reason="hayate.bat is for there")
def test_the_script_takes_a_python_that_fits(tmp_path: Path) -> None:
    shutil.copy(ROOT / "hayate.sh", tmp_path)
    (tmp_path / "launch.py").write_text("import sys\nprint(sys.executable, *sys.argv[1:])\n")
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable}
    command = [str(tmp_path / "hayate.sh"), "generate", "a red sun"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"{sys.executable} generate a red sun\n"
    (tmp_path / "bin").mkdir()
    for name in ("dirname", "sh"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    done = subprocess.run(command, env={"PATH": str(tmp_path / "bin")}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no Python 3.11")
