"""The disks below the folders: where they are, how fast, and how full."""

from __future__ import annotations

from hayate.doctor.checks.memory import disk_bytes_per_s
from hayate.doctor.facts import Facts
from hayate.doctor.figures import quoted, seconds, size
from hayate.doctor.finding import Action, Certainty, Finding, Fix, Gain, Job, Kind, Severity

_FEW_BYTES = 2e9
_FULL_BYTES = 200e6


def windows_mount(facts: Facts) -> Finding | None:
    """Models on Windows' disk, read from inside WSL2."""
    models = facts.folder("models")
    if models is None or not models.is_windows_mount:
        return None
    largest = max((each.size_bytes for each in facts.models), default=2_130_000_000)
    rate = models.read_bytes_per_s if models.was_cached is False else None
    measured = f", measured {size(rate)}/s" if rate else ""
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"the models lie on Windows' disk ({models.path}), seen through {models.filesystem or '9p'}{measured}",
        why=f"Every byte goes through a file server between Windows and Linux; {size(largest)} take "
        f"{seconds(largest / (rate or 200e6))}, on WSL's own disk about {seconds(largest / 2e9)}.",
        gain=Gain(
            kind=Kind.LOADING,
            text=f"about {2e9 / (rate or 200e6):.0f} × for loading",
            certainty=Certainty.MEASURED_HERE if rate else Certainty.MEASURED_ELSEWHERE,
            source="the models' folder, read" if rate else "microsoft/WSL#4197 and its answers",
            times=2e9 / (rate or 200e6),
        ),
        fix=Fix(
            text="Copy the models into WSL's own disk and point models_dir there.",
            command=f"mkdir -p ~/models && cp -r {quoted(models.path)} ~/models/",
        ),
    )


def slow_disk(facts: Facts) -> Finding | None:
    """Models on a hard disk or on the network."""
    models, rate = facts.folder("models"), disk_bytes_per_s(facts)
    if models is None or rate is None or models.is_windows_mount or rate > 400e6 or not facts.models:
        return None
    largest = max(each.size_bytes for each in facts.models)
    kind = {"hdd": "a hard disk", "network": "a network disk"}.get(models.disk or "", "a slow disk")
    is_measured = models.read_bytes_per_s is not None and models.was_cached is False
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"the models lie on {kind}"
        + (f", which gave {size(rate)}/s" if is_measured else f", which gives {size(rate)}/s at best"),
        why=f"The first load after a start takes {seconds(largest / rate)} for {size(largest)}; an SSD of 2 GB/s "
        f"{seconds(largest / 2e9)}.",
        gain=Gain(
            kind=Kind.LOADING,
            text=f"{2e9 / rate:.0f} × for loading what is not in memory yet",
            certainty=Certainty.MEASURED_HERE if is_measured else Certainty.REASONED,
            source="the models' folder, read" if is_measured else f"a usual {models.disk} disk",
            times=2e9 / rate,
        ),
        fix=Fix(text="Move the checkpoints in use to an SSD and point models_dir there; a link per file does as well."),
    )


def missing_folder(facts: Facts) -> Finding | None:
    """A folder of the settings that is not there or can't be written."""
    outputs, models = facts.folder("outputs"), facts.folder("models")
    if outputs is not None and outputs.is_there and outputs.is_writable is False:
        return Finding(
            severity=Severity.SERIOUS,
            found=f"pictures can't be written to {outputs.path}",
            why="Every picture would be computed and not saved.",
            gain=Gain(kind=Kind.WORKS, text="pictures are saved", certainty=Certainty.MEASURED_HERE, source="tried"),
            fix=Fix(text="Give yourself the right to write there, or set outputs_dir."),
        )
    gone = next((folder for folder in (models,) if folder is not None and not folder.is_there), None)
    if gone is None:
        return None
    return Finding(
        severity=Severity.MINOR,
        found=f"there is no folder {gone.path} ({gone.role})",
        why="Only the built-in model is there; yours are looked for in the setting models_dir.",
        gain=Gain(kind=Kind.WORKS, text="models are found", certainty=Certainty.MEASURED_HERE, source="looked"),
        fix=Fix(
            text="Make it and put .safetensors files there, or set models_dir to where they are.",
            actions=(Action(job=Job.MAKE_FOLDER, subject=gone.path),),
        ),
    )


def full_disk(facts: Facts) -> Finding | None:
    """Little room where pictures, caches and measurements go."""
    known = [folder for folder in facts.folders if folder.free_bytes is not None and folder.role != "models"]
    fullest = min(known, key=lambda folder: folder.free_bytes or 0, default=None)
    if fullest is None or fullest.free_bytes is None or fullest.free_bytes > _FEW_BYTES:
        return None
    is_full = fullest.free_bytes < _FULL_BYTES
    return Finding(
        severity=Severity.SERIOUS if is_full else Severity.WORTHWHILE,
        found=f"{size(fullest.free_bytes)} are free below {fullest.path} ({fullest.role})",
        why=f"That is room for about {fullest.free_bytes / 1.6e6:.0f} pictures of 1024×1024, and for no compiled step.",
        gain=Gain(
            kind=Kind.WORKS, text="the next pictures are saved", certainty=Certainty.MEASURED_HERE, source="the disk"
        ),
        fix=Fix(text=f"Make room, or set {fullest.role}_dir to another disk."),
    )
