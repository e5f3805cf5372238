"""What the PNG Info tab asks: all that a picture says of itself."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from hayate.pipeline.picture_info import PictureInfo, harmless, read_picture_info
from hayate.server.ui.handed_in import handed_in
from hayate.settings import Settings


class PictureWords(BaseModel):
    """A picture's own words, taken apart."""

    format: str
    width_px: int
    height_px: int
    parameters: str | None
    """A1111's text as it stands in the file; None where the picture says nothing."""
    prompt: str
    negative_prompt: str
    fields: list[tuple[str, str]]
    """The last line of the parameters, pair by pair."""
    record: dict[str, Any] | None
    texts: dict[str, str]


def words_router(settings: Settings) -> APIRouter:
    """The route of the PNG Info tab."""
    router = APIRouter(prefix="/ui", tags=["page"])

    @router.get("/picture-info")
    async def picture_info(name: Annotated[str, Query(max_length=1000)]) -> PictureWords:
        """Of a picture that was handed in as `name`. Raises: UsageError."""
        return _described(await run_in_threadpool(read_picture_info, handed_in(name, settings)))

    return router


def _described(info: PictureInfo) -> PictureWords:
    infotext = info.infotext
    fields = [] if infotext is None else [(key, str(value)) for key, value in infotext.parameters.items()]
    return PictureWords(
        format=info.format,
        width_px=info.width_px,
        height_px=info.height_px,
        parameters=None if info.parameters is None else harmless(info.parameters),
        prompt="" if infotext is None else harmless(infotext.prompt),
        negative_prompt="" if infotext is None else harmless(infotext.negative_prompt),
        fields=[(harmless(key), harmless(value)) for key, value in fields],
        record=None if info.record is None else dict(info.record),
        texts={harmless(key): harmless(text) for key, text in info.texts.items()},
    )
