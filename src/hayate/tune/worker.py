"""The process that tries configurations: one task per line in, one answer per line out.

It ends when nobody listens any more, also in the middle of a task.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hayate.bench.proof import unproved
from hayate.bench.reference import reference_pictures
from hayate.errors import HayateError
from hayate.extensions.current import use
from hayate.extensions.handed import take_over
from hayate.pipeline.hooked import NOBODY
from hayate.pipeline.report import Report
from hayate.pipeline.session import make_pictures
from hayate.pipeline.workspace import Workspace
from hayate.request import TextToImage
from hayate.runtime.asked import Asked, asked_of
from hayate.runtime.device import resolve_device
from hayate.settings import Settings, load_settings, lossless
from hayate.tune.trial import Task, Trial


def main(arguments: Sequence[str] = ()) -> int:
    """Serves until its input ends; the argument is `extensions.handed`'s."""
    settings = lossless(load_settings())
    use(lambda: take_over(arguments[0] if arguments else ""))
    answers, sys.stdout = sys.stdout, sys.stderr  # what anybody prints must not be taken for an answer
    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    with tempfile.TemporaryDirectory() as folder, Workspace(settings, is_lasting=False) as workspace:
        server = Server(settings=settings, workspace=workspace, folder=Path(folder))
        while True:
            print(json.dumps(answer(server, json.loads(tasks.get()))), file=answers, flush=True)


def answer(server: Server, words: Mapping[str, Any]) -> dict[str, Any]:
    """What came of a task, or in one line why nothing did."""
    try:
        return {"trial": server.serve(Task(**words))}
    except HayateError as error:
        return {"refused": str(error)}
    except (RuntimeError, OSError, MemoryError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        return {"refused": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"}


class Server:
    """Tries one task after the other with what the one before has left in memory."""

    def __init__(self, *, settings: Settings, workspace: Workspace, folder: Path) -> None:
        self._settings = settings
        self._workspace = workspace
        self._folder = folder
        self._made = 0

    def serve(self, task: Task) -> dict[str, Any]:
        """Raises: HayateError and whatever a bad configuration raises."""
        request = TextToImage(**_fields(task.request))
        if task.is_reference:
            self._workspace.clear()
            return {"pictures": self._kept(reference_pictures(request, self._settings))}
        return asdict(self._try(task, request, asked_of(task.asked)))

    def _try(self, task: Task, request: TextToImage, asked: Asked) -> Trial:
        runs = [_Run(self, request, asked)]
        row_s = [runs[0].warm_row_s] if self._is_synchronous(request) else []
        if task.compile_limit_s:  # until now eager has served
            self._workspace.settle(task.compile_limit_s)
            runs.append(_Run(self, request, asked))
            row_s = [runs[-1].mean_row_s]
        is_hopeless = bool(task.hopeless_row_s and row_s and row_s[0] > task.hopeless_row_s)
        if task.runs and not is_hopeless:
            row_s = []
            for _ in range(task.runs):
                runs.append(_Run(self, request, asked))
                row_s.append(runs[-1].mean_row_s)
        last = runs[-1]
        pictures = [each.pictures for each in runs[-2:]] if len(runs) > 1 else []
        seconds = last.report.seconds
        return Trial(
            row_s=row_s or [runs[0].mean_row_s],
            decode_s=seconds["decode"],
            encode_s=seconds["encode"],
            first_s=runs[0].total_s,
            rows=last.report.rows,
            peak_bytes=last.report.speed["peak_memory_bytes"],
            pictures=self._kept(last.pictures),
            is_repeated=np.array_equal(pictures[0], pictures[1]) if pictures else None,
            lacking=unproved(asked, last.report.plan, last.report.speed["evidence"]),
            notes=list(last.report.notes),
            is_hopeless=is_hopeless,
            plan=last.report.plan,
        )

    def make(self, request: TextToImage, asked: Asked, row_times: list[float]) -> Report:
        self._made += 1
        target = self._folder / str(self._made)

        def on_row(done: int, rows: int) -> None:
            del done, rows
            row_times.append(time.perf_counter())

        return make_pictures(request, self._settings, target, on_row, asked, workspace=self._workspace, hooked=NOBODY)

    def _kept(self, pictures: np.ndarray) -> str:
        self._made += 1
        path = self._folder / f"{self._made}.npy"
        np.save(path, pictures)
        return str(path)

    def _is_synchronous(self, request: TextToImage) -> bool:
        """Whether a row is over when its callback comes; on other devices only whole runs can be timed."""
        return resolve_device(request.device or self._settings.device).torch.type == "cpu"


class _Run:
    """One run of the whole sentence, timed."""

    def __init__(self, server: Server, request: TextToImage, asked: Asked) -> None:
        times: list[float] = []
        started = time.perf_counter()
        self.report = server.make(request, asked, times)
        self.total_s = time.perf_counter() - started
        self.mean_row_s = self.report.seconds["sample"] / max(self.report.rows, 1)
        """Over the whole picture: rows are not alike where a method leaves some of their work out."""
        self.warm_row_s = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else self.mean_row_s
        """The same without the first row."""
        self.pictures = np.stack([np.asarray(Image.open(each.path)) for each in self.report.pictures])


def _fields(words: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in words.items()}


def _listen(tasks: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        tasks.put(line)
    os._exit(0)  # whoever asked is gone, and a computation can't be interrupted otherwise


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(main(sys.argv[1:]))
