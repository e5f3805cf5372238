"""Pictures from a request, or from all that a script makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hayate.flags import given
from hayate.jobs.generate import Generate
from hayate.jobs.meter import Meter
from hayate.jobs.names import find_vae
from hayate.jobs.records import Picture, Result
from hayate.jobs.tasks.info import info_of
from hayate.jobs.tasks.station import Outcome, Station
from hayate.pipeline.job import Job
from hayate.pipeline.previews import Previewer
from hayate.pipeline.report import Report, SavedPicture
from hayate.pipeline.session import Maker
from hayate.runtime.asked import Asked, asked_from
from hayate.settings import Settings, changed_settings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Making:
    """One job's way of making pictures."""

    body: Generate
    settings: Settings
    asked: Asked
    maker: Maker
    meter: Meter
    station: Station

    @property
    def grid_folder(self) -> Path:
        """Where the picture of all pictures goes."""
        return self.settings.outputs_dir if self.body.saves_grid else self.station.results


def generate(body: Generate, station: Station) -> Outcome:
    """Makes the pictures. Raises: HayateError."""
    from hayate.jobs.tasks.scripts import run_script

    with making(body, station) as found:
        if body.script is not None:
            return run_script(body.script, found)
        report = found.maker.make(body.request, found.asked)
        return outcome_of([report], body, grid=report.grid)


@contextmanager
def making(body: Generate, station: Station) -> Iterator[Making]:
    """A maker by the wishes of a job. Raises: HayateError."""
    settings = changed_settings(station.settings, body.settings, allows_paths=False)
    asked = asked_from(given.get(), body.asked)
    if asked.tiny_vae is not None:
        asked = replace(asked, tiny_vae=str(find_vae(asked.tiny_vae, settings)))
    meter = station.meter()
    meter.phase("loading")
    maker = Maker(
        settings=settings,
        workspace=station.workspace,
        on_row=meter.row,
        output=None if body.saves_pictures else station.results,
        spare=station.results if body.saves_pictures else None,
        half_made=body.half_made,
        has_grid=body.wants_grid or body.saves_grid,
        grid_output=settings.outputs_dir if body.saves_grid else station.results,
        previewer=_previewer(body, settings, station),
        on_loaded=lambda job: meter.loaded(passes_of(job), job.batch_count),
    )
    yield Making(body=body, settings=settings, asked=asked, maker=maker, meter=meter, station=station)


def passes_of(job: Job) -> tuple[int, ...]:
    """The rows of each pass over a batch."""
    second = job.second
    return (job.table.rows, *((second.table.rows,) if second is not None and second.hires_acts else ()))


def outcome_of(reports: Sequence[Report], body: Generate, *, grid: Path | None = None) -> Outcome:
    """The result of one or several requests: facts of the first, pictures and seconds of all."""
    first = reports[0]
    pictures = tuple(picture_of(each, body) for report in reports for each in report.pictures)
    phases = first.seconds.keys()
    facts = {
        "model": dict(first.model),
        "plan": dict(first.plan),
        "seconds": {phase: round(sum(report.seconds[phase] for report in reports), 3) for phase in phases},
        "speed": dict(reports[-1].speed),
        "rows": sum(report.rows for report in reports),
        "info": info_of(reports, body.request),
    }
    notes = tuple(dict.fromkeys(note for report in reports for note in report.notes))
    result = Result(pictures=pictures, grid=None if grid is None else str(grid), notes=notes, facts=facts)
    title = f"{first.model['Model']} [{first.model['Model hash']}]"
    return Outcome(result=result, is_stopped=any(report.is_stopped for report in reports), model=title)


def picture_of(saved: SavedPicture, body: Generate) -> Picture:
    return Picture(
        path=str(saved.path.resolve()),
        seed=saved.seed,
        subseed=saved.subseed,
        infotext=saved.infotext,
        width_px=saved.width_px,
        height_px=saved.height_px,
        is_saved=body.saves_pictures and not saved.is_spare,
    )


def _previewer(body: Generate, settings: Settings, station: Station) -> Previewer | None:
    """Raises: UnknownName, ModelFileError for a file that holds no tiny decoder."""
    if body.preview_every is None:
        return None
    signals = station.signals
    tiny = None if body.preview_vae is None else find_vae(body.preview_vae, settings)
    return Previewer(station.publish, every=body.preview_every, tiny_vae=tiny, is_wanted=lambda: signals.is_watched)
