"""X/Y/Z plots and prompt matrices: the pictures of all cells, and the sheet that shows them together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, PngImagePlugin

from hayate.errors import Cancelled, HayateError, UsageError
from hayate.pipeline.axes import Cell
from hayate.pipeline.axes_sheet import axes_sheet
from hayate.pipeline.formats import PARAMETERS
from hayate.pipeline.prompt_matrix import Matrix, matrix_sheet
from hayate.pipeline.report import Report
from hayate.pipeline.session import Maker

Place = tuple[int, int, int]
Labels = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeCell:
    """One cell of a plot."""

    place: Place
    report: Report


def make_cells(wanted: Iterable[tuple[Place, Cell]], maker: Maker) -> Iterator[MadeCell]:
    """The cells as they are made, by one maker, so that models and layers are made once for all that share them.

    Raises: HayateError of the first cell that fails, with what it was; the pictures before it are saved.
    """
    for place, cell in wanted:
        try:
            report = maker.make(cell.request, cell.asked)
        except Cancelled:
            raise
        except HayateError as error:
            where = ", ".join(str(at + 1) for at in place)
            raise UsageError(f"cell {where}: {error.message}", hint=error.hint) from error
        yield MadeCell(place=place, report=report)
        if report.is_stopped:
            return


def plot_sheet(made: Sequence[MadeCell], labels: Labels) -> Image.Image:
    """The sheet of a plot; the places of pictures that are not there stay white."""
    shown = [each for each in made if each.report.pictures]
    pictures = {each.place: Image.open(each.report.pictures[0].path) for each in shown}
    return axes_sheet(pictures, {each.place: caption_of(each.report) for each in shown}, labels)


def sheet_of_matrix(reports: Sequence[Report], matrix: Matrix) -> Image.Image:
    """The sheet of a prompt matrix, of which every picture is there."""
    return matrix_sheet([Image.open(report.pictures[0].path) for report in reports], matrix)


def save_sheet(sheet: Image.Image, parameters: str, output: Path) -> None:
    """A sheet as a PNG, with a picture's parameters in it."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text(PARAMETERS, parameters)
    sheet.save(output, pnginfo=texts)


def caption_of(report: Report) -> str:
    """The time of a cell: of the picture without loading, and the speed of its steps."""
    seconds = sum(report.seconds[phase] for phase in ("encode", "sample", "decode"))
    speed = report.rows / report.seconds["sample"] if report.seconds["sample"] else 0.0
    return f"{seconds:.2f} s, {speed:.3g} it/s"
