"""What the models tab asks beside /v1: which files are in the folder, and what pickled ones would run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from hayate.settings import Settings
from hayate.weights.folders import REFUSED, ModelEntry, find_model, list_models
from hayate.weights.scan import Verdict, scan


class CheckpointEntry(BaseModel):
    """A checkpoint as the page lists it."""

    name: str
    family: str | None
    size_bytes: int
    problem: str | None
    is_pickled: bool
    """Whether it can be looked into for what it would run."""


class ScanView(BaseModel):
    """What a pickled file asks for."""

    name: str
    verdict: str
    is_harmless: bool
    imports: list[str]
    calls: int


def checkpoints_router(settings: Settings) -> APIRouter:
    """The routes of the models tab."""
    router = APIRouter(prefix="/ui/checkpoints", tags=["page"])

    @router.get("")
    def checkpoints() -> list[CheckpointEntry]:
        """Cost: 1 to 10 ms for each file."""
        return [_entry(each) for each in list_models(settings.models_dir, follows_links=False)]

    @router.get("/scan")
    async def scanned(name: Annotated[str, Query(max_length=1000)]) -> ScanView:
        """Of a file in the folder. Raises: UnknownName, UsageError, ModelFileError."""
        path = find_model(name, settings.models_dir, allows_paths=False)
        return await run_in_threadpool(_scanned, name, path)

    return router


def _entry(model: ModelEntry) -> CheckpointEntry:
    return CheckpointEntry(
        name=model.name,
        family=None if model.family is None else model.family.value,
        size_bytes=model.size_bytes,
        problem=None if model.problem is None else model.problem.replace(str(model.path), model.name),
        is_pickled=model.path.suffix.lower() in REFUSED,
    )


def _scanned(name: str, path: Path) -> ScanView:
    found = scan(path)
    return ScanView(
        name=name,
        verdict=found.verdict.value,
        is_harmless=found.verdict in (Verdict.TENSORS, Verdict.KNOWN),
        imports=list(found.imports),
        calls=found.calls,
    )
