"""Whether the processor, its memory allocator and the compiler do what they can."""

from __future__ import annotations

from hayate.doctor.checks.installing import pip
from hayate.doctor.facts import Facts
from hayate.doctor.figures import counted
from hayate.doctor.finding import Action, Certainty, Finding, Fix, Gain, Job, Kind, Severity

_TRITON = (7, 0)
"""Triton has no code for older cards."""
_BF16 = ("avx512_bf16", "amx_bf16")


def too_many_threads(facts: Facts) -> Finding | None:
    """More threads asked for than this process may use."""
    processor = facts.processor
    asked = facts.wishes.threads or processor.threads_asked
    usable = _usable(facts)
    if not asked or not usable or asked <= usable:
        return None
    is_setting = bool(facts.wishes.threads)
    where = "the setting threads" if is_setting else "OMP_NUM_THREADS"
    return Finding(
        severity=Severity.SERIOUS if asked >= 2 * usable else Severity.WORTHWHILE,
        found=f"{where} asks for {asked} threads, and {counted(usable, 'processor')} may be used",
        why="Threads that wait for each other while they wait for a processor cost many times what they bring.",
        gain=Gain(
            kind=Kind.SPEED,
            text="2 to 10 × on the CPU",
            certainty=Certainty.MEASURED_ELSEWHERE,
            source="docs/LOG.md: two OpenMP teams on two cores",
            times=5.0,
        ),
        fix=Fix(
            text="Leave the number to PyTorch.",
            command="" if is_setting else _unset(facts),
            actions=(Action(job=Job.WRITE_SETTING, subject="threads", value="0"),) if is_setting else (),
        ),
    )


def idle_processors(facts: Facts) -> Finding | None:
    """A CPU that computes pictures with fewer threads than it has cores for."""
    processor = facts.processor
    asked = facts.wishes.threads or processor.threads_asked
    usable = min(_usable(facts) or 0, processor.cores or 0)
    if facts.cards or not asked or asked * 2 > usable:
        return None
    is_setting = bool(facts.wishes.threads)
    where = "the setting threads" if is_setting else "OMP_NUM_THREADS"
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"{where} allows {counted(asked, 'thread')}, and there are {usable} cores",
        why="Without a GPU the processor computes the pictures, and most of it idles.",
        gain=Gain(
            kind=Kind.SPEED,
            text=f"up to {usable / asked:.0f} ×, less where memory is the limit",
            certainty=Certainty.REASONED,
            times=usable / asked,
        ),
        fix=Fix(
            text="Leave the number to PyTorch.",
            command="" if is_setting else _unset(facts),
            actions=(Action(job=Job.WRITE_SETTING, subject="threads", value="0"),) if is_setting else (),
        ),
    )


def forced_fp32(facts: Facts) -> Finding | None:
    """fp32 asked for on a processor that multiplies bf16 by instructions of its own."""
    asked = facts.wishes.settings.get("dtype")
    has_bf16 = any(feature in facts.processor.features for feature in _BF16)
    if facts.cards or not has_bf16 or asked != "fp32":
        return None
    return Finding(
        severity=Severity.WORTHWHILE,
        found="the setting dtype asks for fp32, and this processor multiplies bf16",
        why="bf16 takes half the memory traffic and multiplies twice as fast; it can't overflow.",
        gain=Gain(
            kind=Kind.SPEED,
            text="2.0 × a step of SD1.5",
            certainty=Certainty.MEASURED_ELSEWHERE,
            source="README: 8.34 s against 4.06 s on two AVX512-BF16 cores, benchmarks/step.py",
            times=2.0,
        ),
        fix=Fix(
            text="Let Hayate choose the type.",
            actions=(Action(job=Job.WRITE_SETTING, subject="dtype", value="auto"),),
        ),
    )


def foreign_allocator(facts: Facts) -> Finding | None:
    """A C library whose malloc gives memory back and takes it again in every step."""
    if facts.system.os != "Linux" or facts.cards or facts.allocator.name != "musl":
        return None
    return Finding(
        severity=Severity.WORTHWHILE,
        found="memory comes from musl's allocator",
        why="Freed memory goes back to the system, which clears every page of it again; Hayate tells glibc to keep it, "
        "and can't tell musl.",
        gain=Gain(
            kind=Kind.SPEED,
            text="up to 1.25 × on the CPU",
            certainty=Certainty.MEASURED_ELSEWHERE,
            source="docs/LOG.md: a fifth of an SD1.5 step on two cores was page faults before glibc was told",
            times=1.25,
        ),
        fix=Fix(text="Preload tcmalloc or jemalloc: LD_PRELOAD=/usr/lib/libjemalloc.so.2 hayate …"),
    )


