"""The asynchronous API over a desk without a worker."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from hayate.jobs.records import Event, Picture, WorkerPhase, WorkerState
from hayate.server.app import create_app
from hayate.server.lifecycle import Lifecycle
from hayate.server.metrics import Metrics
from hayate.settings import Settings, load_settings
from tests.server.stub_desk import StubDesk

JOB = {"kind": "generate", "body": {"request": {"prompt": "a lake"}}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"data_dir": tmp_path / "data", "outputs_dir": tmp_path / "outputs"}, environment={})


@pytest.fixture
def desk(settings: Settings) -> StubDesk:
    made = StubDesk(settings.data_dir / "server", room=10)
    made.start()
    return made


@pytest.fixture
def lifecycle() -> Lifecycle:
    return Lifecycle()


@pytest.fixture
def caller(desk: StubDesk, settings: Settings, lifecycle: Lifecycle) -> Iterator[TestClient]:
    with TestClient(create_app(desk, settings, lifecycle=lifecycle), base_url="http://localhost") as opened:
        yield opened


def png(side_px: int = 32, colour: str = "teal") -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (side_px, side_px), colour).save(made, "PNG")
    return made.getvalue()


def made_picture(path: Path, side_px: int = 600) -> Picture:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(side_px))
    return Picture(
        path=str(path),
        seed=7,
        subseed=8,
        infotext="a lake\nSteps: 2",
        width_px=side_px,
        height_px=side_px,
        is_saved=True,
    )


def test_a_job_is_taken_found_and_ended(caller: TestClient) -> None:
    answer = caller.post("/v1/jobs", json=JOB)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["body"], job["client"]) == ("queued", JOB["body"], "api")
    assert caller.get(answer.headers["location"]).json() == job
    assert caller.delete(answer.headers["location"]).json()["state"] == "cancelled"
    assert caller.get(answer.headers["location"]).json()["state"] == "cancelled"


@pytest.mark.parametrize("path", ["", "/events", "/pictures/0", "/grid", "/preview"])
def test_an_unknown_job_is_404_and_never_done(caller: TestClient, path: str) -> None:
    answer = caller.get(f"/v1/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV{path}")
    assert answer.status_code == 404
    assert answer.json()["error"] == "UnknownJob"


@pytest.mark.parametrize("method", ["delete", "post"])
def test_nobody_ends_an_unknown_job(caller: TestClient, method: str) -> None:
    path = "/v1/jobs/nope" + ("/skip" if method == "post" else "")
    assert getattr(caller, method)(path).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "generate"},
        {"kind": 3, "body": {}},
        {"kind": "generate", "body": []},
        {"kind": "generate", "body": {}, "priority": 10**30},
        {"kind": "generate", "body": {}, "priorty": 1},
        {"kind": "genrate", "body": {}},
        [],
        None,
    ],
)
def test_what_is_no_job_is_422_with_a_reason(caller: TestClient, body: Any) -> None:
    answer = caller.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert set(answer.json()) == {"error", "message", "hint"}
    assert answer.json()["message"]
    assert caller.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": Infinity}', r'{"a": "\ud83d"}', r'{"\udc00": 1}'])
def test_json_that_only_python_reads_is_refused(caller: TestClient, text: str) -> None:
    content = f'{{"kind": "generate", "body": {text}}}'
    assert caller.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"}).status_code == 422


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, '{"kind": "generate", "body": ' + '{"a":' * 10_000])
def test_what_is_no_json_is_4xx(caller: TestClient, text: str) -> None:
    answer = caller.post("/v1/jobs", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)


def test_the_same_key_and_body_are_the_same_job(caller: TestClient) -> None:
    key = {"Idempotency-Key": "mine"}
    first, again = (caller.post("/v1/jobs", json=JOB, headers=key).json()["id"] for _ in range(2))
    assert first == again
    other = caller.post("/v1/jobs", json={"kind": "generate", "body": {}}, headers=key)
    assert other.status_code == 409
    assert other.json()["error"] == "KeyReused"
    assert len(caller.get("/v1/jobs").json()["jobs"]) == 1


def test_a_full_queue_says_when_to_come_back(caller: TestClient) -> None:
    answers = [caller.post("/v1/jobs", json=JOB) for _ in range(14)]
    assert [each.status_code for each in answers] == [202] * 10 + [503] * 4
    assert int(answers[-1].headers["retry-after"]) > 0
    assert len(caller.get("/v1/jobs").json()["jobs"]) == 10


def test_a_server_that_ends_takes_no_jobs(caller: TestClient, desk: StubDesk) -> None:
    desk.is_closed = True
    answer = caller.post("/v1/jobs", json=JOB)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


def test_jobs_are_listed_page_by_page(caller: TestClient, desk: StubDesk) -> None:
    ids = [caller.post("/v1/jobs", json=JOB).json()["id"] for _ in range(5)]
    desk.begin(ids[0])
    seen: list[str] = []
    before = ""
    while True:
        page = caller.get("/v1/jobs", params={"limit": 2, "before": before}).json()
        seen += [job["id"] for job in page["jobs"]]
        if page["next"] is None:
            break
        before = page["next"]
    assert seen == ids[::-1]
    running = caller.get("/v1/jobs", params={"state": "running"}).json()["jobs"]
    assert [(job["id"], job["progress"]["it_per_s"]) for job in running] == [(ids[0], 12.5)]
    both = caller.get("/v1/jobs", params={"state": ["running", "queued"], "kind": "generate"}).json()["jobs"]
    assert len(both) == 5
    assert caller.get("/v1/jobs", params={"kind": "merge"}).json()["jobs"] == []
    assert caller.get("/v1/jobs", params={"state": "lost"}).status_code == 422
    assert caller.get("/v1/jobs", params={"limit": 0}).status_code == 422


def test_ending_one_job_leaves_the_others(caller: TestClient, desk: StubDesk) -> None:
    first, second = (caller.post("/v1/jobs", json=JOB).json()["id"] for _ in range(2))
    desk.begin(second)
    caller.delete(f"/v1/jobs/{first}")
    assert caller.get(f"/v1/jobs/{second}").json()["state"] == "running"


def test_only_a_job_that_has_ended_is_forgotten(caller: TestClient) -> None:
    path = "/v1/jobs/" + caller.post("/v1/jobs", json=JOB).json()["id"]
    assert caller.delete(path, params={"forget": True}).status_code == 422
    caller.delete(path)
    assert caller.delete(path, params={"forget": True}).status_code == 200
    assert caller.get(path).status_code == 404


def events_of(answer: Any) -> list[tuple[str, dict[str, Any], str]]:
    """(kind, data, id) of every event of a stream that has ended."""
    found = []
    for block in answer.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"]), fields.get("id", "")))
    return found


def listen(caller: TestClient, path: str, **headers: str) -> tuple[threading.Thread, list[Any]]:
    """A request in another thread, with its answer when it has come."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(caller.get(path, headers=headers)))
    thread.start()
    return thread, answers


