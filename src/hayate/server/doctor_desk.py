"""The doctor behind the page: one look for all who ask at once, one fix at a time, none of it on the event loop."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from hayate.doctor.finding import Finding
from hayate.doctor.undo import Done, Ledger
from hayate.errors import Busy, HayateError, UnknownName, UsageError
from hayate.flags import given
from hayate.server.preferences import Preferences

if TYPE_CHECKING:
    from hayate.doctor.facts import Facts
    from hayate.doctor.fixing import Report, Tell

Result = TypeVar("Result")


class Practice(Protocol):
    """What a doctor can do; each blocks, for seconds or minutes."""

    def gather(self) -> Facts: ...

    def fix(self, findings: Sequence[Finding], data_dir: Path, tell: Tell) -> tuple[Report, ...]:
        """Raises: HayateError."""
        ...

    def undo(self, only: Sequence[str], data_dir: Path, tell: Tell) -> tuple[Report, ...]:
        """Raises: HayateError."""
        ...


class HousePractice:
    """This machine: facts are gathered in the caller's thread, what changes it is done in another process.

    What that takes is imported there too, when it is first asked for.
    """

    def __init__(self, preferences: Preferences) -> None:
        self._preferences = preferences

    def gather(self) -> Facts:
        """Cost: 0.6 to 3 s, most of it waiting."""
        from hayate.doctor.gather import gather_facts

        return gather_facts(given.get(), chosen=self._preferences.chosen.settings)

    def fix(self, findings: Sequence[Finding], data_dir: Path, tell: Tell) -> tuple[Report, ...]:
        from hayate.doctor.errand import fix_apart

        return fix_apart(findings, data_dir, tell)

    def undo(self, only: Sequence[str], data_dir: Path, tell: Tell) -> tuple[Report, ...]:
        from hayate.doctor.errand import undo_apart

        return undo_apart(only, data_dir, tell)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen at one time."""

    facts: Facts
    findings: tuple[Finding, ...]
    at_s: float
    """Seconds since 1970."""
    took_s: float


@dataclass(slots=True, kw_only=True)
class Act:
    """A fix, or the taking back of some, with what has become of it so far."""

    undoes: bool
    checks: tuple[str, ...]
    began_s: float
    reports: list[Report] = field(default_factory=list)
    failure: HayateError | None = None
    """What ended it before it was through."""
    is_over: bool = False


class DoctorDesk:
    """Safe from any thread; nothing here waits but what is in the futures."""

    def __init__(self, data_dir: Path, practice: Practice, after_act: Callable[[], None] = lambda: None) -> None:
        self._ledger = Ledger(data_dir)
        self._data_dir = data_dir
        self._practice = practice
        self._after_act = after_act
        self._lock = threading.Lock()
        self._looking: Future[Look] | None = None
        self._act: Act | None = None

    @property
    def act(self) -> Act | None:
        """The fix that is being done, or the last one."""
        return self._act

    def look(self, *, anew: bool = False) -> Future[Look]:
        """What is found; what was found the last time, unless there was none or it shall be made anew.

        Who asks while somebody is looking is given what that one sees.
        """
        with self._lock:
            kept = self._looking
            if kept is not None and not (kept.done() and (anew or kept.exception() is not None)):
                return kept
            self._looking = _in_thread(self._look)
            return self._looking

    def done(self) -> tuple[Done, ...]:
        """The fixes that can be taken back, the newest first. Raises: UsageError."""
        return tuple(reversed(self._ledger.read()))

    def fix(self, finding: Finding) -> Future[None]:
        """Begins to do what a finding offers.

        Raises: Busy; UsageError where a person has to do it.
        """
        if not finding.is_fixable:
            hint = f"run {finding.fix.command}" if finding.fix.command else finding.fix.text
            raise UsageError(f"{finding.check} can't be fixed from here", hint=hint)
        act = Act(undoes=False, checks=(finding.check,), began_s=time.time())
        return self._begin(act, lambda: self._practice.fix([finding], self._data_dir, act.reports.append))

    def undo(self, checks: Sequence[str]) -> Future[None]:
        """Begins to take back the fixes of some checks, or all.

        Raises: Busy, UnknownName; UsageError where there is nothing to take back.
        """
        known = list(dict.fromkeys(done.check for done in self.done()))
        if not known:
            raise UsageError("there is nothing to undo", hint="nothing was fixed, or all of it was taken back")
        for check in checks:
            if check not in known:
                raise UnknownName("fix", check, known)
        act = Act(undoes=True, checks=tuple(checks or known), began_s=time.time())
        return self._begin(act, lambda: self._practice.undo(checks, self._data_dir, act.reports.append))

    def _begin(self, act: Act, work: Callable[[], object]) -> Future[None]:
        with self._lock:
            running = self._act
            if running is not None and not running.is_over:
                what = "undoing" if running.undoes else "fixing"
                raise Busy(f"the doctor is {what} {', '.join(running.checks)}", hint="wait until that is done")
            self._act = act
        return _in_thread(lambda: self._do(act, work))

    def _do(self, act: Act, work: Callable[[], object]) -> None:
        """Then looks anew: a look that began before the end may have seen what is no more."""
        try:
            work()
        except HayateError as error:
            act.failure = error
        finally:
            self._after_act()
            with self._lock:
                self._looking = _in_thread(self._look)
            wait((self._looking,))
            act.is_over = True

    def _look(self) -> Look:
        from hayate.doctor.diagnose import diagnose
        from hayate.doctor.here import for_here

        began_s = time.monotonic()
        facts = self._practice.gather()
        findings = for_here(diagnose(facts))
        return Look(facts=facts, findings=findings, at_s=time.time(), took_s=time.monotonic() - began_s)


def _in_thread(work: Callable[[], Result]) -> Future[Result]:
    """What `work` gives, from a thread that knows what its caller does and does not hold up the end of the process."""
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(_settle, future, work), name="doctor", daemon=True).start()
    return future


def _settle(future: Future[Result], work: Callable[[], Result]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - whoever waits is to have it
        future.set_exception(error)
