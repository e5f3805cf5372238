"""How the server was asked to serve: where it listens, whom it lets in, and what it offers."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

from hayate.errors import UsageError, clip

PORT = 7860
API_ONLY_PORT = 7861
EVERYWHERE = "0.0.0.0"
BODY_CAP_BYTES = 128 * 2**20
"""Of one request: the largest picture that jobs start from fits, as base64."""
_SHAPE = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A name and a password, of which only digests are kept."""

    name: bytes = field(repr=False)
    password: bytes = field(repr=False)

    def fits(self, name: str, password: str) -> bool:
        """Whether both are right. Cost: the same whatever is wrong about them."""
        is_name = hmac.compare_digest(self.name, _digest(name))
        return hmac.compare_digest(self.password, _digest(password)) & is_name


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What `hayate serve` was asked, all of it checked."""

    host: str = "127.0.0.1"
    port: int = PORT
    names: tuple[str, ...] = ()
    """Further names under which callers may know this server, such as a reverse proxy's."""
    credentials: tuple[Credential, ...] = ()
    """Any of them opens everything; none means that nobody is asked."""
    token: bytes | None = field(default=None, repr=False)
    """The digest of what `Authorization: Bearer` must carry, beside the credentials."""
    origins: tuple[str, ...] = ()
    """Pages of other places that may call the API, such as `https://photos.example`."""
    has_page: bool = True
    may_stop: bool = False
    """Whether callers of the API may end the server."""
    body_cap_bytes: int = BODY_CAP_BYTES
    grace_s: float = 3.0
    """How long the running job may go on once the server was told to end."""
    theme: str = ""
    """`dark`, `light`, or nothing: what the visitor's system says."""
    subpath: str = ""
    """The path below which a proxy has the server, such as `/sd`."""
    tls_key: Path | None = None
    tls_certificate: Path | None = None
    keep_alive_s: int = 30
    logs_requests: bool = False

    @property
    def is_guarded(self) -> bool:
        """Whether callers have to show a credential."""
        return bool(self.credentials) or self.token is not None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def url(self) -> str:
        """Where a browser of this machine finds the page."""
        scheme = "https" if self.tls_certificate else "http"
        host = "127.0.0.1" if self.host in (EVERYWHERE, "::") else self.host
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}/"


def check_options(options: ServeOptions) -> None:
    """Refuses what would open this machine to strangers.

    Raises: UsageError.
    """
    if not options.is_local and not options.is_guarded:
        raise UsageError(
            f"{options.host} can be reached from other machines, and nobody would be asked who they are",
            hint="add --api-auth NAME:PASSWORD or --api-token TOKEN, or leave out --listen",
        )
    for origin in options.origins:
        if origin == "*" or not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
            raise UsageError(
                f"--cors-allow-origins {clip(origin)!r} is no origin", hint="write each out, such as https://my.example"
            )
    if (options.tls_key is None) != (options.tls_certificate is None):
        raise UsageError("TLS needs a key and a certificate", hint="give both --tls-keyfile and --tls-certfile")


def parse_subpath(text: str) -> str:
    """`/sd` of `sd`, `/sd` and `/sd/`, as A1111's --subpath takes it.

    Raises: UsageError.
    """
    path = f"/{text.strip('/')}"
    if not _SHAPE.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise UsageError(f"--subpath {clip(text)!r} is no path", hint="write --subpath sd, of letters and digits")
    return path


def parse_credentials(text: str, flag: str) -> tuple[Credential, ...]:
    """The credentials of "name:password,name:password", as A1111's --api-auth and --gradio-auth take them.

    Raises: UsageError.
    """
    made: list[Credential] = []
    for pair in text.replace("\n", ",").split(","):
        name, has_password, password = pair.strip().partition(":")
        if not pair.strip():
            continue
        if not has_password or not name or not password:
            raise UsageError(f"{flag} needs a name and a password", hint=f"write {flag} NAME:PASSWORD")
        made.append(Credential(name=_digest(name), password=_digest(password)))
    if not made:
        raise UsageError(f"{flag} names nobody", hint=f"write {flag} NAME:PASSWORD")
    return tuple(made)


def parse_token(text: str) -> bytes:
    """The digest of a token.

    Raises: UsageError for one that could be guessed.
    """
    if len(text) < 16:
        raise UsageError("--api-token is too short to keep strangers out", hint="take 16 characters or more")
    return _digest(text)


def is_right_token(options: ServeOptions, text: str) -> bool:
    """Whether `text` is the token, if there is one. Cost: the same whatever is wrong about it."""
    return options.token is not None and hmac.compare_digest(options.token, _digest(text))


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine alone; a name that can't be resolved does not."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(str(each[4][0]).partition("%")[0]).is_loopback for each in found)


def _digest(text: str) -> bytes:
    """Of equal length for all texts, so that comparing tells nothing of theirs."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
