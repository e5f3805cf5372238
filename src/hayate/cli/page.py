"""docs/cli.md: the help pages of every command, as the program prints them."""

from __future__ import annotations

import importlib
import os
import sys

from hayate.cli.main import COMMANDS, help_page
from hayate.flags import flags_page


def cli_page() -> str:
    """docs/cli.md."""
    import typer

    os.environ["COLUMNS"] = "100"
    parts = ["# Commands\n\nWritten by `scripts/docs` from `src/hayate/cli/`.\n", f"```\n{help_page()}```\n"]
    for name, place in COMMANDS.items():
        command = typer.main.get_command(importlib.import_module(place.module).app)
        sub_commands = getattr(command, "commands", {})
        for words, part in [(name, command), *((f"{name} {key}", value) for key, value in sub_commands.items())]:
            context = part.make_context(f"hayate {words}", [], resilient_parsing=True, max_content_width=100)
            parts.append(f"## hayate {words}\n\n```\n{part.get_help(context)}\n```\n")
    return "\n".join([*parts, flags_page()])


if __name__ == "__main__":
    sys.stdout.write(cli_page())
