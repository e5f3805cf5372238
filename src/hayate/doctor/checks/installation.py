"""The Python environment: two torches, unmet requirements, what nothing needs, extensions."""

from __future__ import annotations

from collections.abc import Sequence

from packaging.requirements import Requirement

from hayate.doctor.checks.installing import launcher, outer_python, packages, pip, torch_anew
from hayate.doctor.facts import Facts
from hayate.doctor.figures import agreed, counted, listed, size
from hayate.doctor.finding import Action, Certainty, Finding, Fix, Gain, Job, Kind, Severity
from hayate.doctor.requirements import Unmet, unmet, unmet_pins, unneeded

_SLOW_MS = 500.0
_FEW_BYTES = 50e6


def two_torches(facts: Facts) -> Finding | None:
    """More than one torch on the import path."""
    torch = facts.torch
    if torch is None or len(torch.copies) < 2:
        return None
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"there are {len(torch.copies)} torches on the import path: {listed(torch.copies)}",
        why="Which one is imported depends on how Python was started; the other takes gigabytes.",
        gain=Gain(
            kind=Kind.WORKS,
            text="always the same torch; several GB of disk",
            certainty=Certainty.MEASURED_HERE,
            source="the import path",
        ),
        fix=Fix(
            text="Uninstall the one that is not the environment's, with the pip of the Python that has it.",
            command=f"{outer_python(facts)} -m pip uninstall torch",
            needs="a terminal outside the environment",
        ),
    )


def unmet_requirements(facts: Facts) -> Finding | None:
    """Packages whose requirements are not met by what is installed."""
    found = unmet(facts.python)
    if not found:
        return None
    is_own = any(each.package == "hayate" for each in found)
    is_torch = any(each.wants.startswith("torch") or each.package == "torch" for each in found)
    lines = [f"{each.package} wants {each.wants}, there is {each.has or 'none'}" for each in found]
    return Finding(
        severity=Severity.SERIOUS if is_own else Severity.WORTHWHILE if is_torch else Severity.MINOR,
        found=f"{counted(len(found), 'requirement')} {agreed(found, 'is', 'are')} not met: {listed(lines)}",
        why="Something was installed over what another package needs; it fails when it is used, or is slower.",
        gain=Gain(
            kind=Kind.WORKS,
            text="nothing fails at import",
            certainty=Certainty.MEASURED_HERE,
            source="the packages' metadata",
        ),
        fix=_installed(facts, found),
    )


def moved_pins(facts: Facts) -> Finding | None:
    """Packages that differ from the pins with which Hayate is tested."""
    found = unmet_pins(facts.python)
    if not found or not facts.python.is_own:
        return None
    lines = [f"{each.package} {each.has}, tested with {each.wants}" for each in found]
    return Finding(
        severity=Severity.MINOR,
        found=f"{counted(len(found), 'package')} moved away from the pins: {listed(lines)}",
        why="Hayate was measured and tested with the pinned versions; others usually work.",
        gain=Gain(kind=Kind.WORKS, text="what was tested", certainty=Certainty.MEASURED_HERE, source="constraints.txt"),
        fix=_pinned(facts, found),
    )


def bloat(facts: Facts) -> Finding | None:
    """Packages in Hayate's own environment that nothing needs."""
    if not facts.python.is_own:
        return None
    found = unneeded(facts.python, [text for each in facts.extensions for text in each.requires])
    if not found:
        return None
    known = sum(each.size_bytes or 0 for each in found)
    return Finding(
        severity=Severity.MINOR,
        found=f"{counted(len(found), 'package')} in Hayate's own environment {agreed(found, 'is', 'are')} needed by "
        f"nothing: {listed([each.name for each in found])}",
        why="What extensions or experiments left behind can hold back or replace what Hayate needs.",
        gain=Gain(
            kind=Kind.DISK if known > _FEW_BYTES else Kind.START,
            text=f"{size(known)} of disk, and fewer conflicts",
            certainty=Certainty.MEASURED_HERE,
            source="the packages' metadata",
        ),
        fix=Fix(
            text="Remove them; their versions are written down, and --undo installs them again.",
            command=pip(facts, f"uninstall {' '.join(each.name for each in found)}"),
            actions=tuple(Action(job=Job.REMOVE_PACKAGE, subject=each.name, value=each.version) for each in found),
        ),
    )


def slow_extensions(facts: Facts) -> Finding | None:
    """Extensions that make every start longer."""
    active = [each for each in facts.extensions if not each.is_disabled]
    slow = sorted(
        (each for each in active if (each.import_ms or 0) > _SLOW_MS), key=lambda each: -(each.import_ms or 0)
    )
    if not slow:
        return None
    saved_ms = sum(each.import_ms or 0 for each in slow)
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"{counted(len(slow), 'extension')} {agreed(slow, 'makes', 'make')} every start longer: "
        + listed([f"{each.name} ({(each.import_ms or 0) / 1000:.1f} s)" for each in slow]),
        why="They are imported for the first picture after every start, used or not.",
        gain=Gain(
            kind=Kind.START,
            text=f"{saved_ms / 1000:.1f} s of every start",
            certainty=Certainty.MEASURED_HERE,
            source="their import, timed at the last start",
            times=1 + saved_ms / 1000,
        ),
        fix=Fix(
            text=f"Disable those that you don't use, {slow[0].name} first: a disabled one is not imported.",
            command=f"hayate extensions disable {slow[0].name}",
            actions=tuple(Action(job=Job.SWITCH_OFF, subject=each.name) for each in slow),
            is_asked_for=True,
        ),
    )


def _installed(facts: Facts, found: Sequence[Unmet]) -> Fix:
    """What meets the requirements; torch by its own way, since PyPI's for Windows computes on the CPU only."""
    names = [Requirement(each.wants).name for each in found]
    if "torch" in names:
        return torch_anew(facts, next(iter(facts.nvidia), None))
    pins = facts.python.pins
    wanted = [f"{name}=={pins[name]}" if name in pins else each.wants for name, each in zip(names, found, strict=True)]
    return Fix(text="Install what is asked for.", command=packages(facts, dict.fromkeys(wanted)))


def _pinned(facts: Facts, found: Sequence[Unmet]) -> Fix:
    """What brings the pinned versions back; a whole environment where torch is among those that moved."""
    if any(each.package == "torch" for each in found):
        return Fix(
            text="Make the environment anew, with the pinned versions; the old one stays until the new one works.",
            command=launcher(facts, "--rebuild-venv"),
            needs="3 GB to load; end Hayate first",
        )
    wanted = [f"{each.package}=={each.wants}" for each in found]
    return Fix(text="Install the pinned versions.", command=packages(facts, wanted))
