"""Where the time of a start goes: its phases, and with `--profile` every module that was imported."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from hayate.extensions.current import current
from hayate.extensions.listing import rows_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportCost:
    """What importing one module took."""

    module: str
    own_s: float
    whole_s: float
    """With everything that it imported first."""
    depth: int


class Startup:
    """Phases of a start, one after another; the first began when the process did."""

    def __init__(self) -> None:
        self._mark_s = time.time()
        self.phases: dict[str, float] = {"interpreter": max(0.0, self._mark_s - process_start_s())}
        self.imports: list[ImportCost] = []
        self.ready_s: float | None = None

    def phase(self, name: str) -> None:
        """What happened since the phase before was `name`."""
        now_s = time.time()
        self.phases[name] = self.phases.get(name, 0.0) + now_s - self._mark_s
        self._mark_s = now_s

    def ready(self) -> None:
        """The page answers from now on."""
        self.ready_s = time.time() - process_start_s()

    def line(self) -> str:
        """One line, as A1111 prints it."""
        parts = ", ".join(f"{name}: {seconds:.2f}s" for name, seconds in self.phases.items() if seconds >= 0.005)
        return f"Startup time: {self.total_s:.2f}s ({parts})."

    @property
    def total_s(self) -> float:
        return sum(self.phases.values()) if self.ready_s is None else self.ready_s

    def as_object(self, worker_s: Mapping[str, float]) -> dict[str, Any]:
        """For /internal/profile-startup: A1111's keys, then the worker's phases and the imports, the dearest first."""
        records = {**self.phases, **{f"worker/{name}": seconds for name, seconds in worker_s.items()}}
        rows, _ = rows_of(current())
        records |= {f"extension/{row.name}": row.import_s for row in rows if row.import_s and row.state == "on"}
        dearest = sorted(self.imports, key=lambda each: -each.own_s)
        return {
            "total": self.total_s,
            "records": records,
            "imports": [{"module": each.module, "own": each.own_s, "whole": each.whole_s} for each in dearest],
        }

    def tree(self, least_s: float = 0.005) -> str:
        """The imports that took longest, each under the one that wanted it."""
        rows = [each for each in self.imports if each.whole_s >= least_s]
        return "\n".join(
            f"{each.whole_s * 1000:8.1f} ms {each.own_s * 1000:8.1f} ms own  {'  ' * each.depth}{each.module}"
            for each in rows
        )


class ImportTimer(importlib.abc.MetaPathFinder):
    """Times every module that is imported after it was put before the other finders."""

    def __init__(self, startup: Startup) -> None:
        self._startup = startup
        self._open: list[float] = []
        """For each module that is being imported: the seconds of what it has imported so far."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec that the other finders give, with a loader that looks at the clock."""
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if isinstance(spec.loader, importlib.machinery.SourceFileLoader):
                    spec.loader.exec_module = self._timed(fullname, spec.loader.exec_module)
                return spec
        return None

    def _timed(self, name: str, execute: Any) -> Any:
        def exec_module(module: ModuleType) -> None:
            place = len(self._startup.imports)
            self._startup.imports.append(ImportCost(module=name, own_s=0, whole_s=0, depth=len(self._open)))
            self._open.append(0.0)
            started_s = time.perf_counter()
            try:
                execute(module)
            finally:
                whole_s = time.perf_counter() - started_s
                own_s = whole_s - self._open.pop()
                if self._open:
                    self._open[-1] += whole_s
                self._startup.imports[place] = ImportCost(
                    module=name, own_s=own_s, whole_s=whole_s, depth=len(self._open)
                )

        return exec_module


def process_start_s() -> float:
    """When this process began, in seconds since 1970."""
    import psutil

    return psutil.Process().create_time()
