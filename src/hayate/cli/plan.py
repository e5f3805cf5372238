"""`hayate plan`: what would compute a picture, and why."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hayate.cli.computing import DEFAULTS, Own
from hayate.cli.options import parse_size, takes_groups
from hayate.flags import device_from, given
from hayate.request import TextToImage, validate
from hayate.settings import load_settings

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
@takes_groups
def plan(  # noqa: PLR0917 - Typer makes a flag of each
    model: Annotated[
        str | None, typer.Option("--model", "--ckpt", help="A checkpoint's name or path. Default: the built-in model.")
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Size in pixels, multiples of 8.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures made at once.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, fp32, fp16 or bf16.")] = None,
    own: Own = DEFAULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show what would compute a picture, and why; A1111's flags are understood too."""
    width_px, height_px = parse_size(size, "--size")
    request = TextToImage(
        prompt="",
        model=model,
        batch_size=batch_size,
        width_px=width_px,
        height_px=height_px,
        device=device_from(given.get(), device),
        dtype=dtype,
    )
    validate(request)
    from hayate.pipeline.prepared import plan_request

    found = plan_request(request, load_settings(), own.asked())
    if as_json:
        typer.echo(json.dumps({"choices": found.as_object(), "notes": list(found.notes)}))
        return
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    widths = [max(len(getattr(choice, name)) for choice in found.choices) for name in ("name", "value")]
    for choice in found.choices:
        typer.echo(f"{choice.name:<{widths[0]}}  {choice.value:<{widths[1]}}  {choice.reason}")
