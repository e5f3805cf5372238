"""The command `hayate`: finds the sub-command, and is the door where every failure becomes one line."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import traceback
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from hayate import __version__
from hayate.errors import HayateError, UnknownName, UsageError, nearest, save_traceback
from hayate.flags import FLAGS, TakenFlags, given, take_flags

if TYPE_CHECKING:
    import typer

EXIT_INTERRUPTED = 130


class Command(NamedTuple):
    """A sub-command: the module whose `app` it is, and its line in the help."""

    module: str
    usage: str
    doc: str
    own_flags: tuple[str, ...] = ()
    """A1111's flags that are options of the command itself."""


_SERVES = (
    "--listen",
    "--port",
    "--server-name",
    "--api",
    "--api-auth",
    "--gradio-auth",
    "--gradio-auth-path",
    "--api-server-stop",
    "--api-log",
    "--nowebui",
    "--cors-allow-origins",
    "--tls-keyfile",
    "--tls-certfile",
    "--timeout-keep-alive",
    "--subpath",
    "--autolaunch",
    "--theme",
    "--models-dir",
    "--vae-dir",
    "--lora-dir",
    "--embeddings-dir",
    "--ckpt",
    "--vae-path",
)
_DRAWS = ("--ckpt", "--vae-path")

COMMANDS = MappingProxyType(
    {
        "serve": Command("hayate.cli.serve", "serve", "the page, A1111's API and jobs", _SERVES),
        "generate": Command(
            "hayate.cli.generate", "generate PROMPT", "make pictures from a text, or those of a file again", _DRAWS
        ),
        "upscale": Command("hayate.cli.upscale", "upscale FILE…", "make finished pictures larger"),
        "info": Command("hayate.cli.info", "info FILE", "what a picture was made with"),
        "plan": Command("hayate.cli.plan", "plan", "what would compute a picture, and why", ("--ckpt",)),
        "plot": Command(
            "hayate.cli.plot", "plot PROMPT --x AXIS", "an X/Y/Z plot, with the time of every cell", _DRAWS
        ),
        "matrix": Command(
            "hayate.cli.matrix", 'matrix "A|B|C"', "every combination of a prompt's parts, and a sheet", _DRAWS
        ),
        "loopback": Command(
            "hayate.cli.loopback", "loopback PROMPT --image FILE", "img2img of its own result, again and again", _DRAWS
        ),
        "bench": Command("hayate.cli.bench", "bench PRESET | history | report …", "measure it on this machine"),
        "tune": Command("hayate.cli.tune", "tune", "find what wins on this machine, and keep it"),
        "doctor": Command("hayate.cli.doctor", "doctor", "what this machine should change, what it gains, and the fix"),
        "models": Command(
            "hayate.cli.models",
            "models list | convert | merge …",
            "the models here, what each one is, and other files of them",
            ("--models-dir", "--lora-dir"),
        ),
        "extensions": Command(
            "hayate.cli.extensions",
            "extensions | install FOLDER …",
            "what others add: list, install, switch on and off",
        ),
        "import-a1111": Command(
            "hayate.cli.import_a1111",
            "import-a1111 FOLDER",
            "what an installation of A1111 has, and its use from here on",
        ),
    }
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; nothing is raised."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    shows_traceback = _take_flag(words, "--traceback")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a lone surrogate in a prompt must not end the program
    try:
        code = run(words)
        sys.stdout.flush()
    except HayateError as error:
        return _fail(str(error), error, error.exit_code, shows_traceback)
    except KeyboardInterrupt:
        _say("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has gone, as `head` does: nothing is left to say, and the interpreter's last flush must not fail.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the door of the command line
        where = "" if shows_traceback else f" (the details are in {save_traceback(error)})"
        return _fail(f"unexpected {type(error).__name__}: {error}{where}", error, 1, shows_traceback)
    return code


def run(words: list[str]) -> int:
    """Run the sub-command that the first word names; its module is imported only now."""
    kept = _kept_flags(words)
    flags, words = take_flags(words, kept)  # also without a command: launch.py adds those of COMMANDLINE_ARGS
    given.set(flags)
    if any(FLAGS[name].is_place for name in flags.values):
        from hayate.cli.a1111_folders import at_places

        with at_places(flags, _say):
            return _run(words, flags)
    return _run(words, flags)


def _run(words: list[str], flags: TakenFlags) -> int:
    first = words[0] if words else "--help"
    if first in ("--help", "-h", "help"):
        sys.stdout.write(help_page())
        return 0
    if first == "--version":
        sys.stdout.write(f"hayate {__version__}\n")
        return 0
    if first not in COMMANDS:
        if first.startswith("-"):
            raise UnknownName("option", first, ("--help", "--version", "--traceback"))
        raise UnknownName("command", first, COMMANDS)
    from hayate.extensions.current import in_use, session_for
    from hayate.settings import load_settings

    with in_use(lambda: session_for(load_settings(), flags)):
        return run_app(importlib.import_module(COMMANDS[first].module).app, words[1:], f"hayate {first}")


def _kept_flags(words: list[str]) -> tuple[str, ...]:
    """A1111's flags that the command takes itself; not --models-dir where it names A1111's folder of folders."""
    kept = COMMANDS[words[0]].own_flags if words and words[0] in COMMANDS else ()
    if "--models-dir" in kept and "--models-dir" in " ".join(words):
        from hayate.cli.a1111_folders import is_a1111_models

        folder = take_flags(words)[0].value("--models-dir")
        if folder is not None and is_a1111_models(folder):
            return tuple(name for name in kept if name != "--models-dir")
    return kept


def run_app(app: typer.Typer, words: list[str], name: str) -> int:
    """Run one sub-command's Typer app; its complaints about the words become a UsageError."""
    import typer

    try:
        result = typer.main.get_command(app).main(args=words, prog_name=name, standalone_mode=False)
    except typer.TyperException as error:
        # An unknown option's own list of possibilities gives way to ours, which is sorted by likeness.
        message = error.message if hasattr(error, "option_name") else error.format_message()
        raise UsageError(_lower_first(message), hint=_hint(error, name)) from error
    except typer.Abort:
        return EXIT_INTERRUPTED
    if result == EXIT_INTERRUPTED:  # what Typer makes of Ctrl-C
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def help_page() -> str:
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = "\n".join(f"  {command.usage:<{width}}  {command.doc}" for command in COMMANDS.values())
    return f"""Hayate {__version__}: Stable Diffusion as fast as this machine allows, with proof

usage: hayate COMMAND …        for example: hayate generate "a red sun over purple mountains, sea"

{lines}

  hayate COMMAND --help shows a command's options; --traceback, anywhere, shows where a failure came from.
"""


def _hint(error: typer.TyperException, name: str) -> str:
    """What would have been right: the nearest options or the sub-commands, else where to read on."""
    command: Any = getattr(getattr(error, "ctx", None), "command", None)
    option = getattr(error, "option_name", None)
    if command and option and "o such option" in error.message:
        known = [flag for parameter in command.params for flag in parameter.opts if flag.startswith("--")]
        return f"nearest: {', '.join(nearest(option, [*known, *FLAGS, '--help']))}"
    if sub_commands := getattr(command, "commands", None):
        return f"one of: {', '.join(sub_commands)}"
    return f"see {name} --help"


def _fail(message: str, error: BaseException, code: int, shows_traceback: bool) -> int:
    if shows_traceback:
        traceback.print_exception(error)
    _say(f"error: {message}")
    return code


def _say(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    with contextlib.suppress(OSError):
        print(" ".join(message.split()), file=sys.stderr)


def _take_flag(words: list[str], flag: str) -> bool:
    """Whether `flag` is among the words before a "--"; it is removed."""
    end = words.index("--") if "--" in words else len(words)
    if flag not in words[:end]:
        return False
    words.remove(flag)
    return True


def _lower_first(message: str) -> str:
    return message[:1].lower() + message[1:].removesuffix(".")
