"""A desk that takes its time: its jobs have steps, previews and pictures, so that a page has something to show."""

from __future__ import annotations

import io
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from PIL import Image, ImageDraw

from hayate.errors import HayateError
from hayate.jobs.records import Failure, JobRecord, NewJob, Picture, Preview, Progress, Result, State, WorkerPhase
from hayate.jobs.wire import as_object
from hayate.pipeline.infotext import Infotext, format_infotext, order_parameters
from hayate.settings import Settings
from tests.server.stub_desk import StubDesk


class SlowDesk(StubDesk):
    """Makes its pictures in a thread, one job after another, `steps` steps of `step_s` seconds each."""

    def __init__(self, settings: Settings, *, steps: int = 4, step_s: float = 0.02) -> None:
        super().__init__(settings.data_dir / "server")
        self.settings = settings
        self.steps, self.step_s = steps, step_s
        self.refusals: deque[HayateError] = deque()
        self.skips = 0
        self._wake = threading.Event()
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        super().start()
        self._thread.start()

    def submit(self, new: NewJob) -> JobRecord:
        if self.refusals:
            raise self.refusals.popleft()
        record = super().submit(new)
        self._wake.set()
        return record

    def skip(self, id_: str) -> JobRecord:
        self.skips += 1
        return super().skip(id_)

    def hold(self) -> None:
        """Jobs stop after their first step, until `at_once`."""
        self._goes_on.clear()

    def at_once(self) -> None:
        """Jobs go on to their end."""
        self._goes_on.set()

    def _work(self) -> None:
        while not self.is_closed:
            waiting = self.queued()
            if not waiting:
                self._wake.wait(0.05)
                self._wake.clear()
                continue
            self._do(waiting[0])

    def _do(self, record: JobRecord) -> None:
        self.begin(record.id)
        self.state = type(self.state)(phase=WorkerPhase.BUSY, pid=1, model="built-in", facts=FACTS)
        request: Mapping[str, Any] = record.body.get("request", {})
        count = (request.get("batch_count") or 1) * (request.get("batch_size") or 1)
        for row in range(self.steps):
            if self.job(record.id).state.is_terminal:
                break
            self.running = Progress(
                job=record.id,
                phase="sampling",
                row=row + 1,
                rows=self.steps,
                pictures=request.get("batch_count") or 1,
                share=(row + 1) / self.steps,
                it_per_s=16.0,
                eta_s=(self.steps - row - 1) * self.step_s,
                preview=Preview(number=row + 1, jpeg=painted(row, (64, 64), "JPEG")),
            )
            self._tell(record.id, "progress", as_object(replace(self.running, preview=None)))
            self._tell(record.id, "preview", {"number": row + 1})
            while not self._goes_on.wait(0.02) and not self.job(record.id).state.is_terminal:
                pass
            time.sleep(self.step_s)
        self.state = type(self.state)(phase=WorkerPhase.IDLE, pid=1, model="built-in", facts=FACTS)
        if self.job(record.id).state.is_terminal:
            return
        if "fails" in request.get("prompt", ""):
            self._fail(record.id)
            return
        self.finish_with(record.id, tuple(self._picture(record, number) for number in range(count)))

    def finish_with(self, id_: str, pictures: tuple[Picture, ...]) -> None:
        facts = {"seconds": {"encode": 0.05, "sample": 1.25, "decode": 0.31}, "plan": PLAN, "speed": SPEED}
        self._end(id_, State.DONE, Result(pictures=pictures, notes=("made by nobody",), facts=facts))

    def _fail(self, id_: str) -> None:
        failure = Failure(type="EngineError", message="out of memory", hint="take a smaller size")
        self.running = None
        self._keep(replace(self.job(id_), state=State.FAILED, ended_s=time.time(), failure=failure), "failed")

    def _picture(self, record: JobRecord, number: int) -> Picture:
        request = record.body["request"]
        size = (request.get("width_px") or 512, request.get("height_px") or 512)
        seed = (1234 if request.get("seed", -1) in (-1, None) else request["seed"]) + number
        values = {
            "Steps": request.get("steps") or 20,
            "Sampler": request.get("sampler") or "DPM++ 2M",
            "Schedule type": "Karras",
            "CFG scale": request.get("cfg") or 7,
            "Seed": seed,
            "Size": f"{size[0]}x{size[1]}",
            "Model hash": "0123456789",
            "Model": "built-in",
            "Version": "Hayate test",
        }
        prompts = {name: request.get(name, "") for name in ("prompt", "negative_prompt")}
        infotext = format_infotext(Infotext(parameters=order_parameters(values), **prompts))
        path = self.folder / "results" / record.id / f"{number:05d}-{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(painted(number, size, "PNG", infotext))
        return Picture(
            path=str(path),
            seed=seed,
            subseed=seed,
            infotext=infotext,
            width_px=size[0],
            height_px=size[1],
            is_saved=record.body.get("saves_pictures", True),
        )


FACTS = {"torch": "2.13.0", "device": "cpu", "attention": "native", "dtype": "bf16", "hash": "0123456789"}
PLAN = {
    "attention": {"value": "native", "reason": "the fastest that this CPU serves"},
    "dtype": {"value": "bf16", "reason": "the CPU multiplies it by instructions of its own"},
    "layers": {"value": "packed", "reason": "laid out once for this CPU"},
}
SPEED = {
    "it_per_s": 16.0,
    "peak_memory_bytes": 3 * 2**30,
    "evidence": [
        {"name": "attention", "requested": "native", "active": True, "detail": "640 calls, all by the kernel"},
        {"name": "compile", "requested": "off", "active": False, "detail": "not asked for"},
    ],
}


def painted(number: int, size: tuple[int, int], kind: str, infotext: str = "") -> bytes:
    """A picture of hills that nobody asked a model for."""
    from PIL import PngImagePlugin

    image = Image.new("RGB", size)
    draw = ImageDraw.Draw(image)
    for y in range(size[1]):
        part = y / size[1]
        draw.line((0, y, size[0], y), fill=(int(250 - 110 * part), int(170 - 60 * part), int(120 + 90 * part)))
    sun = size[0] // 8
    x = size[0] // 4 + number * size[0] // 9 % (size[0] // 2)
    draw.ellipse((x, size[1] // 4, x + 2 * sun, size[1] // 4 + 2 * sun), fill=(225, 60, 50))
    for hill in range(3):
        base = size[1] * (6 + hill) // 9
        points = [
            (px, base - int(size[1] / 12 * abs(((px * (hill + 2) // 3 + number * 40) % 200) / 100 - 1)))
            for px in range(0, size[0] + 8, 8)
        ]
        draw.polygon(
            [*points, (size[0], size[1]), (0, size[1])], fill=(90 - hill * 22, 60 - hill * 12, 120 - hill * 24)
        )
    out = io.BytesIO()
    if kind == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("parameters", infotext)
        image.save(out, "PNG", pnginfo=texts)
    else:
        image.save(out, kind)
    return out.getvalue()
