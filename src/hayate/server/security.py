"""Who may call: the Host, Origin and credential of a request, and what browsers are told; as ASGI middleware.

A stranger's page, open in the user's own browser, can send requests to this machine. Three marks give it away, which
browsers set and scripts can't: `Host` (a name that was rebound to 127.0.0.1), `Origin` and `Sec-Fetch-Site`.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import NamedTuple

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hayate.errors import clip
from hayate.server.options import ServeOptions, is_right_token

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORM_TYPES = frozenset({"text/plain", "multipart/form-data", "application/x-www-form-urlencoded"})
"""What a foreign page's form can send without asking first."""
UPLOADS = "/v1/images"
"""The one place that takes bytes of pictures instead of JSON."""
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""For whoever watches over the process; they tell nothing of its user."""

POLICY = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob: data:",
            "font-src 'self'",
            "connect-src 'self'",
            "manifest-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What browsers are told with every answer: load nothing from elsewhere, run nothing inline, be in nobody's frame."""

_AUTHORITY = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")


class Authority(NamedTuple):
    """A host with its port; None is the scheme's own."""

    name: str
    port: int | None

    @property
    def is_loopback(self) -> bool:
        address = self.address
        return self.name == "localhost" or (address is not None and address.is_loopback)

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """Where the host is no name but an address: DNS has no say in that, so it can't have been rebound."""
        try:
            return ipaddress.ip_address(self.name)
        except ValueError:
            return None


class Refusal(NamedTuple):
    """Why a request is not let in."""

    status: int
    error: str
    message: str
    hint: str


class PolicyHeaders:
    """Adds `POLICY` to every answer that does not say otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in POLICY.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_policy)


class Guard:
    """Lets a request in if its host, its origin and the type of its body are right."""

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self.app = app
        self.options = options
        self.names = known_names(options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = (
            self._host_refusal(headers)
            or self._cross_site_refusal(scope, headers)
            or _type_refusal(scope, headers)
            or _size_refusal(headers, self.options.body_cap_bytes)
        )
        if refusal:
            await refuse(refusal, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _host_refusal(self, headers: Headers) -> Refusal | None:
        """Against names that were bound to this machine's address while a page of theirs was open."""
        host = _authority(headers.getlist("host"))
        if host is not None and self._is_known(host):
            return None
        shown = clip(", ".join(headers.getlist("host")) or "no host at all")
        hint = "if that name is yours, start the server with --allow-host NAME"
        return Refusal(403, "ForeignHost", f"this server is not known as {shown!r}", hint)

    def _is_known(self, host: Authority) -> bool:
        is_address = host.address is not None and not self.options.is_local
        return host.is_loopback or host.name in self.names or is_address

    def _cross_site_refusal(self, scope: Scope, headers: Headers) -> Refusal | None:
        """Against pages of other sites; what only reads is kept from them by the browser itself."""
        if scope["type"] == "http" and scope["method"] in SAFE_METHODS:
            return None
        origins = headers.getlist("origin")
        if not origins:
            is_foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        else:
            is_foreign = not all(self._is_own(origin, _authority(headers.getlist("host"))) for origin in origins)
        if not is_foreign:
            return None
        shown = clip(", ".join(origins) or "another site")
        hint = "if that page is yours, start the server with --cors-allow-origins ORIGIN"
        return Refusal(403, "ForeignOrigin", f"a page of {shown!r} may not do this", hint)

    def _is_own(self, origin: str, host: Authority | None) -> bool:
        """Whether a page came from this server, under whichever of its loopback names, or from an allowed place."""
        if origin in self.options.origins:
            return True
        scheme, _, rest = origin.partition("://")
        page = _authority([rest])
        if host is None or page is None or scheme not in ("http", "https"):
            return False
        is_same_host = page.name == host.name or (page.is_loopback and host.is_loopback)
        return is_same_host and page.port == host.port


class Doorkeeper:
    """Asks for a name and a password, or for a token, where there are any."""

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self.app = app
        self.options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = scope["type"] == "lifespan" or not self.options.is_guarded or scope["path"] in OPEN_PATHS
        if is_open or self._knows(Headers(scope=scope).get("authorization", "")):
            await self.app(scope, receive, send)
            return
        message = "a name and a password, or a token, are needed"
        hint = "what was given to --api-auth, --gradio-auth or --api-token"
        await refuse(Refusal(401, "Unauthorized", message, hint), scope, receive, send)

    def _knows(self, authorization: str) -> bool:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return is_right_token(self.options, value.strip())
        if scheme.lower() != "basic":
            return False
        try:
            name, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        # All are tried, so that the time does not tell which one was nearly right. The token serves as a password too:
        # a browser can't be told to send it otherwise.
        fits = [each.fits(name, password) for each in self.options.credentials]
        return is_right_token(self.options, password) or any(fits)


def known_names(options: ServeOptions) -> frozenset[str]:
    """The names, beside loopback ones, under which this server may be called."""
    names: Iterable[str] = options.names
    if not options.is_local:
        own = socket.gethostname().lower()
        names = (*names, options.host, own, f"{own}.local")
    return frozenset(name.lower().rstrip(".") for name in names)


async def refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a request that is not let in."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.error})
        return
    content = {
        "error": refusal.error,
        "message": refusal.message,
        "hint": refusal.hint,
        "detail": refusal.message,  # where A1111's clients look
    }
    response = JSONResponse(content, status_code=refusal.status)
    if refusal.status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="Hayate", charset="UTF-8"'
    await response(scope, receive, send)


def _type_refusal(scope: Scope, headers: Headers) -> Refusal | None:
    """Against forms of foreign pages: their three types, and none at all, are what browsers send without asking."""
    if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
        return None
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
    is_json = kind.startswith("application/") and (kind == "application/json" or kind.endswith("+json"))
    is_upload = scope["path"] == UPLOADS and (kind.startswith("image/") or kind == "application/octet-stream")
    if kind not in FORM_TYPES and (not has_body or is_json or is_upload):
        return None
    hint = "send pictures as image/png, image/jpeg or image/webp" if scope["path"] == UPLOADS else ""
    return Refusal(
        415,
        "UnsupportedMediaType",
        f"a body of type {clip(kind) or 'unsaid'!r} is not read here",
        hint or "send JSON with the header Content-Type: application/json",
    )


def _size_refusal(headers: Headers, cap_bytes: int) -> Refusal | None:
    """Against a body that is said to be too large, before any of it is read; others are counted while they are read."""
    said = headers.get("content-length", "0")
    if not said.isdigit() or int(said) <= cap_bytes:
        return None
    return Refusal(413, "ContentTooLarge", f"the body has more than {cap_bytes // 2**20} MiB", "send smaller pictures")


def _authority(values: list[str]) -> Authority | None:
    """The one host of a header; a header that is there twice has none."""
    match = _AUTHORITY.fullmatch(values[0].strip()) if len(values) == 1 else None
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else None
    return Authority((match["six"] or match["name"]).lower().rstrip("."), None if port in (80, 443) else port)
