"""txt2img and img2img."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request

from hayate.errors import UsageError
from hayate.jobs.records import JobRecord, NewJob, Result
from hayate.server.a1111.chosen import read_options
from hayate.server.a1111.images import decode_image, encode_file
from hayate.server.a1111.info import info_text
from hayate.server.a1111.options import checked_names, keep_options
from hayate.server.a1111.replies import PicturesReply
from hayate.server.a1111.requests import Generation, ImageToImageRequest, TextToImageRequest
from hayate.server.a1111.route import A1111Route, AsciiJson
from hayate.server.a1111.service import CLIENT, Service
from hayate.server.a1111.translate import Files, Translated, translate
from hayate.server.a1111.waiting import finished


def generate_routes(service: Service) -> APIRouter:
    """The routes that make pictures."""
    router = APIRouter(route_class=A1111Route, prefix="/sdapi/v1", tags=["A1111"])

    @router.post("/txt2img", response_model=PicturesReply)
    async def txt2img(asked: TextToImageRequest, request: Request) -> AsciiJson:
        """Makes pictures from text and answers when they are done; closing the connection ends the job."""
        return await _make(service, asked, request)

    @router.post("/img2img", response_model=PicturesReply)
    async def img2img(asked: ImageToImageRequest, request: Request) -> AsciiJson:
        """Makes pictures from a picture and text, or parts of it anew under a mask."""
        if not asked.init_images:
            raise HTTPException(404, "Init image not found")
        return await _make(service, asked, request)

    return router


async def _make(service: Service, asked: Generation, request: Request) -> AsciiJson:
    job, translated = await service.beside(_queue, service, asked)
    job = await finished(service.desk, job, request)
    return await service.beside(_reply, job, translated, asked)


def _queue(service: Service, asked: Generation) -> tuple[JobRecord, Translated]:
    """Raises: HayateError."""
    names = service.names()
    files = _files(service, asked) if isinstance(asked, ImageToImageRequest) else Files()
    translated = translate(asked, files, service.preferences.chosen, names)
    if asked.override_settings and not asked.override_settings_restore_afterwards:
        _keep(service, translated.asked.override_settings)
    job = service.desk.submit(NewJob(kind="generate", body=translated.body, client=CLIENT))
    if asked.force_task_id:
        service.tasks.remember(asked.force_task_id, job.id)
    return job, translated


def _keep(service: Service, overrides: dict[str, Any]) -> None:
    """The overrides hold from now on."""
    read = read_options(overrides)
    keep_options(service, read, checked_names(service, overrides, read))


def _files(service: Service, asked: ImageToImageRequest) -> Files:
    """Raises: UsageError."""
    images = asked.init_images or []
    if len(images) > 1:
        raise UsageError(f"{len(images)} pictures to start from", hint="send one; a call makes variants of one picture")
    start = service.desk.keep_input(decode_image(images[0], "init_images"))
    mask = None if not asked.mask else service.desk.keep_input(decode_image(asked.mask, "the mask"))
    return Files(start=start, mask=mask)


def _reply(job: JobRecord, translated: Translated, asked: Generation) -> AsciiJson:
    """The pictures as they are in their files, the grid before them; what was interrupted has fewer."""
    result = job.result or Result()
    grid = result.grid if translated.has_grid else None
    paths = [each.path for each in result.pictures] if grid is None or translated.shows_pictures else []
    info = info_text(job, translated, has_grid=grid is not None)
    shown = ([] if grid is None else [grid]) + paths
    images = [encode_file(path) for path in shown] if asked.send_images else []
    return AsciiJson({"images": images, "parameters": echo(asked), "info": info})


def echo(asked: Generation) -> dict[str, Any]:
    """What was asked, with all defaults; pictures only where that was asked for."""
    said = asked.model_dump()
    if isinstance(asked, ImageToImageRequest) and not asked.include_init_images:
        said |= {"init_images": None, "mask": None}
    return said
