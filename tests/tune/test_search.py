"""The search finds liars out, keeps its time, and survives what it tries."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hayate.bench.presets import QUICK
from hayate.errors import UsageError
from hayate.models.config import Family
from hayate.pipeline.players import read_config
from hayate.runtime.asked import Asked
from hayate.runtime.attention.catalogue import BACKENDS
from hayate.runtime.device import resolve_device
from hayate.runtime.profiles import Profile, save_profile, slot_for, versions_of
from hayate.settings import Settings, load_settings
from hayate.tune import search as searching
from hayate.tune.pool import TrialFailed, Worker
from hayate.tune.search import Aim, Outcome, Search
from hayate.tune.trial import Task
from hayate.tune.tuning import Goal, aim_for
from hayate.tune.verdict import Row, Verdict
from tests.tiny_models import write_tiny
from tests.tune.planted import PLANTED

ROOT = Path(__file__).parents[2]
PLANTED_WORKER = (sys.executable, "-m", "tests.tune.planted")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    write_tiny(path, Family.SD1)
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    places = {"HAYATE_CACHE_DIR": tmp_path / "cache", "HAYATE_DATA_DIR": tmp_path / "data"}
    return {**os.environ, "PYTHONPATH": str(ROOT), **{name: str(path) for name, path in places.items()}}


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return load_settings({}, environment={name: v for name, v in environment.items() if name.startswith("HAYATE_")})


def aim(model: Path, settings: Settings, *, budget_s: float = 60.0, promise: str = "exact", **more: object) -> Aim:
    request = replace(QUICK, model=str(model), width_px=64, height_px=64, steps=4)
    goal = Goal(budget_s=budget_s, promise=promise)
    return replace(aim_for(request, settings, goal, Asked())[0], **more)


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Lets the search try these attention backends and nothing else."""
    group = [(f"attention {name}", {"attention": name}) for name in names]
    monkeypatch.setattr(searching, "groups", lambda place: [group])


def searched(found: Aim, environment: dict[str, str], command: tuple[str, ...] = PLANTED_WORKER) -> Outcome:
    return Search(found, lambda: Worker(command, environment)).run()


def verdicts(outcome: Outcome) -> dict[str, Row]:
    return {row.name.removeprefix("attention "): row for row in outcome.rows}


