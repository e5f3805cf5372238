"""The command line: what of it is for launch.py itself, and what Hayate is told."""

from __future__ import annotations

import os
import shlex
import time

from launcher.telling import say

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


def split(text: str) -> list[str]:
    """The words of a command line; on Windows a backslash is part of a path."""
    if os.name == "nt":
        return [word.strip('"') for word in shlex.split(text, posix=False)]
    return shlex.split(text)
