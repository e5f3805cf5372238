"""Threads that are held where there is no room for them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.doctor.checks.pinning import places_of
from hayate.doctor.facts import Facts, Processor
from hayate.doctor.finding import Severity
from tests.doctor.machines import machine, said

MANUALS = {"0 3 1-2 4-15:2": 10, "0-3": 4, "7": 1, "0,1,2-5": 6}
"""The first from libgomp's manual, which lists processors 0, 3, 1, 2, 4, 6, 8, 10, 12, 14."""


def computing(threads: int = 8, usable: int | None = None, **changes: object) -> Facts:
    processor = Processor(model="x", cores=threads, threads=threads, usable_threads=usable or threads, **changes)  # type: ignore[arg-type]
    return machine(cards=(), processor=processor)


@pytest.mark.parametrize("text", MANUALS)
def test_lists_of_processors_are_read_as_openmp_reads_them(text: str) -> None:
    assert places_of(text) == MANUALS[text]


@given(st.sets(st.integers(0, 500), min_size=1), st.sampled_from([" ", ",", ", "]))
def test_a_list_of_single_processors_names_as_many(places: set[int], separator: str) -> None:
    assert places_of(separator.join(map(str, places))) == len(places)


@pytest.mark.parametrize(
    ("name", "text", "places"),
    [
        ("GOMP_CPU_AFFINITY", "0", 1),
        ("GOMP_CPU_AFFINITY", "0-3", 4),
        ("KMP_AFFINITY", "granularity=fine,explicit,proclist=[0,1],verbose", 2),
        ("OMP_PROC_BIND", "master", 1),
    ],
)
def test_threads_held_on_too_few_processors_are_said(name: str, text: str, places: int) -> None:
    found = said("pinned threads", computing(8, pinning={name: text}))
    assert found is not None
    assert found.severity is Severity.SERIOUS
    assert found.found == f"{name}={text} holds 8 threads on {places} processor{'s' * (places > 1)}"
    assert found.fix.command == f"unset {name}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("GOMP_CPU_AFFINITY", "0-7"),
        ("GOMP_CPU_AFFINITY", ""),
        ("KMP_AFFINITY", "granularity=fine,compact,1,0"),
        ("OMP_PROC_BIND", "close"),
        ("OMP_PROC_BIND", "true"),
        ("OMP_PROC_BIND", "primary"),
    ],
)
def test_pinning_that_leaves_room_is_fine(name: str, text: str) -> None:
    assert said("pinned threads", computing(8, pinning={name: text})) is None


def test_as_many_threads_as_processors_named_are_fine() -> None:
    assert said("pinned threads", computing(8, threads_asked=2, pinning={"GOMP_CPU_AFFINITY": "0 1"})) is None


def test_beside_a_card_pinning_is_the_users() -> None:
    processor = Processor(model="x", cores=8, threads=8, pinning={"GOMP_CPU_AFFINITY": "0"})
    assert said("pinned threads", machine(processor=processor)) is None


def test_several_nodes_are_said_until_one_is_chosen() -> None:
    found = said("NUMA nodes", computing(64, numa_nodes=2))
    assert found is not None
    assert "numactl" in found.fix.command
    assert said("NUMA nodes", computing(64, usable=32, numa_nodes=2)) is None  # numactl narrows what may be used
    assert said("NUMA nodes", computing(64, numa_nodes=2, pinning={"GOMP_CPU_AFFINITY": "0-31"})) is None
    assert said("NUMA nodes", computing(64, numa_nodes=1)) is None


@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs two processors of Linux")
@pytest.mark.parametrize(("variable", "is_held"), [("OMP_PROC_BIND=master", True), ("OMP_PROC_BIND=primary", False)])
def test_torch_holds_its_threads_as_the_check_believes(variable: str, is_held: bool) -> None:
    """A thread's own list of processors, from the kernel, after torch has started its threads."""
    code = (
        "import os, torch; torch.set_num_threads(2); a = torch.ones(600, 600); a @ a; "
        "own = [os.sched_getaffinity(int(t)) for t in os.listdir('/proc/self/task')]; "
        "print(len(set().union(*own)), torch.backends.openmp.is_available(), 'gomp' in open('/proc/self/maps').read())"
    )
    name, _, text = variable.partition("=")
    environment = {**os.environ, name: text, "OMP_NUM_THREADS": "2"}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    places, has_openmp, is_gomp = answer.stdout.split()
    if (has_openmp, is_gomp) != ("True", "True"):
        pytest.skip("this torch does not compute with libgomp")
    assert (int(places) == 1) == is_held
