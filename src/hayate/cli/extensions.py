"""`hayate extensions`: which there are, what they cost, and which act."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hayate.extensions.installing import Installer
from hayate.extensions.listing import Row, list_extensions
from hayate.extensions.removing import Remover
from hayate.extensions.state import StateFile
from hayate.extensions.switching import switch
from hayate.flags import given
from hayate.settings import Settings, load_settings

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Name = Annotated[str, typer.Argument(help="The extension's name.")]


@app.callback(invoke_without_command=True)
def extensions(context: typer.Context, as_json: AsJson = False) -> None:
    """Show what others add to Hayate, install more of it, and switch it on and off."""
    if context.invoked_subcommand is None:
        list_all(as_json)


@app.command(name="list")
def list_all(as_json: AsJson = False) -> None:
    """Show every extension: what it adds, whether it acts, and what it took when it was last in use."""
    settings = load_settings()
    rows, notes = list_extensions(settings, given.get())
    if as_json:
        sys.stdout.write(json.dumps({"folder": str(settings.extensions_dir), "extensions": [asdict(r) for r in rows]}))
        sys.stdout.write("\n")
        return
    sys.stderr.writelines(f"note: {note}\n" for note in notes)
    sys.stdout.write(_table(rows))


@app.command()
def install(
    path: Annotated[Path, typer.Argument(help="The extension's folder, or its wheel.")],
    as_trial: Annotated[bool, typer.Option("--dry-run", help="Say what it would change, and change nothing.")] = False,
) -> None:
    """Install an extension, once: refused where it would change a package that is here, such as torch."""
    settings = load_settings()
    installer = _installer(settings)
    planned = installer.plan(path)
    added = ", ".join(package.pin for package in planned.packages) or "no packages"
    title = planned.source.manifest.title
    if as_trial:
        sys.stdout.write(f"{title} would add {added}\n")
        return
    installer.install(planned)
    sys.stdout.write(f"installed {title}, with {added}; it acts from the next start on\n")


@app.command()
def remove(
    name: Name,
    keeps_packages: Annotated[
        bool, typer.Option("--keep-packages", help="Leave the packages that came with it.")
    ] = False,
    as_trial: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
) -> None:
    """Remove an extension that `install` has put here, and the packages that came with it and nothing else needs."""
    settings = load_settings()
    remover = Remover(settings.extensions_dir, StateFile(settings.data_dir))
    planned = remover.plan(name, keeps_packages=keeps_packages)
    if not as_trial:
        remover.remove(planned)
    does = "would remove" if as_trial else "removed"
    sys.stdout.write(f"{does} {name}\n")
    if planned.packages:
        sys.stdout.write(f"{does} what only it needed: {', '.join(planned.packages)}\n")
    sys.stdout.writelines(f"{pin} stays: {why}\n" for pin, why in planned.kept.items())


@app.command()
def enable(name: Name) -> None:
    """Let an extension act again."""
    switch(load_settings(), name, is_on=True)
    sys.stdout.write(f"{name} is on\n")


@app.command()
def disable(name: Name) -> None:
    """Keep an extension from acting; it is not even imported."""
    switch(load_settings(), name, is_on=False)
    sys.stdout.write(f"{name} is off\n")


def _installer(settings: Settings) -> Installer:
    return Installer(settings.extensions_dir, StateFile(settings.data_dir))


def _table(rows: tuple[Row, ...]) -> str:
    width = max((len(row.title) for row in rows), default=0)
    lines = []
    for row in rows:
        mark = {"on": "on ", "off": "off"}.get(row.state, " – ")
        what = row.problem or row.summary
        lines.append(f"{mark}  {row.title:<{width}}  {row.origin:<9} {_seconds(row):<34} {what}\n")
    return "".join(lines)


def _seconds(row: Row) -> str:
    """What it took, when that was last measured."""
    if row.last_at_s is None:
        return ""
    when = time.strftime("%Y-%m-%d", time.localtime(row.last_at_s))
    return f"import {row.import_s:.2f} s, hooks {row.hook_s:.2f} s ({when})"
