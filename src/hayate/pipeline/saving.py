"""The files of a request: where they go, how they are called, and what is written in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from hayate.errors import OutputError
from hayate.pipeline.decode import Batch
from hayate.pipeline.formats import PictureTexts, is_too_large
from hayate.pipeline.grid import grid_shape, make_grid
from hayate.pipeline.infotext import INTERRUPTED_KEY, format_infotext, order_parameters
from hayate.pipeline.job import Job
from hayate.pipeline.names import NameFacts, fill_pattern
from hayate.pipeline.parameters import describe
from hayate.pipeline.png import Target, check_writable, save_grid, save_picture
from hayate.pipeline.prepared import Files
from hayate.pipeline.report import SavedPicture
from hayate.pipeline.retouching import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a request's files go."""

    pictures: Target
    spare: Target | None
    """For what can't be written there."""
    grid: Target


def writable_places(target: Target, *, spare: Path | None, grid: Path | None) -> tuple[Places, list[str]]:
    """The places, and a note where the folder `spare` is taken at once; without one for the `grid`, it is `target`.

    Raises: OutputError.
    """
    other = None if spare is None else Target(folder=spare, format=target.format)
    try:
        check_writable(target)
    except OutputError as error:
        if other is None:
            raise
        check_writable(other)
        return Places(pictures=other, spare=other, grid=other), [_not_there(error)]
    of_grid = target if grid is None else Target(folder=grid, format=target.format)
    return Places(pictures=target, spare=other, grid=of_grid), []


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saver:
    """Writes the files of one request."""

    places: Places
    job: Job
    files: Files
    pattern: str
    """Of the pictures' names."""
    half_made: str
    """One of `stops.HALF_MADE`: shown only, the batch that was stopped goes to the spare place."""
    notes: list[str]
    """What the user should know is added to them."""
    started: datetime = field(default_factory=lambda: datetime.now().astimezone())

    def picture(self, batch: Batch, index: int, made: Made, about: Mapping[str, Any]) -> SavedPicture:
        """One picture as a file; `about` is its record. Raises: OutputError."""
        info = describe(self.job, batch.guidance, batch.seeds.index + index, self.files.keys())
        if batch.stopped_at is not None:
            stopped = f"{batch.stopped_at.row}/{batch.stopped_at.rows}"
            info = replace(info, parameters=order_parameters({**info.parameters, INTERRUPTED_KEY: stopped}))
        infotext = format_infotext(made.described(info))
        texts = PictureTexts(parameters=infotext, record=made.recorded(about))
        stem = fill_pattern(self.pattern, self._name_facts(batch.seeds.index + index))
        picture = made.pixels
        aside = self.places.spare if batch.stopped_at is not None and self.half_made == "shown" else None
        path, is_spare = self._put(lambda target: save_picture(picture, target, stem=stem, texts=texts), aside)
        return SavedPicture(
            path=path,
            seed=batch.seeds.seeds[index],
            subseed=batch.seeds.subseeds[index],
            infotext=infotext,
            width_px=picture.shape[1],
            height_px=picture.shape[0],
            is_spare=is_spare,
            is_half_made=batch.stopped_at is not None,
        )

    def grid(self, pixels: Sequence[np.ndarray], saved: Sequence[SavedPicture]) -> Path | None:
        """All pictures that are whole in one, with the infotext of the first; none where a file can't be so large.

        Raises: OutputError.
        """
        if len(pixels) < 2:
            return None
        rows, columns = grid_shape(len(pixels))
        height_px, width_px, _ = pixels[0].shape
        format_ = self.places.grid.format
        if is_too_large(format_, columns * width_px, rows * height_px):
            self.notes.append(f"no grid: it is larger than a {format_.name.upper()} file should be")
            return None
        texts = PictureTexts(parameters=next(each.infotext for each in saved if not each.is_half_made))
        grid = make_grid(pixels)
        return self._put(lambda target: save_grid(grid, target, texts), self.places.grid)[0]

    def _put(self, save: Callable[[Target], Path], target: Target | None = None) -> tuple[Path, bool]:
        """Saves to the pictures' place or another one, else to the spare one; the file, and whether it is there."""
        target, spare = target or self.places.pictures, self.places.spare
        try:
            return save(target), target == spare
        except OutputError as error:
            if spare is None or target == spare:
                raise
            if (note := _not_there(error)) not in self.notes:
                self.notes.append(note)
            return save(spare), True

    def _name_facts(self, number: int) -> NameFacts:
        keys = self.files.keys()
        return NameFacts(
            job=self.job,
            number=number,
            model_name=keys["Model"],
            model_hash=keys["Model hash"],
            vae_name=keys.get("VAE", ""),
            started=self.started,
            saved=datetime.now().astimezone(),
        )


def _not_there(error: OutputError) -> str:
    return f"pictures are not where they should be: {error}"
