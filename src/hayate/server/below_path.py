"""A server that a reverse proxy has below a path of its own, such as https://my.example/sd/."""

from __future__ import annotations

from starlette.datastructures import URL, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BelowPath:
    """Takes the path off what is asked for; a proxy that has done so already finds everything as well."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        """`path` is as `options.parse_subpath` gives it."""
        self.app = app
        self.path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        asked: str = scope["path"]
        if asked == self.path and scope["type"] == "http":  # the page's own addresses begin where it is
            there = URL(scope=scope)
            await RedirectResponse(f"{self.path}/{f'?{there.query}' if there.query else ''}")(scope, receive, send)
            return
        if asked.startswith(f"{self.path}/"):
            raw: bytes = scope.get("raw_path") or asked.encode()
            scope = {**scope, "path": asked[len(self.path) :], "raw_path": raw[len(self.path) :]}
        await self.app(scope, receive, self._leading_back(send))

    def _leading_back(self, send: Send) -> Send:
        """Answers lead to where the proxy has what they name."""

        async def send_below(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                if (place := headers.get("location", "")).startswith("/"):
                    headers["location"] = f"{self.path}{place}"
            await send(message)

        return send_below
