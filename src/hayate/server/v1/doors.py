"""What the routes are given: the desk, the settings, the server's life, and the job that a path names."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from hayate.jobs.desk import Desk
from hayate.jobs.records import JobRecord
from hayate.server.lifecycle import Lifecycle
from hayate.server.options import ServeOptions
from hayate.server.picture_files import Thumbnails
from hayate.server.preferences import Preferences
from hayate.settings import Settings


async def _desk(request: Request) -> Desk:
    return request.app.state.desk


async def _settings(request: Request) -> Settings:
    return request.app.state.settings


async def _options(request: Request) -> ServeOptions:
    return request.app.state.options


async def _lifecycle(request: Request) -> Lifecycle:
    return request.app.state.lifecycle


async def _thumbnails(request: Request) -> Thumbnails:
    return request.app.state.thumbnails


async def _preferences(request: Request) -> Preferences:
    return request.app.state.preferences


TheDesk = Annotated[Desk, Depends(_desk)]
TheSettings = Annotated[Settings, Depends(_settings)]
TheOptions = Annotated[ServeOptions, Depends(_options)]
TheLifecycle = Annotated[Lifecycle, Depends(_lifecycle)]
ThePreferences = Annotated[Preferences, Depends(_preferences)]
TheThumbnails = Annotated[Thumbnails, Depends(_thumbnails)]


def _named_job(id: str, desk: TheDesk) -> JobRecord:
    """Raises: UnknownJob."""
    return desk.job(id)


NamedJob = Annotated[JobRecord, Depends(_named_job)]
