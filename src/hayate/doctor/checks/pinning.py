"""Whether PyTorch's threads run where there is room for them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hayate.doctor.facts import Facts
from hayate.doctor.figures import counted
from hayate.doctor.finding import Certainty, Finding, Fix, Gain, Kind, Severity

_RANGE = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
_PROCLIST = re.compile(r"proclist=\[([^\]]*)\]")


def pinned_threads(facts: Facts) -> Finding | None:
    """Variables of OpenMP that put several threads on one processor."""
    processor = facts.processor
    usable = processor.usable_threads or processor.threads
    threads = facts.wishes.threads or processor.threads_asked or processor.cores or usable
    if facts.cards or not usable or not threads:
        return None
    held = _held(processor.pinning)
    if held is None or held[1] >= min(threads, usable):
        return None
    name, places = held
    return Finding(
        severity=Severity.SERIOUS,
        found=f"{name}={processor.pinning[name]} holds {counted(threads, 'thread')} on {counted(places, 'processor')}",
        why="Threads that share a processor take turns on it, and wait for each other after every layer.",
        gain=Gain(
            kind=Kind.SPEED,
            text=f"up to {min(threads, usable) / places:.0f} ×",
            certainty=Certainty.MEASURED_ELSEWHERE,
            source="docs/LOG.md: two threads held on one of two processors took 2.0 times as long",
            times=min(threads, usable) / places,
        ),
        fix=Fix(text="Leave it to the system.", command=_unset(facts, name)),
    )


def several_nodes(facts: Facts) -> Finding | None:
    """A CPU of several sockets that computes, and whose threads are bound to none of them."""
    processor = facts.processor
    nodes, usable = processor.numa_nodes or 1, processor.usable_threads or processor.threads
    is_bound = bool(processor.pinning) or (usable is not None and usable < (processor.threads or 0))
    if facts.cards or facts.system.os != "Linux" or nodes < 2 or is_bound:
        return None
    return Finding(
        severity=Severity.MINOR,
        found=f"main memory lies on {nodes} NUMA nodes, and nothing binds Hayate to one",
        why="A thread reads weights that lie at another socket more slowly; two sockets can be slower than one.",
        gain=Gain(
            kind=Kind.SPEED,
            text="some pictures sooner, or none",
            certainty=Certainty.REASONED,
        ),
        fix=Fix(
            text="Measure both, and start Hayate the way that wins.",
            command="numactl --cpunodebind=0 --membind=0 hayate bench quick",
        ),
    )


def places_of(text: str) -> int:
    """How many processors a list such as `0 3 4-15:2` names.

    Source: GOMP_CPU_AFFINITY in libgomp's manual; KMP_AFFINITY's proclist has the same ranges between commas.
    """
    named: set[int] = set()
    for first, last, stride in _RANGE.findall(text):
        named.update(range(int(first), int(last or first) + 1, int(stride or 1) or 1))
    return len(named)


def _held(pinning: Mapping[str, str]) -> tuple[str, int] | None:
    """The variable that decides, and the processors that it leaves; None where it leaves all."""
    for name, text in pinning.items():
        if name == "OMP_PROC_BIND":
            # Its newer name, `primary`, is unknown to the libgomp of PyTorch's wheels, which passes over it.
            if text.strip().lower().partition(",")[0] == "master":
                return name, 1
            continue
        listed = _PROCLIST.search(text) if name == "KMP_AFFINITY" else re.match("(.*)", text)
        if listed and (places := places_of(listed[1])):
            return name, places
    return None


def _unset(facts: Facts, name: str) -> str:
    return f"set {name}=" if facts.system.os == "Windows" else f"unset {name}"
