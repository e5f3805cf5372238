"""benchmarks/LEADERBOARD.md from benchmarks/results: python -m benchmarks.competitors.leaderboard."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "results"
PAGE = Path(__file__).parent.parent / "LEADERBOARD.md"
_STEP_SETTINGS = {
    "hayate": "as it computes when nothing is asked",
    "eager": "its networks in plain PyTorch",
    "diffusers": "eager, contiguous",
    "diffusers-last": "eager, channels-last",
}
_HEAD = (
    "Who",
    "Version",
    "Setting",
    "s/step (range)",
    "÷ Hayate",
    "Decode s",
    "Start → loaded s",
    "Peak GB",
    "Machine",
    "Date",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contender of one run."""

    who: str
    version: str
    setting: str
    step_s: tuple[float, ...]
    decode_s: tuple[float, ...]
    ratio: float
    """Median of the rounds' ratios to Hayate's step in the same run; more is slower."""
    start_s: float | None
    peak_bytes: int | None
    machine: str
    date: str


def page(results: Path = RESULTS) -> str:
    """The whole page, one table for each file of results."""
    sections = [
        _section(path) for path in sorted(results.glob("*.json")) if path.name.startswith(("competitors-", "step-"))
    ]
    return "\n".join([_INTRODUCTION, *sections])


_INTRODUCTION = """# Leaderboard

Written by `python -m benchmarks.competitors.leaderboard` from `benchmarks/results/`. Full-size SD1.5 of random weights
at 512×512: a step is the U-Net on two latents (with guidance), a decode one picture. The contenders of a table took
turns in one run, so that ratios within it are fair; from one table to another machines, days and versions differ.
Seconds are medians of the rounds, with the fastest and the slowest.
"""


def rows(result: Mapping[str, Any]) -> list[Row]:
    """The contenders of a run, fastest step first. Both kinds of files hold the same under other names."""
    contenders = list(_contenders(result))
    own = next(each["seconds"]["step"] for each in contenders if each["name"] == "hayate")
    found = [
        Row(
            who=each["name"],
            version=each["version"],
            setting=each["setting"],
            step_s=tuple(each["seconds"]["step"]),
            decode_s=tuple(each["seconds"].get("decode", ())),
            ratio=statistics.median(theirs / ours for theirs, ours in zip(each["seconds"]["step"], own, strict=True)),
            start_s=each.get("start_s"),
            peak_bytes=each.get("peak_bytes"),
            machine=_machine(result["machine"]),
            date=result.get("date", "–"),
        )
        for each in contenders
    ]
    return sorted(found, key=lambda row: statistics.median(row.step_s))


def _contenders(result: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "contenders" in result:
        yield from result["contenders"]
        return
    versions = result["machine"]["versions"]
    for name, seconds in result["seconds"].items():
        package = name.partition("-")[0] if name.startswith("diffusers") else "hayate"
        version = f"{package} {versions[package]} torch {versions['torch']}"
        setting = f"{result['dtype']}, {_STEP_SETTINGS[name]}"
        yield {"name": name, "version": version, "setting": setting, "seconds": seconds, **result["about"][name]}


def _section(path: Path) -> str:
    result = json.loads(path.read_text(encoding="utf-8"))
    lines = [_HEAD, ("---",) * len(_HEAD), *map(_cells, rows(result))]
    left_out = [f"- {name}: {reason}" for name, reason in result.get("skipped", {}).items()]
    note = ["", "Left out:", *left_out] if left_out else []
    return "\n".join([f"## {path.name}", "", *(f"| {' | '.join(line)} |" for line in lines), *note, ""])


def _cells(row: Row) -> tuple[str, ...]:
    name = f"**{row.who}**" if row.who == "hayate" else row.who
    decode = f"{statistics.median(row.decode_s):.2f}" if row.decode_s else "–"
    start = "–" if row.start_s is None else f"{row.start_s:.1f}"
    peak = "–" if row.peak_bytes is None else f"{row.peak_bytes / 1e9:.1f}"
    return (
        name,
        row.version,
        row.setting,
        _ranged(row.step_s),
        f"{row.ratio:.2f}",
        decode,
        start,
        peak,
        row.machine,
        row.date,
    )


def _ranged(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f})"


def _machine(about: Mapping[str, Any]) -> str:
    processor = about["processor"]
    return f"{processor['model']}, {processor['cores']} cores"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
