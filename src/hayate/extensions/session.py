"""The extensions of one process: what they add, what of it is loaded, how long it took, and which have failed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from hayate.errors import Cancelled, OutputError, UnknownName, UsageError, clip
from hayate.extensions.control import Value, checked_values
from hayate.extensions.discovery import Origin, find_extensions
from hayate.extensions.importing import Import, begin_all, make_parent, told
from hayate.extensions.inside import Stopped, inside
from hayate.extensions.kinds import HOOKS
from hayate.extensions.output import captured, log_path
from hayate.extensions.requirements import unmet
from hayate.extensions.standing import Crashed, Hook, Standing, Timing
from hayate.extensions.state import LastTime, StateFile

IMPORT_LIMIT_S = 15.0
Result = TypeVar("Result")


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """Which extensions act in this process; none is imported before something of it is wanted."""

    standings: tuple[Standing, ...] = ()
    state: StateFile | None = None
    limit_s: float = IMPORT_LIMIT_S
    folder: Path | None = None
    _imports: dict[str, Import] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _stamp: tuple[int, int] = (0, 0)
    _reported: set[str] = field(default_factory=set)

    @classmethod
    def open(
        cls, folder: Path, data_dir: Path, *, limit_s: float = IMPORT_LIMIT_S, left_out: Collection[Origin] = ()
    ) -> Session:
        """The extensions that are there, but for those of `left_out` origins; nothing is imported.

        Cost: a millisecond for some ten extensions.
        """
        state = StateFile(data_dir)
        stamp, chosen = state.stamp(), state.read()
        found = [each for each in find_extensions(folder) if each.origin not in left_out]
        standings = tuple(Standing(found=each, is_on=each.name not in chosen.disabled) for each in found)
        session = cls(standings=standings, state=state, limit_s=limit_s, folder=folder)
        session._stamp = stamp
        return session

    # ------------------------------------------------------------------------------------------- what there is

    def standing(self, name: str) -> Standing:
        """The extension of a name. Raises: UnknownName."""
        for each in self.standings:
            if each.name == name:
                return each
        raise UnknownName("extension", name, [each.name for each in self.standings])

    def hooks(self, kind: str) -> tuple[Hook, ...]:
        """What the extensions that act say they add of a kind; nothing is imported."""
        assert kind in HOOKS
        return tuple(
            Hook(owner=each, kind=kind, name=name, place=place)
            for each in self.standings
            if each.acts
            for name, place in each.manifest.hooks.get(kind, {}).items()
        )

    def names(self, kind: str) -> tuple[str, ...]:
        """Their names."""
        return tuple(hook.name for hook in self.hooks(kind))

    def find(self, kind: str, name: str) -> Hook | None:
        """What an extension adds under a name, in any case."""
        wanted = name.casefold()
        return next((hook for hook in self.hooks(kind) if hook.name.casefold() == wanted), None)

    def refresh(self) -> None:
        """Takes over what was switched on or off since; one that failed is tried again after it was off.

        Cost: one look at the disk.
        """
        if self.state is None or (stamp := self.state.stamp()) == self._stamp:
            return
        self._stamp, chosen = stamp, self.state.read()
        for each in self.standings:
            was_on, each.is_on = each.is_on, each.name not in chosen.disabled
            if each.is_on and not was_on:
                self._forgive(each)

    def asked_of(self, asked: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Mapping[str, Value]], list[str]]:
        """What is said to every extension that acts on a job which says `asked`, and which ones would but failed.

        One that has controls acts where a job names it; one that has none acts on every job.
        Raises: UnknownName for one that is not there; UsageError for one that is off, or a value that can't be.
        """
        values: dict[str, Mapping[str, Value]] = {}
        for name, given in asked.items():
            each = self.standing(name)
            if not each.is_on or not each.found.is_usable:
                why = each.found.problem or "it is switched off"
                raise UsageError(f"the extension {name} can't act: {why}", hint="hayate extensions lists all")
            if not each.is_for_jobs:
                raise UsageError(
                    f"the extension {name} has nothing to do with single jobs", hint="its parts have names"
                )
            if not isinstance(given, Mapping):
                raise UsageError(f"the extension {name} is told {clip(repr(given))}", hint='{"field": value}')
            values[name] = checked_values(each.manifest.controls, given, f"the extension {name}")
        for each in self.standings:
            if each.is_on and each.found.is_usable and each.is_for_jobs and not each.manifest.controls:
                values.setdefault(each.name, MappingProxyType({}))
        failed = [each for each in self.standings if each.problem and each.name in values]
        return values, [str(Crashed(each.name, each.problem)) for each in failed]

    # ------------------------------------------------------------------------------------------- loading

    def begin(self) -> None:
        """Begins to import what acts on every job, beside the caller."""
        kinds = [name for name, kind in HOOKS.items() if not kind.is_chosen]
        hooks = [hook for kind in kinds for hook in self.hooks(kind) if hook.owner.found.origin is not Origin.BUILT_IN]
        imports = dict.fromkeys(self._import_of(hook) for hook in hooks if not self._lacks_packages(hook))
        begin_all([each for each in imports if not each.has_begun])

    def load(self, hook: Hook) -> Any:
        """The object of a hook; its module is imported now if it wasn't before.

        Raises: Crashed where that fails or takes too long.
        """
        if hook.owner.problem or self._lacks_packages(hook):
            raise Crashed(hook.owner.name, hook.owner.problem)
        job = self._import_of(hook)
        if hook.owner.found.origin is Origin.BUILT_IN:
            if not job.is_done:
                job.now()
        else:
            job.finish(self.limit_s)
        self._count_import(hook.owner, job)
        if job.problem:
            is_off = job.is_overdue and self._switch_off(hook.owner)
            raise self._crash(hook.owner, f"{job.problem}, so it is switched off now" if is_off else job.problem)
        _, name = hook.owner.found.module_of(hook.place)
        if not hasattr(job.found, name):
            raise self._crash(hook.owner, f"its module {job.module} has no {name}")
        return getattr(job.found, name)

    def call(self, hook: Hook, work: Callable[[], Result], passed: tuple[type[BaseException], ...] = ()) -> Result:
        """What `work` gives, which is the hook's; timed, and its output caught.

        An error of the kinds `passed`, Cancelled and UsageError go on to the caller as they are: with the last an
        extension refuses a job in words.
        Raises: Crashed for every other one: the extension is left out from then on.
        """
        owner, started = hook.owner, time.perf_counter()
        if owner.problem:
            raise Crashed(owner.name, owner.problem)
        try:
            with captured(self.log_of(owner.name)):
                return self.visit(hook, work)
        except (KeyboardInterrupt, Cancelled, UsageError, *passed):
            raise
        except BaseException as error:  # the door of extensions: whatever theirs raises ends here
            raise self._crash(owner, f"its {hook.kind} {hook.name} failed: {told(error)}") from error
        finally:
            owner.hook_s += time.perf_counter() - started
            owner.calls += 1

    def visit(self, hook: Hook, work: Callable[[], Result]) -> Result:
        """What `work` gives, which is the hook's and can be ended from outside.

        Raises: Cancelled where it was: the extension is left out from then on.
        """
        try:
            return inside.run(hook, work)
        except Stopped:
            self.overdue(hook)
            raise Cancelled("the job was cancelled", hint="what was finished is kept") from None

    def overdue(self, hook: Hook) -> Crashed:
        """Leaves out the extension of a hook that had to be ended, and says so."""
        return self._crash(hook.owner, f"its {hook.kind} {hook.name} did not end when the job was cancelled")

    def leave_out(self, problems: Mapping[str, str]) -> None:
        """Leaves out extensions for what they did elsewhere, by their names."""
        for each in self.standings:
            each.problem = each.problem or problems.get(each.name, "")

    def failed(self) -> dict[str, str]:
        """Why extensions that were in use are left out, by their names."""
        return {each.name: each.problem for each in self.standings if each.problem}

    def crashed(self, hook: Hook, error: BaseException) -> Crashed:
        """Leaves out the extension of a hook that failed outside of `call`, and says so."""
        return self._crash(hook.owner, f"its {hook.kind} {hook.name} failed: {told(error)}")

    def log_of(self, name: str) -> Path:
        """Where the output of an extension is."""
        return log_path(Path() if self.state is None else self.state.folder, name)

    # ------------------------------------------------------------------------------------------- what is told

    def problems(self) -> dict[str, str]:
        """Why extensions are left out, by their names."""
        return {
            each.name: each.problem or each.found.problem for each in self.standings if not each.acts and each.is_on
        }

    def timings(self) -> tuple[Timing, ...]:
        """What the extensions took in this process so far; those of which nothing was wanted took nothing."""
        return tuple(
            Timing(extension=each.name, import_s=each.import_s, hook_s=each.hook_s, calls=each.calls)
            for each in self.standings
            if each.import_s or each.calls
        )

    def keep_times(self) -> None:
        """Remembers for the list what they took and which failed; where that can't be written, nobody minds."""
        now = time.time()
        used = {
            each.name: LastTime(
                at_s=now, import_s=each.import_s, hook_s=each.hook_s, calls=each.calls, problem=each.problem
            )
            for each in self.standings
            if (each.import_s or each.calls or each.problem) and each.found.origin is not Origin.BUILT_IN
        }
        if used and self.state is not None:
            with contextlib.suppress(OutputError):
                self.state.keep_times(used)

    def _import_of(self, hook: Hook) -> Import:
        module, _ = hook.owner.found.module_of(hook.place)
        with self._lock:
            if module not in self._imports:
                if self.folder is not None:
                    make_parent(self.folder)
                self._imports[module] = Import(module, self.log_of(hook.owner.name))
            return self._imports[module]

    def _count_import(self, owner: Standing, job: Import) -> None:
        with self._lock:
            if job.module not in self._reported:
                self._reported.add(job.module)
                owner.import_s += job.seconds

    def _forgive(self, owner: Standing) -> None:
        """Lets one that failed begin anew."""
        if not owner.problem:
            return
        places = (place for named in owner.manifest.hooks.values() for place in named.values())
        modules = {owner.found.module_of(place)[0] for place in places}
        with self._lock:
            self._imports = {name: job for name, job in self._imports.items() if name not in modules}
            self._reported -= modules
            owner.problem = ""

    def _lacks_packages(self, hook: Hook) -> bool:
        """Whether it needs what is not installed; its extension is left out then, before any of it is imported."""
        with self._lock:
            if self._import_of(hook).has_begun or not hook.owner.manifest.requires:
                return False
        if problem := unmet(hook.owner.manifest.requires):
            self._crash(hook.owner, problem)
        return bool(problem)

    def _switch_off(self, owner: Standing) -> bool:
        """Whether the next starts go without an extension that hung, until somebody switches it on again."""
        if self.state is None:
            return False
        try:
            self.state.write(self.state.read().switched(owner.name, is_on=False))
        except OutputError:
            return False  # then the next start tries it again
        return True

    def _crash(self, owner: Standing, problem: str) -> Crashed:
        with self._lock:
            owner.problem = owner.problem or problem
        self.keep_times()
        return Crashed(owner.name, owner.problem)
