"""`hayate tune`: finds what wins on this machine, and keeps it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hayate.cli.bench import AsJson, with_model, write_text
from hayate.cli.group import MAIN, WithMain
from hayate.cli.options import parse_size
from hayate.errors import UnknownName, UsageError
from hayate.flags import device_from, given
from hayate.settings import load_settings

if TYPE_CHECKING:
    from hayate.tune.search import Outcome
    from hayate.tune.verdict import Row

app = typer.Typer(cls=WithMain, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
Model = Annotated[str | None, typer.Option(help="A checkpoint's name or path. Default: the built-in model.")]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Size in pixels, multiples of 8.")]
MARGIN_S = 2.5
"""Of the budget, what the program's start and the saving take."""


@app.callback()
def tune() -> None:
    """Find what wins on this machine, within a budget of time: hayate tune [OPTIONS].

    The options are those of `hayate tune run --help`. What wins is checked against the picture of fp32 eager, kept as a
    profile, and used by `hayate generate` from then on.
    """


@app.command(MAIN)
def run(  # noqa: PLR0917 - Typer makes a flag of each
    model: Model = None,
    random: Annotated[
        str | None, typer.Option(help="sd15, sd21 or sdxl: full-size random weights, instead of a model.")
    ] = None,
    size: Size = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures made at once.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the pictures to come; fewer are made where time is short.")] = 20,
    budget: Annotated[str, typer.Option(help="The time to spend, such as 90s, 3m or 1h.")] = "3m",
    promise: Annotated[str, typer.Option(help="exact, deterministic or fast: what the winner must keep to.")] = "exact",
    min_psnr: Annotated[float, typer.Option(help="The least that a picture may be like fp32 eager's, in dB.")] = 35.0,
    prompt: Annotated[str | None, typer.Option(help="The picture that candidates are checked with.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Where the picture of speed and difference goes.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find the fastest configuration for a model, a size and a batch."""
    from hayate.bench.presets import QUICK
    from hayate.bench.protocol import seconds_of
    from hayate.runtime.asked import Asked, asked_from
    from hayate.runtime.plan import PROMISES
    from hayate.tune.search import Search
    from hayate.tune.tuning import Goal, aim_for, as_object, keep, run_search, write_plot

    if promise not in PROMISES:
        raise UnknownName("promise", promise, PROMISES)
    budget_s, settings = seconds_of(budget, "--budget"), load_settings()
    width_px, height_px = parse_size(size, "--size")
    request = replace(QUICK, steps=steps, width_px=width_px, height_px=height_px, batch_size=batch_size)
    request = replace(request, prompt=prompt or QUICK.prompt, device=device_from(given.get(), device))
    with _table(as_json, budget_s) as table:
        request = with_model(request, model, random, settings, table.event)
        started = time.monotonic()  # random weights are written once, and no part of the budget
        goal = Goal(budget_s=budget_s, promise=promise, min_psnr_db=min_psnr)
        aim, prepared = aim_for(request, settings, goal, asked_from(given.get(), Asked()))
        aim.check()
        left_s = budget_s - (time.monotonic() - started) - MARGIN_S
        search = Search(replace(aim, budget_s=max(left_s, 5.0)), on_row=table.row, on_event=table.event)
        outcome = run_search(search)
    kept = keep(outcome, aim, prepared, settings)
    picture = write_plot(outcome, aim, plot or settings.outputs_dir / "tune.svg")
    if as_json:
        typer.echo(json.dumps(as_object(outcome) | {"profile": kept}))
        return
    typer.echo("\n".join(conclusion(outcome, kept, picture)))


def conclusion(outcome: Outcome, kept: str | None, picture: Path | None) -> Iterator[str]:
    """The last lines: what won, by how much, and where it is kept."""
    best = outcome.best
    if outcome.is_interrupted:
        yield "interrupted: what was known by then counts"
    if best is None:
        yield "nothing sound was found; no profile was kept"
        return
    if outcome.ratios:
        low, high = min(outcome.ratios), max(outcome.ratios)
        won = f"{outcome.ratio:.2f}× ({low:.2f}–{high:.2f}) as fast as the default plan, timed in turn"
        yield f"winner: {words_of(best)}, {won}"
    elif any(row.trial is not None and row is not best for row in outcome.rows):
        yield "winner: the default plan; nothing that was tried and kept its promise is faster here"
    else:
        yield "winner: the default plan, for nothing else was tried; a larger --budget bears more"
    yield f"profile: {kept}; hayate generate uses it from now on"
    if picture is not None:
        yield f"speed against difference: {picture}"


def words_of(row: Row) -> str:
    """All that a row's configuration asks for."""
    from hayate.runtime.profiles import said

    asked = {} if row.asked is None else said(row.asked)
    return " ".join(f"{name}={value}" for name, value in asked.items() if name != "ignores_profile") or row.name


class Table:
    """Prints a line for every trial as soon as it is known."""

    HEAD = f"{'setting':<28} {'it/s (range)':<24} {'first':>7} {'peak':>9} {'picture':>10} {'bits':>6}  verdict"

    def __init__(self, on_event: Callable[[str], None], *, is_silent: bool = False) -> None:
        self.event = on_event
        self._is_silent = is_silent
        self._has_head = False

    def row(self, row: Row) -> None:
        if self._is_silent:
            return
        if not self._has_head:
            typer.echo(self.HEAD)
            self._has_head = True
        typer.echo(line_of(row))


def line_of(row: Row) -> str:
    """A trial in one line."""
    from hayate.bench.history import decibels

    trial, cells = row.trial, ["", "", "", "", ""]
    if trial is not None:
        difference = None if row.difference is None else {"psnr_db": row.difference.psnr_db}
        peak = "–" if trial.peak_bytes is None else f"{trial.peak_bytes / 2**30:.2f} GiB"
        same = {True: "same", False: "other", None: "–"}[trial.is_repeated]
        cells = [str(trial.speed), f"{trial.first_s:.1f} s", peak, decibels(difference), same]
    return (
        f"{row.name[:28]:<28} {cells[0]:<24} {cells[1]:>7} {cells[2]:>9} {cells[3]:>10} {cells[4]:>6}  "
        f"{row.verdict.value}: {row.reason}"
    )


@contextmanager
def _table(is_silent: bool, budget_s: float) -> Iterator[Table]:
    """The table on standard output, and on a terminal a bar of the budget with what is being tried."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if is_silent or not console.is_terminal:
        yield Table(lambda what: None, is_silent=is_silent)
        return
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("of {task.fields[budget]}: {task.description}"))
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        started, budget = time.monotonic(), f"{budget_s:.0f} s"
        task = bar.add_task("getting ready", total=budget_s, budget=budget)

        def on_event(what: str) -> None:
            bar.update(task, description=what, completed=min(budget_s, time.monotonic() - started))

        yield Table(on_event)


@app.command("steps")
def save_steps(  # noqa: PLR0917 - Typer makes a flag of each
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    negative: Annotated[str, typer.Option(help="What to keep out of the picture.")] = "",
    model: Model = None,
    sampler: Annotated[str | None, typer.Option(help="The sampler, such as 'DPM++ 2M' or 'Euler a'.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="The noise schedule, such as Karras.")] = None,
    cfg: Annotated[float | None, typer.Option(help="How strongly the prompt guides; 1 turns guidance off.")] = None,
    size: Size = None,
    seed: Annotated[int, typer.Option(help="The picture's seed.")] = 1,
    reference_steps: Annotated[int, typer.Option(help="Steps of the picture that the others are held to.")] = 80,
    min_ssim: Annotated[float, typer.Option(help="The least structural similarity that counts as the same.")] = 0.95,
    budget: Annotated[str, typer.Option(help="The time to spend, such as 90s or 3m.")] = "3m",
    rivals: Annotated[bool, typer.Option("--rivals/--no-rivals", help="Try other samplers too.")] = True,
    output: Annotated[Path, typer.Option("--output", "-o", help="The contact sheet, a PNG.")] = Path("steps.png"),
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find the fewest steps, and the sampler, whose picture is still the one that many steps make."""
    from hayate.bench.protocol import seconds_of
    from hayate.pipeline.png import check_writable, resolve_target
    from hayate.request import TextToImage
    from hayate.runtime.asked import Asked, asked_from
    from hayate.tune import steps as saver

    width_px, height_px = parse_size(size, "--size")
    request = TextToImage(
        prompt=prompt,
        negative_prompt=negative,
        model=model,
        sampler=sampler,
        scheduler=scheduler,
        cfg=cfg,
        width_px=width_px,
        height_px=height_px,
        seed=seed,
        device=device_from(given.get(), device),
    )
    saving = saver.Saving(
        request=request,
        reference_steps=reference_steps,
        min_ssim=min_ssim,
        budget_s=seconds_of(budget, "--budget"),
        has_rivals=rivals,
    )
    if output.suffix.lower() != ".png":
        raise UsageError(f"{output} is no .png file", hint="the contact sheet is a PNG, such as -o steps.png")
    check_writable(resolve_target(output))
    with _table(as_json, saving.budget_s) as table:
        saved = saver.save_steps(saving, load_settings(), asked_from(given.get(), Asked()), table.event)
    saver.sheet(saved).save(output)
    chart = output.with_suffix(".svg")
    write_text(chart, saver.curve(saved))
    if as_json:
        typer.echo(json.dumps(saver.as_object(saved) | {"sheet": str(output), "curve": str(chart)}))
        return
    typer.echo("\n".join(saver.described(saved, saving)))
    typer.echo(f"{output}\n{chart}")
