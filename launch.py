"""Make Hayate's own Python environment on the first start, then run it: `python3 launch.py [COMMAND] [ARGUMENTS]`.

Without a command it opens the page, as `python3 launch.py serve` does; A1111's flags may follow.
`python3 launch.py test [PYTEST ARGUMENTS]` runs the test suite instead. `OWN_FLAGS` are for the launcher itself. As in
A1111, these variables are honoured, also from a webui-user.sh or .bat beside this file: VENV_DIR ("-" means no virtual
environment), PYTHON, GIT, COMMANDLINE_ARGS, TORCH_COMMAND, TORCH_INDEX_URL, XFORMERS_PACKAGE and INDEX_URL.
This file needs nothing but the standard library, and parses on older Pythons so that it can refuse them in words;
what only some starts need is in launcher/.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
STATE = ROOT / ".launch"
OLDEST, NEWEST = (3, 11), (3, 14)
KEPT_TORCH = (2, 10)
"""The oldest torch that is left alone in an environment that is not ours; the same bound as in pyproject.toml."""
FREE_BYTES = 2 * 1024**3
TORCH_VERSION = "from importlib.metadata import version; print(*version('torch').partition('+')[0].split('.'))"
WORKS = "import torch, hayate.cli.main, hayate.pipeline.text2image; torch.zeros(2).sum().item()"
"""What a new environment has to be able to do before it replaces the old one."""
VOCABULARY = "open_clip_torch"
"""Its wheel carries CLIP's vocabulary; nothing imports it, so none of its dependencies are wanted."""
NO_COMMAND_NEEDED = ("-h", "--help", "--version")
OWN_FLAGS = {
    "--update": "take over the newest version, where this is a clean git checkout",
    "--rebuild-venv": "make the environment anew beside the old one, which stays until the new one works",
    "--reinstall-torch": "install torch again, such as for another card",
    "--reinstall-xformers": "install xformers again, where there is one for this torch",
    "--skip-install": "start at once, whatever is missing",
    "--skip-prepare-environment": "the same",
    "--skip-python-version-check": "try another Python than 3.11 to 3.14",
    "--dump-sysinfo": "write down what is known of this machine, and end",
    "--exit": "end when everything is installed",
}
"""Flags that launch.py takes for itself, on the command line and in COMMANDLINE_ARGS; most have A1111's names."""
UPSCALING = ("spandrel", "einops")
"""For the tests of upscalers; spandrel asks for a torchvision that is not needed, docs/decisions/dependencies.md."""


class Home(NamedTuple):
    """Where Hayate is installed: an interpreter, and the virtual environment that it belongs to, if that is ours."""

    python: Path
    venv: Path | None

    @property
    def stamps(self) -> Path:
        """The folder of the stamps; outside a venv one for each interpreter, since the interpreter isn't ours."""
        return self.venv or STATE / hashlib.sha256(str(self.python).encode()).hexdigest()[:12]