def wait_until(claim: Any) -> None:
    """Raises: AssertionError where it does not come true within ten seconds."""
    until_s = time.monotonic() + 10
    while not claim():
        assert time.monotonic() < until_s
        time.sleep(0.005)


def test_a_jobs_events_end_with_it(caller: TestClient, desk: StubDesk) -> None:
    id_ = caller.post("/v1/jobs", json=JOB).json()["id"]
    other = caller.post("/v1/jobs", json=JOB).json()["id"]
    thread, answers = listen(caller, f"/v1/jobs/{id_}/events")
    wait_until(lambda: desk.watchers and desk.looks)
    desk.begin(id_)
    desk.step(id_, jpeg=b"jpeg")
    desk.cancel(other)
    desk.finish(id_)
    thread.join(10)
    assert not thread.is_alive()
    assert answers[0].headers["content-type"].startswith("text/event-stream")
    found = events_of(answers[0])
    assert [kind for kind, _, _ in found] == ["job", "started", "progress", "done"]
    assert {data.get("job", id_) for _, data, _ in found} == {id_}
    assert found[0][1]["state"] == "queued"
    numbers = [int(number) for _, _, number in found[1:]]
    assert numbers == sorted(numbers)
    assert desk.watchers == 0


def test_who_comes_back_gets_what_was_missed(caller: TestClient, desk: StubDesk) -> None:
    id_ = caller.post("/v1/jobs", json=JOB).json()["id"]
    desk.begin(id_)
    started = desk.remembered[-1].number
    desk.step(id_)
    thread, answers = listen(caller, f"/v1/jobs/{id_}/events", **{"Last-Event-ID": str(started)})
    wait_until(lambda: desk.watchers and desk.looks)
    desk.finish(id_)
    thread.join(10)
    assert [kind for kind, _, _ in events_of(answers[0])] == ["job", "progress", "done"]


