"""A recorded measurement as the report reads it: every field has a type, and what was not recorded is None.

Records outlive the version that wrote them, so nothing but `id`, `at` and `summary` is counted on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hayate.bench.charts import PHASES
from hayate.bench.proof import unproved
from hayate.runtime.asked import asked_of

Record = Mapping[str, object]
LARGEST = 1e18
"""No figure that was measured reaches it, be it in bytes; NaN is not below it either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A figure over several runs."""

    median: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far the picture is from the one that fp32 eager makes; without a PSNR it is identical."""

    psnr_db: float | None
    ssim: float | None
    max_levels: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One switch: what was asked of it, whether it acted, and how that was seen; `has_acted` None: not recorded."""

    name: str
    requested: str
    has_acted: bool | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One decision of the plan."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement."""

    id: str
    at: str
    setting: str
    """Its label, or else what was asked of it."""
    machine: str
    """What the computer is, in one line: measurements with another line are not in the same race."""
    work: str
    """The model and the picture, in one line: so are those with another work."""
    speed: Spread | None
    images: Spread | None
    first_s: float | None
    compile_s: float | None
    phases: Mapping[str, float]
    peak_bytes: float | None
    memory: tuple[tuple[str, float], ...]
    difference: Difference | None
    is_repeated: bool | None
    proofs: tuple[Proof, ...]
    lacking: tuple[str, ...]
    """What was asked for and did not act. Hayate records no such measurement; a file may hold one all the same."""
    choices: tuple[Choice, ...]
    runs: tuple[tuple[str, Mapping[str, float]], ...]
    """"first", then the others by number, each with its seconds and its it/s."""
    facts: tuple[tuple[str, str], ...]
    """The machine's fingerprint and the request, as name and text."""
    notes: tuple[str, ...]

    @property
    def has_liar(self) -> bool:
        """Whether a switch that was asked for did not act."""
        return bool(self.lacking)


def read_row(record: Record) -> Row:
    """The measurement in `record`."""
    memory = tuple((name, size) for name, size in _numbers(record.get("memory")).items())
    return Row(
        id=_text(record.get("id")),
        at=_text(record.get("at")),
        setting=_setting(record),
        machine=_machine(_record(record, "machine")),
        work=_work(_record(record, "model"), _record(record, "work")),
        speed=_spread(_record(record, "summary", "it_per_s")),
        images=_spread(_record(record, "summary", "images_per_minute")),
        first_s=_number(_record(record, "first").get("total")),
        compile_s=_number(record.get("compile_s")),
        phases=_phases(_numbers(_record(record, "summary").get("phases"))),
        peak_bytes=dict(memory).get("peak_bytes"),
        memory=tuple((name.removesuffix("_bytes"), size) for name, size in memory),
        difference=_difference(record.get("difference")),
        is_repeated=_claim(record.get("is_repeated")),
        proofs=tuple(_proof(each) for each in _records(record.get("evidence"))),
        lacking=_lacking(record),
        choices=tuple(_choices(_record(record, "choices"))),
        runs=tuple(_runs(record)),
        facts=tuple(_all_facts(record)),
        notes=tuple(_text(note) for note in _list(record.get("notes"))),
    )


def _setting(record: Record) -> str:
    """The label that somebody gave, or else what they asked for, beyond the plan's own choices."""
    label = _text(record.get("label")).strip()
    asked = ", ".join(f"{name}={_text(value)}" for name, value in _record(record, "asked").items() if value is not None)
    is_tuned = _record(record, "choices", "profile").get("value") == "used"
    return label or asked or ("as tuned" if is_tuned else "as planned")


def _machine(machine: Record) -> str:
    """Processor, memory and accelerators: what makes figures comparable, and not the versions, which are told apart."""
    processor = _record(machine, "processor")
    cores, ram_bytes = _number(processor.get("cores")), _number(processor.get("ram_bytes"))
    gpus = [_text(gpu.get("name")) for gpu in _records(machine.get("gpus"))]
    parts = [
        *gpus,
        _text(processor.get("model")),
        f"{cores:g} {'core' if cores == 1 else 'cores'}" if cores else "",
        f"{ram_bytes / 2**30:.1f} GiB RAM" if ram_bytes else "",
    ]
    return " · ".join(part for part in parts if part) or "unknown machine"


