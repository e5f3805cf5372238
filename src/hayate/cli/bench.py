"""`hayate bench`: measured here, kept, compared and shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hayate.cli.computing import DEFAULTS, Own
from hayate.cli.group import MAIN, WithMain
from hayate.cli.measurements import described, line_of
from hayate.cli.options import parse_size, takes_groups
from hayate.errors import OutputError, UsageError
from hayate.flags import device_from, given
from hayate.settings import Settings, load_settings

if TYPE_CHECKING:
    from hayate.bench.history import History
    from hayate.bench.measure import OnEvent
    from hayate.request import TextToImage

app = typer.Typer(
    cls=WithMain, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=False
)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="The file to write.")]


@app.callback()
def bench() -> None:
    """Measure on this machine: hayate bench [quick | asuka | wiki | sdxl | FILE.png] [OPTIONS].

    The options of a measurement are those of `hayate bench run --help`.
    """


@app.command(MAIN)
@takes_groups
def run(  # noqa: PLR0917 - Typer makes a flag of each
    what: Annotated[
        str, typer.Argument(help="quick, asuka, wiki, sdxl, a picture of A1111's, or a .txt of its parameters.")
    ] = "quick",
    model: Annotated[str | None, typer.Option(help="A checkpoint's name or path. Default: the built-in model.")] = None,
    random: Annotated[
        str | None, typer.Option(help="sd15, sd21 or sdxl: full-size random weights, instead of a model.")
    ] = None,
    vae: Annotated[str | None, typer.Option(help="A separate VAE's name or path.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None,
    sampler: Annotated[str | None, typer.Option(help="The sampler.")] = None,
    cfg: Annotated[float | None, typer.Option(help="Guidance; 1 turns it off.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Size in pixels, multiples of 8.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures made at once.")] = None,
    batch_count: Annotated[int | None, typer.Option(help="How many batches.")] = None,
    rounds: Annotated[int, typer.Option(help="Runs at least, after the first.")] = 5,
    time_limit: Annotated[str, typer.Option(help="No run begins after so long, such as 90s or 5m.")] = "5m",
    label: Annotated[str, typer.Option(help="A name by which the result is found again.")] = "",
    reference: Annotated[
        bool, typer.Option("--reference/--no-reference", help="Compare the picture with that of fp32 eager.")
    ] = True,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, fp32, fp16 or bf16.")] = None,
    own: Own = DEFAULTS,
    as_json: AsJson = False,
) -> None:
    """Measure one configuration; A1111's flags are understood too."""
    from dataclasses import replace

    from hayate.bench.measure import Order
    from hayate.bench.orders import measure_and_keep
    from hayate.bench.presets import preset_of
    from hayate.bench.protocol import Limits, seconds_of

    limits = Limits(rounds=rounds, most_rounds=max(rounds, 20), time_s=seconds_of(time_limit, "--time-limit"))
    settings, preset = load_settings(), preset_of(what)
    width_px, height_px = parse_size(size, "--size")
    changed = {"steps": steps, "sampler": sampler, "cfg": cfg, "width_px": width_px, "height_px": height_px}
    changed |= {"batch_size": batch_size, "batch_count": batch_count, "vae": vae}
    changed |= {"device": device_from(given.get(), device)}
    request = replace(preset.request, **{key: value for key, value in changed.items() if value is not None})
    with _watched(as_json) as on_event:
        request = with_model(request, model, random, settings, on_event)
        order = Order(
            request=request,
            asked=own.asked(dtype),
            preset=preset.name,
            label=label,
            is_random=random is not None,
            is_compared=reference,
        )
        measurement, notes = measure_and_keep(order, preset, settings, limits, on_event)
    _say(notes)
    if as_json:
        typer.echo(json.dumps(measurement))
        return
    typer.echo(described(measurement))


@app.command()
def history(limit: Annotated[int, typer.Option(min=1, help="The last so many.")] = 20, as_json: AsJson = False) -> None:
    """List what was measured on this machine."""
    found = measured(open_history(load_settings()), limit)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for each in found:
        typer.echo(line_of(each))


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="A measurement's number, label, or last.")],
    second: Annotated[str, typer.Argument(help="Another one's.")],
    as_json: AsJson = False,
) -> None:
    """Compare two measurements."""
    from hayate.bench.comparison import compared, comparison_text

    history = open_history(load_settings())
    pair = history.find([first, second])
    _say(history.notes)
    if as_json:
        typer.echo(json.dumps(compared(*pair)))
        return
    typer.echo(comparison_text(*pair))


