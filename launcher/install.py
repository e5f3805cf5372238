"""The first start, and what is asked for again: the environment and its packages, whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from launcher import swap
from launcher.home import Home, is_strange
from launcher.leftovers import mend
from launcher.lock import only_one
from launcher.pythons import base_python, check_version, has_pip, has_torch, installed_torch
from launcher.steps import constraints, pin, step, torch_command
from launcher.telling import KilledError, SetupError, say

FREE_BYTES = 2 * 1024**3
WORKS = "import torch, hayate.cli.main, hayate.pipeline.text2image; torch.zeros(2).sum().item()"
"""What a new environment has to be able to do before it replaces the old one."""
VOCABULARY = "open_clip_torch"
"""Its wheel carries CLIP's vocabulary; nothing imports it, so none of its dependencies are wanted."""
UPSCALING = ("spandrel", "einops")
"""For the tests of upscalers; spandrel asks for a torchvision that is not needed, docs/decisions/dependencies.md."""


def set_up(home: Home, extras: tuple[str, ...], asked: frozenset[str] = frozenset()) -> None:
    """Install everything that is missing or was asked for again, and stamp it.

    Raises: SetupError when a step fails; what succeeded stays and isn't repeated.
    """
    if "--skip-python-version-check" not in asked:
        check_version(base_python())
    try:
        home.state.mkdir(exist_ok=True)
        (home.state / ".gitignore").write_text("*\n")
        with only_one(home):
            if home.place:
                mend(home.place)
            if not asked & {"--rebuild-venv", "--reinstall-torch", "--reinstall-xformers"} and home.is_ready(extras):
                return
            if shutil.disk_usage(home.root).free < FREE_BYTES:
                raise SetupError("less than 2 GB of disk space is free", "make room, or set VENV_DIR to another disk")
            (home.state / "install.log").write_text("")
            install_asked(home, extras, asked)
    except OSError as error:
        where = error.filename or home.root
        raise SetupError(f"can't write {where}: {error.strerror}", "check its permissions and free space") from error


def install_asked(home: Home, extras: tuple[str, ...], asked: frozenset[str]) -> None:
    if "--rebuild-venv" in asked and home.place is None:
        raise SetupError("--rebuild-venv: VENV_DIR=- has no environment of its own", "leave one of them out")
    if "--rebuild-venv" in asked and home.place and (home.place / "pyvenv.cfg").exists():
        rebuild(home, home.place, extras)
    elif "--reinstall-torch" in asked or not home.is_ready(extras):
        install(home, extras, is_torch_anew="--reinstall-torch" in asked)
        home.stamp(extras)
    if "--reinstall-xformers" in asked:
        reinstall_xformers(home)


def rebuild(home: Home, place: Path, extras: tuple[str, ...]) -> None:
    """Make the environment anew beside the old one, and exchange them when the new one works.

    Raises: SetupError; the old one stays in its place then.
    """
    if is_strange(place):
        raise SetupError(f"{place} was not made by launch.py", "remove it yourself, or set VENV_DIR to another place")
    had = swap.packages(place)
    if home.stamp_file(("test",)).exists():
        extras = ("test",)
    new = Home(home.root, swap.side(place) / home.python.relative_to(home.venv or place), swap.side(place))
    try:
        swap.remove(swap.side(place))
        swap.remove(swap.before(place))
        install(new, extras)
        step(new, "check", ["-Pc", WORKS])
        swap.relocate(place)
        new.stamp(extras)
        swap.exchange(place)
    except swap.StrangerError as error:
        raise SetupError(f"{error} is in the way and was not made by launch.py", "move it away") from error
    if lost := sorted(had - swap.packages(place)):
        say(f"note: no longer installed: {', '.join(lost)}\n")


def install(home: Home, extras: tuple[str, ...], *, is_torch_anew: bool = False) -> None:
    """Make the environment and all of its packages; it is unfinished until it is stamped."""
    if home.venv:
        make_venv(home, home.venv)
    home.unfinished.parent.mkdir(parents=True, exist_ok=True)
    home.unfinished.touch()
    try:
        is_theirs = bool(os.environ.get("TORCH_COMMAND"))
        is_there = home.venv is None and has_torch(home.python)
        pins = constraints(home, keeps_torch=is_theirs or (is_there and not is_torch_anew))
        if is_theirs or is_torch_anew or not is_there:
            command = torch_command(home, pins)
            if is_torch_anew and command[:2] == ["pip", "install"]:
                command.insert(2, "--force-reinstall")
            step(home, f"torch {pin(home, 'torch')}: up to 3 GB to load", command)
        project = f"{home.root}[{','.join(extras)}]" if extras else str(home.root)
        step(home, "packages", ["pip", "install", "--constraint", str(pins), "--editable", project])
        alone = (VOCABULARY, *UPSCALING) if "test" in extras else (VOCABULARY,)
        pinned = [f"{name}=={pin(home, name)}" for name in alone]
        step(home, "CLIP vocabulary", ["pip", "install", "--no-deps", *pinned])
    except KilledError:
        raise
    except SetupError:
        home.unfinished.unlink()  # pip ended by itself and rolled back: the environment is whole and can be continued
        raise


def reinstall_xformers(home: Home) -> None:
    """Install xformers again, or for the first time.

    Raises: SetupError where none is made for this torch; nothing was changed then.
    """
    package = os.environ.get("XFORMERS_PACKAGE") or "xformers"
    pins = constraints(home, keeps_torch=True)
    torch = ".".join(map(str, installed_torch(home.python)))
    fitting = home.state / "xformers.txt"
    fitting.write_text(f"{pins.read_text()}\ntorch=={torch}\n" if torch else pins.read_text())
    # First only asked, then without its dependencies: torch is never replaced for it.
    looking = ["pip", "install", "--dry-run", "--ignore-installed", "--constraint", str(fitting), package]
    step(home, f"{package}: looking for one for torch {torch}", looking)
    step(home, package, ["pip", "install", "--force-reinstall", "--no-deps", package])


def make_venv(home: Home, venv: Path) -> None:
    """Create the virtual environment unless a whole one is there; one of ours that is only half there is made anew."""
    ours = venv / "hayate-venv"
    is_broken = (venv / "hayate-unfinished").exists() or not has_pip(home.python)
    if not is_broken:
        return
    if ours.exists():
        shutil.rmtree(venv)
    elif venv.exists() and any(venv.iterdir()):
        raise SetupError(f"{venv} is not a virtual environment with a working pip", "move it away or set VENV_DIR")
    venv.mkdir(parents=True, exist_ok=True)
    ours.touch()
    step(home, "virtual environment", ["venv", str(venv)], base_python())
