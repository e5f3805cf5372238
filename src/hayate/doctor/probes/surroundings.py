"""Ports, tuned profiles, and what the user set."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import psutil

from hayate.doctor.facts import Extension, Port, TunedProfile, Wishes
from hayate.doctor.probes.ask import homely
from hayate.errors import HayateError
from hayate.extensions.discovery import Origin
from hayate.extensions.listing import list_extensions
from hayate.flags import TakenFlags
from hayate.runtime.profiles import FOLDER, all_profiles
from hayate.settings import SETTINGS, Settings, load_settings

PORTS = (7860,)
_PASSED_ON = ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_DATA_HOME", "APPDATA", "LOCALAPPDATA")


def settings_here() -> tuple[Settings, str | None]:
    """The settings; where they are refused, the defaults and why."""
    try:
        return load_settings(), None
    except HayateError as error:
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return load_settings(environment=kept, file=Path(os.devnull)), str(error)


def wishes(settings: Settings, flags: TakenFlags, problem: str | None) -> Wishes:
    """What differs from the defaults. Paths stay out: a sheet tells nothing of whose machine it is."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    defaults = load_settings(environment=kept, file=Path(os.devnull))
    changed = {
        setting.key: str(getattr(settings, setting.key))
        for setting in SETTINGS
        if setting.kind != "path" and getattr(settings, setting.key) != getattr(defaults, setting.key)
    }
    words = [word for name, values in flags.values.items() for word in (name, *values)]
    return Wishes(
        flags=tuple(words),
        settings=changed,
        settings_problem=problem,
        threads=settings.threads,
        hides_cards="CUDA_VISIBLE_DEVICES" in os.environ,
    )


def profiles(settings: Settings) -> tuple[TunedProfile, ...]:
    return tuple(
        TunedProfile(
            path=homely(settings.data_dir / FOLDER / profile.slot.file_name),
            device=profile.slot.device,
            title=profile.title,
            at=profile.at,
            versions={str(name): str(value) for name, value in profile.versions.items()},
        )
        for profile in all_profiles(settings.data_dir)
    )


def ports() -> tuple[Port, ...]:
    return tuple(_port(number) for number in PORTS)


def _port(number: int) -> Port:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
        if os.name != "nt":  # there it would allow two listeners on one port
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", number))
        except OSError:
            holder = _holder(number)
            is_hayate = holder is not None and any("hayate" in word.lower() for word in holder)
            return Port(
                number=number, is_free=False, holder=Path(holder[0]).name if holder else None, is_hayate=is_hayate
            )
    return Port(number=number, is_free=True)


def _holder(number: int) -> list[str] | None:
    """The command line of who listens; None where the system does not tell."""
    with contextlib.suppress(psutil.Error, OSError):
        for each in psutil.net_connections(kind="tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr[1] == number and each.pid:
                return psutil.Process(each.pid).cmdline() or None
    return None


def extensions(settings: Settings, flags: TakenFlags) -> tuple[Extension, ...]:
    """The extensions that are not built in, and what they took when they were last in use; none is imported."""
    rows, _ = list_extensions(settings, flags)
    return tuple(
        Extension(
            name=row.name,
            import_ms=None if row.last_at_s is None else round(row.import_s * 1000, 1),
            is_disabled=row.state != "on",
            problem=row.problem or None,
            requires=row.requires,
        )
        for row in rows
        if row.origin != Origin.BUILT_IN
    )
