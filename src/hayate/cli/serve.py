"""`hayate serve`: the page and the APIs, until it is told to end."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hayate.cli.options import takes_groups
from hayate.errors import UsageError, clip
from hayate.extensions.current import session_for, use
from hayate.flags import device_from, given
from hayate.runtime.asked import Asked, asked_from
from hayate.server.options import (
    API_ONLY_PORT,
    EVERYWHERE,
    PORT,
    Credential,
    ServeOptions,
    check_options,
    parse_credentials,
    parse_subpath,
    parse_token,
)
from hayate.server.startup import ImportTimer, Startup
from hayate.settings import Settings, load_settings

if TYPE_CHECKING:
    from hayate.server.preferences import Preferences

LATE_S = 1.0
"""After the start: by then the first page was answered."""

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Network:
    """Where the server listens, and who may call it; each field is an option."""

    port: Annotated[int | None, typer.Option(min=0, max=65535, help="7860; 7861 without the page; 0 is any.")] = None
    listen: Annotated[bool, typer.Option("--listen", help="Let other machines in; needs a credential.")] = False
    server_name: Annotated[str | None, typer.Option(help="The address to listen at, instead.")] = None
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name that callers may use, such as a reverse proxy's; may be repeated.")
    ] = None
    api_auth: Annotated[str | None, typer.Option(metavar="NAME:PASSWORD,…", help="Who may call at all.")] = None
    gradio_auth: Annotated[str | None, typer.Option(metavar="NAME:PASSWORD,…", help="The same.")] = None
    gradio_auth_path: Annotated[Path | None, typer.Option(help="A file with such names and passwords.")] = None
    api_token: Annotated[str | None, typer.Option(help="What `Authorization: Bearer` has to carry.")] = None
    cors_allow_origins: Annotated[
        str | None, typer.Option(metavar="ORIGIN,…", help="Pages of other places that may call the API.")
    ] = None
    tls_keyfile: Annotated[Path | None, typer.Option(help="The key for HTTPS.")] = None
    tls_certfile: Annotated[Path | None, typer.Option(help="The certificate for HTTPS.")] = None
    subpath: Annotated[str | None, typer.Option(help="The path below which a reverse proxy has the server.")] = None
    timeout_keep_alive: Annotated[
        int, typer.Option(min=1, max=3600, help="Seconds for which an idle connection stays open.")
    ] = 30

    def credentials(self) -> tuple[Credential, ...]:
        """Everybody who is named.

        Raises: UsageError.
        """
        found = parse_credentials(self.api_auth, "--api-auth") if self.api_auth is not None else ()
        if self.gradio_auth is not None:
            found += parse_credentials(self.gradio_auth, "--gradio-auth")
        if self.gradio_auth_path is not None:
            found += parse_credentials(_read(self.gradio_auth_path), "--gradio-auth-path")
        return found


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of the user's files; each field is an option."""

    models_dir: Annotated[Path | None, typer.Option(help="The folder of the checkpoints.")] = None
    vae_dir: Annotated[Path | None, typer.Option(help="The folder of the VAEs.")] = None
    lora_dir: Annotated[Path | None, typer.Option(help="The folder of the LoRAs.")] = None
    embeddings_dir: Annotated[Path | None, typer.Option(help="The folder of the textual inversions.")] = None
    ckpt: Annotated[str | None, typer.Option(help="The checkpoint to begin with.")] = None
    vae_path: Annotated[str | None, typer.Option(help="The VAE to begin with.")] = None

    def settings(self, device: str | None, devices: str | None) -> Settings:
        """Raises: UsageError, also where flags contradict each other."""
        asked_from(given.get(), Asked())
        folders = {name: path for name, path in asdict(self).items() if name.endswith("_dir")}
        named = device_from(given.get(), device)
        if named and devices:
            flag = "--device" if device else "--use-cpu" if named == "cpu" else "--device-id"
            raise UsageError(f"--devices and {flag} contradict each other", hint="give one of them")
        settings = load_settings({**folders, "device": named, "devices": devices})
        return replace(settings, devices=None) if named else settings


@dataclass(frozen=True, slots=True)
class Offer:
    """What the server does for its callers, and for whoever started it; each field is an option."""

    nowebui: Annotated[bool, typer.Option("--nowebui", help="The APIs only, without the page.")] = False
    api: Annotated[bool, typer.Option("--api", help="Nothing: the APIs are always there.")] = False
    autolaunch: Annotated[bool, typer.Option("--autolaunch", help="Open the page in the browser.")] = False
    api_server_stop: Annotated[
        bool, typer.Option("--api-server-stop", help="Let callers of the API end the server.")
    ] = False
    api_log: Annotated[bool, typer.Option("--api-log", help="Write every request to stderr.")] = False
    device: Annotated[str | None, typer.Option(help="What computes, such as cpu or cuda:1.")] = None
    devices: Annotated[
        str | None, typer.Option(metavar="DEVICE,…", help="One worker on each of them, such as cuda:0,cuda:1.")
    ] = None
    theme: Annotated[str, typer.Option(help="dark or light; by default what the visitor's system says.")] = ""
    grace_s: Annotated[
        float, typer.Option("--grace", min=0, max=3600, help="Seconds for the running job when the server is ended.")
    ] = 3.0
    profile: Annotated[bool, typer.Option("--profile", help="Say what the start took, module by module.")] = False


