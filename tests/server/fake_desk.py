"""A desk without a worker: it "makes" small pictures at once, or holds jobs until a test lets them go on."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hayate.errors import HayateError, UnknownJob, UsageError
from hayate.jobs.bodies import read_body
from hayate.jobs.inputs import Inputs
from hayate.jobs.records import (
    Event,
    Failure,
    JobRecord,
    NewJob,
    Picture,
    PictureRecord,
    Progress,
    Result,
    State,
    WorkerPhase,
    WorkerState,
)
from hayate.pipeline.formats import PictureTexts, encode_png
from hayate.pipeline.infotext import Infotext, format_infotext, order_parameters
from hayate.settings import Settings, load_settings


class FakeDesk:
    """A `Desk` in memory, which checks jobs as the real one does. While `is_held` they wait until `let_go` does one."""

    def __init__(self, folder: Path, settings: Settings | None = None, *, is_held: bool = False) -> None:
        self.folder = folder
        self.settings = settings or load_settings()
        self.is_held = is_held
        self.makes_pictures = True
        self.notes: tuple[str, ...] = ()
        self.handed_in: list[NewJob] = []
        self.answers: dict[str, Mapping[str, Any] | HayateError] = {}
        self.refusal: HayateError | None = None
        self.now: Progress | None = None
        self.worker_state = WorkerState(phase=WorkerPhase.IDLE, model="built-in")
        self.skipped: list[str] = []
        self._records: dict[str, JobRecord] = {}
        self._number = itertools.count()
        self._changed = threading.Condition()

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    async def close(self, grace_s: float) -> None:
        del grace_s

    def submit(self, new: NewJob) -> JobRecord:
        if self.refusal is not None:
            raise self.refusal
        read_body(new.kind, json.loads(json.dumps(new.body))).check(self.settings, self.folder / "inputs")
        record = JobRecord(
            id=f"{next(self._number):026d}",
            kind=new.kind,
            body=new.body,
            priority=new.priority,
            key=new.key,
            client=new.client,
            state=State.QUEUED,
            attempt=0,
            created_s=time.time(),
            started_s=None,
            ended_s=None,
            result=None,
            failure=None,
        )
        self.handed_in.append(new)
        self._put(record)
        if not self.is_held:
            self.let_go(record.id)
        return self._records[record.id]

    def begin(self, id_: str, progress: Progress | None = None) -> None:
        """The job runs from now on."""
        self._put(replace(self._records[id_], state=State.RUNNING, attempt=1, started_s=time.time()))
        self.now = progress or Progress(job=id_, phase="sampling", row=2, rows=4, share=0.5, eta_s=1.5)

    def let_go(self, id_: str) -> None:
        """The job is done at once."""
        self.begin(id_)
        record = self._records[id_]
        try:
            self._end(id_, State.DONE, result=self._make(record))
        except HayateError as error:
            self.fail(id_, error)

    def fail(self, id_: str, error: HayateError) -> None:
        failure = Failure(type=type(error).__name__, message=error.message, hint=error.hint, status=error.http_status)
        self._end(id_, State.FAILED, failure=failure)

    def job(self, id_: str) -> JobRecord:
        if id_ not in self._records:
            raise UnknownJob("no job has this id", hint="ids are those that were given out")
        return self._records[id_]

    def jobs(
        self, *, states: Collection[State] = (), kinds: Collection[str] = (), before: str = "", limit: int = 100
    ) -> Sequence[JobRecord]:
        found = [
            each
            for id_, each in sorted(self._records.items(), reverse=True)
            if (not states or each.state in states) and (not kinds or each.kind in kinds)
            if not before or id_ < before
        ]
        return found[:limit]

    def queued(self) -> Sequence[JobRecord]:
        return [each for _, each in sorted(self._records.items()) if each.state is State.QUEUED]

    def count(self, state: State) -> int:
        return sum(each.state is state for each in self._records.values())

    def pictures(
        self, *, before: int | None = None, limit: int = 100, only_saved: bool = True
    ) -> Sequence[PictureRecord]:
        del before, limit, only_saved
        return ()

    def cancel(self, id_: str) -> JobRecord:
        if not self.job(id_).state.is_terminal:
            self._end(id_, State.CANCELLED, result=Result())
        return self.job(id_)

    def skip(self, id_: str) -> JobRecord:
        self.skipped.append(self.job(id_).id)
        return self.job(id_)

    def delete(self, id_: str) -> None:
        if not self.job(id_).state.is_terminal:
            raise UsageError("the job has not ended", hint="cancel it first")
        del self._records[id_]

    async def wait(self, id_: str) -> JobRecord:
        while not self.job(id_).state.is_terminal:
            await asyncio.sleep(0.005)
        return self.job(id_)

    async def events(
        self, job: str | None = None, *, after: int | None = None, watches: bool = True
    ) -> AsyncIterator[Event]:
        del after, watches
        if job is not None:
            await self.wait(job)
        for number in range(0):
            yield Event(number=number, job="", kind="", data={})

    def progress(self, job: str | None = None) -> Progress | None:
        return self.now if self.now is not None and job in (None, self.now.job) else None

    def workers(self) -> Sequence[WorkerState]:
        return (self.worker_state,)

    async def ask(self, question: str, /, **arguments: Any) -> Mapping[str, Any]:
        del arguments
        answer = self.answers.get(question, UsageError("nobody is there to answer"))
        if isinstance(answer, HayateError):
            raise answer
        return answer

    def keep_input(self, data: bytes) -> Path:
        return Inputs(self.folder).keep(data)

    def _put(self, record: JobRecord) -> None:
        with self._changed:
            self._records[record.id] = record
            self._changed.notify_all()

    def _end(self, id_: str, state: State, *, result: Result | None = None, failure: Failure | None = None) -> None:
        self.now = None
        self._put(replace(self._records[id_], state=state, ended_s=time.time(), result=result, failure=failure))

    def wait_for(self, count: int, limit_s: float = 20.0) -> list[JobRecord]:
        """All jobs, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._records) >= count, timeout=limit_s), "no job came"
            return list(self._records.values())

    def wait_for_end(self, id_: str, limit_s: float = 20.0) -> JobRecord:
        """The job, once it has ended."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._records[id_].state.is_terminal, timeout=limit_s), "it goes on"
            return self._records[id_]

    def _make(self, record: JobRecord) -> Result:
        if record.kind == "generate" and self.makes_pictures:
            return self._generate(record)
        if record.kind == "upscale":
            return self._upscale(record)
        return Result(facts={"kind": record.kind})

    def _generate(self, record: JobRecord) -> Result:
        asked = record.body["request"]
        count = (asked.get("batch_size") or 1) * (asked.get("batch_count") or 1)
        seed = asked.get("seed", -1)
        first = 1234 if seed == -1 else seed
        pictures = [self._picture(record, number, first + number) for number in range(count)]
        grid = None
        script = (record.body["script"] or {}).get("name")
        if (record.body["wants_grid"] and count > 1) or script in ("x/y/z plot", "prompt matrix"):
            grid = self._picture(record, count, first, name="grid").path
        facts = {"info": _info(asked, pictures)}
        return Result(pictures=tuple(pictures), grid=grid, notes=("made by nobody",), facts=facts)

    def _picture(self, record: JobRecord, number: int, seed: int, name: str = "") -> Picture:
        asked = record.body["request"]
        width, height = asked.get("width_px") or 64, asked.get("height_px") or 64
        infotext = _infotext(asked, seed, (width, height))
        path = self.folder / "results" / record.id / f"{name or number}.png"
        pixels = np.full((height, width, 3), (seed * 37) % 256, np.uint8)
        _write(path, encode_png(pixels, PictureTexts(parameters=infotext)))
        return Picture(
            path=str(path),
            seed=seed,
            subseed=seed + 1,
            infotext=infotext,
            width_px=width,
            height_px=height,
            is_saved=record.body["saves_pictures"],
        )

    def _upscale(self, record: JobRecord) -> Result:
        body = record.body
        made = []
        for number, source in enumerate(body["images"]):
            with Image.open(source) as picture:
                scale = body.get("scale", 2)
                size = (body["width_px"], body["height_px"]) if body.get("width_px") else None
                width, height = size or (int(picture.width * scale), int(picture.height * scale))
                pixels = np.asarray(picture.convert("RGB").resize((width, height)))
            path = self.folder / "results" / record.id / f"{number}.png"
            infotext = f"Postprocess upscale by: {scale}, Postprocess upscaler: {body['upscaler_1']}"
            _write(path, encode_png(pixels, PictureTexts(parameters=infotext)))
            about: dict[str, Any] = {"seed": 0, "subseed": 0, "is_saved": False, "infotext": infotext}
            made.append(Picture(path=str(path), width_px=width, height_px=height, **about))
        return Result(pictures=tuple(made))


def _info(asked: Mapping[str, Any], pictures: Sequence[Picture]) -> dict[str, Any]:
    """Some of A1111's facts, as the worker tells them."""
    return {
        "seed": pictures[0].seed,
        "all_seeds": [each.seed for each in pictures],
        "infotexts": [each.infotext for each in pictures],
        "sampler_name": asked.get("sampler"),
        "sd_model_name": "fake",
    }


def _infotext(asked: Mapping[str, Any], seed: int, size: tuple[int, int]) -> str:
    values = {
        "Steps": asked.get("steps"),
        "Sampler": asked.get("sampler"),
        "Schedule type": asked.get("scheduler"),
        "CFG scale": asked.get("cfg"),
        "Seed": seed,
        "Size": f"{size[0]}x{size[1]}",
        "Model hash": "0123456789",
        "Model": "fake",
        "Version": "Hayate test",
    }
    info = Infotext(
        prompt=asked["prompt"], negative_prompt=asked.get("negative_prompt", ""), parameters=order_parameters(values)
    )
    return format_infotext(info)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
