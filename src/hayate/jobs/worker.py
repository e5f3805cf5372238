"""The process that does the work: one job after the other, with the same models in memory.

It imports torch, the server does not; it may crash, and the server goes on. It ends when its input does, at once and in
the middle of whatever it does: nothing is half written then, for files get their names when they are whole.
"""

from __future__ import annotations

import contextvars
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hayate.errors import Cancelled, HayateError, clip
from hayate.extensions.current import current, session_for, use
from hayate.flags import TakenFlags, given
from hayate.jobs.channel import Channel
from hayate.jobs.messages import Am, Answered, Ask, Begin, Cancel, Doing, Ended, Hello, Showing, Skip, Watch, message_of
from hayate.jobs.records import Failure, State, WorkerPhase, WorkerState, failure_of
from hayate.jobs.signals import Signals
from hayate.settings import Settings

if TYPE_CHECKING:
    from hayate.jobs.tasks.station import Trade
    from hayate.pipeline.workspace import Workspace

NICE = 5
"""Behind the server, which must answer while this computes."""
BROKEN = 70
"""The exit code of a worker whose device can't be used any more."""


def main(learn: Callable[[], Trade] | None = None) -> int:
    """Works until the input ends; `learn` gives what it can do, by default what there is."""
    # Ctrl-C and a service's stop reach every process of the group; they are the server's to answer, which closes the
    # pipe when the running job has had its time. Handlers, unlike SIG_IGN, are not inherited by what is started here.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: None)
    if hasattr(os, "nice"):
        os.nice(NICE)
    channel = Channel.of_this_process()
    lines = channel.lines()
    hello = message_of(next(lines))
    assert isinstance(hello, Hello)
    given.set(TakenFlags(values=hello.flags))
    use(lambda: session_for(hello.settings, hello.flags))
    worker = Worker(channel, hello.settings)
    threading.Thread(target=worker.listen, args=(lines,), name="listen", daemon=True).start()
    return worker.run(hello, learn or _all_there_is)


