"""Contenders that are timed in turns: processes of their own that run one task for each line that they are given.

What slows the machine then slows all of them, and a ratio within a round is worth more than two medians.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

Tasks = Mapping[str, Callable[[], object]]
"""What a contender can be asked for. A task that returns a float has measured its own seconds."""


class EndedEarly(SystemExit):
    """A contender's process ended without an answer."""


class Contender:
    """A process that runs one task for each line that it is given."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        started = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.ready = self._answer()
        """What it said of itself when it had loaded."""
        self.start_s = time.perf_counter() - started
        """From the start of the process to there."""

    def run(self, task: str) -> float:
        """Seconds of one run of `task`."""
        assert self.process.stdin
        self.process.stdin.write(task + "\n")
        self.process.stdin.flush()
        return self._answer()["seconds"]

    def end(self) -> dict:
        """What the process says of itself at its end."""
        assert self.process.stdin
        self.process.stdin.close()
        last = self._answer()
        self.process.wait()
        return last

    def stop(self) -> None:
        """Ends the process without an answer."""
        self.process.kill()
        self.process.wait()

    def _answer(self) -> dict:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise EndedEarly(f"{self.name} ended early")
        return json.loads(line)


def take_turns(contenders: Sequence[Contender], tasks: Sequence[str], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by contender and task: each runs a task once for nothing, then they take turns, A B A B."""
    seconds: dict[str, dict[str, list[float]]] = {each.name: {task: [] for task in tasks} for each in contenders}
    for task in tasks:
        for contender in contenders:
            contender.run(task)
        for _ in range(rounds):
            for contender in contenders:
                seconds[contender.name][task].append(contender.run(task))
                print(contender.name, task, f"{seconds[contender.name][task][-1]:.2f} s", file=sys.stderr, flush=True)
    return seconds


def say(content: dict) -> None:
    """Answers the process that asks."""
    print(json.dumps(content), flush=True)


def serve(tasks: Tasks, answer: Callable[[dict], None] = say) -> None:
    """Runs the tasks that are asked for until the input ends, then tells the peak of memory."""
    import resource

    for line in sys.stdin:
        started = time.perf_counter()
        told = tasks[line.strip()]()
        answer({"seconds": told if isinstance(told, float) else time.perf_counter() - started})
    answer({"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})