def saving_governor(facts: Facts) -> Finding | None:
    """Linux holding the clock down."""
    if facts.processor.governor != "powersave" or "intel" in facts.processor.model.lower():
        return None  # Intel's own driver calls its normal way powersave
    return Finding(
        severity=Severity.WORTHWHILE if not facts.cards else Severity.MINOR,
        found="the processor's clock is governed by powersave",
        why="It stays at its lowest, also while pictures are computed or kernels are started.",
        gain=Gain(kind=Kind.SPEED, text="up to 2 × on the CPU", certainty=Certainty.REASONED, times=1.5),
        fix=Fix(
            text="Choose a governor that follows the work.",
            command="sudo cpupower frequency-set -g schedutil",
            needs="an administrator",
        ),
    )


def small_quota(facts: Facts) -> Finding | None:
    """A container that may use less time than it sees processors."""
    quota, usable = facts.processor.quota_threads, facts.processor.usable_threads
    asked = facts.wishes.threads or facts.processor.threads_asked
    if quota is None or not usable or quota > usable * 0.75 or (asked and asked <= quota):
        return None
    threads = max(1, int(quota))
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"the container may use {quota:g} processors' time, and sees {usable}",
        why=f"PyTorch starts {usable} threads, and the kernel stops all of them for a part of every tenth of a second.",
        gain=Gain(kind=Kind.SPEED, text="up to 2 × on the CPU", certainty=Certainty.REASONED, times=1.5),
        fix=Fix(
            text="Tell Hayate how many threads there really are.",
            actions=(Action(job=Job.WRITE_SETTING, subject="threads", value=str(threads)),),
        ),
    )


def no_compiler(facts: Facts) -> Finding | None:
    """No C++ compiler or no Triton, so that nothing can be compiled."""
    tools, features = facts.toolchain, facts.processor.features
    is_for_card = any(card.is_from(_TRITON) for card in facts.nvidia) and facts.torch and facts.torch.cuda
    is_for_cpu = not facts.cards and facts.system.os == "Linux" and "avx512_bf16" in features
    missing = []
    if tools.compiler is None:
        missing.append("a C++ compiler")
    if is_for_card and tools.triton is None:
        missing.append("Triton")
    if is_for_card and facts.system.os == "Linux" and tools.has_python_headers is False:
        missing.append("Python.h")
    if not missing or not (is_for_card or is_for_cpu):
        return None
    card = (
        "1.3 × SDXL, 1.5 × SD1.5 for compiled steps (A100)",
        "huggingface/diffusion-fast and stable-fast's tables",
        1.4,
    )
    cpu = ("1.1 × a step: Hayate's own bf16 attention kernel", "docs/decisions/cpu-kernels.md", 1.1)
    text, source, times = card if is_for_card else cpu
    return Finding(
        severity=Severity.WORTHWHILE if is_for_card and facts.wishes.settings.get("compile") else Severity.MINOR,
        found=f"there is no {' and no '.join(each.removeprefix('a ') for each in missing)}",
        why="Steps can't be compiled (`--compile`), and Hayate's own CPU kernels can't be built.",
        gain=Gain(kind=Kind.SPEED, text=text, certainty=Certainty.MEASURED_ELSEWHERE, source=source, times=times),
        fix=_tools(facts, missing),
    )


def _tools(facts: Facts, missing: list[str]) -> Fix:
    if facts.system.os == "Windows":
        triton = pip(facts, "install triton-windows") if "Triton" in missing else ""
        return Fix(text="Install Visual Studio's Build Tools for C++, and Triton for Windows.", command=triton)
    if "Triton" in missing:
        return Fix(text="Install Triton; on Linux it comes with torch.", command=pip(facts, "install triton"))
    what = "python3-dev g++" if "Python.h" in missing else "g++"
    return Fix(text=f"Install {what}.", command=f"sudo apt install {what}", needs="an administrator")


def _unset(facts: Facts) -> str:
    return "set OMP_NUM_THREADS=" if facts.system.os == "Windows" else "unset OMP_NUM_THREADS"


def _usable(facts: Facts) -> int | None:
    return facts.processor.usable_threads or facts.processor.threads