def test_the_events_of_a_job_that_has_ended_are_its_end(caller: TestClient, desk: StubDesk) -> None:
    id_ = caller.post("/v1/jobs", json=JOB).json()["id"]
    desk.cancel(id_)
    for last in ("", "0", "99999999999999999999", "x", "-1"):
        found = events_of(caller.get(f"/v1/jobs/{id_}/events", headers={"Last-Event-ID": last} if last else {}))
        assert [(kind, data["state"]) for kind, data, _ in found] == [("job", "cancelled")]


def test_open_streams_end_with_the_server(caller: TestClient, desk: StubDesk, lifecycle: Lifecycle) -> None:
    caller.post("/v1/jobs", json=JOB)
    id_ = next(iter(desk.records))
    streams = [listen(caller, "/v1/events"), listen(caller, f"/v1/jobs/{id_}/events")]
    wait_until(lambda: desk.watchers == 2)
    lifecycle.end()
    for thread, answers in streams:
        thread.join(10)
        assert not thread.is_alive()
        assert answers[0].status_code == 200
    wait_until(lambda: not desk.listeners)
    assert caller.get("/readyz").status_code == 503


def test_pictures_come_as_they_were_saved_and_small(caller: TestClient, desk: StubDesk, settings: Settings) -> None:
    id_ = caller.post("/v1/jobs", json=JOB).json()["id"]
    picture = made_picture(settings.outputs_dir / "00000-7.png")
    desk.begin(id_)
    desk.finish(id_, (picture,))
    (shown,) = caller.get(f"/v1/jobs/{id_}").json()["pictures"]
    assert (shown["name"], shown["seed"], shown["infotext"]) == ("00000-7.png", 7, "a lake\nSteps: 2")
    answer = caller.get(shown["url"])
    assert answer.content == Path(picture.path).read_bytes()
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    small = Image.open(io.BytesIO(caller.get(shown["url"], params={"thumb": 256}).content))
    assert (small.format, small.size) == ("JPEG", (256, 256))
    assert caller.get(shown["url"], params={"thumb": 257}).status_code == 422
    assert caller.get(f"/v1/jobs/{id_}/pictures/1").status_code == 404
    assert caller.get(f"/v1/jobs/{id_}/pictures/-1").status_code == 404
    assert caller.get(f"/v1/jobs/{id_}/grid").status_code == 404
    Path(picture.path).unlink()
    assert caller.get(shown["url"]).status_code == 404


def test_a_picture_outside_the_folders_of_pictures_is_not_shown(
    caller: TestClient, desk: StubDesk, settings: Settings, tmp_path: Path
) -> None:
    """Whatever the database says: by its own path, and by a link inside."""
    outside = made_picture(tmp_path / "elsewhere" / "secret.png")
    link = settings.outputs_dir / "link.png"
    link.parent.mkdir(parents=True)
    link.symlink_to(outside.path)
    text = settings.outputs_dir / "notes.txt"
    text.write_text("secret")
    others = [outside, replace(outside, path=str(link)), replace(outside, path=str(text)), replace(outside, path="\0")]
    id_ = caller.post("/v1/jobs", json=JOB).json()["id"]
    desk.begin(id_)
    desk.finish(id_, tuple(others))
    for index in range(len(others)):
        for query in ({}, {"thumb": 256}):
            assert caller.get(f"/v1/jobs/{id_}/pictures/{index}", params=query).status_code == 404


