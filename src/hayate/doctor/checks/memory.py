"""Main memory: whether models fit, what the page cache keeps, and whether a RAM disk would help."""

from __future__ import annotations

from hayate.doctor.facts import Facts, Folder
from hayate.doctor.figures import counted, seconds, size
from hayate.doctor.finding import Action, Certainty, Finding, Fix, Gain, Job, Kind, Severity

_SPARE_BYTES = 4 * 10**9
"""What the system, the browser and Python want beside models."""
_SLOW_BYTES_PER_S = {"hdd": 150e6, "network": 110e6}
"""What such disks give at best, where nothing was measured."""
_COPY_BYTES_PER_S = 10e9


def swapping(facts: Facts) -> Finding | None:
    """Memory that is already on the disk while little is free."""
    memory = facts.memory
    if memory.swap_used_bytes < 1e9 or memory.available_bytes > 0.25 * memory.usable_bytes:
        return None
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"{size(memory.swap_used_bytes)} are swapped out, and {size(memory.available_bytes)} of memory are free",
        why="Weights that come back from the disk make the first steps, and every change of model, many times slower.",
        gain=Gain(
            kind=Kind.LOADING,
            text="10 × for what was swapped out",
            certainty=Certainty.REASONED,
            source="memory against an SSD",
            times=10,
        ),
        fix=Fix(text="Close programs, or keep fewer checkpoints in memory (checkpoints_cache_bytes)."),
    )


def no_room_to_overflow(facts: Facts) -> Finding | None:
    """Too little memory for the largest model, and no swap."""
    memory, largest = facts.memory, _largest_bytes(facts)
    if facts.system.os == "macOS" or not largest or memory.swap_bytes > 2e9:
        return None
    if memory.usable_bytes > 2 * largest + _SPARE_BYTES:
        return None
    what = "page file" if facts.system.os == "Windows" else "swap"
    fix = {
        "Windows": "Let Windows manage the page file: sysdm.cpl › Advanced › Performance › Virtual memory.",
        "Linux": "Add a swap file of 16 GB.",
    }
    command = (
        "sudo fallocate -l 16G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile"
    )
    is_linux = facts.system.os == "Linux" and not facts.system.is_container
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"there is no {what}, {size(memory.usable_bytes)} of memory, and a model of {size(largest)}",
        why="Where memory ends, Windows refuses to load libraries and Linux ends the process.",
        gain=Gain(
            kind=Kind.WORKS,
            text="a full memory is slow instead of the end",
            certainty=Certainty.MEASURED_ELSEWHERE,
            source="AUTOMATIC1111/stable-diffusion-webui#2180 and others",
        ),
        fix=Fix(
            text=fix[facts.system.os],
            command=command if is_linux else "",
            needs="an administrator",
        ),
    )


def ram_disk(facts: Facts) -> Finding | None:
    """Models on a RAM disk: it takes for good the memory that the page cache would lend."""
    models = facts.folder("models")
    if models is None or models.disk != "memory":
        return None
    held = sum(each.size_bytes for each in facts.models if each.form == "safetensors")
    if not held:
        return None
    return Finding(
        severity=Severity.MINOR,
        found=f"{size(held)} of models lie on a RAM disk ({models.filesystem or 'memory'})",
        why="Files that were read once stay in the page cache anyway and are mapped from there; a RAM disk only adds "
        "that they can't make room, and are gone after a restart.",
        gain=Gain(
            kind=Kind.MEMORY,
            text=f"{size(held)} of {size(facts.memory.usable_bytes)} that can be lent; loading stays as fast",
            certainty=Certainty.MEASURED_ELSEWHERE,
            source="README: a 2.1 GB file from the page cache is loaded in 0.10 s, as fast as reading it",
        ),
        fix=Fix(text="Keep the models on an SSD and point models_dir there."),
    )


def models_kept(facts: Facts) -> Finding | None:
    """Models on a slow disk, and room in memory for those that are used in turns."""
    models, rate = facts.folder("models"), disk_bytes_per_s(facts)
    sizes = sorted((each.size_bytes for each in facts.models if each.kind == "checkpoint"), reverse=True)
    if models is None or rate is None or rate > 400e6 or len(sizes) < 2:
        return None
    room = facts.memory.available_bytes - sizes[0] - _SPARE_BYTES
    set_bytes = int(facts.wishes.settings.get("checkpoints_cache_bytes", 4 * 2**30))
    wanted = min(sum(sizes[1:]), room)
    if wanted < sizes[-1] or wanted <= set_bytes:
        return None
    fit = sum(1 for index in range(1, len(sizes)) if sum(sizes[1 : index + 1]) <= wanted)
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"{counted(len(sizes), 'checkpoint')} on a disk of {size(rate)}/s, and {size(room)} of memory to spare",
        why=f"A change of model reads {size(sizes[0])} in {seconds(sizes[0] / rate)}; kept in memory it is a copy of "
        f"{seconds(sizes[0] / _COPY_BYTES_PER_S)}. A RAM disk would need the same memory and a copy at every start.",
        gain=Gain(
            kind=Kind.LOADING,
            text=f"{_COPY_BYTES_PER_S / rate:.0f} × for a change to one of {counted(fit + 1, 'kept checkpoint')}",
            certainty=Certainty.MEASURED_HERE if models.read_bytes_per_s else Certainty.REASONED,
            source="the models' folder, read" if models.read_bytes_per_s else f"a usual {models.disk}",
            times=_COPY_BYTES_PER_S / rate,
        ),
        fix=Fix(
            text="Let Hayate keep more checkpoints in memory.",
            actions=(Action(job=Job.WRITE_SETTING, subject="checkpoints_cache_bytes", value=str(wanted)),),
        ),
    )


def disk_bytes_per_s(facts: Facts) -> float | None:
    """What the disk of the models gives: measured where it was read for that, else what its kind gives at best."""
    models = facts.folder("models")
    if models is None:
        return None
    if models.read_bytes_per_s and models.was_cached is False:
        return models.read_bytes_per_s
    return _usual(models)


def _usual(folder: Folder) -> float | None:
    if folder.is_windows_mount:
        return 200e6
    return _SLOW_BYTES_PER_S.get(folder.disk or "")


def _largest_bytes(facts: Facts) -> int:
    return max((each.size_bytes for each in facts.models if each.kind == "checkpoint"), default=0)
