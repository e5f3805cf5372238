"""The `generate` job: pictures from a request, or from the many that a script makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from hayate.errors import UnknownName, UsageError
from hayate.jobs.names import check_request_names, check_start, find_vae
from hayate.jobs.scripts import Script, read_script, script_object
from hayate.jobs.wire import as_object, read_object
from hayate.pipeline.stops import HALF_MADE
from hayate.request import TextToImage, validate
from hayate.runtime.asked import Asked
from hayate.settings import Settings, changed_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """What to make, how to compute it, and what is kept."""

    kind: ClassVar[str] = "generate"
    request: TextToImage
    asked: Asked = field(default_factory=Asked)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings for this job alone; those that are paths can't be changed."""
    saves_pictures: bool = True
    """Whether the pictures are the user's outputs; others are kept for a while only."""
    saves_grid: bool = False
    wants_grid: bool = False
    """Whether all pictures in one are part of the result, be it saved or not."""
    half_made: str = "dropped"
    """What becomes of the batch that a cancel finds half-made: dropped, shown (in the result alone) or saved."""
    preview_every: int | None = None
    """A preview after so many evaluations, while somebody listens."""
    preview_vae: str | None = None
    """The TAESD file of `vae_dir` that makes them; None takes approximate colours, which cost next to nothing."""
    script: Any = None
    """A row of `scripts.SCRIPTS`, or None."""

    @classmethod
    def read(cls, words: Mapping[str, Any]) -> Generate:
        """The job of a JSON object. Raises: UnknownName, UsageError."""
        body = read_object(cls, words, "the generate job")
        return body if body.script is None else replace(body, script=read_script(body.script))

    def as_object(self) -> dict[str, Any]:
        """The same back."""
        words = as_object(replace(self, script=None))
        return words if self.script is None else {**words, "script": script_object(self.script)}

    def check(self, settings: Settings, inputs_dir: Path) -> None:
        """Raises: UsageError, UnknownName."""
        settings = changed_settings(settings, self.settings, allows_paths=False)
        validate(self.request)
        check_request_names(self.request, settings)
        check_start(self.request.start, inputs_dir)
        for name in (self.asked.tiny_vae, self.preview_vae):
            if name is not None:
                find_vae(name, settings)
        if self.half_made not in HALF_MADE:
            raise UnknownName("use of half-made pictures", self.half_made, HALF_MADE)
        if self.preview_every is not None and not 1 <= self.preview_every <= 1000:
            raise UsageError(f"a preview every {self.preview_every} evaluations can't be", hint="1 to 1000")
        script: Script | None = self.script
        if script is not None:
            script.check(self.request, self.asked, settings)

    def inputs(self) -> tuple[str, ...]:
        start = self.request.start
        return () if start is None else tuple(path for path in (start.path, start.mask) if path is not None)
