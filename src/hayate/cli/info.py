"""`hayate info FILE`: what a picture was made with."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="A PNG, JPEG, WebP or AVIF picture.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show the prompt and the parameters that a picture carries."""
    from hayate.pipeline.infotext import pasted_parameters
    from hayate.pipeline.picture_info import harmless, read_picture_info

    picture = read_picture_info(file)
    if as_json:
        pasted = pasted_parameters(picture.infotext) if picture.infotext else {}
        content = {"file": str(file), **asdict(picture), "pasted": pasted}
        sys.stdout.write(json.dumps(content) + "\n")
        return
    lines = [f"{file}: {picture.format}, {picture.width_px}x{picture.height_px}", picture.parameters or "no parameters"]
    lines += [f"{key}: {text}" for key, text in picture.texts.items()]
    sys.stdout.write(harmless("\n".join(lines)) + "\n")
