"""`hayate models scan`: what pickled files would do, read without running them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hayate.errors import HayateError
from hayate.weights.scan import Scan, Verdict
from hayate.weights.scan import scan as scan_file

_FOUND = 1
_BROKEN = 3


def scan(
    files: Annotated[list[Path], typer.Argument(help="Pickled files: .ckpt, .pt, .pth, .bin or any other name.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show what pickled files would import and call. Exit code 1 where something would run code or is not known."""
    scans: list[Scan] = []
    problems: list[str] = []
    for path in files:
        try:
            scans.append(scan_file(path))
        except HayateError as error:
            problems.append(str(error))
    if as_json:
        rows = [{**asdict(each), "path": str(each.path)} for each in scans]
        sys.stdout.write(json.dumps({"files": rows, "problems": problems}) + "\n")
    else:
        for each in scans:
            imports = ", ".join(each.imports) or "nothing"
            sys.stdout.write(f"{each.path}: {each.verdict}; {each.calls} calls; imports {imports}\n")
        sys.stderr.writelines(f"{problem}\n" for problem in problems)
    if any(each.verdict in {Verdict.DANGEROUS, Verdict.UNKNOWN} for each in scans):
        raise typer.Exit(_FOUND)
    if problems:
        raise typer.Exit(_BROKEN)
