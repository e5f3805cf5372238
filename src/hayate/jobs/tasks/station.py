"""What a task works with, and what comes of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from hayate.jobs.messages import Ask
from hayate.jobs.meter import Meter
from hayate.jobs.records import Progress, Result
from hayate.jobs.signals import Signals
from hayate.settings import Settings

if TYPE_CHECKING:
    from hayate.pipeline.previews import Preview
    from hayate.pipeline.workspace import Workspace

PREVIEW_PX = 512
PREVIEW_QUALITY = 75


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Station:
    """A job's place at the worker."""

    job: str
    settings: Settings
    """The server's; a job may change some for itself."""
    workspace: Workspace
    signals: Signals
    tell: Callable[[Progress], None]
    show: Callable[[str], None]
    """Takes a JPEG in base64."""
    results: Path
    """The folder for pictures that are not saved among the user's outputs."""

    def meter(self) -> Meter:
        """What counts the job's steps; made once for each job."""
        return Meter(self.job, self.tell, self.signals)

    def publish(self, preview: Preview) -> None:
        """A preview on its way to whoever watches."""
        self.show(base64.b64encode(preview_jpeg(preview)).decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a job that did not fail."""

    result: Result
    is_stopped: bool = False
    """Whether it was cancelled; the result is what was finished by then."""
    model: str | None = None
    """The model that is in memory now; empty for none, None where that has not changed."""


class Task(Protocol):
    """Does one kind of job."""

    def __call__(self, body: Any, station: Station, /) -> Outcome:
        """Raises: HayateError; Cancelled where there is nothing to keep."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """What a worker can do, and with what."""

    tasks: Mapping[str, Task]
    open_workspace: Callable[[Settings], AbstractContextManager[Workspace]]
    facts: Callable[[Settings], dict[str, Any]]
    """What the page has at its foot."""
    pour: Callable[[str | None, str | None, Settings, Workspace], str]
    """Brings a model, and a VAE, into memory; its title."""
    answer: Callable[[Ask, Settings, Workspace], dict[str, Any]]
    """To a question. Raises: HayateError."""


def preview_jpeg(preview: Preview) -> bytes:
    """A preview as a JPEG that is no larger than a page shows it."""
    picture = Image.fromarray(preview.picture)
    picture.thumbnail((PREVIEW_PX, PREVIEW_PX), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=PREVIEW_QUALITY)
    return buffer.getvalue()
