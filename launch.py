"""Make Hayate's own Python environment on the first start, then run it: `python3 launch.py [COMMAND] [ARGUMENTS]`.

Without a command it opens the page, as `python3 launch.py serve` does; A1111's flags may follow.
`python3 launch.py test [PYTEST ARGUMENTS]` runs the test suite instead. As in A1111, these variables are honoured:
VENV_DIR ("-" means no virtual environment), PYTHON, COMMANDLINE_ARGS, TORCH_COMMAND and TORCH_INDEX_URL.
This file needs nothing but the standard library, and parses on older Pythons so that it can refuse them in words.
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
TORCH_INDEX = "https://download.pytorch.org/whl/"
VOCABULARY = "open_clip_torch"
"""Its wheel carries CLIP's vocabulary; nothing imports it, so none of its dependencies are wanted."""
NO_COMMAND_NEEDED = ("-h", "--help", "--version")
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
    is_test = arguments[:1] == ["test"]
    extras = ("test",) if is_test else ()
    home = locate_home()
    if not is_ready(home, extras):
        set_up(home, extras)
    if is_test:
        os.chdir(ROOT)
        return run([str(home.python), "-m", "pytest", *arguments[1:]])
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in NO_COMMAND_NEEDED):
        arguments = ["serve", *arguments]  # as A1111's launcher, which opens the page
    # -P: a file of the current folder that happens to be called torch.py must not be imported.
    return run([str(home.python), "-P", "-m", "hayate", *arguments, *split(os.environ.get("COMMANDLINE_ARGS", ""))])


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
        return home.python.exists() and stamp_file(home, extras).read_text() == fingerprint(home, extras)
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


def set_up(home: Home, extras: tuple[str, ...]) -> None:
    """Install everything that is missing, and stamp it.

    Raises: SetupError when a step fails; what succeeded stays and isn't repeated.
    """
    check_version(base_python())
    try:
        STATE.mkdir(exist_ok=True)
        (STATE / ".gitignore").write_text("*\n")
        with only_one():
            if is_ready(home, extras):
                return
            if shutil.disk_usage(ROOT).free < FREE_BYTES:
                raise SetupError("less than 2 GB of disk space is free", "make room, or set VENV_DIR to another disk")
            (STATE / "install.log").write_text("")
            install(home, extras)
    except OSError as error:
        where = error.filename or ROOT
        raise SetupError(f"can't write {where}: {error.strerror}", "check its permissions and free space") from error


def install(home: Home, extras: tuple[str, ...]) -> None:
    if home.venv:
        make_venv(home.python, home.venv)
    unfinished = home.stamps / "hayate-unfinished"
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    try:
        keeps_torch = bool(os.environ.get("TORCH_COMMAND")) or (home.venv is None and has_torch(home.python))
        pins = constraints(keeps_torch)
        if os.environ.get("TORCH_COMMAND") or not keeps_torch:
            step(f"torch {pin('torch')}: up to 3 GB to load", home.python, torch_command(pins))
        project = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
        step("packages", home.python, ["pip", "install", "--constraint", str(pins), "--editable", project])
        alone = (VOCABULARY, *UPSCALING) if "test" in extras else (VOCABULARY,)
        pinned = [f"{name}=={pin(name)}" for name in alone]
        step("CLIP vocabulary", home.python, ["pip", "install", "--no-deps", *pinned])
    except KilledError:
        raise
    except SetupError:
        unfinished.unlink()  # pip ended by itself and rolled back: the environment is whole and can be continued
        raise
    for each in {(), extras}:
        temporary = stamp_file(home, each).with_suffix(".new")
        temporary.write_text(fingerprint(home, each))
        temporary.replace(stamp_file(home, each))
    unfinished.unlink()


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
    log = STATE / "install.log"
    with log.open("a", encoding="utf-8") as output:
        output.write(f"\n$ {python} -m {' '.join(module)}\n")
        output.flush()
        command = [str(python), "-m", *module]
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
    """PyTorch's index for the NVIDIA card of this machine, or nothing where the default index serves.

    On Windows the default index has torch for the CPU only. CUDA 13 dropped the cards before Turing (7.5).
    """
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
        capability = min(float(line) for line in answer.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""
    if capability < 7.5:
        return TORCH_INDEX + "cu126"
    return TORCH_INDEX + "cu130" if os.name == "nt" else ""


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
    version = ask_version(python, "import sys; print(*sys.version_info[:2])")
    if OLDEST <= version <= NEWEST:
        return
    others = (shutil.which(f"python3.{minor}") for minor in (13, 12, 11, 14))
    other = next((path for path in others if path), "python3.12")
    shown = ".".join(map(str, version)) or "does not start"
    raise SetupError(f"Hayate needs Python 3.11 to 3.14; {python} is {shown}", f"run: {other} launch.py")


def has_pip(python: Path) -> bool:
    return bool(ask_version(python, "import pip; print(*pip.__version__.split('.')[:2])"))


def has_torch(python: Path) -> bool:
    """Whether an interpreter that isn't ours has a torch that is new enough to be kept."""
    code = "from importlib.metadata import version; print(*version('torch').split('.')[:2])"
    return ask_version(python, code) >= KEPT_TORCH


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
