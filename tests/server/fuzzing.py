"""Both APIs over a desk that checks and queues as the real one does and makes small pictures at once; the fuzzer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from hayate.jobs.bodies import body_object, read_body
from hayate.jobs.inputs import Inputs, names_of
from hayate.jobs.queue import Queue
from hayate.jobs.records import JobRecord, NewJob
from hayate.server.app import create_app
from hayate.server.doctor_desk import DoctorDesk
from hayate.settings import Settings, load_settings
from tests.server.doctor_practice import SheetPractice
from tests.server.fake_desk import FakeDesk

ENDLESS = ("/v1/events",)
"""Answers that end with the server only."""
CHECKS = ("status_code_conformance", "content_type_conformance", "response_schema_conformance")


class FuzzDesk(FakeDesk):
    """Its checks and its database are real; what is made for a job is small whatever was asked."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.data_dir / "server", settings)
        self.inputs = Inputs(self.folder)
        self.queue = Queue(self.folder, most_waiting=10**6)

    def submit(self, new: NewJob) -> JobRecord:
        body = read_body(new.kind, new.body)
        body.check(self.settings, self.inputs.folder)
        record, _ = self.queue.add(replace(new, body=body_object(body)), names_of(body.inputs()))
        assert self.queue.job(record.id).body == record.body
        if new.kind != "generate":
            return super().submit(replace(new, kind="load", body={}))
        asked = {**new.body["request"], "width_px": 64, "height_px": 64, "batch_count": 1, "batch_size": 1}
        made = {"script": None, **new.body, "request": asked, "wants_grid": False, "saves_pictures": False}
        return super().submit(replace(new, body=made))

    def keep_input(self, data: bytes) -> Path:
        return self.inputs.keep(data)

    async def ask(self, question: str, /, **arguments: Any) -> Mapping[str, Any]:
        return {"ram": {}, "cuda": {}} if question == "memory" else {"question": question, "arguments": arguments}


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzReport:
    """What a run has found."""

    operations: int
    requests: int
    faults: tuple[str, ...]


def fuzz(app: FastAPI, *, examples: int) -> FuzzReport:
    """Sends every operation of the document what fits its schema and what does not, `examples` times each."""
    import schemathesis

    document = schemathesis.openapi.from_asgi("/openapi.json", AsLocal(app)).exclude(path=list(ENDLESS))
    operations = [each.ok() for each in document.get_all_operations()]
    checks = [getattr(schemathesis.checks, name) for name in CHECKS]
    found: list[str] = []
    requests = 0
    for operation in operations:
        for mode in schemathesis.GenerationMode:
            sent, fault = _fuzz_one(operation.as_strategy(generation_mode=mode), checks, examples)
            requests += sent
            found += [f"{operation.label} {mode.value}: {fault}"] if fault else []
    return FuzzReport(operations=len(operations), requests=requests, faults=tuple(found))


def _fuzz_one(cases: Any, checks: list[Any], examples: int) -> tuple[int, str]:
    """How many requests were sent, and the fault that was found, if any."""
    import hypothesis
    from schemathesis.core.failures import FailureGroup

    sent = 0

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=cases)
    def send(case: Any) -> None:
        nonlocal sent
        sent += 1
        answer = case.call_and_validate(checks=checks)
        if answer.status_code >= 500:  # 501 for what there is not, 503 with the time to come back
            assert str(answer.status_code) in case.operation.definition.raw["responses"]
            assert answer.status_code != 503 or "retry-after" in answer.headers

    try:
        send()
    except hypothesis.errors.Unsatisfiable:
        return sent, ""  # an operation that takes nothing can't be sent anything wrong
    except AssertionError as fault:
        return sent, str(fault)[:1500]
    except FailureGroup as group:
        return sent, "\n".join(f"{type(each).__name__}: {each}" for each in group.exceptions)[:1500]
    return sent, ""


class AsLocal:
    """Calls the application by a name of this machine, whatever the fuzzer calls it; guards have their own tests."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            others = [(name, value) for name, value in scope["headers"] if name not in (b"host", b"origin")]
            scope = {**scope, "headers": [(b"host", b"localhost"), *others]}
        await self.app(scope, receive, send)


def fuzzed_app(folder: Path) -> FastAPI:
    """The whole application, with all its guards."""
    folders = {name: folder / name for name in ("models_dir", "vae_dir", "lora_dir", "embeddings_dir", "outputs_dir")}
    own = {"data_dir": folder / "data", "cache_dir": folder / "cache", "styles_file": folder / "styles.csv"}
    settings = load_settings({**folders, **own}, environment={})
    desk = FuzzDesk(settings)
    desk.start()
    app = create_app(desk, settings)
    app.state.doctor = DoctorDesk(settings.data_dir, SheetPractice())  # nothing of this machine is looked at or changed
    return app