class Worker:
    """The worker's threads: one works, one listens, one answers questions."""

    def __init__(self, channel: Channel, settings: Settings) -> None:
        self._channel, self._settings = channel, settings
        self._signals = Signals()
        self._jobs: queue.SimpleQueue[Begin] = queue.SimpleQueue()
        self._questions: queue.SimpleQueue[Ask] = queue.SimpleQueue()
        self._state = WorkerState(phase=WorkerPhase.STARTING, pid=os.getpid())

    def listen(self, lines: Any) -> None:
        """Takes commands; at their end, so does the process."""
        for line in lines:
            command = message_of(line)
            if isinstance(command, Begin):
                self._signals.begin(command.job)  # here, so that a cancel right behind it is not lost
                self._jobs.put(command)
            elif isinstance(command, Cancel):
                self._signals.cancel(command.job)
            elif isinstance(command, Skip):
                self._signals.skip(command.job)
            elif isinstance(command, Watch):
                self._signals.is_watched = command.is_watched
            elif isinstance(command, Ask):
                self._questions.put(command)
        os._exit(0)  # a computation can't be interrupted otherwise

    def run(self, hello: Hello, learn: Callable[[], Trade]) -> int:
        """Gets ready, then works for good."""
        started = time.perf_counter()
        self._be(phase=WorkerPhase.IMPORTING)
        trade = learn()
        imported_s = time.perf_counter() - started
        current().begin()  # not before: those that import torch too would seem to hang
        with trade.open_workspace(self._settings) as workspace:
            self._be(seconds={"import": round(imported_s, 3)}, facts=trade.facts(self._settings))
            # A thread begins without the context that the flags are in.
            answer = partial(contextvars.copy_context().run, self._answer, trade, workspace)
            threading.Thread(target=answer, name="answer", daemon=True).start()
            if hello.model is not None:
                self._pour(hello, trade, workspace)
            self._be(phase=WorkerPhase.IDLE)
            while True:
                self._do(self._jobs.get(), trade, workspace)

    def _be(self, **changes: Any) -> None:
        self._state = replace(self._state, **changes)
        self._channel.say(Am(state=self._state))

    def _pour(self, hello: Hello, trade: Trade, workspace: Workspace) -> None:
        """Brings the first model into memory; if that can't be, the job that needs it will say why."""
        self._be(phase=WorkerPhase.LOADING)
        started = time.perf_counter()
        try:
            name = trade.pour(hello.model, hello.vae, self._settings, workspace)
        except HayateError as error:
            self._be(facts={**self._state.facts, "model_problem": f"{hello.model}: {error}"})
            return
        seconds = {**self._state.seconds, "load": round(time.perf_counter() - started, 3)}
        self._be(model=name, seconds=seconds)

    def _do(self, begin: Begin, trade: Trade, workspace: Workspace) -> None:
        """One job, whatever comes of it."""
        self._be(phase=WorkerPhase.BUSY)
        surprise: Exception | None = None
        try:
            ended = self._done(begin, trade, workspace)
        except Cancelled:
            ended = Ended(job=begin.job, state=State.CANCELLED)
        except HayateError as error:
            ended = Ended(job=begin.job, state=State.FAILED, failure=failure_of(error))
        except Exception as error:  # noqa: BLE001 - the door of the jobs
            traceback.print_exception(error)
            surprise, ended = error, Ended(job=begin.job, state=State.FAILED, failure=unexpected(error))
        self._signals.end()
        current().keep_times()
        self._channel.say(ended)
        if surprise is not None:
            self._recover(str(surprise), workspace)
        self._be(phase=WorkerPhase.IDLE)

    def _recover(self, surprise: str, workspace: Workspace) -> None:
        """After an error that nobody foresaw nothing in memory is trusted, and a card that failed not even that."""
        if "CUDA error" in surprise:
            os._exit(BROKEN)
        workspace.clear()
        self._state = replace(self._state, model="")

    def _done(self, begin: Begin, trade: Trade, workspace: Workspace) -> Ended:
        from hayate.jobs.bodies import read_body
        from hayate.jobs.tasks.station import Station

        station = Station(
            job=begin.job,
            settings=self._settings,
            workspace=workspace,
            signals=self._signals,
            tell=lambda progress: self._channel.say(Doing(progress=progress)),
            show=lambda jpeg: self._channel.say(Showing(job=begin.job, jpeg=jpeg)),
            results=Path(begin.results),
        )
        self._signals.check()
        outcome = trade.tasks[begin.kind](read_body(begin.kind, begin.body), station)
        if outcome.model is not None:
            self._state = replace(self._state, model=outcome.model)
        state = State.CANCELLED if outcome.is_stopped else State.DONE
        return Ended(job=begin.job, state=state, result=outcome.result)

    def _answer(self, trade: Trade, workspace: Workspace) -> None:
        """Answers one question after the other, beside the work."""
        while True:
            ask = self._questions.get()
            try:
                answered = Answered(number=ask.number, answer=trade.answer(ask, self._settings, workspace))
            except HayateError as error:
                answered = Answered(number=ask.number, failure=failure_of(error))
            except Exception as error:  # noqa: BLE001 - the door of the jobs
                traceback.print_exception(error)
                answered = Answered(number=ask.number, failure=unexpected(error))
            self._channel.say(answered)


def unexpected(error: Exception) -> Failure:
    """What is told of an error that nobody foresaw; its traceback is in the worker's log."""
    lines = str(error).splitlines() or ["no reason given"]
    return Failure(
        type=type(error).__name__,
        message=f"unexpected {type(error).__name__}: {clip(lines[0], 300)}",
        hint="the details are in server/worker.log in the data folder",
    )


def _all_there_is() -> Trade:
    from hayate.jobs.tasks.catalogue import TRADE

    return TRADE


if __name__ == "__main__":
    sys.exit(main())
