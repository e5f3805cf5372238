"""Which extensions are this process': one session for all of its threads, made when it is first asked for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Container, Iterator, Sequence

from hayate.extensions.discovery import Origin, built_in
from hayate.extensions.session import Session
from hayate.extensions.standing import Standing
from hayate.settings import Settings


def built_in_session() -> Session:
    """What Hayate brings, and nothing else."""
    return Session(standings=tuple(Standing(found=each, is_on=True) for each in built_in()))


class _Current:
    """Which session is this process'; made when it is first asked for, so that a start does not wait for it."""

    def __init__(self) -> None:
        self.made: Session | None = None
        self.make: Callable[[], Session] = built_in_session
        self.lock = threading.Lock()


_current = _Current()


def current() -> Session:
    """The extensions of this process; the built-in ones where nobody has begun a session."""
    made = _current.made
    if made is not None:
        return made
    with _current.lock:
        if _current.made is None:
            _current.made = _current.make()
        return _current.made


def use(make: Callable[[], Session]) -> None:
    """Lets `current` be what `make` gives, from now on."""
    with _current.lock:
        _current.made, _current.make = None, make


@contextlib.contextmanager
def in_use(make: Callable[[], Session]) -> Iterator[None]:
    """Inside it `current` is what `make` gives, in all threads; what the extensions took is remembered at the end."""
    before = (_current.made, _current.make)
    use(make)
    try:
        yield
    finally:
        made = _current.made
        _current.made, _current.make = before
        if made is not None:
            made.keep_times()


def session_for(settings: Settings, flags: Container[str] = ()) -> Session:
    """The session that the settings and A1111's flags ask for."""
    return Session.open(
        settings.extensions_dir,
        settings.data_dir,
        limit_s=settings.extension_import_s,
        left_out=origins_left_out(flags),
    )


def origins_left_out(flags: Container[str]) -> Sequence[Origin]:
    """Which extensions A1111's flags leave out."""
    if "--disable-all-extensions" in flags:
        return tuple(Origin)
    if "--disable-extra-extensions" in flags:
        return tuple(origin for origin in Origin if origin is not Origin.BUILT_IN)
    return ()
