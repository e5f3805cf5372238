"""`hayate loopback`: img2img of its own result, again and again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from hayate.cli.computing import DEFAULTS, Own
from hayate.cli.generate import as_object, progress, show
from hayate.cli.options import takes_groups
from hayate.cli.requested import ANY, FROM_NOISE, Drawn, Started
from hayate.request import TextToImage
from hayate.settings import load_settings

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
@takes_groups
def loopback(  # noqa: PLR0917 - Typer makes a flag of each
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    loops: Annotated[int, typer.Option(help="How often.")] = 4,
    final_denoising: Annotated[
        float, typer.Option(help="The last loop's denoising; --denoising is the first's.")
    ] = 0.5,
    curve: Annotated[str, typer.Option(help="How it changes on the way: linear, aggressive or lazy.")] = "linear",
    drawn: Drawn = ANY,
    started: Started = FROM_NOISE,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder for all pictures.")] = None,
    own: Own = DEFAULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Make a picture from a picture, another one from that, and so on; --batch-count begins anew as often."""
    from hayate.pipeline.loopback import loopback as looped
    from hayate.pipeline.loops import Loops, check_loops
    from hayate.pipeline.prepared import check_request
    from hayate.pipeline.session import Maker
    from hayate.pipeline.workspace import Workspace

    request = TextToImage(prompt=prompt, start=started.start(), **drawn.changes())
    wanted = Loops(count=loops, final_denoising=final_denoising, curve=curve)
    settings, asked = load_settings(), own.asked()
    check_loops(request, wanted)
    check_request(request, settings, asked)
    objects: list[dict[str, Any]] = []
    begun = time.perf_counter()
    with Workspace(settings) as workspace, progress(as_json) as on_row:
        maker = Maker(settings=settings, workspace=workspace, on_row=on_row, output=output)
        for made in looped(request, maker, asked, loops=wanted):
            seconds, begun = time.perf_counter() - begun, time.perf_counter()
            if not as_json:
                show(made.report, seconds)
            objects.append({"batch": made.batch, "loop": made.loop, **as_object(made.report, seconds)})
    if as_json:
        typer.echo(json.dumps({"jobs": objects}, ensure_ascii=True))