HOSTILE = [
    "../jobs.sqlite3",
    "..%2fjobs.sqlite3",
    "%2e%2e%2fjobs.sqlite3",
    "..%5cjobs.sqlite3",
    "%2fetc%2fpasswd",
    "a%00.png",
    "CON",
    "x" * 300 + ".png",
    "link.png",
    "",
    ".",
    "..",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leads_out_of_the_inputs(caller: TestClient, settings: Settings, name: str) -> None:
    folder = settings.data_dir / "server" / "inputs"
    (folder.parent / "jobs.sqlite3").write_bytes(b"secret")
    (folder / "link.png").symlink_to(folder.parent / "jobs.sqlite3")
    answer = caller.get(f"/v1/images/{name}")
    assert answer.status_code in (404, 405)
    assert b"secret" not in answer.content


def test_a_picture_to_start_from_is_kept_by_its_content(caller: TestClient) -> None:
    kept = [caller.post("/v1/images", content=png(), headers={"Content-Type": "image/png"}) for _ in range(2)]
    assert [each.status_code for each in kept] == [201, 201]
    names = {each.json()["name"] for each in kept}
    assert len(names) == 1
    assert caller.get(f"/v1/images/{names.pop()}").content == png()
    refused = caller.post("/v1/images", content=b"%!PS-Adobe", headers={"Content-Type": "image/png"})
    assert refused.status_code == 422
    assert caller.post("/v1/images", content=png(), headers={"Content-Type": "text/plain"}).status_code == 415


def test_a_preview_is_there_while_it_is(caller: TestClient, desk: StubDesk) -> None:
    id_ = caller.post("/v1/jobs", json=JOB).json()["id"]
    desk.begin(id_)
    assert caller.get(f"/v1/jobs/{id_}/preview").status_code == 404
    desk.step(id_, jpeg=b"\xff\xd8jpeg")
    answer = caller.get(f"/v1/jobs/{id_}/preview")
    assert (answer.content, answer.headers["content-type"]) == (b"\xff\xd8jpeg", "image/jpeg")
    assert caller.get(f"/v1/jobs/{id_}").json()["progress"]["preview"] == 1
    desk.finish(id_)
    assert caller.get(f"/v1/jobs/{id_}/preview").status_code == 404


def test_the_history_has_every_picture_once(caller: TestClient, desk: StubDesk, settings: Settings) -> None:
    for turn in range(7):
        id_ = caller.post("/v1/jobs", json=JOB).json()["id"]
        desk.begin(id_)
        pictures = [made_picture(settings.outputs_dir / f"{turn}-{each}.png", 8) for each in range(3)]
        desk.finish(id_, (*pictures[:2], replace(pictures[2], infotext=f"Über {turn}")))
    seen: list[str] = []
    before: str | None = ""
    while before is not None:
        page = caller.get("/v1/pictures", params={"limit": 4, "before": before}).json()
        seen += [each["name"] for each in page["pictures"]]
        before = page["next"]
    assert seen == [f"{turn}-{each}.png" for turn in range(6, -1, -1) for each in range(3)]
    found = caller.get("/v1/pictures", params={"search": "über 3"}).json()["pictures"]
    assert [each["name"] for each in found] == ["3-2.png"]


def test_health_and_readiness_are_not_the_same(caller: TestClient, desk: StubDesk) -> None:
    assert caller.get("/healthz").json()["name"] == "hayate"
    for phase in WorkerPhase:
        desk.state = replace(desk.state, phase=phase)
        ready = caller.get("/readyz")
        assert ready.status_code == (200 if phase in ("idle", "busy", "loading") else 503)
        assert ready.json()["phase"] == phase
        assert caller.get("/healthz").status_code == 200


def test_of_several_workers_each_is_told(caller: TestClient, desk: StubDesk) -> None:
    desk.state = replace(desk.state, phase=WorkerPhase.DOWN, device="cuda:0", restarts=3)
    desk.others = (WorkerState(phase=WorkerPhase.IDLE, device="cuda:1", restarts=1),)
    workers = caller.get("/v1/workers").json()
    assert [(each["device"], each["phase"]) for each in workers] == [("cuda:0", "down"), ("cuda:1", "idle")]
    assert caller.get("/v1/worker").json() == workers[0]
    assert caller.get("/readyz").json() == {"is_ready": True, "phase": "idle"}
    counted = metrics_of(caller)
    assert counted["hayate_worker_restarts[]"] == 4
    assert (counted["hayate_worker_phase['down']"], counted["hayate_worker_phase['idle']"]) == (1, 1)


def test_the_speeds_of_jobs_that_run_at_once_add_up(desk: StubDesk) -> None:
    metrics = Metrics(desk)

    def speed_after(*events: tuple[str, str, float]) -> float:
        for job, kind, speed in events:
            event = Event(number=1, job=job, kind=kind, data={"it_per_s": speed, "attempt": 1})
            asyncio.run(metrics.note_event(event))
        return metrics.registry.get_sample_value("hayate_iterations_per_second") or 0.0

    assert speed_after(("a", "progress", 2.0), ("b", "progress", 3.0)) == 5.0
    assert speed_after(("a", "progress", 4.0)) == 7.0
    assert speed_after(("a", "queued", 0.0)) == 3.0  # its worker has crashed
    assert speed_after(("b", "progress", 0.0)) == 0.0


def test_the_start_up_profile_has_both_processes(caller: TestClient) -> None:
    profile = caller.get("/internal/profile-startup").json()
    assert profile["records"]["worker/import"] == 1.5
    assert profile["total"] >= profile["records"]["interpreter"] >= 0


def test_reading_changes_nothing(caller: TestClient, desk: StubDesk) -> None:
    """GET never changes state: every route that can be read without a name is, and the desk is as before."""
    caller.post("/v1/jobs", json=JOB)
    before = dict(desk.records)
    document = caller.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        if "get" in methods and "{" not in path and "events" not in path:
            assert caller.get(path).status_code < 500, path
    assert desk.records == before
    assert desk.closings == 0


def metrics_of(caller: TestClient) -> dict[str, float]:
    """Read by Prometheus' own parser: name and labels → value."""
    families = text_string_to_metric_families(caller.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return {f"{each.name}{sorted(each.labels.values())}": each.value for each in samples}


def test_prometheus_reads_what_was_counted(caller: TestClient, desk: StubDesk, settings: Settings) -> None:
    wait_until(lambda: desk.listeners)  # the counting has begun
    first, second, third = (caller.post("/v1/jobs", json=JOB).json()["id"] for _ in range(3))
    desk.begin(first)
    desk.finish(first, (made_picture(settings.outputs_dir / "a.png", 8),) * 2)
    desk.cancel(second)
    desk.begin(third)
    caller.get("/v1/jobs/nobodys-first")
    caller.get("/v1/jobs/nobodys-second")
    caller.request("BREW", "/nothing")
    wait_until(lambda: metrics_of(caller).get("hayate_jobs_total['cancelled', 'generate']"))
    counted = metrics_of(caller)
    assert counted["hayate_jobs_taken_total[]"] == 3
    assert counted["hayate_jobs_total['done', 'generate']"] == 1
    assert counted["hayate_pictures_total[]"] == 2
    assert counted["hayate_job_seconds_count['generate']"] == 1
    assert (counted["hayate_jobs['queued']"], counted["hayate_jobs['running']"]) == (0, 1)
    assert counted["hayate_worker_phase['idle']"] == 1
    assert counted["hayate_worker_restarts[]"] == 0
    assert counted["hayate_http_seconds_count['/v1/jobs/{id}', '404', 'GET']"] == 2
    assert not any("nobodys" in name or "BREW" in name for name in counted)
    assert desk.watchers == 0  # counting makes no previews


def test_lists_name_what_there_is_and_what_is_wrong_with_it(caller: TestClient, settings: Settings) -> None:
    names = [each["name"] for each in caller.get("/v1/models").json()]
    assert names[0] == "built-in"
    assert "DPM++ 2M" in [each["name"] for each in caller.get("/v1/samplers").json()]
    assert {"Automatic", "Karras"} <= set(caller.get("/v1/schedulers").json())
    assert caller.get("/v1/upscalers").json()["pixels"][0] == "None"
    for name in ("vaes", "loras", "embeddings", "styles"):
        assert isinstance(caller.get(f"/v1/{name}").json(), list)
    presets = caller.get("/v1/bench").json()["presets"]
    assert "quick" in [each["name"] for each in presets]
    assert caller.get("/v1/tune").json() == []
    assert not (settings.data_dir / "profiles").exists()


def test_settings_are_set_as_a_whole_or_not_at_all(caller: TestClient, desk: StubDesk) -> None:
    def value(key: str) -> Any:
        return next(each for each in caller.get("/v1/settings").json() if each["key"] == key)

    assert (value("steps")["value"], value("steps")["is_chosen"]) == (20, False)
    assert caller.patch("/v1/settings", json={"steps": 7, "cfg": 3}).status_code == 200
    assert (value("steps")["value"], value("steps")["is_chosen"], value("steps")["default"]) == (7, True, 20)
    for refused in ({"steps": 0, "cfg": 5}, {"stpes": 7}, {"steps": "many"}, {"outputs_dir": "/tmp"}, {"cfg": []}):
        assert caller.patch("/v1/settings", json=refused).status_code == 422
    assert (value("steps")["value"], value("cfg")["value"]) == (7, 3)
    job = caller.post("/v1/jobs", json={"kind": "generate", "body": {"request": {}, "settings": {"cfg": 9}}}).json()
    assert job["body"]["settings"] == {"steps": 7, "cfg": 9}
    assert caller.patch("/v1/settings", json={"steps": None}).status_code == 200
    assert value("steps")["value"] == 20
    assert not value("models_dir")["is_writable"]
    assert desk.closings == 0


def test_a_plan_is_asked_of_the_worker_with_what_was_chosen(caller: TestClient) -> None:
    caller.patch("/v1/settings", json={"promise": "fast"})
    plan = caller.post("/v1/plan", json={"request": {"model": "built-in"}, "settings": {"dtype": "bf16"}}).json()
    assert plan == {
        "question": "plan",
        "request": {"model": "built-in"},
        "asked": {},
        "changes": {"promise": "fast", "dtype": "bf16"},
    }
    assert caller.get("/v1/plan", params={"model": "x"}).json()["request"] == {"model": "x"}
    assert caller.post("/v1/plan", json={"requst": {}}).status_code == 422


@pytest.mark.parametrize("kind", ["bench", "tune"])
def test_measuring_is_a_job(caller: TestClient, desk: StubDesk, kind: str) -> None:
    answer = caller.post(f"/v1/{kind}", json={"model": "built-in"})
    assert answer.status_code == 202
    assert desk.job(answer.headers["location"].rpartition("/")[2]).kind == kind


def test_a_file_that_one_api_was_told_of_is_there_for_the_other(desk: StubDesk, settings: Settings) -> None:
    settings = replace(settings, lora_dir=settings.data_dir / "loras")
    settings.lora_dir.mkdir(parents=True)
    with TestClient(create_app(desk, settings), base_url="http://localhost") as caller:
        assert caller.get("/v1/loras").json() == []
        (settings.lora_dir / "new.safetensors").write_bytes(b"")
        caller.post("/sdapi/v1/refresh-loras")
        assert [each["name"] for each in caller.get("/v1/loras").json()] == ["new"]