def _work(model: Record, work: Record) -> str:
    name = " ".join([_text(model.get("name")), f"[{_text(model.get('hash'))}]" if model.get("hash") else ""]).strip()
    width, height = _number(work.get("width_px")), _number(work.get("height_px"))
    batch, steps = _number(work.get("batch_size")), _number(work.get("steps"))
    how = f"{_text(work.get('sampler'))} {_text(work.get('schedule'))}".strip()
    parts = [
        (name or "unknown model") + (" (random weights)" if model.get("is_random") is True else ""),
        _text(model.get("family")),
        f"{width:g}×{height:g} px" if width and height else "",
        f"batch of {batch:g}" if batch else "",
        f"{steps:g} steps" if steps else "",
        how,
        f"CFG {_text(work.get('cfg'))}" if _number(work.get("cfg")) is not None else "",
    ]
    return " · ".join(part for part in parts if part)


def _spread(record: Record) -> Spread | None:
    median = _number(record.get("median"))
    if median is None:
        return None
    return Spread(median=median, low=_number(record.get("low")), high=_number(record.get("high")))


def _phases(numbers: Mapping[str, float]) -> dict[str, float]:
    """The phases that take time, in their order."""
    return {name: numbers[name] for name in PHASES if numbers.get(name, -1.0) >= 0}


def _difference(value: object) -> Difference | None:
    if not isinstance(value, Mapping):
        return None
    numbers = _numbers(value)
    return Difference(psnr_db=numbers.get("psnr_db"), ssim=numbers.get("ssim"), max_levels=numbers.get("max_levels"))


def _proof(record: Record) -> Proof:
    return Proof(
        name=_text(record.get("name")),
        requested=_text(record.get("requested")),
        has_acted=_claim(record.get("active")),
        detail=_text(record.get("detail")),
    )


def _lacking(record: Record) -> tuple[str, ...]:
    """By the rule that decides what is recorded; of options that this Hayate does not know, nothing can be said."""
    evidence: list[Any] = [
        each for each in _records(record.get("evidence")) if {"name", "requested", "active"} <= set(each)
    ]
    choices = {name: value for name, value in _record(record, "choices").items() if isinstance(value, Mapping)}
    try:
        return tuple(unproved(asked_of(_record(record, "asked")), {"dtype": {}, "choices": choices}, evidence))
    except (TypeError, KeyError):
        return ()


def _runs(record: Record) -> list[tuple[str, Mapping[str, float]]]:
    first = [("first", _record(record, "first"))]
    others = [(str(index), each) for index, each in enumerate(_records(record.get("runs")), start=1)]
    return [(name, numbers) for name, run in [*first, *others] if (numbers := _numbers(run))]


def _choices(choices: Record) -> list[Choice]:
    return [
        Choice(name=name, value=_text(each.get("value")), reason=_text(each.get("reason")))
        for name, each in choices.items()
        if isinstance(each, Mapping)
    ]


def _all_facts(record: Record) -> list[tuple[str, str]]:
    request = {"preset": record.get("preset"), "infotext": _record(record, "work").get("infotext")}
    asked = {f"asked {name}": value for name, value in _record(record, "asked").items()}
    return _facts("", {**_record(record, "machine"), **asked, **request})


def _facts(path: str, value: object) -> list[tuple[str, str]]:
    """A nested value as lines: `processor model`, "…"; parts of a list are counted from 1."""
    if isinstance(value, list | tuple):
        value = {str(index): each for index, each in enumerate(value, start=1)}
    if not isinstance(value, Mapping):
        return [] if value is None else [(path, _text(value))]
    return [fact for name, each in value.items() for fact in _facts(f"{path} {name}".strip(), each)]


def _record(record: Record, *path: str) -> Record:
    """What lies at `path`, or an empty record when something on the way is missing."""
    here: object = record
    for name in path:
        here = here.get(name) if isinstance(here, Mapping) else None
    return here if isinstance(here, Mapping) else {}


def _records(value: object) -> list[Record]:
    return [each for each in _list(value) if isinstance(each, Mapping)]


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()


def _numbers(value: object) -> dict[str, float]:
    """The finite numbers of a record."""
    found = {name: _number(each) for name, each in value.items()} if isinstance(value, Mapping) else {}
    return {str(name): each for name, each in found.items() if each is not None}


def _number(value: object) -> float | None:
    """A number that can be drawn; nothing for anything else, such as true, NaN and what no machine measures."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LARGEST else None


def _claim(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: object) -> str:
    """Text as it is, nothing for None, and what else a record may hold as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
