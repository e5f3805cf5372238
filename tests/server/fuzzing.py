"""Both APIs over a desk that checks and queues as the real one does and makes small pictures at once, for the fuzzer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from hayate.jobs.bodies import body_object, read_body
from hayate.jobs.inputs import Inputs, names_of
from hayate.jobs.queue import Queue
from hayate.jobs.records import JobRecord, NewJob
from hayate.server.app import create_app
from hayate.settings import Settings, load_settings
from tests.server.fake_desk import FakeDesk

ENDLESS = ("/v1/events",)
"""Answers that end with the server only."""


class FuzzDesk(FakeDesk):
    """Its checks and its database are real; what is made for a job is small whatever was asked."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.data_dir / "server")
        self.settings = settings
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
        made = {**new.body, "request": asked, "wants_grid": False, "saves_pictures": False}
        return super().submit(replace(new, body=made))

    def keep_input(self, data: bytes) -> Path:
        return self.inputs.keep(data)

    async def ask(self, question: str, /, **arguments: Any) -> Mapping[str, Any]:
        return {"question": question, "arguments": arguments}


class AsLocal:
    """Calls the application by a name of this machine, whatever the fuzzer calls it; its guards have their own tests."""

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
    return create_app(desk, settings)
