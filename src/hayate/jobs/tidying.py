"""What the server's folder loses in time: pictures that nobody saved, inputs that no job needs, jobs of long ago."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from hayate.jobs.inputs import Inputs, hours_ago
from hayate.jobs.queue import Queue

RESULTS = "results"
TEMPORARY = ".hayate-tmp"
"""As `pipeline.png` has it, which needs NumPy."""
RESULTS_HOURS = 24
MOST_RESULT_BYTES = 4 * 2**30
INPUTS_HOURS = 7 * 24
JOBS_HOURS = 365 * 24
MOST_JOBS = 20_000


def tidy(folder: Path, queue: Queue, inputs: Inputs, outputs_dir: Path) -> None:
    """Removes what is old or too much. The pictures in the user's outputs are not ours to remove; what a killed worker
    left half written there, under a name that says so, is.

    Cost: a look at every file in `results` and `inputs`.
    """
    for id_ in queue.forget(before_s=hours_ago(JOBS_HOURS), most=MOST_JOBS):
        forget_results(folder, id_)
    inputs.tidy(queue.inputs_in_use(ended_after_s=hours_ago(INPUTS_HOURS)), before_s=hours_ago(1))
    _tidy_results(folder / RESULTS)
    _remove_unfinished(outputs_dir)


def forget_results(folder: Path, id_: str) -> None:
    """Removes the pictures of a job that are in no outputs folder."""
    shutil.rmtree(folder / RESULTS / id_, ignore_errors=True)


def _tidy_results(results: Path) -> None:
    """The oldest first, until what is left is young and of a bearable size."""
    found: list[tuple[float, int, Path]] = []
    for place in results.iterdir() if results.is_dir() else ():
        with contextlib.suppress(OSError):
            size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
            found.append((place.stat().st_mtime, size, place))
    left_bytes, oldest_s = sum(size for _, size, _ in found), hours_ago(RESULTS_HOURS)
    for changed_s, size, place in sorted(found):
        if changed_s >= oldest_s and left_bytes <= MOST_RESULT_BYTES:
            break
        shutil.rmtree(place, ignore_errors=True)
        left_bytes -= size


def _remove_unfinished(outputs_dir: Path) -> None:
    for path in outputs_dir.glob(f".*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < hours_ago(1):
                path.unlink()