@app.command()
@takes_groups
def serve(network: Network, folders: Folders, offer: Offer) -> None:
    """Open the page and the APIs; Ctrl-C ends them."""
    startup = Startup()
    if offer.profile:
        sys.meta_path.insert(0, ImportTimer(startup))
    options = _options(network, offer)
    check_options(options)
    settings = folders.settings(offer.device, offer.devices)
    use(lambda: session_for(settings, given.get()))
    for note in given.get().notes:
        sys.stderr.write(f"note: {note}\n")
    logging.basicConfig(format="%(message)s", level=logging.INFO if offer.api_log else logging.WARNING)
    startup.phase("options")
    _open(options, settings, startup, {"model": folders.ckpt, "vae": folders.vae_path}, opens_browser=offer.autolaunch)


def _options(network: Network, offer: Offer) -> ServeOptions:
    """Raises: UsageError."""
    if offer.theme not in ("", "dark", "light"):
        raise UsageError(f"--theme {clip(offer.theme)!r} is not a theme", hint="dark or light")
    default_port = API_ONLY_PORT if offer.nowebui else PORT
    origins = (network.cors_allow_origins or "").split(",")
    return ServeOptions(
        host=network.server_name or (EVERYWHERE if network.listen else "127.0.0.1"),
        port=default_port if network.port is None else network.port,
        names=tuple(network.allow_host or ()),
        credentials=network.credentials(),
        token=None if network.api_token is None else parse_token(network.api_token),
        origins=tuple(origin.strip().rstrip("/") for origin in origins if origin.strip()),
        has_page=not offer.nowebui,
        may_stop=offer.api_server_stop,
        logs_requests=offer.api_log,
        theme=offer.theme,
        grace_s=offer.grace_s,
        tls_key=network.tls_keyfile,
        tls_certificate=network.tls_certfile,
        keep_alive_s=network.timeout_keep_alive,
        subpath="" if network.subpath is None else parse_subpath(network.subpath),
    )


def _open(
    options: ServeOptions,
    settings: Settings,
    startup: Startup,
    begins_with: Mapping[str, str | None],
    *,
    opens_browser: bool,
) -> None:
    """Binds first and imports then, so that nobody waits for the reason why it can't be."""
    from hayate.server.serving import bind, run

    opened = bind(options)
    options = replace(options, port=opened.getsockname()[1])
    startup.phase("socket")
    gc.disable()  # until the page answers: what is imported stays, and looking through it costs a tenth of the start
    from hayate.jobs.local import LocalDesk

    preferences = _preferences(settings, begins_with)
    chosen = preferences.chosen
    desk = LocalDesk(settings, model=chosen.model, vae=chosen.vae, flags=given.get())
    desk.start()
    startup.phase("queue")
    from hayate.server.app import create_app
    from hayate.server.lifecycle import Lifecycle

    startup.phase("import web server")
    made = create_app(
        desk, settings, options, lifecycle=Lifecycle(startup), preferences=preferences, is_page_first=True
    )
    startup.phase("routes")

    def on_ready() -> None:
        startup.phase("listen")
        startup.ready()
        made.state.late_routes.make_after(LATE_S)
        gc.freeze()
        gc.enable()
        _greet(options, startup)
        if opens_browser:
            _open_browser(options.url)

    run(made, desk, options, opened, on_ready)


def _preferences(settings: Settings, begins_with: Mapping[str, str | None]) -> Preferences:
    """What was chosen here, and what A1111 would begin with. Raises: UsageError for a flag that names no file."""
    from hayate.server.preferences import Preferences

    preferences = Preferences(settings.data_dir / "server", settings)
    if "--data-dir" in given.get() or any(begins_with.values()):
        from hayate.cli.a1111_models import begin

        for note in begin(preferences, settings, given.get(), begins_with):
            sys.stderr.write(f"note: {note}\n")
    return preferences


def _greet(options: ServeOptions, startup: Startup) -> None:
    """What A1111 prints, since launchers of others wait for it."""
    sys.stdout.write(f"Running on local URL:  {options.url.rstrip('/')}\n{startup.line()}\n")
    if startup.imports:
        sys.stdout.write(f"{startup.tree()}\n")
    sys.stdout.flush()


def _open_browser(url: str) -> None:
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't read {clip(str(path))}", hint="a text file of NAME:PASSWORD lines") from error
