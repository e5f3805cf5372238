"""Make Hayate's own Python environment on the first start, then run it: `python3 launch.py [COMMAND] [ARGUMENTS]`.

Without a command it opens the page, as `python3 launch.py serve` does; A1111's flags may follow.
`python3 launch.py test [PYTEST ARGUMENTS]` runs the test suite instead. `launcher/words.py` lists the launcher's own
flags. As in A1111, these variables are honoured, also from a webui-user.sh or .bat beside this file: VENV_DIR ("-"
means no virtual environment), PYTHON, GIT, COMMANDLINE_ARGS, TORCH_COMMAND, TORCH_INDEX_URL, XFORMERS_PACKAGE and
INDEX_URL.
This file and launcher/ need nothing but the standard library, and parse on older Pythons so that they can refuse them
in words.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))  # with PYTHONSAFEPATH it is not there

from launcher.home import Home, is_strange, locate_home
from launcher.leftovers import tidy
from launcher.pythons import NEWEST, OLDEST, version_of
from launcher.telling import SetupError, say
from launcher.words import command_line, read_words

ROOT = Path(__file__).resolve().parent


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Exit code of the whole start."""
    try:
        return launch(arguments, root)
    except SetupError as error:
        say(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        say("\ninterrupted; the next start carries on\n")
        return 130


def launch(arguments: list[str], root: Path) -> int:
    """Set up what is missing, then hand over to Hayate, or to pytest for `test`."""
    read_user_files(root)
    asked, words = read_words(arguments)
    if "--update" in asked and update(root):
        # The launcher itself may be another one now.
        return run([sys.executable, str(root / "launch.py"), *(word for word in arguments if word != "--update")])
    is_test = words[:1] == ["test"]
    home = prepare(root, asked, ("test",) if is_test else ())
    if "--exit" in asked:
        return 0
    if is_test:
        os.chdir(root)
        return run([str(home.python), "-m", "pytest", *words[1:]])
    # -P: a file of the current folder that happens to be called torch.py must not be imported.
    return run([str(home.python), "-P", "-m", "hayate", *command_line(asked, words)])


def read_user_files(root: Path) -> None:
    """Put the variables of webui-user files into the environment, and say what of A1111's means nothing here."""
    from launcher.variables import read_variables

    found = read_variables(root, os.environ, is_windows=os.name == "nt")
    for note in found.notes:
        say(f"note: {note}\n")
    refuse_theirs(root, found.values)
    os.environ.update(found.values)


def refuse_theirs(root: Path, values: dict[str, str]) -> None:
    """Leave A1111's own environment and Python out of what its file says; `values` loses them.

    Both are there for another program: installing into its environment would break it, and its Python is 3.10.
    """
    venv = values.get("VENV_DIR", "-")
    if venv != "-" and is_strange(root / Path(venv).expanduser()):
        say(f"note: VENV_DIR={venv} is another program's and stays as it is; .venv is Hayate's\n")
        del values["VENV_DIR"]
    python = shutil.which(values.get("PYTHON", ""))
    if "PYTHON" in values and not (python and OLDEST <= version_of(Path(python)) <= NEWEST):
        say(f"note: PYTHON={values.pop('PYTHON')} is no Python 3.11 to 3.14; {sys.executable} is used\n")


def update(root: Path) -> bool:
    """Whether a newer version was taken over; why not is said."""
    from launcher.checkout import NotUpdatedError
    from launcher.checkout import update as pull

    try:
        is_new = pull(root, os.environ.get("GIT") or "git")
    except NotUpdatedError as error:
        say(f"hayate: not updated: {error}\n")
        return False
    say("hayate: updated\n" if is_new else "hayate: this is the newest version\n")
    return is_new


def prepare(root: Path, asked: frozenset[str], extras: tuple[str, ...]) -> Home:
    """Everything that is needed, where it isn't there already.

    Raises: SetupError.
    """
    home = locate_home(root)
    if asked & {"--skip-install", "--skip-prepare-environment"}:
        if not home.python.exists():
            raise SetupError(f"there is no {home.python}", "start once without --skip-install")
        return home
    again = asked & {"--rebuild-venv", "--reinstall-torch", "--reinstall-xformers"}
    if again or not home.is_ready(extras):
        from launcher.install import set_up

        set_up(home, extras, asked)
    tidy(home)
    return home


def run(command: list[str]) -> int:
    """Become `command`; where a process can't do that (Windows), run it and return its exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name != "nt":
        os.execv(command[0], command)
    child = subprocess.Popen(command)
    while True:
        with contextlib.suppress(KeyboardInterrupt):  # the child got Ctrl-C as well and says what it did
            return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
