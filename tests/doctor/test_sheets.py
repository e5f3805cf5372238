"""Recorded machines get the advice that the speed-up page gives, and none that is not for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hayate.doctor.catalogue import CHECKS
from hayate.doctor.diagnose import as_object, diagnose, fine, is_serious
from hayate.doctor.facts import Facts
from hayate.doctor.finding import Certainty, Finding, Severity
from hayate.doctor.sheet import as_json, read_sheet, write_sheet
from hayate.errors import UsageError

SHEETS = Path(__file__).parent / "sheets"
NAMES = tuple(sorted(path.stem for path in SHEETS.glob("*.json")))


def found(name: str) -> dict[str, Finding]:
    return {finding.check: finding for finding in diagnose(read_sheet(SHEETS / f"{name}.json"))}


def test_the_laptop_is_told_what_windows_costs_it() -> None:
    said = found("windows_laptop_3060")
    assert set(said) == {
        "power mode",
        "system-memory fallback",
        "GPU scheduling",
        "stored in fp32",
        "slow extensions",
        "pickles",
        "NaN in fp16",
        "taken port",
        "compile toolchain",
        "Windows itself",
        "untuned",
        "attention packages",
        "held memory",
        "unpruned",
        "unneeded packages",
    }
    assert "HwSchMode /t REG_DWORD /d 1" in said["GPU scheduling"].fix.command
    assert "restart" in said["GPU scheduling"].fix.needs
    assert said["GPU scheduling"].gain.certainty is Certainty.MEASURED_ELSEWHERE
    assert "Prefer No Sysmem Fallback" in said["system-memory fallback"].fix.text
    assert "sd-dreambooth (6.4 s)" in said["slow extensions"].found
    assert "old-controlnet" not in said["slow extensions"].found  # it is disabled already
    assert said["pickles"].fix.actions
    assert "anything-v3-full.ckpt" in said["pickles"].found
    assert "v1-5-pruned.safetensors --dtype fp16" in said["stored in fp32"].fix.command
    assert "insightface, onnxruntime-gpu" in said["unneeded packages"].found
    assert "bake" in said["NaN in fp16"].fix.command
    assert not is_serious(list(said.values()))


def test_six_gigabytes_may_be_offloaded_and_eight_lanes_are_no_fault() -> None:
    said = found("windows_laptop_3060")
    assert not set(said) & {"needless offloading", "narrow PCIe", "old driver", "CPU-only torch", "no swap", "old card"}


def test_the_4090_in_wsl_is_told_of_cudnn_scheduling_and_windows_disk() -> None:
    said = found("wsl2_4090_old_cudnn")
    assert set(said) == {
        "unmet requirements",
        "two torches",
        "attention in slices",
        "old cuDNN",
        "GPU scheduling",
        "power limit",
        "stale profile",
        "models on Windows' disk",
        "compile toolchain",
    }
    assert "8.5.0" in said["old cuDNN"].found
    assert "8.6" in said["old cuDNN"].found
    assert "1.7 ×" in said["old cuDNN"].gain.text
    assert "38.1 s → 22.2 s" in said["old cuDNN"].gain.source
    assert "315 W of its usual 450 W" in said["power limit"].found
    assert "182 MB/s" in said["models on Windows' disk"].found
    assert said["models on Windows' disk"].gain.certainty is Certainty.MEASURED_HERE
    assert "torch 2.13.0+cu126 is now 1.13.1+cu117" in said["stale profile"].found
    assert said["unmet requirements"].severity is Severity.SERIOUS


def test_the_torch_that_is_offered_runs_with_the_driver_that_is_there() -> None:
    assert "whl/cu126" in found("wsl2_4090_old_cudnn")["old cuDNN"].fix.command  # CUDA 13 needs a driver from 580 on


def test_twenty_four_gigabytes_seldom_overflow() -> None:
    said = found("wsl2_4090_old_cudnn")
    assert not set(said) & {
        "system-memory fallback",
        "card without kernels",
        "held memory",
        "Windows itself",
        "RAM disk",
    }


def test_the_1080_needs_a_torch_that_still_knows_it() -> None:
    said = found("gtx_1080")
    assert set(said) == {
        "card without kernels",
        "full disk",
        "attention in slices",
        "needless offloading",
        "system-memory fallback",
        "slow disk",
        "fp32 on a GPU",
        "old card",
        "untuned",
    }
    assert said["card without kernels"].severity is Severity.SERIOUS
    assert said["card without kernels"].fix.command == "py launch.py --reinstall-torch --exit"
    assert "CUDA 12.6" in said["card without kernels"].fix.text
    assert "sm_61" in said["card without kernels"].found
    assert "memory" in said["fp32 on a GPU"].gain.text  # no promise of speed: it has no fast fp16


def test_the_1080_is_not_told_of_what_it_can_not_use() -> None:
    said = found("gtx_1080")
    assert not set(said) & {"compile toolchain", "GPU scheduling", "old cuDNN", "Windows itself", "no swap"}


def test_the_h200_is_told_that_a_ram_disk_is_pointless_and_nothing_else() -> None:
    said = found("headless_h200")
    assert set(said) == {"RAM disk", "untuned"}
    assert "13.9 GB of 137.4 GB" in said["RAM disk"].gain.text  # the container's memory, not the machine's 2 TB


def test_the_mac_hears_nothing_of_cuda() -> None:
    said = found("mac_m2")
    assert set(said) == {"duplicates", "NaN in fp16", "untuned"}
    assert "counterfeit.safetensors = counterfeit (1).safetensors" in said["duplicates"].found
    assert "2.1 GB" in said["duplicates"].gain.text


@pytest.mark.parametrize("name", NAMES)
def test_a_sheet_comes_back_as_it_was_written(name: str, tmp_path: Path) -> None:
    facts = read_sheet(SHEETS / f"{name}.json")
    write_sheet(facts, tmp_path / "again.json")
    assert read_sheet(tmp_path / "again.json") == facts
    assert json.loads((tmp_path / "again.json").read_text()) == as_json(facts)


@pytest.mark.parametrize("name", NAMES)
def test_every_finding_says_all_that_it_must(name: str) -> None:
    facts = read_sheet(SHEETS / f"{name}.json")
    findings = diagnose(facts)
    for each in findings:
        assert each.found
        assert each.why.endswith(".")
        assert each.gain.text
        assert each.fix.text.endswith(".")
        if each.gain.certainty is Certainty.MEASURED_ELSEWHERE:
            assert each.gain.source, f"{each.check}: measured by whom?"
    assert [each.rank for each in findings] == sorted(each.rank for each in findings)
    assert len(findings) + len(fine(findings)) == len(CHECKS)
    assert json.loads(json.dumps(as_object(facts, findings)))["findings"][0]["check"] == findings[0].check


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda sheet: sheet["processor"].update(modell="x"), "processor.modell"),
        (lambda sheet: sheet["system"].update(os="BeOS"), "system.os"),
        (lambda sheet: sheet.pop("memory"), "memory"),
        (lambda sheet: sheet["cards"].append({}), "cards.1.name"),
        (lambda sheet: sheet.update(version=99), "version 99"),
    ],
)
def test_a_sheet_that_makes_no_sense_is_refused_by_the_field(change, place: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sheet = json.loads((SHEETS / "headless_h200.json").read_text())
    change(sheet)
    path = tmp_path / "sheet.json"
    path.write_text(json.dumps(sheet))
    with pytest.raises(UsageError, match=place):
        read_sheet(path)


@pytest.mark.parametrize("content", [b"", b"[", b"[]", b"\xff\xfe", b"null", b'{"version": 1}'])
def test_what_is_no_sheet_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "sheet.json"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        read_sheet(path)


def test_no_sheet_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.json"):
        read_sheet(tmp_path / "nothing.json")


def test_the_sheets_of_the_five_machines_are_here() -> None:
    assert set(NAMES) >= {"windows_laptop_3060", "wsl2_4090_old_cudnn", "gtx_1080", "headless_h200", "mac_m2"}
    assert all(isinstance(read_sheet(SHEETS / f"{name}.json"), Facts) for name in NAMES)
