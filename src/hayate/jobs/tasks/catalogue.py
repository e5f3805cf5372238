"""What the worker can do: a function for each kind of job, and for what it is asked beside them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hayate.jobs.tasks.generate import generate
from hayate.jobs.tasks.load import load, pour, unload
from hayate.jobs.tasks.measuring import bench, tune
from hayate.jobs.tasks.models import convert, duplicates, merge
from hayate.jobs.tasks.questions import answer, facts
from hayate.jobs.tasks.station import Task, Trade
from hayate.jobs.tasks.upscale import upscale
from hayate.pipeline.workspace import Workspace

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "generate": generate,
        "upscale": upscale,
        "merge": merge,
        "convert": convert,
        "duplicates": duplicates,
        "bench": bench,
        "tune": tune,
        "load": load,
        "unload": unload,
    }
)
TRADE = Trade(tasks=TASKS, open_workspace=Workspace, facts=facts, pour=pour, answer=answer)
