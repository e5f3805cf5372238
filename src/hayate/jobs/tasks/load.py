"""Models into memory, and out of it."""

from __future__ import annotations

import time
from pathlib import Path

from hayate.jobs.bodies import Load, Unload
from hayate.jobs.records import Result
from hayate.jobs.tasks.station import Outcome, Station
from hayate.pipeline.cast import Cast
from hayate.pipeline.hooked import NOBODY
from hayate.pipeline.prepared import prepare_request
from hayate.pipeline.workspace import Workspace
from hayate.request import TextToImage
from hayate.settings import Settings, changed_settings


def load(body: Load, station: Station) -> Outcome:
    """Brings a model into memory. Raises: HayateError."""
    station.meter().phase("loading")
    settings = changed_settings(station.settings, body.settings, allows_paths=False)
    started = time.perf_counter()
    title = pour(body.model, body.vae, settings, station.workspace)
    facts = {"model": title, "seconds": {"load": round(time.perf_counter() - started, 3)}}
    return Outcome(result=Result(facts=facts), model=title)


def unload(body: Unload, station: Station) -> Outcome:
    """Gives up all models."""
    del body
    station.workspace.clear()
    return Outcome(result=Result(), model="")


def pour(model: str | None, vae: str | None, settings: Settings, workspace: Workspace) -> str:
    """Brings a model into memory as the first picture would; its title.

    Raises: HayateError.
    """
    request = TextToImage(prompt="", model=model, vae=vae)
    prepared = prepare_request(request, settings, None, workspace, hooked=NOBODY)
    Cast(prepared, settings, workspace).open()
    keys = prepared.files.keys()
    return f"{Path(keys['Model']).name} [{keys['Model hash']}]"
