"""The server as a process: its socket, its signals, and its end within seconds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Generator, Iterator
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any

from hayate.errors import UsageError
from hayate.server.options import ServeOptions

if TYPE_CHECKING:
    from fastapi import FastAPI

    from hayate.jobs.desk import Desk
    from hayate.server.lifecycle import Lifecycle

log = logging.getLogger("hayate.server")
STREAMS_S = 1.0
"""How long answers that are under way may take once the desk is closed."""
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]


def bind(options: ServeOptions) -> socket.socket:
    """The socket, which listens already: a browser that is early waits instead of being turned away.

    Raises: UsageError where the address can't be had, which says who has it if that is another Hayate.
    """
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # The protocol is named, since asyncio sends small answers at once (TCP_NODELAY) only where it is: 40 ms an answer.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # On Windows this option would let two servers have one port; elsewhere it only skips the wait after an end.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE if os.name == "nt" else socket.SO_REUSEADDR, 1)
        opened.bind((options.host, options.port))
        opened.listen(2048)
    except (OSError, OverflowError) as error:
        opened.close()
        raise _refused(options, error) from error
    return opened


def run(app: FastAPI, desk: Desk, options: ServeOptions, opened: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serves until a signal or a caller ends it; the desk, which has begun, is closed then.

    The second signal ends it at once: what is in the queue is on the disk.
    """
    asyncio.run(_run(app, desk, options, opened, on_ready))


async def _run(
    app: FastAPI, desk: Desk, options: ServeOptions, opened: socket.socket, on_ready: Callable[[], None]
) -> None:
    lifecycle: Lifecycle = app.state.lifecycle
    server = _server(app, options)
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    if options.may_stop:

        def stop() -> None:
            loop.call_soon_threadsafe(asked.set)

        lifecycle.stop = stop
    with _signals(loop, asked):
        serving = asyncio.create_task(server.serve(sockets=[opened]))
        ended = asyncio.create_task(asked.wait())
        try:
            while not (server.started or serving.done()):
                await asyncio.sleep(0.001)
            on_ready()
            await asyncio.wait({serving, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lifecycle.end()
            await desk.close(options.grace_s)
            server.should_exit = True
            await serving
            ended.cancel()


def _server(app: FastAPI, options: ServeOptions) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        """Leaves the signals to us: its own handling would end the process by the signal, not with code 0."""

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            yield

    config = uvicorn.Config(
        app,
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=options.logs_requests,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=options.keep_alive_s,
        timeout_graceful_shutdown=round(STREAMS_S),
        ssl_keyfile=options.tls_key,
        ssl_certfile=options.tls_certificate,
    )
    return Server(config)


@contextlib.contextmanager
def _signals(loop: asyncio.AbstractEventLoop, asked: asyncio.Event) -> Iterator[None]:
    """The first signal asks for the end, the second one is the end."""

    def on_signal(number: int, _: object) -> None:
        if asked.is_set():
            os._exit(128 + number)
        loop.call_soon_threadsafe(asked.set)

    before = {each: signal.signal(each, on_signal) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _refused(options: ServeOptions, error: Exception) -> UsageError:
    """Why an address can't be had, and what to do next."""
    where = f"port {options.port} of {options.host}"
    code = getattr(error, "errno", None)
    if code in (errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", -1)):
        if version := _running_version(options):
            return UsageError(
                f"Hayate {version} is already running at {options.url}",
                hint="open that page, end it first, or start another one with --port and a data_dir of its own",
            )
        return UsageError(f"{where} is taken by another program", hint=f"add --port {options.port + 1}")
    if code in (errno.EACCES, errno.EPERM):
        return UsageError(f"{where} may not be used by this user", hint="ports from 1024 on are for everybody")
    if code == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return UsageError(f"{options.host} is no address of this machine", hint="--listen takes all that it has")
    return UsageError(f"{where} can't be had: {error}", hint="try another --port or --server-name")


def _running_version(options: ServeOptions) -> str | None:
    """The version of the Hayate that answers there, if it is one."""
    host = "127.0.0.1" if options.host in ("0.0.0.0", "::") else options.host
    asked = HTTPConnection(host, options.port, timeout=2)
    try:
        asked.request("GET", "/healthz", headers={"Host": "127.0.0.1"})
        said = json.loads(asked.getresponse().read(4096))
    except (OSError, ValueError, HTTPException):
        return None
    finally:
        asked.close()
    return str(said.get("version")) if isinstance(said, dict) and said.get("name") == "hayate" else None
