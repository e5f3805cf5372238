"""Which function does which kind of job."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hayate.jobs.tasks.generate import generate
from hayate.jobs.tasks.load import load, unload
from hayate.jobs.tasks.station import Task

TASKS: Mapping[str, Task] = MappingProxyType({"generate": generate, "load": load, "unload": unload})
