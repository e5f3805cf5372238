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
from hayate.extensions.inside import inside
from hayate.extensions.session import Session
from hayate.extensions.standing import Crashed, Hook
from hayate.flags import TakenFlags, given
from hayate.jobs.channel import Channel
from hayate.jobs.messages import (
    Am,
    Answered,
    Ask,
    Begin,
    Cancel,
    Clear,
    Doing,
    Ended,
    Hello,
    LeftOut,
    Showing,
    Skip,
    Watch,
    message_of,
)
from hayate.jobs.overdue import Overdue
from hayate.jobs.records import Failure, Result, State, WorkerPhase, WorkerState, failure_of
from hayate.jobs.signals import Signals

if TYPE_CHECKING:
    from hayate.jobs.tasks.station import Trade
    from hayate.pipeline.workspace import Workspace

NICE = 5
"""Behind the server, which must answer while this computes."""
STUCK = 71
"""That of one whose job could not be ended otherwise."""
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
    use(lambda: _session(hello))
    worker = Worker(channel, hello)
    threading.Thread(target=worker.listen, args=(lines,), name="listen", daemon=True).start()
    return worker.run(hello, learn or _all_there_is)


class Worker:
    """The worker's threads: one works, one listens, one answers questions."""

    def __init__(self, channel: Channel, hello: Hello) -> None:
        self._channel, self._settings, self._log_name = channel, hello.settings, hello.log_name
        self._signals = Signals()
        self._overdue = Overdue(hello.settings.extension_stop_s, self._signals, self._give_up)
        self._left_out = set(hello.left_out)
        self._jobs: queue.SimpleQueue[Begin | Clear] = queue.SimpleQueue()
        self._questions: queue.SimpleQueue[Ask] = queue.SimpleQueue()
        self._state = WorkerState(phase=WorkerPhase.STARTING, pid=os.getpid())

    def listen(self, lines: Any) -> None:
        """Takes commands; at their end, so does the process."""
        for line in lines:
            command = message_of(line)
            if isinstance(command, Begin):
                inside.cancel(False)
                self._signals.begin(command.job)  # here, so that a cancel right behind it is not lost
                self._jobs.put(command)
            elif isinstance(command, Cancel):
                self._signals.cancel(command.job)
                self._overdue.watch(command.job)
            elif isinstance(command, Skip):
                self._signals.skip(command.job)
            elif isinstance(command, Watch):
                self._signals.is_watched = command.is_watched
            elif isinstance(command, Clear):
                self._jobs.put(command)
            elif isinstance(command, LeftOut):
                self._left_out.add(command.extension)
                current().leave_out({command.extension: command.problem})
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
                command = self._jobs.get()
                if isinstance(command, Clear):
                    workspace.clear()
                    self._be(model="")
                else:
                    self._do(command, trade, workspace)

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
            surprise, ended = error, Ended(job=begin.job, state=State.FAILED, failure=unexpected(error, self._log_name))
        if not self._signals.end(begin.job):
            threading.Event().wait()  # `_give_up` was first: the process ends any moment
        current().keep_times()
        self._say_ended(ended)
        if surprise is not None:
            self._recover(str(surprise), workspace)
        self._be(phase=WorkerPhase.IDLE)

    def _say_ended(self, ended: Ended) -> None:
        """With the extensions that failed meanwhile: a cancelled job may have no result that names them."""
        failed = {name: why for name, why in current().failed().items() if name not in self._left_out}
        for name, problem in failed.items():
            self._channel.say(LeftOut(extension=name, problem=problem))
        self._left_out |= failed.keys()
        if failed and ended.state is State.CANCELLED:
            result = ended.result or Result()
            named = (str(Crashed(name, problem)) for name, problem in failed.items())
            notes = tuple(dict.fromkeys((*result.notes, *named)))
            ended = replace(ended, result=replace(result, notes=notes))
        self._channel.say(ended)

    def _give_up(self, job: str, hook: Hook) -> None:
        """Ends the process, since nothing else ends what a hook does; the next one is begun without its extension."""
        if not self._signals.end(job):
            return
        error = current().overdue(hook)
        self._say_ended(Ended(job=job, state=State.CANCELLED))
        print(f"{error}; the worker is started anew", file=sys.stderr, flush=True)
        os._exit(STUCK)

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
                answered = Answered(number=ask.number, failure=unexpected(error, self._log_name))
            self._channel.say(answered)


def _session(hello: Hello) -> Session:
    """The extensions, but for those that have failed in another life of the worker."""
    made = session_for(hello.settings, hello.flags)
    made.leave_out(hello.left_out)
    return made


def unexpected(error: Exception, log_name: str) -> Failure:
    """What is told of an error that nobody foresaw; its traceback is in the worker's log."""
    lines = str(error).splitlines() or ["no reason given"]
    return Failure(
        type=type(error).__name__,
        message=f"unexpected {type(error).__name__}: {clip(lines[0], 300)}",
        hint=f"the details are in server/{log_name} in the data folder",
    )


def _all_there_is() -> Trade:
    from hayate.jobs.tasks.catalogue import TRADE

    return TRADE


if __name__ == "__main__":
    sys.exit(main())
