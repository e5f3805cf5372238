"""Names as A1111's callers write them: samplers, schedules, models, upscalers and styles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from hayate.errors import UnknownName, UsageError, clip
from hayate.prompt.styles import choose_styles
from hayate.request import LATENT_UPSCALERS, PIXEL_UPSCALERS
from hayate.samplers.catalogue import SAMPLERS, resolve_sampler
from hayate.samplers.sigmas import AUTOMATIC, resolve_schedule
from hayate.server.listings import Listings

SAME = ("use same sampler", "use same scheduler", "use same checkpoint", "use same upscaler")
NO_NAME = ("", "none", *SAME)

_T = TypeVar("_T")


class Names:
    """What names mean; an unknown one is an error, or what A1111 would take in its stead, with a note."""

    def __init__(self, listings: Listings, *, substitutes: bool) -> None:
        self._listings = listings
        self._substitutes = substitutes
        self.notes: list[str] = []

    def sampler(self, name: str | None, schedule: str | None) -> tuple[str, str]:
        """The sampler, and the schedule: the one in an old joined name ("DPM++ 2M Karras") wins, as there.

        Raises: UnknownName, UsageError.
        """
        first = SAMPLERS[0]
        info, joined = self._known(lambda: resolve_sampler(name or first.name), (first, None), first.name)
        asked = joined or schedule or AUTOMATIC.name
        found = self._known(lambda: resolve_schedule(asked), AUTOMATIC, AUTOMATIC.name)
        return info.name, found.name

    def other_sampler(self, name: str | None) -> tuple[str | None, str | None]:
        """A second pass' sampler and the schedule in its name, where it has one of its own.

        Raises: UnknownName, UsageError.
        """
        if is_nothing(name):
            return None, None
        first = SAMPLERS[0]
        info, joined = self._known(lambda: resolve_sampler(str(name)), (first, None), first.name)
        return info.name, joined

    def other_schedule(self, name: str | None) -> str | None:
        """A second pass' schedule, where it has one of its own.

        Raises: UnknownName.
        """
        if is_nothing(name):
            return None
        return self._known(lambda: resolve_schedule(str(name)), AUTOMATIC, AUTOMATIC.name).name

    def model(self, name: str | None) -> str | None:
        """A checkpoint.

        Raises: UnknownName, UsageError.
        """
        return None if is_nothing(name) else self._listings.find_model(str(name))

    def overriding_model(self, name: str | None, standing: str | None) -> str | None:
        """The checkpoint that a call asks for; `standing` is the one that was set for good, which A1111 falls back to.

        Raises: UnknownName, UsageError.
        """
        return self._known(lambda: self.model(name), standing, standing or "the built-in model")

    def vae(self, name: str | None) -> str | None:
        """A separate VAE; "Automatic" and "None" are the model's own.

        Raises: UnknownName, UsageError.
        """
        return None if is_nothing(name) or str(name) == "Automatic" else self._listings.find_vae(str(name))

    def hires_upscaler(self, name: str | None) -> str:
        """An upscaler of the second pass: of latents, of pixels, or a file.

        Raises: UnknownName.
        """
        return self._upscaler(name or LATENT_UPSCALERS[0], (*LATENT_UPSCALERS, *PIXEL_UPSCALERS), LATENT_UPSCALERS[0])

    def upscaler(self, name: str | None) -> str:
        """An upscaler of finished pictures.

        Raises: UnknownName.
        """
        return self._upscaler(name or "None", PIXEL_UPSCALERS, "Lanczos")

    def upscaler_list(self) -> tuple[str, ...]:
        """Those of finished pictures in the order of their list, for callers that send a number."""
        return (*PIXEL_UPSCALERS, *self._listings.upscalers())

    def styles(self, names: Sequence[str]) -> tuple[str, ...]:
        """Raises: UnknownName, UsageError."""
        if not names:
            return ()
        known = self._listings.styles().styles
        if self._substitutes:
            unknown = [name for name in names if name not in {each.name for each in known}]
            self.notes += [f"unknown style {clip(name)!r}: left out" for name in unknown]
            names = [name for name in names if name not in unknown]
        return tuple(each.name for each in choose_styles(names, known))

    def _upscaler(self, name: str, own: Sequence[str], fallback: str) -> str:
        files = self._listings.upscalers()
        folded = {each.casefold(): each for each in (*files, *own)}
        found = folded.get(name.casefold())
        if found is None:
            known = [*own, *files]
            return self._known(lambda: _unknown("upscaler", name, known), fallback, fallback)
        return files[found].stem if found in files and found not in own else found

    def _known(self, find: Callable[[], _T], fallback: _T, title: str) -> _T:
        try:
            return find()
        except UsageError as error:
            if not self._substitutes:
                raise
            self.notes.append(f"{error.message}: {title} was taken in its stead")
            return fallback


def is_nothing(name: str | None) -> bool:
    """Whether a name says that there is none, or that it is the first pass' one."""
    return name is None or name.strip().casefold() in NO_NAME


def _unknown(kind: str, name: str, known: Sequence[str]) -> str:
    raise UnknownName(kind, name, known)
