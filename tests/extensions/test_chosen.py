"""What extensions add by name is found beside our own; where it fails, whoever asked is told."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from hayate.errors import Cancelled, UnknownName, UsageError
from hayate.extensions.inside import inside
from hayate.extensions.session import Session
from hayate.jobs.scripts import read_script
from hayate.pipeline.axes import Cell, cells, parse_axis
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from hayate.runtime.attention.choose import choose_attention, load_backend
from hayate.runtime.device import resolve_device
from hayate.samplers.catalogue import build, resolve_sampler, sampler_names
from hayate.samplers.sigmas import resolve_schedule, scaled_linear, schedule_names
from tests.extensions.folders import session_in, write_extension

CODE = """
from dataclasses import replace

import torch

from hayate.pipeline.axes import AxisKind
from hayate.samplers.catalogue import SamplerInfo
from hayate.samplers.sigmas import ScheduleInfo, uniform
from hayate.samplers.singlestep import euler


def broken(*words):
    raise ZeroDivisionError("no levels")


EULER = SamplerInfo(name="whatever", aliases=("k_other",), build_rows=lambda grid, tuning: euler(grid.sigmas))
BROKEN = SamplerInfo(name="broken", aliases=(), build_rows=broken)
EVEN = ScheduleInfo(name="whatever", aliases=(), function=uniform)
BROKEN_SCHEDULE = ScheduleInfo(name="broken", aliases=(), function=broken)
NOT_ONE = 3


class Attention:
    name = "mine"
    is_exact = is_deterministic = True
    has_scratch = False

    def refusal(self, device, dtype, head_dims):
        return None

    def misfit(self, q, k, v, is_causal):
        return None

    def __call__(self, q, k, v, is_causal=False):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal)


class BrokenAttention(Attention):
    def __call__(self, q, k, v, is_causal=False):
        raise ZeroDivisionError("no heads")


class EndlessAttention(Attention):
    def __call__(self, q, k, v, is_causal=False):
        while True:
            pass


AXIS = AxisKind(read=int, change=lambda cell, value: replace(cell, request=replace(cell.request, steps=int(value) * 2)))
BROKEN_AXIS = AxisKind(read=str, change=broken)


"""
HOOKS = {
    "samplers": {"Euler of mine": "EULER", "Broken": "BROKEN", "No sampler": "NOT_ONE"},
    "schedules": {"Even": "EVEN", "Broken levels": "BROKEN_SCHEDULE"},
    "attention": {
        "mine": "Attention",
        "broken": "BrokenAttention",
        "endless": "EndlessAttention",
        "no class": "NOT_ONE",
    },
    "axes": {"Twice the steps": "AXIS", "Broken axis": "BROKEN_AXIS"},
    "scripts": {"twice": "NOT_ONE"},
}
LEVELS = scaled_linear()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    write_extension(tmp_path, "parts", CODE, HOOKS)
    with session_in(tmp_path, tmp_path / "data") as opened:
        yield opened


@pytest.mark.usefixtures("session")
def test_a_sampler_makes_the_table_that_its_rows_make() -> None:
    assert "Euler of mine" in sampler_names()
    info, schedule = resolve_sampler("euler of MINE karras")
    assert (info.name, schedule) == ("Euler of mine", "Karras")
    ours, theirs = (build(name, "Karras", 6, LEVELS) for name in ("Euler of mine", "Euler"))
    assert np.array_equal(ours.matrix, theirs.matrix)
    assert np.array_equal(ours.sigma, theirs.sigma)


@pytest.mark.usefixtures("session")
def test_a_schedule_gives_the_levels_that_its_function_gives() -> None:
    assert "Even" in schedule_names()
    ours, theirs = (build("Euler", name, 6, LEVELS) for name in ("even", "Uniform"))
    assert np.array_equal(ours.sigma, theirs.sigma)
    assert ours.schedule == "Even"


def test_names_are_unknown_where_the_extension_is_not() -> None:
    with pytest.raises(UnknownName):
        resolve_sampler("Euler of mine")
    with pytest.raises(UnknownName):
        resolve_schedule("Even")
    with pytest.raises(UnknownName):
        load_backend("mine")


@pytest.mark.usefixtures("session")
def test_a_misspelt_name_of_theirs_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match="nearest: Euler of mine"):
        resolve_sampler("Euler of min")
    with pytest.raises(UnknownName, match="nearest: Even"):
        resolve_schedule("Evn")
    with pytest.raises(UnknownName, match="nearest: mine"):
        load_backend("mne")
    with pytest.raises(UnknownName, match="nearest: Twice the steps"):
        parse_axis("Twice the step=1")
    with pytest.raises(UnknownName, match="nearest: twice"):
        read_script({"name": "twic"})


@pytest.mark.parametrize(
    ("sampler", "schedule", "why"),
    [
        ("Broken", "Karras", "ZeroDivisionError: no levels"),
        ("Euler", "Broken levels", "ZeroDivisionError: no levels"),
        ("No sampler", "Karras", "it is int and no SamplerInfo"),
    ],
)
def test_one_that_fails_is_told_to_whoever_asked(session: Session, sampler: str, schedule: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        build(sampler, schedule, 6, LEVELS)
    assert why in session.problems()["parts"]


def attended(name: str, calls: int = 1) -> tuple[torch.Tensor, torch.Tensor, object]:
    chosen = choose_attention(name, resolve_device("cpu"), torch.float32, (8,))
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 5, 8)
    for _ in range(calls):
        made = chosen.attention(q, k, v)
    return made, torch.nn.functional.scaled_dot_product_attention(q, k, v), chosen.attention


@pytest.mark.usefixtures("session")
def test_attention_serves_under_its_name() -> None:
    made, reference, counted = attended("mine")
    assert torch.equal(made, reference)
    assert (counted.backend.name, counted.served) == ("mine", 1)


def test_attention_that_fails_is_taken_over_and_counted(session: Session) -> None:
    made, reference, counted = attended("broken", calls=3)
    assert torch.equal(made, reference)
    assert dict(counted.fallbacks) == {"the extension parts failed": 2}
    assert "ZeroDivisionError: no heads" in session.problems()["parts"]


def test_attention_without_end_is_ended_and_takes_the_job_with_it(session: Session) -> None:
    with ThreadPoolExecutor(1) as beside:
        job = beside.submit(attended, "endless")
        while not job.done():
            inside.stop()
        assert isinstance(job.exception(), Cancelled)
    assert "did not end when the job was cancelled" in session.problems()["parts"]


@pytest.mark.usefixtures("session")
def test_attention_that_is_no_class_is_refused() -> None:
    with pytest.raises(UsageError, match="it is int and no type"):
        load_backend("no class")


CELL = Cell(request=TextToImage(prompt="a lake"), asked=Asked())


@pytest.mark.usefixtures("session")
def test_an_axis_changes_requests() -> None:
    axis = parse_axis("twice THE steps=3-5")
    made = [cell.request.steps for _, cell in cells(CELL, axis, parse_axis(None), parse_axis(None))]
    assert (made, axis.labels()[0]) == ([6, 8, 10], "Twice the steps: 3")


@pytest.mark.usefixtures("session")
def test_an_axis_that_fails_is_told() -> None:
    axis = parse_axis("Broken axis=1")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        list(cells(CELL, axis, parse_axis(None), parse_axis(None)))


def test_a_built_in_script_that_is_off_says_so(session: Session) -> None:
    assert read_script({"name": "Loopback", "loops": 2}).name == "loopback"
    session.standing("loopback").is_on = False
    with pytest.raises(UsageError, match="switched off"):
        read_script({"name": "Loopback", "loops": 2})
