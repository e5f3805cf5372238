"""Which function does which kind of job."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hayate.jobs.tasks.generate import generate
from hayate.jobs.tasks.load import load, unload
from hayate.jobs.tasks.measuring import bench, tune
from hayate.jobs.tasks.models import convert, merge
from hayate.jobs.tasks.station import Task
from hayate.jobs.tasks.upscale import upscale

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "generate": generate,
        "upscale": upscale,
        "merge": merge,
        "convert": convert,
        "bench": bench,
        "tune": tune,
        "load": load,
        "unload": unload,
    }
)
