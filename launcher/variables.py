"""A1111's variables: those in the environment, and those in a webui-user file beside launch.py, which is only read."""

from __future__ import annotations

import locale
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

FILES = {True: ("webui.settings.bat", "webui-user.bat"), False: ("webui-user.sh",)}
"""The files of Windows and of all others; what a later one says counts."""
ALIASES = {"python_cmd": "PYTHON", "venv_dir": "VENV_DIR"}
"""What webui-user.sh calls them."""
ACTING = (
    "PYTHON",
    "GIT",
    "VENV_DIR",
    "SKIP_VENV",
    "COMMANDLINE_ARGS",
    "TORCH_COMMAND",
    "TORCH_INDEX_URL",
    "XFORMERS_PACKAGE",
    "INDEX_URL",
)
_OWN = "the packages are those of constraints.txt"
_ONE_PLACE = "Hayate is where launch.py is"
_ALONE = "nothing else is loaded"
MEANINGLESS = {
    "ACCELERATE": "one process computes; there is nothing to spread",
    "NO_TCMALLOC": "no allocator is preloaded; `doctor` says whether one would help",
    "CLIP_PACKAGE": _OWN,
    "OPENCLIP_PACKAGE": _OWN,
    "K_DIFFUSION_PACKAGE": _OWN,
    "GFPGAN_PACKAGE": _OWN,
    "REQS_FILE": _OWN,
    "install_dir": _ONE_PLACE,
    "clone_dir": _ONE_PLACE,
    "LAUNCH_SCRIPT": _ONE_PLACE,
    "PIP_INSTALLER_LOCATION": "pip comes with Python",
    "WEBUI_LAUNCH_LIVE_OUTPUT": "what the steps write is in .launch/install.log",
    "IGNORE_CMD_ARGS_ERRORS": "an option that is not known stays an error",
    "WEBUI_RICH_EXCEPTIONS": "errors are one line; --traceback shows where one came from",
    "ERROR_REPORTING": "errors are always said",
    "HF_ENDPOINT": _ALONE,
}
"""A1111's variables that have nothing to act on here, and why."""
FAMILIES = {"_REPO": _ALONE, "_COMMIT_HASH": _ALONE}
"""The same for all names with an ending."""
_SHELL = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)=(.*)")
_BATCH = re.compile(r'\s*@?set\s+"?([A-Za-z_]\w*)=(.*)', re.IGNORECASE)
_SHELL_SILENT = re.compile(r"\s*(#.*)?")
_BATCH_SILENT = re.compile(r"\s*(@?(echo|rem|call|pause|exit|cd|title|setlocal|endlocal)\b.*|::.*)?", re.IGNORECASE)
"""Lines of the usual files that say nothing about Hayate."""


class Variables(NamedTuple):
    """What was found."""

    values: dict[str, str]
    """Those of the files that the environment doesn't give, under A1111's upper-case names."""
    notes: tuple[str, ...]


def read_variables(folder: Path, environment: Mapping[str, str], *, is_windows: bool) -> Variables:
    """The variables of the files in `folder`, and what of A1111's has no meaning; nothing is executed.

    What the environment gives wins, so that a start can differ from the file without an edit.
    """
    values: dict[str, str] = {}
    notes: list[str] = []
    for name in FILES[is_windows]:
        file = folder / name
        if file.is_file():
            notes += _read_file(file, values, environment, is_windows=is_windows)
    if values.get("SKIP_VENV", environment.get("SKIP_VENV")) == "1":
        values.setdefault("VENV_DIR", "-")
    given = [*values, *(name for name in MEANINGLESS if environment.get(name) and name not in values)]
    notes += [f"{name}: {reason}" for name in given if (reason := reason_against(name))]
    return Variables({name: text for name, text in values.items() if not environment.get(name)}, tuple(notes))


def reason_against(name: str) -> str:
    """Why a variable of A1111's has no meaning here; empty for all others."""
    if name in ACTING:
        return ""
    return MEANINGLESS.get(name) or next((text for end, text in FAMILIES.items() if name.endswith(end)), "")


def _read_file(file: Path, values: dict[str, str], environment: Mapping[str, str], *, is_windows: bool) -> list[str]:
    """Adds a file's variables to `values`. Returns a note for each line that is more than an assignment."""
    notes: list[str] = []
    form, silent = (_BATCH, _BATCH_SILENT) if is_windows else (_SHELL, _SHELL_SILENT)
    for number, line in _lines(file, "^" if is_windows else "\\"):
        where = f"{file.name} line {number}"
        found = form.fullmatch(line)
        if not found:
            if not silent.fullmatch(line):
                notes.append(f"{where} is no assignment and was not read")
            continue
        known = {**environment, **values}
        text = _batch_value(line, found[2], known) if is_windows else _shell_value(found[2], known)
        name = ALIASES.get(found[1], found[1])
        if text is None:
            notes.append(f"{where}: {name} would have to be executed, and was not read")
        elif text:
            values[name] = text
        else:
            values.pop(name, None)
    return notes


def _lines(file: Path, continued: str) -> Iterator[tuple[int, str]]:
    """The lines with the numbers at which they begin; those that go on are joined."""
    raw = file.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:  # a batch file in the system's own letters
        text = raw.decode(locale.getpreferredencoding(False), errors="replace")
    begun, number = "", 1
    for place, line in enumerate(text.splitlines(), start=1):
        if line.endswith(continued) and not line.lstrip().startswith(("#", "::")):
            begun += line[:-1]
            continue
        yield number, begun + line
        begun, number = "", place + 1
    if begun:
        yield number, begun


def _shell_value(text: str, known: Mapping[str, str]) -> str | None:
    """What a shell would assign; None where it would run something."""
    text = text.strip()
    if not text.startswith("'"):
        if "`" in text or "$(" in text:
            return None
        text = re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: known.get(found[1] or found[2], ""), text)
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        return None
    return None if len(words) > 1 else "".join(words)


def _batch_value(line: str, text: str, known: Mapping[str, str]) -> str | None:
    """What cmd would assign: everything to the end of the line, or to the last quote of `set "NAME=value"`."""
    if re.match(r'\s*@?set\s+"', line, re.IGNORECASE):
        text = text.rpartition('"')[0] or text
    upper = {name.upper(): value for name, value in known.items()}
    return re.sub(r"%(\w+)%", lambda found: upper.get(found[1].upper(), ""), text).strip()
