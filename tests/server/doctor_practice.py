"""A doctor for tests: it sees the machine of a sheet, and what is changed in a folder of the test's."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from hayate.doctor.facts import Extension, Facts
from hayate.doctor.finding import Finding, Job
from hayate.doctor.fixing import Report, Tell, fix, remedies, undo
from hayate.doctor.remedies.base import Remedy
from hayate.doctor.sheet import read_sheet
from hayate.doctor.undo import Ledger
from hayate.extensions.state import StateFile
from hayate.settings import load_settings

SHEETS = Path(__file__).parents[1] / "doctor" / "sheets"


@cache
def sheet(name: str) -> Facts:
    return read_sheet(SHEETS / f"{name}.json")


class SheetPractice:
    """Sees a recorded machine; what it is told to change it only says it did."""

    def __init__(self, name: str = "windows_laptop_3060") -> None:
        self.facts = sheet(name)
        self.looks = 0
        self.may_look = threading.Event()
        self.may_look.set()

    def gather(self) -> Facts:
        self.looks += 1
        assert self.may_look.wait(10)
        return self.facts

    def fix(self, findings: Sequence[Finding], data_dir: Path, tell: Tell) -> tuple[Report, ...]:
        del data_dir
        reports = tuple(Report(check=each.check, text="it is said to be done", is_done=True) for each in findings)
        for each in reports:
            tell(each)
        return reports

    def undo(self, only: Sequence[str], data_dir: Path, tell: Tell) -> tuple[Report, ...]:
        del only, data_dir, tell
        return ()


class FolderPractice(SheetPractice):
    """Really changes a settings file and a data folder, and sees that; everything else is the sheet's."""

    def __init__(self, settings_file: Path, data_dir: Path, name: str = "mac_m2") -> None:
        super().__init__(name)
        self.settings_file = settings_file
        self.data_dir = data_dir
        self.may_act = threading.Event()
        self.may_act.set()

    def gather(self) -> Facts:
        facts = super().gather()
        dtype = load_settings(file=self.settings_file, environment={}).dtype
        changed = {} if dtype == "auto" else {"dtype": dtype}
        off = "slow-one" in StateFile(self.data_dir).read().disabled
        slow = Extension(name="slow-one", import_ms=1500.0, is_disabled=off)
        return replace(
            facts,
            processor=replace(facts.processor, features=("avx512f", "avx512_bf16")),
            cards=(),
            wishes=replace(facts.wishes, settings=changed),
            extensions=(slow,),
        )

    def fix(self, findings: Sequence[Finding], data_dir: Path, tell: Tell) -> tuple[Report, ...]:
        assert self.may_act.wait(10)
        return fix(findings, self._known(data_dir), Ledger(data_dir), tell)

    def undo(self, only: Sequence[str], data_dir: Path, tell: Tell) -> tuple[Report, ...]:
        assert self.may_act.wait(10)
        return undo(self._known(data_dir), Ledger(data_dir), tell, only)

    def _known(self, data_dir: Path) -> Mapping[Job, Remedy]:
        return remedies(data_dir, {"HAYATE_CONFIG": str(self.settings_file)})
