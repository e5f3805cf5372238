"""LoRAs and textual inversions, their pictures and their metadata, as front ends show them on cards."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import FileResponse

from hayate.errors import UsageError
from hayate.server.a1111.replies import EmbeddingsReply, LoraItem
from hayate.server.a1111.route import A1111Route, AsciiJson
from hayate.server.a1111.service import Service
from hayate.server.listings import ListedEmbedding, inside, preview_of

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def network_routes(service: Service) -> APIRouter:
    """The routes of networks beside the checkpoint."""
    router = APIRouter(route_class=A1111Route, tags=["A1111"])

    @router.get("/sdapi/v1/loras", response_model=list[LoraItem])
    def loras() -> AsciiJson:
        """The LoRAs that prompts can name."""
        return AsciiJson(
            [
                {"name": each.name, "alias": each.alias, "path": str(each.path), "metadata": dict(each.metadata)}
                for each in service.listings.loras()
            ]
        )

    @router.post("/sdapi/v1/refresh-loras")
    def refresh_loras() -> AsciiJson:
        """Reads the folder anew."""
        service.listings.refresh()
        return AsciiJson(None)

    @router.get("/sdapi/v1/embeddings", response_model=EmbeddingsReply)
    def embeddings() -> AsciiJson:
        """The textual inversions; those that can't be read are skipped."""
        found = service.listings.embeddings()
        return AsciiJson(
            {
                "loaded": {each.name: _embedding(each) for each in found if each.problem is None},
                "skipped": {each.name: _embedding(each) for each in found if each.problem is not None},
            }
        )

    @router.get("/sd_extra_networks/thumb", response_class=FileResponse)
    def thumb(filename: str) -> Response:
        """The picture that shows what a network makes; of files beside the networks only."""
        return _picture(service, filename)

    @router.get("/sd_extra_networks/metadata")
    def metadata(page: str = "", item: str = "") -> AsciiJson:
        """What a network's trainer wrote into it."""
        found = _metadata(service, page, item)
        return AsciiJson({"metadata": json.dumps(found, indent=4, ensure_ascii=False)} if found else {})

    @router.get("/sd_extra_networks/cover-images")
    def cover_images(page: str = "", item: str = "", index: int = 0) -> Response:
        """A picture inside of a network's metadata."""
        return _cover(_metadata(service, page, item), index)

    return router


def _embedding(each: ListedEmbedding) -> dict[str, Any]:
    unknown = dict.fromkeys(("step", "sd_checkpoint", "sd_checkpoint_name"))
    return {**unknown, "shape": each.width, "vectors": each.vectors}


def _picture(service: Service, filename: str) -> Response:
    """A picture, or the one beside a network's file; only within the folders of networks and models."""
    settings = service.settings
    folders = (settings.lora_dir, settings.embeddings_dir, settings.models_dir)
    try:
        path = inside(Path(filename), folders)
        if path.suffix.lower() not in PICTURES:
            shown = preview_of(path)
            path = inside(shown, folders) if shown is not None else path
    except UsageError as error:
        raise HTTPException(404, "File not found") from error
    if path.suffix.lower() not in PICTURES:
        raise HTTPException(404, "File not found")
    return FileResponse(path)


def _metadata(service: Service, page: str, item: str) -> Mapping[str, Any]:
    """Of the LoRA called `item`; nothing for other pages."""
    if page.casefold() != "lora":
        return {}
    return next((each.metadata for each in service.listings.loras() if item in (each.name, each.alias)), {})


def _cover(metadata: Mapping[str, Any], index: int) -> Response:
    """One of the pictures that some trainers put into the metadata as base64."""
    covers = metadata.get("ssmd_cover_images")
    try:
        listed = json.loads(covers) if isinstance(covers, str) else covers
        data = base64.b64decode(listed[index], validate=True) if isinstance(listed, list) and index >= 0 else b""
    except (ValueError, TypeError, IndexError, RecursionError, binascii.Error):
        data = b""
    kind = next((kind for start, kind in _KINDS if data.startswith(start)), None)
    if kind is None:
        raise HTTPException(404, "there is no such picture in the metadata")
    return Response(data, media_type=kind)


_KINDS = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"RIFF", "image/webp"))
