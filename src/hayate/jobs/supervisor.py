"""Keeps a worker: starts it, starts it anew when it ends, and carries questions to it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hayate.errors import HayateError, WorkerAway
from hayate.jobs.messages import Am, Answered, Ask, Command, Hello, LeftOut, Report
from hayate.jobs.process import COMMAND, WorkerProcess
from hayate.jobs.records import WorkerPhase, WorkerState, error_of

BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Before the first, second, … start in a row without a job that was done."""


class Supervisor:
    """One worker, through all its lives."""

    def __init__(
        self,
        folder: Path,
        hello: Hello,
        on_report: Callable[[Report], None],
        on_end: Callable[[str], None],
        *,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """`on_report` is told what the worker says, `on_end` why it has ended; both from threads of this object."""
        self._log, self._hello, self._command = folder / hello.log_name, hello, command
        self._on_report, self._on_end = on_report, on_end
        self._lock = threading.Lock()
        self._process: WorkerProcess | None = None
        self._asked: dict[int, tuple[Ask, asyncio.Future[Mapping[str, Any]]]] = {}
        self._number = self._failures = 0
        self._is_closing = threading.Event()
        self.state = WorkerState(phase=WorkerPhase.DOWN, device=hello.settings.device)
        self._thread = threading.Thread(target=self._keep, name="supervisor", daemon=True)

    def pour_first(self, model: str, vae: str | None) -> None:
        """Before the start: its first life begins with this model. Later ones don't, for it may be what ended it."""
        self._hello = replace(self._hello, model=model, vae=vae)

    def start(self) -> None:
        """Starts the worker, at once and in the background."""
        self._thread.start()

    def say(self, command: Command) -> None:
        """Sends a command; where no worker is, to nobody."""
        if (process := self._process) is not None:
            process.say(command)

    def leave_out(self, left_out: LeftOut) -> None:
        """An extension has failed in another worker, and acts no more in this one either."""
        self._remember(left_out)
        self.say(left_out)

    def has_done_something(self) -> None:
        """The worker is no hopeless case: its next end is its first."""
        self._failures = 0

    async def ask(self, question: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Raises: WorkerAway, HayateError."""
        future: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        with self._lock:
            process = self._process
            if process is None and "problem" in self.state.facts:
                raise WorkerAway("the worker is not there", hint="it is being started; try again in a moment")
            self._number += 1
            ask = Ask(number=self._number, question=question, arguments=arguments)
            self._asked[ask.number] = (ask, future)
        try:
            if process is not None:
                process.say(ask)
            return await future
        finally:
            with self._lock:
                self._asked.pop(ask.number, None)

    def close(self) -> None:
        """Ends the worker; returns when it has."""
        self._is_closing.set()
        with self._lock:
            process = self._process
        if process is not None:
            process.end()
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        """One life after the other."""
        while not self._is_closing.wait(BACK_OFF_S[min(self._failures, len(BACK_OFF_S) - 1)]):
            self._failures += 1
            reason = self._live()
            with self._lock:
                self._process = None
                asked = [future for _, future in self._asked.values()]
            for future in asked:
                _tell(future, WorkerAway(f"there is no answer: {reason}", hint="try again"))
            restarts = self.state.restarts + (not self._is_closing.is_set())
            self.state = WorkerState(
                phase=WorkerPhase.DOWN, device=self.state.device, restarts=restarts, facts={"problem": reason}
            )
            self._on_end(reason)

    def _live(self) -> str:
        """From a worker's start to its end; why it ended."""
        begun = time.monotonic()
        try:
            process = WorkerProcess(self._log, self._hear, command=self._command)
        except OSError as error:
            return f"the worker can't be started: {error.strerror}"
        process.say(self._hello)
        with self._lock:
            self._process = process
            early = [ask for ask, _ in self._asked.values()]
        for ask in early:  # from before there was anybody to ask
            process.say(ask)
        if self._is_closing.is_set():  # it was set before there was a process to end
            process.end()
        reason = process.wait()
        with self._lock:
            self._hello = replace(self._hello, model=None, vae=None)
        if time.monotonic() - begun > BACK_OFF_S[-1] * 10:
            self._failures = 0
        return reason

    def _remember(self, left_out: LeftOut) -> None:
        """The next life is told of it."""
        with self._lock:
            known = {**self._hello.left_out, left_out.extension: left_out.problem}
            self._hello = replace(self._hello, left_out=known)

    def _hear(self, report: Report) -> None:
        if isinstance(report, Am):
            self.state = replace(report.state, device=self.state.device, restarts=self.state.restarts)
        elif isinstance(report, Answered):
            with self._lock:
                asked = self._asked.get(report.number)
            if asked is not None:
                _tell(asked[1], report.answer if report.failure is None else error_of(report.failure))
            return
        elif isinstance(report, LeftOut):
            self._remember(report)
        self._on_report(report)


def _tell(future: asyncio.Future[Mapping[str, Any]], answer: Mapping[str, Any] | HayateError) -> None:
    """From any thread."""

    def settle() -> None:
        if future.done():
            return
        if isinstance(answer, HayateError):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    loop = future.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)
