"""Pictures as bytes: those that jobs made, those that they start from, and the history of all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from hayate.jobs.desk import Desk
from hayate.jobs.records import JobRecord, State
from hayate.server.picture_files import MEDIA_TYPES, THUMB_SIDES_PX, find_picture
from hayate.server.security import UPLOADS
from hayate.server.v1.doors import NamedJob, TheDesk, TheSettings, TheThumbnails
from hayate.server.v1.jobs import MISSING, REFUSED
from hayate.server.v1.schemas import GalleryPicture, GalleryView, ImageView, picture_view

router = APIRouter(prefix="/v1", tags=["pictures"])
KINDS = ("generate", "upscale")
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
"""A job's pictures don't change, and their addresses are not used again."""
PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {each: {} for each in sorted(set(MEDIA_TYPES.values()))}, "description": "the picture"},
    **MISSING,
}
Thumb = Annotated[int | None, Query(description=f"of the longest side: {', '.join(map(str, THUMB_SIDES_PX))}")]
UPLOAD = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string"}}}}}


@router.get("/jobs/{id}/pictures/{index}", response_class=Response, responses={**PICTURE, **REFUSED})
def picture(
    job: NamedJob, index: int, settings: TheSettings, thumbnails: TheThumbnails, thumb: Thumb = None
) -> Response:
    """The bytes of a picture as they were saved; with `thumb` a small JPEG."""
    pictures = job.result.pictures if job.result else ()
    if not 0 <= index < len(pictures):
        raise HTTPException(404, f"the job has {len(pictures)} pictures")
    path = find_picture(Path(pictures[index].path), settings)
    if thumb is not None:
        return Response(thumbnails.get(path, thumb), media_type="image/jpeg", headers=FOREVER)
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix.lower()], headers=FOREVER)


@router.get("/jobs/{id}/grid", response_class=Response, responses=PICTURE)
def grid(job: NamedJob, settings: TheSettings) -> Response:
    """All pictures of a job in one, where that was asked for."""
    if job.result is None or job.result.grid is None:
        raise HTTPException(404, "the job has no grid")
    path = find_picture(Path(job.result.grid), settings)
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix.lower()], headers=FOREVER)


@router.get("/jobs/{id}/preview", response_class=Response, responses=PICTURE)
def preview(job: NamedJob, desk: TheDesk) -> Response:
    """What the picture that is being made would be by now; 404 while there is nothing to see."""
    progress = desk.progress(job.id)
    if progress is None or progress.preview is None:
        raise HTTPException(404, "there is no preview now")
    return Response(progress.preview.jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


@router.post(UPLOADS.removeprefix("/v1"), status_code=201, responses=REFUSED, openapi_extra=UPLOAD)
async def upload(request: Request, desk: TheDesk) -> ImageView:
    """Takes a PNG, JPEG or WebP that jobs will start from; the body is its bytes."""
    kept = await run_in_threadpool(desk.keep_input, await request.body())
    return ImageView(name=kept.name)


@router.get("/images/{name}", response_class=Response, responses={**PICTURE, **REFUSED})
def image(name: str, settings: TheSettings, thumbnails: TheThumbnails, thumb: Thumb = None) -> Response:
    """A picture that was handed in."""
    if Path(name).name != name or "\0" in name:
        raise HTTPException(404, "no picture has this name")
    path = find_picture(settings.data_dir / "server" / "inputs" / name, settings)
    if thumb is not None:
        return Response(thumbnails.get(path, thumb), media_type="image/jpeg", headers=FOREVER)
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix.lower()], headers=FOREVER)


@router.get("/pictures", responses={**REFUSED, **MISSING})
def gallery(
    desk: TheDesk,
    before: Annotated[str, Query(max_length=64, description="the `next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=500, description="of pictures; a job's are kept together")] = 100,
    search: Annotated[str, Query(max_length=200, description="what the infotext has to contain")] = "",
) -> GalleryView:
    """The pictures of all jobs, the newest first, a page at a time."""
    found: list[GalleryPicture] = []
    for record in _ended(desk, before):
        found += _matching(record, search.casefold())
        if len(found) >= limit:
            return GalleryView(pictures=found, next=record.id)
    return GalleryView(pictures=found, next=None)


def _ended(desk: Desk, before: str) -> Iterator[JobRecord]:
    """Jobs that have made pictures, the newest first."""
    while True:
        records = desk.jobs(states=(State.DONE, State.CANCELLED), kinds=KINDS, before=before, limit=100)
        yield from records
        if len(records) < 100:
            return
        before = records[-1].id


def _matching(record: JobRecord, wanted: str) -> list[GalleryPicture]:
    return [
        GalleryPicture(**picture_view(record.id, index, each).model_dump(), job=record.id, created_s=record.created_s)
        for index, each in enumerate(record.result.pictures if record.result else ())
        if wanted in each.infotext.casefold()
    ]
