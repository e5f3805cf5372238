"""Finished pictures on their way to the disk: extensions may change them, and are named in their texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hayate.errors import Cancelled
from hayate.extensions.hooks import Painter, PictureCall
from hayate.pipeline.decode import Batch
from hayate.pipeline.infotext import EXTENSIONS_KEY, Infotext, order_parameters
from hayate.pipeline.job import Job
from hayate.pipeline.stops import Skipped


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """A picture as it will be saved."""

    pixels: np.ndarray
    """[H, W, 3] uint8"""
    keys: Mapping[str, str | float] = field(default_factory=dict)
    """What extensions add to its infotext."""
    extensions: tuple[str, ...] = ()
    """Name and version of each that had a part in it."""
    rows: tuple[Mapping[str, Any], ...] = ()
    """The same for its record."""

    def described(self, info: Infotext) -> Infotext:
        """Its infotext; a key that is Hayate's own is not an extension's to change."""
        if not self.extensions and not self.keys:
            return info
        added: dict[str, str | float] = {key: each for key, each in self.keys.items() if key not in info.parameters}
        if self.extensions:
            added[EXTENSIONS_KEY] = ", ".join(self.extensions)
        return replace(info, parameters=order_parameters({**info.parameters, **added}))

    def recorded(self, about: Mapping[str, Any]) -> Mapping[str, Any]:
        """Its record."""
        return {**about, "extensions": list(self.rows)} if self.rows else about


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finished:
    """The pictures of a batch, and what stopped the work on them."""

    pictures: tuple[Made, ...]
    stopped: Cancelled | None = None
    """Somebody ended the job meanwhile; its pictures are as they were by then."""


def retouch(batch: Batch, job: Job, paint: Painter | None) -> Finished:
    """The pictures of a batch as extensions leave them; without extensions they are what they were, uncopied."""
    hooked, made = job.hooked, []
    stopped: Cancelled | None = None
    for index, picture in enumerate(batch.pictures):
        one, names = Made(pixels=picture), [*hooked.changed]
        if paint is not None and stopped is None:
            number = batch.seeds.index + index
            call = PictureCall(
                values={}, seed=batch.seeds.seeds[index], note=hooked.notes.append, job=job, number=number, paint=paint
            )
            try:
                after, acted = hooked.retouched(picture, call)
            except Skipped:
                hooked.notes.append(f"picture {number + 1} is as it was before extensions changed it: it was skipped")
            except Cancelled as error:
                stopped = error
            else:
                one, names = Made(pixels=after.picture, keys=after.keys), [*names, *acted]
        names = list(dict.fromkeys(names))
        made.append(replace(one, extensions=tuple(names), rows=tuple(hooked.rows(names))))
    return Finished(pictures=tuple(made), stopped=stopped)
