"""/options: A1111's settings, those that act here and those that are kept for whoever asks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from hayate.errors import clip
from hayate.server.a1111.chosen import Options, read_options
from hayate.server.a1111.names import is_nothing
from hayate.server.a1111.option_keys import ACTING, KEPT, MODEL, MODEL_HASH, PLACES, VAE
from hayate.server.a1111.replies import QuicksettingHint
from hayate.server.a1111.route import NOTES_HEADER, A1111Route, AsciiJson
from hayate.server.a1111.service import Service
from hayate.server.a1111.waiting import done
from hayate.server.listings import ListedModel
from hayate.weights.folders import BUILT_IN


def option_routes(service: Service) -> APIRouter:
    """The routes of the options."""
    router = APIRouter(route_class=A1111Route, tags=["A1111"])

    @router.get("/sdapi/v1/options")
    def get_options() -> AsciiJson:
        """Every option with its value."""
        return AsciiJson(shown_options(service))

    @router.post("/sdapi/v1/options")
    async def set_options(values: dict[str, Any], request: Request) -> AsciiJson:
        """Sets options for good; a model is loaded before the answer. What was not done is in a header."""
        read, names = await run_in_threadpool(_checked, service, values)
        changes = {key: name for key, name in names.items() if getattr(service.preferences.chosen, key) != name}
        if changes:
            await done(service, "load", loaded_body(service, changes), request)
        await run_in_threadpool(keep_options, service, read, names)
        notes = {NOTES_HEADER: json.dumps([clip(note, 200) for note in read.notes[:20]])} if read.notes else None
        return AsciiJson(None, headers=notes)

    @router.get("/internal/quicksettings-hint", response_model=list[QuicksettingHint])
    def quicksettings_hint() -> AsciiJson:
        """The names of all options."""
        return AsciiJson([{"name": key, "label": key.replace("_", " ")} for key in shown_options(service)])

    return router


def shown_options(service: Service) -> dict[str, Any]:
    """The options as they are now."""
    chosen, settings = service.preferences.chosen, service.preferences.settings()
    model = _model_of(service, chosen.model)
    return {
        MODEL: model.title if model is not None else chosen.model,
        MODEL_HASH: model.sha256 if model is not None else None,
        VAE: chosen.vae or "Automatic",
        **{key: each.show(getattr(settings, each.setting)) for key, each in ACTING.items()},
        **{key: chosen.others.get(key, each.default) for key, each in KEPT.items()},
        **{key: str(getattr(settings, name)) for key, name in PLACES.items() if name},
    }


def keep_options(service: Service, read: Options, names: dict[str, str | None]) -> None:
    """Writes what was set.

    Raises: UsageError, UnknownName; OutputError.
    """
    service.preferences.change(settings=read.settings, others=read.kept, names=names)


def loaded_body(service: Service, changes: Mapping[str, str | None]) -> dict[str, Any]:
    """What a `load` job is told: the chosen model and VAE, but for the changes."""
    chosen = service.preferences.chosen
    names = {"model": chosen.model, "vae": chosen.vae, **changes}
    return {key: name for key, name in names.items() if name is not None}


def checked_names(service: Service, values: dict[str, Any], read: Options) -> dict[str, str | None]:
    """The model and the VAE among the options, as jobs name them.

    Raises: UsageError, UnknownName.
    """
    names = service.names()
    found: dict[str, str | None] = {}
    if MODEL in values:
        found["model"] = None if is_nothing(read.model) else names.model(read.model)
    if VAE in values:
        found["vae"] = names.vae(read.vae)
    return found


def _checked(service: Service, values: dict[str, Any]) -> tuple[Options, dict[str, str | None]]:
    """Raises: UsageError, UnknownName: then nothing is changed."""
    read = read_options(values)
    service.preferences.check(read.settings)
    return read, checked_names(service, values, read)


def _model_of(service: Service, name: str | None) -> ListedModel | None:
    wanted = name or BUILT_IN
    return next((each for each in service.listings.models() if each.name == wanted), None)
