"""A1111's scripts: many requests of one, and what is made of their pictures."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image

from hayate.errors import Cancelled
from hayate.jobs.lent_scripts import LentScript, lent_requests
from hayate.jobs.scripts import (
    Loopback,
    Outpainting,
    PromptMatrix,
    PromptsFromFile,
    Requests,
    Script,
    SDUpscale,
    XYZPlot,
)
from hayate.jobs.tasks.generate import Making, outcome_of
from hayate.jobs.tasks.redraw import redraw
from hayate.jobs.tasks.station import Outcome
from hayate.pipeline.axes import Cell, cells
from hayate.pipeline.formats import Format, PictureTexts, is_too_large
from hayate.pipeline.grid import make_grid
from hayate.pipeline.loopback import loopback
from hayate.pipeline.plots import make_cells, plot_sheet, sheet_of_matrix
from hayate.pipeline.png import Target, save_grid
from hayate.pipeline.prompt_matrix import requests_of
from hayate.pipeline.prompts_file import requests_of_text
from hayate.pipeline.report import Report
from hayate.request import TextToImage
from hayate.runtime.asked import Asked


def run_script(script: Script, making: Making) -> Outcome:
    """What a script makes of a job's request. Raises: HayateError."""
    alone = replace(making, maker=replace(making.maker, has_grid=False))  # one grid of all, and none of each
    if isinstance(script, LentScript):
        return run_all(lent_requests(script, making.body.request, making.asked, making.settings), alone)
    return RUNNERS[script.name](script, alone)


def run_plot(script: XYZPlot, making: Making) -> Outcome:
    """A picture for every combination of axes; the sheet is the result's grid."""
    axes = script.axes()
    request = _with_seed(making.body.request)
    wanted = list(cells(Cell(request=request, asked=making.asked), *axes))
    making.meter.expect(len(wanted))
    made = []
    for cell in make_cells(wanted, making.maker):
        made.append(cell)
        _count(making, cell.report)
    reports = [cell.report for cell in made]
    if not _is_whole(reports):
        return outcome_of(reports, making.body)
    sheet = plot_sheet(made, (axes[0].labels(), axes[1].labels(), axes[2].labels()))
    return outcome_of(reports, making.body, grid=_save(np.asarray(sheet), reports, making))


def run_matrix(script: PromptMatrix, making: Making) -> Outcome:
    """Every combination of a prompt's parts; the sheet is the result's grid."""
    matrix = script.matrix(making.body.request)
    reports = _made(requests_of(matrix, making.body.request), making)
    if not _is_whole(reports) or not all(report.pictures for report in reports):
        return outcome_of(reports, making.body)
    sheet = sheet_of_matrix(reports, matrix)
    return outcome_of(reports, making.body, grid=_save(np.asarray(sheet), reports, making))


def run_loopback(script: Loopback, making: Making) -> Outcome:
    """Img2img of its own result."""
    request, loops = making.body.request, script.wanted()
    making.meter.expect(loops.count * (request.batch_count or 1))
    reports = []
    for looped in loopback(request, making.maker, making.asked, loops=loops):
        reports.append(looped.report)
        _count(making, looped.report)
    return outcome_of(reports, making.body, grid=_grid(reports, making))


def run_prompts(script: PromptsFromFile, making: Making) -> Outcome:
    """One request a line."""
    base = making.body.request
    if script.has_one_seed or script.has_next_seeds:
        base = _with_seed(base)
    requests = [request for _, request in requests_of_text(script.text, base)]
    if script.has_next_seeds:
        requests = [
            replace(each, seed=(each.seed or 0) + number * (each.seed == base.seed))
            for number, each in enumerate(requests)
        ]
    reports = _made(requests, making)
    return outcome_of(reports, making.body, grid=_grid(reports, making))


def run_requests(script: Requests, making: Making) -> Outcome:
    """The requests that a script makes of one."""
    return run_all(script.requests(making.body.request, making.asked), making)


def run_all(wanted: Sequence[tuple[TextToImage, Asked]], making: Making) -> Outcome:
    """Requests, one after the other, until somebody cancels."""
    making.meter.expect(len(wanted))
    reports = []
    for request, asked in wanted:
        reports.append(making.maker.make(request, asked))
        _count(making, reports[-1])
        if reports[-1].is_stopped:
            break
    return outcome_of(reports, making.body, grid=_grid(reports, making))


def run_upscale(script: SDUpscale, making: Making) -> Outcome:
    """The picture larger, and made anew in tiles."""
    return outcome_of([redraw(script, making)], making.body)


def _made(requests: Iterable[TextToImage], making: Making) -> list[Report]:
    """The reports of requests, until somebody cancels."""
    requests, reports = list(requests), []
    making.meter.expect(len(requests))
    for request in requests:
        reports.append(making.maker.make(request, making.asked))
        _count(making, reports[-1])
        if reports[-1].is_stopped:
            break
    return reports


def _count(making: Making, report: Report) -> None:
    """One more is made; a cancel that comes now is for the next one to find."""
    if not report.is_stopped:
        try:
            making.meter.run_done()
        except Cancelled:
            return


def _is_whole(reports: Sequence[Report]) -> bool:
    return not any(report.is_stopped for report in reports) and any(report.pictures for report in reports)


def _grid(reports: Sequence[Report], making: Making) -> Path | None:
    """All pictures in one, where that is wanted and they are alike."""
    body = making.body
    pictures = [picture for report in reports for picture in report.pictures]
    sizes = {(picture.width_px, picture.height_px) for picture in pictures}
    if not (body.wants_grid or body.saves_grid) or len(pictures) < 2 or len(sizes) != 1 or not _is_whole(reports):
        return None
    return _save(make_grid([np.asarray(Image.open(picture.path)) for picture in pictures]), reports, making)


def _save(sheet: np.ndarray, reports: Sequence[Report], making: Making) -> Path | None:
    """A sheet beside the grids, with the first picture's text; none where a file can't be so large."""
    settings = making.settings
    format_ = Format(name=settings.format, quality=settings.quality)
    if is_too_large(format_, sheet.shape[1], sheet.shape[0]):
        return None
    parameters = next(report.pictures[0].infotext for report in reports if report.pictures)
    target = Target(folder=making.grid_folder, format=format_)
    return save_grid(sheet, target, PictureTexts(parameters=parameters)).resolve()


def _with_seed(request: TextToImage) -> TextToImage:
    """The request with a seed that is drawn, so that all have the same."""
    return request if request.seed not in (None, -1) else replace(request, seed=secrets.randbelow(2**32))


RUNNERS: Mapping[str, Callable[[Any, Making], Outcome]] = MappingProxyType(
    {
        XYZPlot.name: run_plot,
        PromptMatrix.name: run_matrix,
        Loopback.name: run_loopback,
        PromptsFromFile.name: run_prompts,
        SDUpscale.name: run_upscale,
        Outpainting.name: run_requests,
    }
)
"""Of the scripts that are built in."""
