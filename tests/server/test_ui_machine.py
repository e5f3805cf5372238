"""Behind the tune and bench tabs: profiles are kept, adopted and forgotten, measurements listed and reported."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from hayate.bench.history import FILE_NAME, History
from hayate.errors import UsageError
from hayate.jobs.records import NewJob, Result, State
from hayate.runtime.asked import Asked
from hayate.runtime.profiles import Profile, Slot, load_profile, save_profile
from hayate.server.ui.tuned import adopted_profile
from hayate.settings import Settings
from tests.server.stub_desk import StubDesk
from tests.server.tool_routes import refusal

SLOT = Slot(device="CPU", architecture="sd1-320", size_px=512, promise="exact")
PROFILE = Profile(
    slot=SLOT,
    asked=Asked(layers="packed"),
    versions={"torch": "2.13.0", "threads": "2"},
    at="2026-11-25T10:00:00Z",
    summary={"winner": "layers packed", "ratio": 1.2, "it_per_s": {"median": 2.0, "low": 1.9, "high": 2.1}},
)
ROWS = [
    {"name": "layers packed", "verdict": "faster", "reason": "1.2×", "asked": {"layers": "packed"}},
    {
        "name": "attention math",
        "verdict": "slower",
        "reason": "0.9×",
        "asked": {"attention": "math", "ignores_profile": True},
        "it_per_s": {"median": 1.5, "low": 1.4, "high": 1.6},
        "difference": {"psnr_db": 60.0},
    },
    {"name": "dtype fp16", "verdict": "wrong picture", "reason": "9 dB", "asked": {"dtype": "fp16"}},
]


# ---------------------------------------------------------------------------------------------- profiles


def tuned(route_desk: StubDesk, facts: dict[str, Any], kind: str = "tune") -> str:
    """A tune job that is done."""
    id_ = route_desk.submit(NewJob(kind=kind, body={})).id
    route_desk.begin(id_)
    route_desk._end(id_, State.DONE, Result(facts=facts))
    return id_


def test_profiles_are_listed_adopted_and_forgotten(
    route_client: TestClient, route_desk: StubDesk, route_settings: Settings
) -> None:
    assert route_client.get("/ui/tune/profiles").json() == []
    file = save_profile(PROFILE, route_settings.data_dir).name
    (said,) = route_client.get("/ui/tune/profiles").json()
    assert (said["file"], said["asked"], said["staleness"]) == (file, {"layers": "packed"}, None)
    job = tuned(route_desk, {"rows": ROWS})
    adopted = route_client.post(f"/ui/tune/profiles/{file}/adopt", json={"job": job, "row": "attention math"})
    assert adopted.json()["asked"] == {"attention": "math"}
    kept = load_profile(SLOT, route_settings.data_dir)
    assert kept is not None
    assert kept.asked == Asked(attention="math")
    assert kept.summary["psnr_db"] == 60.0
    assert kept.versions == PROFILE.versions
    assert route_client.delete(f"/ui/tune/profiles/{file}").status_code == 204
    assert load_profile(SLOT, route_settings.data_dir) is None


def test_what_did_not_keep_its_promise_is_not_adopted(
    route_client: TestClient, route_desk: StubDesk, route_settings: Settings
) -> None:
    file = save_profile(PROFILE, route_settings.data_dir).name
    job = tuned(route_desk, {"rows": ROWS})
    path = f"/ui/tune/profiles/{file}/adopt"
    assert "can't be adopted" in refusal(route_client.post(path, json={"job": job, "row": "dtype fp16"}))
    assert "unknown row" in refusal(route_client.post(path, json={"job": job, "row": "nobody"}))
    other = tuned(route_desk, {}, kind="bench")
    assert "no table" in refusal(route_client.post(path, json={"job": other, "row": "x"}))
    assert route_client.post(path, json={"job": "nobody", "row": "x"}).status_code == 404
    assert load_profile(SLOT, route_settings.data_dir) == PROFILE


def test_a_profile_of_another_torch_is_stale(
    route_client: TestClient, route_desk: StubDesk, route_settings: Settings
) -> None:
    save_profile(PROFILE, route_settings.data_dir)
    route_desk.state = replace(route_desk.state, facts={"torch": "2.14.0", "device": "CPU"})
    (said,) = route_client.get("/ui/tune/profiles").json()
    assert said["staleness"] == "torch 2.13.0 is now 2.14.0"


@pytest.mark.parametrize("name", ["nobody.json", "..%2Fx.json", "%2Fetc%2Fpasswd"])
def test_no_name_of_a_profile_removes_another_file(
    name: str, route_client: TestClient, route_settings: Settings
) -> None:
    save_profile(PROFILE, route_settings.data_dir)
    outside = route_settings.data_dir / "x.json"
    outside.write_text("{}")
    assert route_client.delete(f"/ui/tune/profiles/{name}").status_code in (404, 422)
    assert outside.exists()


def test_the_promise_stays_the_profiles_own_whatever_a_row_asked_for() -> None:
    row = {"name": "x", "verdict": "faster", "reason": "", "asked": {"promise": "fast", "tome": 0.3}}
    adopted = adopted_profile(PROFILE, row, datetime(2026, 11, 30, tzinfo=UTC))
    assert (adopted.slot, adopted.asked) == (SLOT, Asked(tome=0.3))
    assert adopted.at == "2026-11-30T00:00:00Z"
    with pytest.raises(UsageError):
        adopted_profile(PROFILE, {**row, "verdict": "did not act"}, datetime.now(UTC))


# ---------------------------------------------------------------------------------------------- measurements


def measurement(label: str) -> dict[str, Any]:
    return {
        "at": "2026-11-30T00:00:00Z",
        "label": label,
        "preset": "quick",
        "model": {"name": "built-in"},
        "summary": {"it_per_s": {"median": 3.5, "low": 3.4, "high": 3.6}},
        "difference": {"psnr_db": None, "ssim": 1.0, "max_levels": 0},
    }


def test_measurements_are_listed_the_newest_first(route_client: TestClient, route_settings: Settings) -> None:
    assert route_client.get("/ui/bench/measurements").json() == {"measurements": [], "notes": []}
    history = History(path=route_settings.data_dir / FILE_NAME)
    for label in ("old", "<b>new</b>"):
        history.add(measurement(label))
    new, old = route_client.get("/ui/bench/measurements").json()["measurements"]
    assert (new["setting"], old["setting"]) == ("<b>new</b>", "old")
    assert new["it_per_s"] == {"median": 3.5, "low": 3.4, "high": 3.6}
    assert (new["is_compared"], new["psnr_db"]) == (True, None)


def test_the_report_runs_nothing_and_escapes_labels(route_client: TestClient, route_settings: Settings) -> None:
    history = History(path=route_settings.data_dir / FILE_NAME)
    number = history.add(measurement("<script>alert(1)</script>"))
    history.add(measurement("another"))
    report = route_client.get("/ui/bench/report", params={"number": number})
    assert "<script>alert" not in report.text
    assert "another" not in report.text
    assert "script-src" not in report.headers["content-security-policy"]
    assert "default-src 'none'" in report.headers["content-security-policy"]
    assert refusal(route_client.get("/ui/bench/report", params={"number": "999"}))