class SetupError(Exception):
    """The environment can't be made; printed as one line with a hint."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message} ({hint})")


class KilledError(SetupError):
    """A step was killed from outside, so it may have left packages that are only half there."""


def main(arguments: list[str]) -> int:
    """Exit code of the whole start."""
    try:
        return launch(arguments)
    except SetupError as error:
        say(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        say("\ninterrupted; the next start carries on\n")
        return 130


def launch(arguments: list[str]) -> int:
    """Set up what is missing, then hand over to Hayate, or to pytest for `test`."""
    if str(ROOT) not in sys.path:  # as with PYTHONSAFEPATH
        sys.path.append(str(ROOT))
    read_user_files()
    asked, words = read_words(arguments)
    if "--update" in asked and update():
        # The launcher itself may be another one now.
        return run([sys.executable, str(ROOT / "launch.py"), *(word for word in arguments if word != "--update")])
    is_test = words[:1] == ["test"]
    home = prepare(asked, ("test",) if is_test else ())
    if "--exit" in asked:
        return 0
    if is_test:
        os.chdir(ROOT)
        return run([str(home.python), "-m", "pytest", *words[1:]])
    # -P: a file of the current folder that happens to be called torch.py must not be imported.
    return run([str(home.python), "-P", "-m", "hayate", *command_line(asked, words)])


def read_words(arguments: list[str]) -> tuple[frozenset[str], list[str]]:
    """The launcher's own flags, and everything else, with COMMANDLINE_ARGS; pytest's flags are its own."""
    if arguments[:1] == ["test"]:
        return frozenset(), arguments
    asked, words = take_own(arguments)
    if words[:1] == ["test"]:
        return asked, words
    also_asked, more = take_own(split(os.environ.get("COMMANDLINE_ARGS", "")))
    end = words.index("--") if "--" in words else len(words)
    return asked | also_asked, [*words[:end], *more, *words[end:]]


def take_own(words: list[str]) -> tuple[frozenset[str], list[str]]:
    """The launcher's own flags among `words`, and the words that are left; what follows a "--" is text."""
    end = words.index("--") if "--" in words else len(words)
    own = frozenset(word for word in words[:end] if word in OWN_FLAGS)
    return own, [*(word for word in words[:end] if word not in own), *words[end:]]


def command_line(asked: frozenset[str], words: list[str]) -> list[str]:
    """What Hayate is told; without a command it opens the page, as A1111's launcher does."""
    if "--dump-sysinfo" in asked:
        return ["doctor", "--facts", time.strftime("sysinfo-%Y-%m-%d-%H-%M.json")]
    if words[:1] and words[0] in ("--help", "-h"):
        flags = "\n".join(f"  {flag:<27} {doc}" for flag, doc in OWN_FLAGS.items())
        say(f"launch.py itself takes\n{flags}\n\n")
    if words[:1] and words[0] in NO_COMMAND_NEEDED:
        return words
    return ["serve", *words] if not words or words[0].startswith("-") else words


def read_user_files() -> None:
    """Put the variables of webui-user files into the environment, and say what of A1111's means nothing here."""
    from launcher.variables import read_variables

    found = read_variables(ROOT, os.environ, is_windows=os.name == "nt")
    for note in found.notes:
        say(f"note: {note}\n")
    refuse_theirs(found.values)
    os.environ.update(found.values)


def refuse_theirs(values: dict[str, str]) -> None:
    """Leave A1111's own environment and Python out of what its file says; `values` loses them.

    Both are there for another program: installing into its environment would break it, and its Python is 3.10.
    """
    venv = values.get("VENV_DIR", "-")
    if venv != "-" and is_strange(ROOT / Path(venv).expanduser()):
        say(f"note: VENV_DIR={venv} is another program's and stays as it is; .venv is Hayate's\n")
        del values["VENV_DIR"]
    python = shutil.which(values.get("PYTHON", ""))
    if "PYTHON" in values and not (python and OLDEST <= version_of(Path(python)) <= NEWEST):
        say(f"note: PYTHON={values.pop('PYTHON')} is no Python 3.11 to 3.14; {sys.executable} is used\n")


def is_strange(venv: Path) -> bool:
    """Whether a folder holds an environment that launch.py did not make."""
    return (venv / "pyvenv.cfg").exists() and not (venv / "hayate-venv").exists()


def update() -> bool:
    """Whether a newer version was taken over; why not is said."""
    from launcher.checkout import NotUpdatedError
    from launcher.checkout import update as pull

    try:
        is_new = pull(ROOT, os.environ.get("GIT") or "git")
    except NotUpdatedError as error:
        say(f"hayate: not updated: {error}\n")
        return False
    say("hayate: updated\n" if is_new else "hayate: this is the newest version\n")
    return is_new


