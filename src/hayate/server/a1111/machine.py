"""The machine and the server itself: memory, flags, models in and out of memory, diagnostics, the end."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import PlainTextResponse, Response

from hayate import __version__
from hayate.errors import HayateError
from hayate.flags import FLAGS, given
from hayate.server.a1111.lists import extensions
from hayate.server.a1111.options import loaded_body
from hayate.server.a1111.replies import MemoryReply
from hayate.server.a1111.route import A1111Route, AsciiJson
from hayate.server.a1111.service import Service, Serving
from hayate.server.a1111.waiting import done

_TRAINING = ("/create/embedding", "/create/hypernetwork", "/train/embedding", "/train/hypernetwork")
_SECRET = ("auth", "key", "token", "password")


def machine_routes(service: Service) -> APIRouter:
    """The routes of the machine and the process."""
    router = APIRouter(route_class=A1111Route, tags=["A1111"])
    for make in (_model_routes, _memory_routes, _training_routes, _diagnosis_routes):
        make(router, service)
    if service.serving.may_stop:
        _stop_routes(router)
    return router


def _model_routes(router: APIRouter, service: Service) -> None:
    def refresh() -> AsciiJson:
        """Reads the folders anew."""
        service.listings.refresh()
        return AsciiJson(None)

    for name in ("refresh-checkpoints", "refresh-vae", "refresh-embeddings"):
        router.add_api_route(f"/sdapi/v1/{name}", refresh, methods=["POST"], name=name)

    @router.post("/sdapi/v1/unload-checkpoint")
    async def unload_checkpoint(request: Request) -> AsciiJson:
        """Takes the models out of memory."""
        await done(service, "unload", {}, request)
        return AsciiJson({})

    @router.post("/sdapi/v1/reload-checkpoint")
    async def reload_checkpoint(request: Request) -> AsciiJson:
        """Brings the chosen model into memory."""
        await done(service, "load", loaded_body(service, {}), request)
        return AsciiJson({})


def _memory_routes(router: APIRouter, service: Service) -> None:
    @router.get("/sdapi/v1/memory", response_model=MemoryReply)
    async def memory() -> AsciiJson:
        """What is in use: of the machine, and of the card where there is one."""
        try:
            return AsciiJson(dict(await service.desk.ask("memory")))
        except HayateError as error:
            return AsciiJson({"ram": _ram(), "cuda": {"error": error.message}})

    @router.get("/sdapi/v1/cmd-flags")
    def cmd_flags() -> AsciiJson:
        """A1111's flags, with what was given of them."""
        return AsciiJson(shown_flags(service.serving))


def shown_flags(serving: Serving) -> dict[str, Any]:
    """Every flag of A1111 by its name in code; what lets callers in is not told."""
    taken = given.get()
    own = {"api": True, "port": serving.port, "listen": not serving.is_local, "nowebui": not serving.has_page}
    found: dict[str, Any] = {}
    for name, flag in FLAGS.items():
        key = name.lstrip("-").replace("-", "_")
        value = taken.value(name) if flag.takes and name in taken else None if flag.takes else name in taken
        found[key] = "hidden" if value and any(word in key for word in _SECRET) else value
    return {**found, **own, "api_server_stop": serving.may_stop}


def _training_routes(router: APIRouter, service: Service) -> None:
    del service

    def refuse(body: dict[str, Any] | None = None) -> AsciiJson:
        """Is refused: nothing is trained here."""
        del body
        raise HTTPException(501, "nothing is trained here; use a trainer, and put its file into lora_dir")

    for path in _TRAINING:
        refused: dict[int | str, dict[str, Any]] = {501: {"description": "nothing is trained here"}}
        name = path[1:].replace("/", "-")
        router.add_api_route(f"/sdapi/v1{path}", refuse, methods=["POST"], name=name, responses=refused)


def _diagnosis_routes(router: APIRouter, service: Service) -> None:
    @router.get("/internal/ping")
    async def ping() -> AsciiJson:
        """Answers."""
        return AsciiJson({})

    @router.get("/internal/profile-startup")
    async def profile_startup(request: Request) -> AsciiJson:
        """Where the time of the start went, also of the worker's."""
        seconds = service.desk.workers()[0].seconds
        lifecycle = getattr(request.app.state, "lifecycle", None)
        if lifecycle is not None:
            return AsciiJson(lifecycle.startup.as_object(seconds))
        return AsciiJson({"total": sum(seconds.values()), "records": dict(seconds)})

    @router.get("/internal/sysinfo", response_class=PlainTextResponse)
    def sysinfo() -> Response:
        """What a report of a fault needs; no secrets, and no environment."""
        return Response(json.dumps(_sysinfo(service), indent=4), media_type="text/plain")

    @router.get("/internal/sysinfo-download", response_class=PlainTextResponse)
    def sysinfo_download() -> Response:
        """The same as a file."""
        name = time.strftime("sysinfo-%Y-%m-%d-%H-%M.json")
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(json.dumps(_sysinfo(service), indent=4), media_type="text/plain", headers=headers)


def _sysinfo(service: Service) -> dict[str, Any]:
    import psutil

    workers = service.desk.workers()
    return {
        "Platform": platform.platform(),
        "Python": platform.python_version(),
        "Version": __version__,
        "Commandline": list(sys.argv[:1]),
        "Flags": {key: value for key, value in shown_flags(service.serving).items() if value},
        "Workers": [
            {"phase": each.phase, "restarts": each.restarts, "model": each.model, **each.facts} for each in workers
        ],
        "CPU": {"model": platform.processor(), "count logical": psutil.cpu_count()},
        "RAM": _ram(),
        "Extensions": extensions(),
        "Config": {key: str(value) for key, value in sorted(service.preferences.chosen.settings.items())},
        "Startup": dict(workers[0].seconds),
    }


def _ram() -> dict[str, Any]:
    import psutil

    memory = psutil.virtual_memory()
    return {"free": memory.available, "used": memory.total - memory.available, "total": memory.total}


def _stop_routes(router: APIRouter) -> None:
    def stop(request: Request) -> AsciiJson:
        """Ends the server, as SIGTERM does."""
        end: Callable[[], None] | None = getattr(getattr(request.app.state, "lifecycle", None), "stop", None)
        if end is None:
            raise HTTPException(501, "this server can't be ended by its callers")
        end()
        return AsciiJson({})

    def restart() -> AsciiJson:
        """Is refused: nobody would start the server again."""
        raise HTTPException(501, "the server can't start itself again; end it, and let what started it do that")

    for name, action in (("server-kill", stop), ("server-stop", stop), ("server-restart", restart)):
        router.add_api_route(f"/sdapi/v1/{name}", action, methods=["POST"], name=name)