@app.command()
def export(
    numbers: Annotated[list[str] | None, typer.Argument(help="Numbers or labels; by default all.")] = None,
    format: Annotated[str, typer.Option(help="jsonl or markdown.")] = "jsonl",
    output: Output = None,
) -> None:
    """Write measurements as JSON lines or as a table in Markdown."""
    from hayate.bench.history import as_markdown

    if format not in ("jsonl", "markdown"):
        raise UsageError(f"no format {format[:30]!r}", hint="jsonl or markdown")
    found = chosen(numbers)
    text = as_markdown(found) if format == "markdown" else "".join(json.dumps(each) + "\n" for each in found)
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)


@app.command()
def report(
    numbers: Annotated[list[str] | None, typer.Argument(help="Numbers or labels; by default the last 30.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("hayate-bench.html"),
) -> None:
    """Write one self-contained HTML page with charts, which loads nothing from anywhere."""
    from hayate.bench.report import report_page

    found = chosen(numbers, 30)
    write_text(output, report_page(found, "Measured by Hayate"))
    typer.echo(f"{output}")


@app.command()
def predict(  # noqa: PLR0917 - Typer makes a flag of each
    cards: Annotated[list[str] | None, typer.Argument(help="Cards, such as 'RTX 4090'; by default all known.")] = None,
    measurement: Annotated[
        str, typer.Option("--from", help="The measurement to start from: its number, its label, or last.")
    ] = "last",
    here: Annotated[str | None, typer.Option(help="Start from this card instead, with --it-per-s.")] = None,
    model: Annotated[str, typer.Option(help="With --here: sd15, sd21 or sdxl.")] = "sd15",
    it_per_s: Annotated[float | None, typer.Option(help="With --here: its speed with guidance.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="With --here: the picture's size.")] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate what other cards would give; docs/predict.md says how wrong that has been."""
    from dataclasses import asdict

    from hayate.bench.cards import CARDS, find_card
    from hayate.bench.here import measured_here
    from hayate.bench.predict import MODELS, Measured, predict, predictions_text

    if here is None and it_per_s is None:
        history = open_history(load_settings())
        measured = measured_here(history.find([measurement])[0])
    elif here is None or it_per_s is None:
        raise UsageError("--here and --it-per-s go together", hint="--here 'RTX 3060' --it-per-s 8.0")
    else:
        side = MODELS[model].native_size_px if model in MODELS else 512
        width_px, height_px = parse_size(size, "--size")
        size_px = {"width_px": width_px or side, "height_px": height_px or side}
        measured = Measured(card=find_card(here), model=model, it_per_s=it_per_s, **size_px)  # pyright: ignore[reportArgumentType]
    found = predict(measured, [find_card(name) for name in cards] if cards else CARDS.values())
    if as_json:
        typer.echo(json.dumps([{**asdict(each), "card": each.card.name} for each in found]))
        return
    typer.echo(predictions_text(measured, found))


def with_model(
    request: TextToImage, model: str | None, random: str | None, settings: Settings, on_event: OnEvent
) -> TextToImage:
    """The request for the model that was asked for, whose file is written first if it is a random one.

    Raises: UsageError, OutputError.
    """
    from dataclasses import replace

    if random is None:
        return replace(request, model=model)
    if model is not None:
        raise UsageError("--model and --random name two models", hint="give one of them")
    from hayate.bench.random_model import random_model

    def on_share(share: float) -> None:
        on_event(f"writing random weights, {100 * share:.0f} %")

    return replace(request, model=str(random_model(random, settings.cache_dir / "models", on_share)))


def open_history(settings: Settings) -> History:
    from hayate.bench.history import FILE_NAME, History

    return History(path=settings.data_dir / FILE_NAME)


def measured(history: History, count: int) -> list[dict[str, Any]]:
    """The last measurements.

    Raises: UsageError where there are none.
    """
    found = history.latest(count)
    _say(history.notes)
    if not found:
        raise UsageError("nothing has been measured here yet", hint="hayate bench quick")
    return found


def chosen(numbers: list[str] | None, most: int = 100_000) -> list[dict[str, Any]]:
    """The measurements of these numbers or labels, or the last ones.

    Raises: UsageError.
    """
    history = open_history(load_settings())
    if not numbers:
        return measured(history, most)
    found = history.find(numbers)
    _say(history.notes)
    return found


def write_text(path: Path, text: str) -> None:
    """Raises: OutputError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}", hint="choose another place with -o") from error


@contextmanager
def _watched(is_silent: bool) -> Iterator[OnEvent]:
    """A line that says what is being done, where somebody watches."""
    from rich.console import Console

    console = Console(stderr=True)
    if is_silent or not console.is_terminal:
        yield lambda what: None
        return
    with console.status("") as status:
        yield status.update


def _say(notes: list[str]) -> None:
    for note in notes:
        typer.echo(f"note: {note}", err=True)