def prepare(asked: frozenset[str], extras: tuple[str, ...]) -> Home:
    """Everything that is needed, where it isn't there already.

    Raises: SetupError.
    """
    home = locate_home()
    if asked & {"--skip-install", "--skip-prepare-environment"}:
        if not home.python.exists():
            raise SetupError(f"there is no {home.python}", "start once without --skip-install")
        return home
    again = asked & {"--rebuild-venv", "--reinstall-torch", "--reinstall-xformers"}
    if again or not is_ready(home, extras):
        set_up(home, extras, asked)
    if home.venv:
        tidy(home.venv)
    return home


def locate_home() -> Home:
    """Where VENV_DIR and PYTHON say that Hayate lives; nothing is created."""
    name = os.environ.get("VENV_DIR") or ".venv"
    if name == "-":
        return Home(base_python(), None)
    venv = ROOT / Path(name).expanduser()
    return Home(venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python"), venv)


def is_ready(home: Home, extras: tuple[str, ...]) -> bool:
    """Whether everything is installed as asked: the stamp was written last and still holds.

    Cost: two small files are hashed; no process is started.
    """
    with contextlib.suppress(OSError):
        is_whole = home.python.exists() and not unfinished(home).exists()
        return is_whole and stamp_file(home, extras).read_text() == fingerprint(home, extras)
    return False


def fingerprint(home: Home, extras: tuple[str, ...]) -> str:
    """What the installed set depends on, as one hash."""
    interpreter = (home.venv / "pyvenv.cfg").read_text() if home.venv else f"{home.python} {sys.version}"
    asked = [interpreter, str(ROOT), *(os.environ.get(name, "") for name in ("TORCH_COMMAND", "TORCH_INDEX_URL"))]
    digest = hashlib.sha256(repr([asked, extras]).encode())
    for file in ("constraints.txt", "pyproject.toml"):
        digest.update((ROOT / file).read_bytes())
    return digest.hexdigest()


def stamp_file(home: Home, extras: tuple[str, ...]) -> Path:
    return home.stamps / "-".join(["hayate-stamp", *extras])


def unfinished(home: Home) -> Path:
    """The file that is there while packages may be half installed."""
    return home.stamps / "hayate-unfinished"


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


def split(text: str) -> list[str]:
    """The words of a command line; on Windows a backslash is part of a path."""
    if os.name == "nt":
        return [word.strip('"') for word in shlex.split(text, posix=False)]
    return shlex.split(text)


def say(text: str) -> None:
    """Write to stderr at once: stdout belongs to the program that is started."""
    sys.stderr.write(text)
    sys.stderr.flush()


# ---------------------------------------------------------------------------------------------- the first start


def set_up(home: Home, extras: tuple[str, ...], asked: frozenset[str] = frozenset()) -> None:
    """Install everything that is missing or was asked for again, and stamp it.

    Raises: SetupError when a step fails; what succeeded stays and isn't repeated.
    """
    if "--skip-python-version-check" not in asked:
        check_version(base_python())
    try:
        STATE.mkdir(exist_ok=True)
        (STATE / ".gitignore").write_text("*\n")
        with only_one():
            if home.venv:
                mend(home.venv)
            if not asked & {"--rebuild-venv", "--reinstall-torch", "--reinstall-xformers"} and is_ready(home, extras):
                return
            if shutil.disk_usage(ROOT).free < FREE_BYTES:
                raise SetupError("less than 2 GB of disk space is free", "make room, or set VENV_DIR to another disk")
            (STATE / "install.log").write_text("")
            install_asked(home, extras, asked)
    except OSError as error:
        where = error.filename or ROOT
        raise SetupError(f"can't write {where}: {error.strerror}", "check its permissions and free space") from error


def mend(venv: Path) -> None:
    """Put the environment in its place, where an exchange of it was interrupted."""
    from launcher import swap

    if swap.recover(real(venv)):
        say("hayate: the environment is in its place again, after an interrupted --rebuild-venv\n")


def tidy(venv: Path) -> None:
    """Remove what an interrupted --rebuild-venv left, of a gigabyte or more; one that goes on keeps what it makes.

    Cost: where nothing is left, two looks.
    """
    from launcher import swap

    place = real(venv)
    left = [each for each in (swap.side(place), swap.before(place)) if os.path.lexists(each)]
    if not left or not STATE.is_dir():
        return
    with (STATE / "lock").open("a+") as lock:
        if not try_lock(lock.fileno()):
            return
        for each in left:
            try:
                swap.remove(each)
                say(f"hayate: removed {each}, which an interrupted --rebuild-venv had left\n")
            except swap.StrangerError:
                pass  # somebody else's, and in nobody's way
            except OSError as error:
                say(f"note: an interrupted --rebuild-venv left {each}, which can't be removed: {error.strerror}\n")


def real(venv: Path) -> Path:
    """Where a link leads: names are exchanged there, on one disk."""
    return venv.resolve() if venv.is_symlink() else venv


def install_asked(home: Home, extras: tuple[str, ...], asked: frozenset[str]) -> None:
    if "--rebuild-venv" in asked and home.venv is None:
        raise SetupError("--rebuild-venv: VENV_DIR=- has no environment of its own", "leave one of them out")
    if "--rebuild-venv" in asked and home.venv and (home.venv / "pyvenv.cfg").exists():
        rebuild(home, home.venv, extras)
    elif "--reinstall-torch" in asked or not is_ready(home, extras):
        install(home, extras, is_torch_anew="--reinstall-torch" in asked)
        stamp(home, extras)
    if "--reinstall-xformers" in asked:
        reinstall_xformers(home)


def rebuild(home: Home, venv: Path, extras: tuple[str, ...]) -> None:
    """Make the environment anew beside the old one, and exchange them when the new one works.

    Raises: SetupError; the old one stays in its place then.
    """
    from launcher import swap

    if is_strange(venv):
        raise SetupError(f"{venv} was not made by launch.py", "remove it yourself, or set VENV_DIR to another place")
    place = real(venv)
    had = swap.packages(place)
    if stamp_file(home, ("test",)).exists():
        extras = ("test",)
    new = Home(swap.side(place) / home.python.relative_to(venv), swap.side(place))
    try:
        swap.remove(swap.side(place))
        swap.remove(swap.before(place))
        install(new, extras)
        step("check", new.python, ["-Pc", WORKS])
        swap.relocate(place)
        stamp(new, extras)
        swap.exchange(place)
    except swap.StrangerError as error:
        raise SetupError(f"{error} is in the way and was not made by launch.py", "move it away") from error
    if lost := sorted(had - swap.packages(place)):
        say(f"note: no longer installed: {', '.join(lost)}\n")


def install(home: Home, extras: tuple[str, ...], *, is_torch_anew: bool = False) -> None:
    """Make the environment and all of its packages; it is unfinished until it is stamped."""
    if home.venv:
        make_venv(home.python, home.venv)
    unfinished(home).parent.mkdir(parents=True, exist_ok=True)
    unfinished(home).touch()
    try:
        keeps_torch = bool(os.environ.get("TORCH_COMMAND")) or (home.venv is None and has_torch(home.python))
        pins = constraints(bool(os.environ.get("TORCH_COMMAND")) or (keeps_torch and not is_torch_anew))
        if os.environ.get("TORCH_COMMAND") or is_torch_anew or not keeps_torch:
            command = torch_command(pins)
            if is_torch_anew and command[:2] == ["pip", "install"]:
                command.insert(2, "--force-reinstall")
            step(f"torch {pin('torch')}: up to 3 GB to load", home.python, command)
        project = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
        step("packages", home.python, ["pip", "install", "--constraint", str(pins), "--editable", project])
        alone = (VOCABULARY, *UPSCALING) if "test" in extras else (VOCABULARY,)
        pinned = [f"{name}=={pin(name)}" for name in alone]
        step("CLIP vocabulary", home.python, ["pip", "install", "--no-deps", *pinned])
    except KilledError:
        raise
    except SetupError:
        unfinished(home).unlink()  # pip ended by itself and rolled back: the environment is whole and can be continued
        raise


def stamp(home: Home, extras: tuple[str, ...]) -> None:
    """Write down what was installed: from now on it is whole."""
    for each in {(), extras}:
        temporary = stamp_file(home, each).with_suffix(".new")
        temporary.write_text(fingerprint(home, each))
        temporary.replace(stamp_file(home, each))
    unfinished(home).unlink()


def reinstall_xformers(home: Home) -> None:
    """Install xformers again, or for the first time.

    Raises: SetupError where none is made for this torch; nothing was changed then.
    """
    package = os.environ.get("XFORMERS_PACKAGE") or "xformers"
    pins = constraints(keeps_torch=True)
    torch = ".".join(map(str, ask_version(home.python, TORCH_VERSION)))
    fitting = STATE / "xformers.txt"
    fitting.write_text(f"{pins.read_text()}\ntorch=={torch}\n" if torch else pins.read_text())
    # First only asked, then without its dependencies: torch is never replaced for it.
    looking = ["pip", "install", "--dry-run", "--ignore-installed", "--constraint", str(fitting), package]
    step(f"{package}: looking for one for torch {torch}", home.python, looking)
    step(package, home.python, ["pip", "install", "--force-reinstall", "--no-deps", package])


def make_venv(python: Path, venv: Path) -> None:
    """Create the virtual environment unless a whole one is there; one of ours that is only half there is made anew."""
    ours = venv / "hayate-venv"
    is_broken = (venv / "hayate-unfinished").exists() or not has_pip(python)
    if not is_broken:
        return
    if ours.exists():
        shutil.rmtree(venv)
    elif venv.exists() and any(venv.iterdir()):
        raise SetupError(f"{venv} is not a virtual environment with a working pip", "move it away or set VENV_DIR")
    venv.mkdir(parents=True, exist_ok=True)
    ours.touch()
    step("virtual environment", base_python(), ["venv", str(venv)])


def step(label: str, python: Path, module: list[str]) -> None:
    """Run one module of `python` behind one line on the screen; its output is shown only when it fails."""
    say(f"hayate: {label} … ")
    started = time.monotonic()
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_PROGRESS_BAR": "off"}
    if module[0] == "pip" and python.parent.parent.joinpath("pyvenv.cfg").exists():
        environment["PIP_USER"] = "0"  # a user-wide "--user" preference is an error inside a venv
    if index := os.environ.get("INDEX_URL"):
        environment["PIP_INDEX_URL"] = index
    log = STATE / "install.log"
    with log.open("a", encoding="utf-8") as output:
        command = [str(python), *(module if module[0].startswith("-") else ["-m", *module])]
        output.write(f"\n$ {' '.join(command)}\n")
        output.flush()
        code = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    if code == 0:
        say(f"{time.monotonic() - started:.1f} s\n")
        return
    if code < 0:
        raise KilledError(f"{label}: {module[0]} was killed", "is the memory full? The next start installs anew")
    lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    say("failed\n  " + "\n  ".join(lines[-12:]) + "\n")
    raise SetupError(f"{label}: {module[0]} failed", explain("\n".join(lines)) or f"its whole output: {log}")


CAUSES = (
    ("No space left on device", "the disk is full: make room, or set VENV_DIR to another disk"),
    ("ensurepip is not available", "on Debian and Ubuntu: sudo apt install python3-venv"),
    ("No module named venv", "on Debian and Ubuntu: sudo apt install python3-venv"),
    ("No module named ensurepip", "on Debian and Ubuntu: sudo apt install python3-venv"),
    ("externally-managed-environment", "the system manages this Python: don't set VENV_DIR to -"),
    ("No module named pip", "this Python has no pip: don't set VENV_DIR to -, or install pip"),
    ("Permission denied", "a folder can't be written: check its permissions"),
    ("Read-only file system", "a folder can't be written: set VENV_DIR to another place"),
    ("Failed to establish a new connection", "no connection to the package index: check the network or proxy"),
    ("NewConnectionError", "no connection to the package index: check the network or proxy"),
    ("NameResolutionError", "no connection to the package index: check the network or proxy"),
    ("Read timed out", "the connection is too slow: start again, what was loaded is kept"),
    ("No matching distribution found", "no package for this Python or system: try Python 3.12, or see TORCH_COMMAND"),
)
"""What a failed step writes, and what to do about it; the first match counts."""


def explain(output: str) -> str:
    """The hint for a failed step, or nothing."""
    return next((hint for cause, hint in CAUSES if cause in output), "")


def torch_command(pins: Path) -> list[str]:
    """The module and arguments that install torch.

    With an index of PyTorch's own, torch alone comes from there; its dependencies follow with the packages, pinned.
    """
    if command := os.environ.get("TORCH_COMMAND"):
        words = split(command)
        return words[2:] if words[1:2] == ["-m"] else words
    torch = f"torch=={pin('torch')}"
    if index := os.environ.get("TORCH_INDEX_URL") or cuda_index():
        return ["pip", "install", "--no-deps", "--index-url", index, torch]
    return ["pip", "install", "--constraint", str(pins), torch]


def cuda_index() -> str:
    """PyTorch's index for the NVIDIA cards of this machine, or nothing where the default index serves."""
    from launcher.builds import cards_here, choose_build

    choice = choose_build(cards_here(), is_windows=os.name == "nt")
    if choice.note:
        say(f"note: {choice.note}\n")
    return choice.address


def pin(package: str) -> str:
    """The version of `package` in constraints.txt."""
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        if name == package:
            return version.split()[0]
    raise SetupError(f"constraints.txt has no {package}", "take it from a fresh copy of the project")


def constraints(keeps_torch: bool) -> Path:
    """The file of pins; without torch's when another torch was asked for or is already there."""
    pins = ROOT / "constraints.txt"
    if not keeps_torch:
        return pins
    without = STATE / "constraints.txt"
    without.write_text("".join(line for line in pins.open() if not line.startswith("torch==")))
    return without


def base_python() -> Path:
    """The interpreter that PYTHON names, or the one that runs this file."""
    asked = os.environ.get("PYTHON")
    if not asked:
        return Path(sys.executable)
    found = shutil.which(asked)
    if not found:
        raise SetupError(f"PYTHON={asked} was not found", "give the path of a Python 3.11 to 3.14")
    return Path(found).absolute()


def check_version(python: Path) -> None:
    """Refuse a Python for which there are no pins."""
    version = version_of(python)
    if OLDEST <= version <= NEWEST:
        return
    others = (shutil.which(f"python3.{minor}") for minor in (13, 12, 11, 14))
    other = next((path for path in others if path), "python3.12")
    shown = ".".join(map(str, version)) or "does not start"
    raise SetupError(f"Hayate needs Python 3.11 to 3.14; {python} is {shown}", f"run: {other} launch.py")


def version_of(python: Path) -> tuple[int, ...]:
    """The version of an interpreter; empty when it does not start."""
    return ask_version(python, "import sys; print(*sys.version_info[:2])")


def has_pip(python: Path) -> bool:
    return bool(ask_version(python, "import pip; print(*pip.__version__.split('.')[:2])"))


def has_torch(python: Path) -> bool:
    """Whether an interpreter that isn't ours has a torch that is new enough to be kept."""
    return ask_version(python, TORCH_VERSION)[:2] >= KEPT_TORCH


def ask_version(python: Path, code: str) -> tuple[int, ...]:
    """The version that `code` prints when `python` runs it; empty when it doesn't."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
        return tuple(int(part) for part in answer.stdout.split())
    return ()


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold the installation's lock; a second start waits for the first to finish."""
    with (STATE / "lock").open("a+") as lock:
        if not try_lock(lock.fileno()):
            say("hayate: another start is installing; waiting for it\n")
            while not try_lock(lock.fileno()):
                time.sleep(1)
        yield


def try_lock(file: int) -> bool:
    """Take the lock if nobody holds it; it ends with the process."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Anything else means that locks don't work on this disk: better to go on than to wait for ever.
        return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
