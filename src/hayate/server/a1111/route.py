"""How every route of A1111's API answers: its error shape, its time header, and JSON that can hold any text."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from hayate.errors import HayateError, QueueFull, ShuttingDown, clip

TIME_HEADER = "X-Process-Time"
NOTES_HEADER = "X-Hayate-Notes"
"""What was not done as asked, where the reply has no place for it; a JSON list of texts."""
_SHOWN_ERRORS = 5


class AsciiJson(JSONResponse):
    """JSON in ASCII: a lone surrogate in a caller's text comes back as it came, and breaks nothing."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class StrictRequest(Request):
    """A request whose JSON has no NaN and no infinity: no reply could repeat them."""

    async def json(self) -> Any:
        if not hasattr(self, "_strict"):
            try:
                self._strict = json.loads(await self.body(), parse_constant=_refuse_constant)
            except (RecursionError, UnicodeDecodeError) as error:
                raise json.JSONDecodeError(f"unreadable: {type(error).__name__}", "", 0) from error
        return self._strict


class A1111Route(APIRoute):
    """A route that says how long it took, and whose errors are A1111's: error, detail, body, errors."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            started = time.perf_counter()
            try:
                response = await handle(StrictRequest(request.scope, request.receive))
            except (HayateError, RequestValidationError, HTTPException) as error:
                response = error_reply(error)
            response.headers[TIME_HEADER] = f"{time.perf_counter() - started:.4f}"
            return response

        return answer


def error_reply(error: HayateError | RequestValidationError | HTTPException) -> Response:
    """An error as A1111 says it; what nobody foresaw is the application's to answer."""
    if isinstance(error, HayateError):
        retry = {"Retry-After": str(error.retry_after_s)} if isinstance(error, QueueFull | ShuttingDown) else {}
        return _reply(error.http_status, type(error).__name__, str(error), error.message, retry)
    if isinstance(error, RequestValidationError):
        faults = [_fault(each) for each in error.errors()[:_SHOWN_ERRORS]]
        return _reply(422, "RequestValidationError", faults, "; ".join(each["msg"] for each in faults))
    return _reply(error.status_code, "HTTPException", error.detail, "", dict(error.headers or {}))


def _reply(status: int, error: str, detail: Any, errors: str, headers: dict[str, str] | None = None) -> Response:
    content = {"error": error, "detail": detail, "body": "", "errors": errors}
    return AsciiJson(content, status_code=status, headers=headers)


def _fault(each: dict[str, Any]) -> dict[str, Any]:
    """A fault of a request without the request's own content, which may be a picture of megabytes."""
    place: Sequence[Any] = each.get("loc", ())
    where = [part if isinstance(part, int) else clip(str(part)) for part in place]
    name = ".".join(str(part) for part in where if part != "body")
    message = clip(str(each.get("msg", "")), 200)
    return {"loc": where, "msg": f"{name}: {message}" if name else message, "type": str(each.get("type", ""))}


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is no JSON", "", 0)
