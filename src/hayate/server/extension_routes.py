"""Routes of extensions, under /extensions/NAME/: imported with the first call, behind all guards of the server."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hayate.errors import HayateError, clip
from hayate.extensions.current import current
from hayate.extensions.standing import Crashed, Hook
from hayate.server.failures import failure

PREFIX = "/extensions"


class ExtensionRoutes:
    """An application that hands each call to the extension that its path names.

    An extension that fails before it has answered is answered for, and left out from then on.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no lifespan of theirs, and no websocket: a socket that nobody accepts is closed
        name, _, _ = scope["path"].removeprefix(PREFIX).removeprefix("/").partition("/")
        session = current()
        hook = next((hook for hook in session.hooks("routes") if hook.owner.name == name), None)
        if hook is None:
            words = {"error": "NotFound", "message": f"no extension {clip(name)!r} answers here", "hint": ""}
            await failure(scope["path"], 404, words)(scope, receive, send)
            return
        try:
            app: ASGIApp = await run_in_threadpool(session.load, hook)
        except Crashed as error:
            await _answer_for(scope, receive, send, error)
            return
        await _handed_on(app, hook, scope, receive, send)


async def _handed_on(app: ASGIApp, hook: Hook, scope: Scope, receive: Receive, send: Send) -> None:
    """The call with the extension's own root; an error before its answer becomes ours."""
    has_started = False

    async def send_noting(message: Message) -> None:
        nonlocal has_started
        has_started = has_started or message["type"] == "http.response.start"
        await send(message)

    root = f"{scope.get('root_path', '').removesuffix(PREFIX)}{PREFIX}/{hook.owner.name}"
    own: dict[str, Any] = {**scope, "root_path": root, "app_root_path": root}
    try:
        await app(own, receive, send_noting)
    except HayateError:
        raise  # it refuses in words
    except Exception as error:  # noqa: BLE001 - the door of extensions: whatever theirs raises ends here
        crashed = current().crashed(hook, error)
        if not has_started:
            await _answer_for(scope, receive, send, crashed)


async def _answer_for(scope: Scope, receive: Receive, send: Send, error: Crashed) -> None:
    words = {"error": "Crashed", "message": str(error), "hint": "its log is in extensions/ of the data folder"}
    await failure(scope["path"], 503, words)(scope, receive, send)
