"""What the user asked for: flags of A1111 and settings that cost speed here."""

from __future__ import annotations

from itertools import pairwise

from hayate.doctor.checks.installing import pip
from hayate.doctor.facts import Facts
from hayate.doctor.figures import listed, size
from hayate.doctor.finding import Action, Certainty, Finding, Fix, Gain, Job, Kind, Severity

_FULL_PRECISION = ("--no-half", "--precision full")
_SLOW_ATTENTION = (
    "--opt-split-attention",
    "--opt-split-attention-v1",
    "--opt-split-attention-invokeai",
    "--opt-sub-quad-attention",
    "--disable-opt-split-attention",
)
_ROOMY = {"--lowvram": 7.5e9, "--medvram": 11.5e9, "--medvram-sdxl": 11.5e9}
"""From how much memory on a flag only costs time, for SDXL at 1024×1024 in fp16."""
_TENSOR_CORES = (7, 0)
_SAGE = (8, 0)
_FAULTY_HALF = "GTX 16"


def full_precision(facts: Facts) -> Finding | None:
    """fp32 asked for on a card that computes fp16."""
    card = next((card for card in facts.nvidia if _FAULTY_HALF not in card.name), None)
    asked = [flag for flag in _FULL_PRECISION if flag in _flags(facts)]
    if facts.wishes.settings.get("dtype") == "fp32":
        asked.append("the setting dtype")
    if card is None or card.capability is None or not asked:
        return None
    is_faster = card.is_from(_TENSOR_CORES)
    is_setting = "the setting dtype" in asked
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"{listed(asked)} makes everything compute in fp32 on the {card.name}",
        why="It was the remedy for black pictures; Hayate looks at results and computes only the part that made NaN "
        "again, in a wider type.",
        gain=Gain(
            kind=Kind.SPEED if is_faster else Kind.MEMORY,
            text="1.6 × and more, and half the memory"
            if is_faster
            else "half the memory; this card is no faster in fp16",
            certainty=Certainty.MEASURED_ELSEWHERE if is_faster else Certainty.REASONED,
            source="A100, SDXL, 30 steps: 7.36 s in fp32, 4.63 s in 16 bits (diffusion-fast)" if is_faster else "",
            times=1.6 if is_faster else 1.0,
        ),
        fix=Fix(
            text="Take it out of COMMANDLINE_ARGS." if not is_setting else "Let Hayate choose the type.",
            actions=(Action(job=Job.WRITE_SETTING, subject="dtype", value="auto"),) if is_setting else (),
        ),
    )


def old_attention(facts: Facts) -> Finding | None:
    """One of A1111's flags for attention without a fused kernel."""
    asked = [flag for flag in _SLOW_ATTENTION if flag in _flags(facts)]
    if not asked or not facts.nvidia:
        return None
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"{listed(asked)} chooses attention in slices",
        why="PyTorch's fused kernels need as little memory and are faster; cards before Turing gain little.",
        gain=Gain(
            kind=Kind.SPEED,
            text="up to 2 × at large sizes, 1.1 × at 512×512",
            certainty=Certainty.MEASURED_ELSEWHERE,
            source="AUTOMATIC1111/stable-diffusion-webui#11487, 1824×1024: sdp 2.77, Doggettx 5.66, sub-quad 7.76 s/it",
            times=2.0,
        ),
        fix=Fix(
            text="Take it out of COMMANDLINE_ARGS; Hayate chooses the fastest that can serve, or `hayate tune` does."
        ),
    )


def needless_offload(facts: Facts) -> Finding | None:
    """Weights that are moved about though they fit."""
    card = max(facts.nvidia, key=lambda card: card.memory_bytes or 0, default=None)
    if card is None or card.memory_bytes is None:
        return None
    limits = {flag: limit for flag, limit in _ROOMY.items() if flag in _flags(facts)}
    setting = facts.wishes.settings.get("offload", "auto")
    if f"--{setting}" in _ROOMY:
        limits["the setting offload"] = _ROOMY[f"--{setting}"]
    needless = [name for name, limit in limits.items() if card.memory_bytes >= limit]
    if not needless:
        return None
    is_setting = "the setting offload" in needless
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"{listed(needless)} moves weights to and fro, and the {card.name} has {size(card.memory_bytes)}",
        why="At least whole networks fit; Hayate offloads by itself, and only what a picture leaves no room for.",
        gain=Gain(
            kind=Kind.SPEED,
            text="1.1 × for medvram, 2 to 5 × for lowvram",
            certainty=Certainty.REASONED,
            source="bytes moved per step over PCIe",
            times=2.0,
        ),
        fix=Fix(
            text="Let Hayate decide by free memory." if is_setting else "Take it out of COMMANDLINE_ARGS.",
            actions=(Action(job=Job.WRITE_SETTING, subject="offload", value="auto"),) if is_setting else (),
        ),
    )


def unreadable_settings(facts: Facts) -> Finding | None:
    """A settings file that every command refuses."""
    if not facts.wishes.settings_problem:
        return None
    return Finding(
        severity=Severity.SERIOUS,
        found=facts.wishes.settings_problem,
        why="Every command ends with this message.",
        gain=Gain(kind=Kind.WORKS, text="commands start", certainty=Certainty.MEASURED_HERE, source="the settings"),
        fix=Fix(text="Mend the line that it names; docs/settings.md lists every key."),
    )


def wished_packages(facts: Facts) -> Finding | None:
    """Attention by a package that is not installed, or that can't serve the card."""
    sage = facts.package("sageattention")
    card = next((card for card in facts.nvidia if card.capability is not None), None)
    if sage is not None and card is not None and not card.is_from(_SAGE):
        return Finding(
            severity=Severity.MINOR,
            found=f"SageAttention {sage.version} is installed, and has no kernels for the {card.name}",
            why="It needs a card of compute capability 8.0 (Ampere) or newer; plans leave it out.",
            gain=Gain(kind=Kind.START, text="one package less", certainty=Certainty.REASONED, source="its own list"),
            fix=Fix(text="Uninstall it.", command=pip(facts, "uninstall sageattention")),
        )
    if "--xformers" not in facts.wishes.flags or facts.package("xformers") is not None or not facts.nvidia:
        return None
    return Finding(
        severity=Severity.MINOR,
        found="--xformers is asked for, and xFormers is not installed",
        why="PyTorch's own fused kernels serve instead, as every plan says.",
        gain=Gain(
            kind=Kind.SPEED,
            text="within 10 % either way",
            certainty=Certainty.MEASURED_ELSEWHERE,
            source="the Japanese speed-up page: sdp 18.5, xformers 20.3 s",
            times=1.0,
        ),
        fix=Fix(text="Take it out of COMMANDLINE_ARGS: sdp wins over it where both are there."),
    )


def _flags(facts: Facts) -> tuple[str, ...]:
    """Flags as they were given, those with a word also together with it."""
    flags = facts.wishes.flags
    return (*flags, *(f"{first} {second}" for first, second in pairwise(flags)))
