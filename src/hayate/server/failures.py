"""The door of the server: every failure becomes a status and one small JSON object, never a traceback."""

from __future__ import annotations

import http
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hayate.errors import HayateError, clip, save_traceback

log = logging.getLogger("hayate.server")
A1111_PATHS = ("/sdapi/", "/internal/", "/sd_extra_networks/")


def install_failures(app: FastAPI) -> None:
    """Gives each kind of failure its answer."""
    app.add_exception_handler(HayateError, _answer_hayate)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)


def failure(path: str, status: int, error: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer for `error` (error, message, hint), in the shape that callers of `path` read."""
    content = {"error": error["error"], "message": error["message"], "hint": error.get("hint", "")}
    if path.startswith(A1111_PATHS):
        said = f"{content['message']} ({content['hint']})" if content["hint"] else content["message"]
        content |= {"detail": error.get("detail", said), "body": "", "errors": said}
    return JSONResponse(content, status_code=status, headers=dict(headers or {}))


class FailureDoor:
    """Turns what nobody foresaw into a 500 that names the saved traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_started = False

        async def send_noting(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, send_noting)
        except ClientDisconnect:
            return  # in the middle of its own request: nobody is left to answer
        except Exception as error:  # noqa: BLE001 - the door of the server
            where = save_traceback(error)
            said = f"unexpected {type(error).__name__}: {clip(str(error), 300)}"
            log.error("%s %s: %s (the details are in %s)", scope["method"], scope["path"], said, where)
            if not has_started:
                content = {"error": type(error).__name__, "message": said, "hint": f"the details are in {where}"}
                await failure(scope["path"], 500, content)(scope, receive, send)


async def _answer_hayate(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HayateError)
    wait_s = getattr(error, "retry_after_s", None)
    headers = None if wait_s is None else {"Retry-After": str(wait_s)}
    content = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    return failure(request.url.path, error.http_status, content, headers)


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    """What does not have the form that the API's document says; the first fault is the message."""
    assert isinstance(error, RequestValidationError)
    faults = [{"where": ".".join(str(part) for part in each["loc"]), "what": each["msg"]} for each in error.errors()]
    first = faults[0] if faults else {"where": "body", "what": "is not as it should be"}
    message = f"{clip(first['where'], 120)}: {first['what'][:1].lower()}{clip(first['what'][1:], 200)}"
    content = {"error": "UsageError", "message": message, "hint": "/docs shows every field", "detail": faults[:20]}
    return failure(request.url.path, 422, content)


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    hint = "/docs lists what there is" if error.status_code in (404, 405) else ""
    try:
        name = http.HTTPStatus(error.status_code).phrase.title().replace(" ", "").replace("-", "")
    except ValueError:
        name = "HTTPError"
    content = {"error": name, "message": str(error.detail), "hint": hint, "detail": error.detail}
    return failure(request.url.path, error.status_code, content, error.headers)
