"""The Python environment as extensions may add to it: nothing that is there is changed by them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hayate.errors import UsageError, clip

if TYPE_CHECKING:
    from importlib.metadata import Distribution

_ONLY_WHEELS = ("--only-binary", ":all:")
"""A source distribution would run its own code to say what it needs."""
MAX_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package in a version."""

    name: str
    version: str

    @property
    def pin(self) -> str:
        return f"{self.name}=={self.version}"


class Environment:
    """An interpreter's packages, and pip for it."""

    def __init__(self, python: Path | None = None, sites: Sequence[Path] = ()) -> None:
        """By default the interpreter that runs this; of another one `sites` are the folders of its packages."""
        self._python = python
        self._sites = [str(site) for site in sites]

    def packages(self) -> dict[str, Package]:
        """What is installed, by its name as pip compares names."""
        found = (Package(name=each.name, version=each.version) for each in self._distributions())
        return {canonical(package.name): package for package in found}

    def requirements(self) -> dict[str, tuple[str, ...]]:
        """What each of them needs, as pip reads it."""
        return {canonical(each.name): tuple(each.requires or ()) for each in self._distributions()}

    def added_by(self, requirements: Sequence[str]) -> tuple[Package, ...]:
        """What installing these would add, tried out without touching anything.

        Raises: UsageError where it would change a package that is there, or can't be had.
        """
        if not requirements:
            return ()
        here = self.packages()
        answer = self._resolve(requirements)
        if isinstance(answer, str):
            raise UsageError(f"pip can't get what it needs: {_reason(answer)}", hint="nothing was touched")
        if changes := _changes(answer, here):
            with _pinned(here) as pins:  # older versions of what it needs may fit
                answer = self._resolve([*requirements, "--constraint", str(pins)])
            if isinstance(answer, str):
                message = f"it is not installed: it would change {_joined(changes)}"
                raise UsageError(message, hint="nothing was touched; ask its author for a version that fits")
        return tuple(package for package in answer if canonical(package.name) not in here)

    def install(self, packages: Sequence[Package], files: Sequence[Path] = ()) -> None:
        """Installs exactly these. Raises: UsageError; pip has undone what it had done."""
        words = [*(package.pin for package in packages), *map(str, files)]
        if not words:
            return
        done = self._run("install", "--no-deps", *_ONLY_WHEELS, *words)
        if done.returncode:
            raise UsageError(f"pip failed: {_reason(done.stderr)}", hint="what it had done is undone")

    def remove(self, *names: str) -> None:
        """Raises: UsageError."""
        done = self._run("uninstall", "--yes", *names)
        if done.returncode:
            raise UsageError(f"pip failed: {_reason(done.stderr)}", hint=f"pip uninstall {' '.join(names)}")

    def _distributions(self) -> Iterator[Distribution]:
        from importlib.metadata import distributions  # only now: it takes longer to import than a list takes to make

        here = distributions(path=self._sites) if self._sites else distributions()
        return (each for each in here if each.name)

    def _resolve(self, words: Sequence[str]) -> tuple[Package, ...] | str:
        """What pip would install, or what it said instead."""
        with tempfile.TemporaryDirectory(prefix="hayate-pip-") as folder:
            report = Path(folder, "report.json")
            done = self._run("install", "--dry-run", "--quiet", "--report", str(report), *_ONLY_WHEELS, *words)
            if done.returncode:
                return done.stderr or "it gave no reason"
            rows: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
        return tuple(Package(name=row["metadata"]["name"], version=row["metadata"]["version"]) for row in rows)

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        other = () if self._python is None else ("--python", str(self._python))
        command = [sys.executable, "-m", "pip", *other, *words]
        environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "NO_COLOR": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def canonical(name: str) -> str:
    """A package's name as pip compares it. Source: PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _changes(wanted: Sequence[Package], here: Mapping[str, Package]) -> list[str]:
    """What of the installed packages would become another version, torch first."""
    names = {canonical(package.name): package for package in wanted}
    changed = [name for name in names if name in here and here[name].version != names[name].version]
    changed.sort(key=lambda name: (name != "torch", name))
    return [f"{here[name].name} {here[name].version} to {names[name].version}" for name in changed]


@contextmanager
def _pinned(packages: Mapping[str, Package]) -> Iterator[Path]:
    """A file of constraints that keeps everything as it is."""
    with tempfile.TemporaryDirectory(prefix="hayate-pins-") as folder:
        file = Path(folder, "constraints.txt")
        file.write_text("".join(f"{package.pin}\n" for package in packages.values()), encoding="utf-8")
        yield file


def _joined(changes: Sequence[str]) -> str:
    more = len(changes) - MAX_SHOWN
    return ", ".join(changes[:MAX_SHOWN]) + (f" and {more} others" if more > 0 else "")


def _reason(output: str) -> str:
    """The line of pip's that says why."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return clip((errors or lines or ["it gave no reason"])[0], 200)