def test_liars_are_found_named_and_never_chosen(
    model: Path, settings: Settings, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, place in PLANTED.items():
        monkeypatch.setitem(BACKENDS.places, name, place)  # pyright: ignore[reportArgumentType]
    only(monkeypatch, *PLANTED, "split")
    outcome = searched(aim(model, settings, patience_s=6.0), environment)
    rows = verdicts(outcome)
    assert rows["idle"].verdict is Verdict.LIED
    assert "not today" in rows["idle"].reason
    assert rows["wrong"].verdict is Verdict.WRONG
    assert "35 dB" in rows["wrong"].reason
    assert rows["crash"].verdict is Verdict.FAILED
    assert "crashed with signal 6" in rows["crash"].reason
    assert rows["hang"].verdict is Verdict.FAILED
    assert "longer than" in rows["hang"].reason
    assert rows["raises"].verdict is Verdict.FAILED
    assert "CUDA error: planted" in rows["raises"].reason
    assert rows["split"].trial is not None, "what comes after a crash and a hang is tried all the same"
    assert outcome.best is not None
    assert outcome.best.asked is not None
    assert outcome.best.asked.attention not in PLANTED


def test_the_winner_has_won_twice_or_the_default_stays(
    model: Path, settings: Settings, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "math", "split", "sdp")
    outcome = searched(aim(model, settings), environment)
    best = outcome.best
    assert best is not None
    if best.verdict is Verdict.DEFAULT:
        assert outcome.ratio == 1.0
    else:
        assert outcome.ratio > 1
        assert len(outcome.ratios) >= 1
    assert all(row.difference is not None for row in outcome.rows if row.trial is not None)


def test_a_deterministic_winner_gave_the_same_bits_twice(
    model: Path, settings: Settings, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "math")
    outcome = searched(aim(model, settings, promise="deterministic", budget_s=600.0), environment)
    assert outcome.best is not None
    assert outcome.best.trial is not None
    assert outcome.best.trial.is_repeated
    # One that is given up in its first steps was run once.
    assert all(row.trial.is_repeated or row.trial.is_hopeless for row in outcome.rows if row.trial is not None)
    assert len(outcome.rows) >= 2  # how many follow depends on which is the faster one here


def test_what_is_not_exact_is_not_tried_without_leave(
    model: Path, settings: Settings, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "groups", lambda place: [[("tiles", {"vae_tile_px": 64})]])
    outcome = searched(aim(model, settings), environment)
    assert verdicts(outcome)["tiles"].verdict is Verdict.REFUSED
    assert "approximate" in verdicts(outcome)["tiles"].reason


def test_no_trial_begins_that_the_budget_does_not_bear(
    model: Path, settings: Settings, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "math", "split")
    found = aim(model, settings)
    search = Search(found, lambda: Worker(PLANTED_WORKER, environment))
    search._on_row = lambda row: setattr(search, "_ends_at", time.monotonic())  # all is spent after the first row
    outcome = search.run()
    assert [row.verdict for row in outcome.rows] == [Verdict.DEFAULT, Verdict.SKIPPED, Verdict.SKIPPED]
    assert outcome.best is outcome.rows[0]


def test_an_interrupt_keeps_what_is_known(
    model: Path, settings: Settings, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "math", "split")

    def on_row(row: Row) -> None:
        if row.name == "attention math":
            raise KeyboardInterrupt

    outcome = Search(aim(model, settings), lambda: Worker(PLANTED_WORKER, environment), on_row=on_row).run()
    assert outcome.is_interrupted
    assert outcome.best is not None
    assert [row.name for row in outcome.rows] == ["default plan", "attention math"]


def test_a_default_plan_that_fails_is_said(settings: Settings, environment: dict[str, str], model: Path) -> None:
    broken = (sys.executable, "-c", "import sys; sys.exit('no torch here')")
    with pytest.raises(TrialFailed, match=r"exit code 1: no torch here"):
        searched(aim(model, settings), environment, broken)


def test_a_budget_of_nothing_is_refused(model: Path, settings: Settings, environment: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="too short"):
        searched(aim(model, settings, budget_s=0.5), environment)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print('hello')", "can't be understood"),
        ("import time; time.sleep(100)", "longer than"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
        ('print(\'{"refused": "because"}\')', "because"),
    ],
)
def test_a_worker_that_misbehaves_is_ended_with_a_reason(program: str, reason: str) -> None:
    with Worker((sys.executable, "-c", program)) as worker, pytest.raises(TrialFailed, match=reason):
        worker.trial(Task(request={}, asked={}), 2.0)


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes in /proc")
def test_killed_at_any_moment_it_leaves_the_profile_and_no_process(
    model: Path, settings: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    cpu = resolve_device("cpu")
    slot = slot_for(cpu, read_config(model), (64, 64), "exact")
    kept = save_profile(
        Profile(slot=slot, asked=Asked(attention="math"), versions=versions_of(cpu, Asked()), at="2026-01-01T00:00:00"),
        settings.data_dir,
    )
    before = kept.read_bytes()
    words = ["--model", str(model), "--size", "64x64", "--steps", "4", "--plot", str(tmp_path / "plot.svg")]
    command = [sys.executable, "-m", "hayate", "tune", *words]
    process = subprocess.Popen([*command, "--budget", "60s"], stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    process.stdout.readline()  # the head of the table: the search is under way
    workers = children_of(process.pid)
    assert workers
    process.send_signal(signal.SIGKILL)
    process.wait()
    ends_at = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < ends_at:
        time.sleep(0.05)
    assert not any(map(is_running, workers))
    assert [path.read_bytes() for path in kept.parent.iterdir()] == [before]


def test_rows_that_are_not_alike_count_with_all_their_time(
    model: Path, settings: Settings, environment: dict[str, str]
) -> None:
    """With DeepCache most rows are short: the speed is that of the picture, not of a typical row."""
    found = aim(model, settings, promise="fast")
    with Worker(PLANTED_WORKER, environment) as worker:
        task = Search(found)._task(replace(found.open, deepcache=4), 16, runs=2)
        trial = worker.trial(task, 60.0)
    seconds = trial.rows / trial.speed.median
    assert trial.picture_s(trial.rows) == pytest.approx(trial.encode_s + seconds + trial.decode_s)
    assert trial.lacking == []
