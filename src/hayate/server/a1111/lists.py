"""The lists of what there is: samplers, schedules, upscalers, models, styles, scripts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from hayate.extensions.current import current
from hayate.extensions.discovery import Origin
from hayate.extensions.listing import rows_of
from hayate.request import LATENT_UPSCALERS, PIXEL_UPSCALERS
from hayate.samplers.catalogue import SAMPLERS, SamplerInfo
from hayate.samplers.sigmas import AUTOMATIC, SCHEDULES, ScheduleInfo
from hayate.server.a1111 import replies
from hayate.server.a1111.route import A1111Route, AsciiJson
from hayate.server.a1111.scripts import script_list
from hayate.server.a1111.service import Service
from hayate.server.listings import ListedModel

_BY_MODEL = ("SGM Uniform", "Simple", "Normal", "DDIM", "Beta", "KL Optimal", "Align Your Steps")
"""Schedules that look at the model's own noise levels."""
_SCALE = re.compile(r"(?:^|[^\d])([1-9])x|x([1-9])(?:[^\d]|$)", re.IGNORECASE)
_USUAL_SCALE = 4


def list_routes(service: Service) -> APIRouter:
    """The routes of the lists; what is read from the disk is a few seconds old at most."""
    router = APIRouter(route_class=A1111Route, prefix="/sdapi/v1", tags=["A1111"])
    for path, model, read in _lists(service):
        router.add_api_route(path, _answering(read), methods=["GET"], response_model=model, name=path[1:])
    return router


def _answering(read: Callable[[], Any]) -> Callable[[], AsciiJson]:
    """A route of its own thread: some lists are read from the disk."""

    def answer() -> AsciiJson:
        return AsciiJson(read())

    answer.__doc__ = read.__doc__
    return answer


def _lists(service: Service) -> tuple[tuple[str, Any, Callable[[], Any]], ...]:
    listings = service.listings
    return (
        ("/samplers", list[replies.SamplerItem], lambda: [*map(_sampler, SAMPLERS), *_lent_samplers()]),
        ("/schedulers", list[replies.SchedulerItem], lambda: [*map(_schedule, SCHEDULES), *_lent_schedules()]),
        ("/upscalers", list[replies.UpscalerItem], lambda: _upscalers(service)),
        ("/latent-upscale-modes", list[replies.NamedItem], lambda: [{"name": each} for each in LATENT_UPSCALERS]),
        ("/sd-models", list[replies.ModelItem], lambda: [_model(each) for each in listings.models()]),
        ("/sd-vae", list[replies.VaeItem], lambda: [_vae(each) for each in listings.vaes()]),
        ("/hypernetworks", list[replies.HypernetworkItem], list),
        ("/face-restorers", list[replies.FaceRestorerItem], list),
        ("/realesrgan-models", list[replies.RealesrganItem], lambda: _realesrgan(service)),
        ("/prompt-styles", list[replies.StyleItem], lambda: _styles(service)),
        ("/scripts", replies.ScriptsReply, _scripts),
        ("/script-info", list[replies.ScriptItem], _script_info),
        ("/extensions", list[replies.ExtensionItem], extensions),
    )


def extensions() -> list[dict[str, Any]]:
    """Those that are not built in; none of them is a repository."""
    others = [each for each in rows_of(current())[0] if each.origin != Origin.BUILT_IN]
    nothing = dict.fromkeys(("remote", "branch", "commit_hash", "commit_date"))
    return [{"name": each.name, **nothing, "version": each.version, "enabled": each.state == "on"} for each in others]


def _sampler(info: SamplerInfo) -> dict[str, Any]:
    options = {
        "scheduler": info.default_schedule.casefold() if info.default_schedule != "Uniform" else "",
        "uses_ensd": "True" if info.uses_ensd else "",
        "second_order": "True" if info.is_second_order else "",
        "brownian_noise": "True" if info.is_sde else "",
    }
    return {
        "name": info.name,
        "aliases": list(info.aliases),
        "options": {key: value for key, value in options.items() if value},
    }


def _lent_samplers() -> list[dict[str, Any]]:
    """Those of extensions, by what their manifests say: nothing is imported for a list."""
    return [{"name": name, "aliases": [], "options": {}} for name in current().names("samplers")]


def _lent_schedules() -> list[dict[str, Any]]:
    nothing = {"aliases": None, "default_rho": -1.0, "need_inner_model": False}
    return [{"name": name, "label": name, **nothing} for name in current().names("schedules")]


def _schedule(info: ScheduleInfo) -> dict[str, Any]:
    first, *others = info.aliases
    return {
        "name": first,
        "label": info.name,
        "aliases": others or None,
        "default_rho": -1.0 if info.default_rho is None else info.default_rho,
        "need_inner_model": info is not AUTOMATIC and info.name in _BY_MODEL,
    }


def _upscalers(service: Service) -> list[dict[str, Any]]:
    own = [_upscaler(name, None, None if name == "None" else _USUAL_SCALE) for name in PIXEL_UPSCALERS]
    files = service.listings.upscalers().items()
    return [*own, *(_upscaler(name, str(path), scale_in(path.stem)) for name, path in files)]


def _upscaler(name: str, path: str | None, scale: int | None) -> dict[str, Any]:
    return {"name": name, "model_name": None, "model_path": path, "model_url": None, "scale": scale}


def scale_in(name: str) -> int:
    """The factor that is written in a file's name; without one the usual 4. Only opening it would tell for sure."""
    found = _SCALE.search(name)
    return int(found[1] or found[2]) if found else _USUAL_SCALE


def _realesrgan(service: Service) -> list[dict[str, Any]]:
    files = service.listings.upscalers().items()
    return [{"name": name, "path": str(path), "scale": scale_in(path.stem)} for name, path in files if "ESRGAN" in name]


def _model(each: ListedModel) -> dict[str, Any]:
    return {
        "title": each.title,
        "model_name": each.stem.replace("/", "_"),
        "hash": each.sha256[:10] if each.sha256 else None,
        "sha256": each.sha256,
        "filename": str(each.path),
        "config": None,
        "problem": each.problem,
    }


def _vae(each: ListedModel) -> dict[str, Any]:
    return {"model_name": each.name, "filename": str(each.path), "problem": each.problem}


def _styles(service: Service) -> list[dict[str, Any]]:
    found = service.listings.styles().styles
    return [{"name": each.name, "prompt": each.prompt, "negative_prompt": each.negative_prompt} for each in found]


def _scripts() -> dict[str, list[str]]:
    return {
        "txt2img": [each.name for each in script_list(is_img2img=False)],
        "img2img": [each.name for each in script_list(is_img2img=True)],
    }


def _script_info() -> list[dict[str, Any]]:
    """Each script once for each tab that has it."""
    return [
        {
            "name": each.name,
            "is_alwayson": False,
            "is_img2img": is_img2img,
            "args": [argument.model_dump() for argument in each.arguments],
        }
        for is_img2img in (False, True)
        for each in script_list(is_img2img=is_img2img)
    ]
