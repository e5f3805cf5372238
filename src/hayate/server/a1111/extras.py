"""Finished pictures: made larger, asked what they say of themselves, or (not here) described."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request

from hayate.errors import UsageError
from hayate.jobs.records import JobRecord, NewJob, Result
from hayate.pipeline.infotext import pasted_parameters
from hayate.pipeline.picture_info import picture_info_of
from hayate.server.a1111.images import decode_image, encode_file, plaintext_to_html
from hayate.server.a1111.names import is_nothing
from hayate.server.a1111.replies import ExtrasBatchReply, ExtrasReply, PngInfoReply
from hayate.server.a1111.requests import (
    Extras,
    ExtrasBatchRequest,
    ExtrasSingleRequest,
    InterrogateRequest,
    PngInfoRequest,
)
from hayate.server.a1111.route import A1111Route, AsciiJson
from hayate.server.a1111.service import CLIENT, Service
from hayate.server.a1111.waiting import finished


def extras_routes(service: Service) -> APIRouter:
    """The routes of finished pictures."""
    router = APIRouter(route_class=A1111Route, prefix="/sdapi/v1", tags=["A1111"])

    @router.post("/extra-single-image", response_model=ExtrasReply)
    async def extra_single_image(asked: ExtrasSingleRequest, request: Request) -> AsciiJson:
        """Makes a picture larger."""
        images, text = await _upscale(service, asked, [asked.image], request)
        return AsciiJson({"image": images[0] if images else "", "html_info": text})

    @router.post("/extra-batch-images", response_model=ExtrasBatchReply)
    async def extra_batch_images(asked: ExtrasBatchRequest, request: Request) -> AsciiJson:
        """Makes pictures larger."""
        images, text = await _upscale(service, asked, [each.data for each in asked.imageList], request)
        return AsciiJson({"images": images, "html_info": text})

    @router.post("/png-info", response_model=PngInfoReply)
    async def png_info(asked: PngInfoRequest) -> AsciiJson:
        """What a picture says of how it was made."""
        return AsciiJson(await service.beside(_about, asked.image))

    @router.post("/interrogate")
    async def interrogate(asked: InterrogateRequest) -> AsciiJson:
        """Is refused: there is no model here that describes pictures."""
        if not asked.image:
            raise HTTPException(404, "Image not found")
        raise HTTPException(501, f"{asked.model[:60]}: there is no model here that describes pictures")

    return router


async def _upscale(service: Service, asked: Extras, images: list[str], request: Request) -> tuple[list[str], str]:
    """The pictures, larger, and what is said of it."""
    job, notes = await service.beside(_queue, service, asked, images)
    if job is None:
        return [image.partition(",")[2] or image for image in images], plaintext_to_html("\n".join(notes))
    result = (await finished(service.desk, job, request)).result or Result()
    made = [await service.beside(encode_file, each.path) for each in result.pictures]
    lines = [*(each.infotext for each in result.pictures[:1]), *notes, *result.notes]
    return made, plaintext_to_html("\n".join(lines))


def _queue(service: Service, asked: Extras, images: list[str]) -> tuple[JobRecord | None, list[str]]:
    """The job; none where no upscaler is asked for, which leaves the pictures as they are.

    Raises: HayateError.
    """
    names = service.names()
    paths = [str(service.desk.keep_input(decode_image(image))) for image in images]
    if not paths:
        raise UsageError("there is no picture", hint="imageList")
    first, second = names.upscaler(asked.upscaler_1), names.upscaler(asked.upscaler_2)
    notes = [*names.notes, *_unsupported(asked)]
    if is_nothing(first):
        return None, notes
    body: dict[str, Any] = {
        "images": paths,
        "upscaler_1": first,
        "upscaler_2": second,
        "visibility_2": asked.extras_upscaler_2_visibility,
        "saves_pictures": False,
        "settings": dict(service.preferences.chosen.settings),
    }
    if asked.resize_mode == 1:
        size = {"width_px": asked.upscaling_resize_w, "height_px": asked.upscaling_resize_h}
        body |= {**size, "is_cropped": asked.upscaling_crop}
    else:
        body["scale"] = asked.upscaling_resize
    return service.desk.submit(NewJob(kind="upscale", body=body, client=CLIENT)), notes


def _unsupported(asked: Extras) -> list[str]:
    is_asked = asked.gfpgan_visibility > 0 or asked.codeformer_visibility > 0
    return ["faces are not restored here"] if is_asked else []


def _about(image: str) -> dict[str, Any]:
    """Raises: UsageError."""
    if not image.strip():
        return {"info": "", "items": {}, "parameters": {}}
    about = picture_info_of(decode_image(image))
    found: dict[str, Any] = {}
    if about.infotext is not None:
        prompts = {"Prompt": about.infotext.prompt, "Negative prompt": about.infotext.negative_prompt}
        found = {**prompts, **pasted_parameters(about.infotext)}
    return {"info": about.parameters or "", "items": dict(about.texts), "parameters": found}
