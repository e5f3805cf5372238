"""An extension in this process, and what it adds."""

from __future__ import annotations

from dataclasses import dataclass

from hayate.extensions.control import Control
from hayate.extensions.discovery import Found
from hayate.extensions.kinds import HOOKS
from hayate.extensions.manifest import Manifest


@dataclass(slots=True, kw_only=True, eq=False)
class Standing:
    """An extension in this process."""

    found: Found
    is_on: bool
    import_s: float = 0.0
    hook_s: float = 0.0
    calls: int = 0
    problem: str = ""
    """Why it is left out until the next start."""

    @property
    def name(self) -> str:
        return self.found.name

    @property
    def manifest(self) -> Manifest:
        assert self.found.manifest is not None
        return self.found.manifest

    @property
    def acts(self) -> bool:
        return self.is_on and self.found.is_usable and not self.problem

    @property
    def has_panel(self) -> bool:
        """Whether the page asks for it, with the controls of its manifest."""
        return self.acts and self.is_for_jobs and bool(self.manifest.controls)

    @property
    def is_for_jobs(self) -> bool:
        """Whether it has hooks that act on jobs, and not only things that are asked for by their names."""
        return any(not HOOKS[kind].is_chosen for kind in self.manifest.hooks)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hook:
    """One thing that an extension adds."""

    owner: Standing
    kind: str
    name: str
    place: str

    @property
    def controls(self) -> tuple[Control, ...]:
        """The fields of a script."""
        return self.owner.manifest.script_controls.get(self.name, ())

    @property
    def needs_picture(self) -> bool:
        """Whether a script needs a picture to start from."""
        return self.name in self.owner.manifest.needs_picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What an extension took in this process."""

    extension: str
    import_s: float
    hook_s: float
    calls: int


class Crashed(Exception):
    """A hook failed, and its extension is left out from now on."""

    def __init__(self, extension: str, problem: str) -> None:
        super().__init__(f"the extension {extension} is left out until the next start: {problem}")
        self.problem = problem
