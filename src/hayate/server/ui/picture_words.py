"""What the PNG Info tab asks: all that a picture says of itself."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from hayate.errors import UsageError, clip
from hayate.jobs.inputs import FOLDER
from hayate.pipeline.picture_info import PictureInfo, harmless, read_picture_info
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
        return await run_in_threadpool(_words, name, settings)

    return router


def _words(name: str, settings: Settings) -> PictureWords:
    """Looked up by the last part of its name alone, so that no name leads out of the folder."""
    last = name.replace("\\", "/").rpartition("/")[2]
    path = settings.data_dir / "server" / FOLDER / last
    if not last or "\0" in last or not path.is_file():
        raise UsageError(f"no picture {clip(name)!r} was handed in", hint="POST it to /v1/images first")
    return _described(read_picture_info(path))


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
