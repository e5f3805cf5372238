"""A desk that plays the worker for the tools: it checks bodies as the real one does, and tells of its work in steps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hayate.bench.history import FILE_NAME, History
from hayate.errors import UsageError
from hayate.jobs.bodies import read_body
from hayate.jobs.inputs import Inputs
from hayate.jobs.records import Failure, JobRecord, NewJob, Picture, Progress, Result, State
from hayate.runtime.asked import Asked
from hayate.runtime.profiles import Profile, Slot, save_profile
from hayate.settings import Settings
from tests.server.stub_desk import StubDesk

INFOTEXT = "a red sun over purple mountains\nNegative prompt: fog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: {}"
STEP_S = 0.05


def tune_row(name: str, verdict: str, speed: float, psnr_db: float | None, **asked: Any) -> dict[str, Any]:
    """A line of the tune table."""
    return {
        "name": name,
        "verdict": verdict,
        "reason": "1.20× the best so far",
        "asked": asked,
        "it_per_s": {"median": speed, "low": speed * 0.95, "high": speed * 1.04},
        "first_s": 1.25,
        "peak_bytes": 2**30,
        "is_repeated": True,
        "difference": {"psnr_db": psnr_db, "ssim": 1.0, "max_levels": 0},
    }


TUNE_ROWS = (
    tune_row("default plan", "default", 10.0, 62.5),
    tune_row("attention math", "faster", 7.5, None, attention="math"),
    tune_row("layers packed", "faster", 14.5, 61.0, layers="packed"),
    tune_row("attention math", "slower", 7.5, None, attention="math"),
    tune_row("tome 0.5", "wrong picture", 17.0, 21.0, tome=0.5),
    {
        **tune_row("compile default", "refused", 1.0, None),
        "it_per_s": None,
        "difference": None,
        "first_s": None,
        "peak_bytes": None,
        "is_repeated": None,
        "reason": "no C++ compiler was found",
    },
)
SLOT = Slot(device="CPU", architecture="sd1-320-1-1-1-0", size_px=512, promise="exact")
MEASUREMENT = {
    "at": "2026-11-30T01:00:00Z",
    "label": "from the page",
    "preset": "quick",
    "model": {"name": "built-in", "family": "sd1"},
    "work": {"width_px": 128, "height_px": 128, "batch_size": 1, "steps": 20, "sampler": "DPM++ 2M", "cfg": 7},
    "machine": {"processor": {"model": "a processor", "cores": 2, "ram_bytes": 2**33}},
    "first": {"total": 1.9},
    "summary": {
        "it_per_s": {"median": 52.6, "low": 50.1, "high": 53.0},
        "images_per_minute": {"median": 110.0, "low": 100.0, "high": 115.0},
        "phases": {"load": 0.1, "encode": 0.05, "sample": 0.4, "decode": 0.1, "save": 0.02},
    },
    "memory": {"peak_bytes": 3 * 2**29},
    "difference": {"psnr_db": 58.3, "ssim": 0.999, "max_levels": 2},
}


class ToolDesk(StubDesk):
    """Does what is submitted, one job after another, in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.data_dir / "server")
        self.settings = settings
        self.bodies: list[tuple[str, Mapping[str, Any]]] = []
        self.holds = threading.Event()
        """While it is clear, jobs stay where they are."""
        self.holds.set()
        self._works = {
            "upscale": self._upscale,
            "merge": self._merge,
            "convert": self._merge,
            "duplicates": self._duplicates,
            "tune": self._tune,
            "bench": self._bench,
        }
        self._one = threading.Lock()

    def submit(self, new: NewJob) -> JobRecord:
        words = dict(new.body)
        folder = self.folder / "inputs"
        if "images" in words:
            words["images"] = [str(folder / Path(name).name) for name in words["images"]]
        read_body(new.kind, words).check(self.settings, folder)
        record = super().submit(new)
        self.bodies.append((new.kind, new.body))
        threading.Thread(target=self._do, args=(record,), daemon=True).start()
        return record

    def keep_input(self, data: bytes) -> Path:
        return Inputs(self.folder).keep(data)

    def picture(self, name: str, seed: int, color: str, *, is_saved: bool = True, size: int = 96) -> Picture:
        """A picture in a folder that is shown."""
        folder = self.settings.outputs_dir if is_saved else self.folder / "results"
        folder.mkdir(parents=True, exist_ok=True)
        text = INFOTEXT.format(seed)
        info = PngInfo()
        info.add_text("parameters", text)
        Image.new("RGB", (size, size), color).save(folder / name, pnginfo=info)
        return Picture(
            path=str(folder / name),
            seed=seed,
            subseed=0,
            infotext=text,
            width_px=size,
            height_px=size,
            is_saved=is_saved,
        )

    def _do(self, record: JobRecord) -> None:
        with self._one:
            if self.job(record.id).state.is_terminal:
                return
            self.begin(record.id)
            result = self._works[record.kind](record)
            if not self.job(record.id).state.is_terminal:
                is_failed = isinstance(result, Failure)
                if is_failed:
                    self.records[record.id] = replace(self.job(record.id), failure=result)
                self._end(record.id, State.FAILED if is_failed else State.DONE, None if is_failed else result)

    def _tell_progress(self, record: JobRecord, phase: str, share: float, rows: list[Any] | None = None) -> bool:
        """Whether the job may go on."""
        details = {} if rows is None else {"rows": rows}
        self.running = Progress(job=record.id, phase=phase, share=share, eta_s=3.0, details=details)
        told = {"phase": phase, "share": share, "eta_s": 3.0, "details": details}
        self._tell(record.id, "progress", told)
        threading.Event().wait(STEP_S)
        self.holds.wait()
        return not self.job(record.id).state.is_terminal

    def _steps(self, record: JobRecord, phase: str, count: int, rows: Callable[[int], Any] = lambda done: None) -> None:
        for done in range(count):
            if not self._tell_progress(record, phase, (done + 1) / count, rows(done + 1)):
                return

    def _upscale(self, record: JobRecord) -> Result:
        self._steps(record, "upscaling", 2)
        count = len(record.body["images"])
        pictures = [self.picture(f"{record.id}-{n}.png", n, "seagreen", size=192) for n in range(count)]
        return Result(pictures=tuple(pictures), notes=("None of it was redrawn",))

    def _merge(self, record: JobRecord) -> Result | Failure:
        self._steps(record, "merging", 3)
        if record.body["output_name"] == "fails":
            return Failure(type="UsageError", message="the models are of two families", hint="choose others")
        name = f"{record.body['output_name']}.safetensors"
        return Result(facts={"name": name, "size_bytes": 2**31}, notes=("B has no VAE; A's is kept",))

    def _duplicates(self, record: JobRecord) -> Result:
        self._steps(record, "comparing", 2)
        whole = {
            "is_whole": True,
            "parts": ["unet"],
            "size_bytes": 2 * 2**30,
            "names": ["a.safetensors", "b.safetensors"],
        }
        shared = {"is_whole": False, "parts": ["vae"], "size_bytes": 2**27, "names": ["a.safetensors", "c.safetensors"]}
        return Result(facts={"files": 3, "spare_bytes": 2 * 2**30, "groups": [whole, shared]})

    def _tune(self, record: JobRecord) -> Result:
        if record.body["budget_s"] < 5:
            raise UsageError("too short", hint="3m")
        self._steps(record, "tuning", len(TUNE_ROWS), lambda done: list(TUNE_ROWS[:done]))
        profile = Profile(
            slot=SLOT,
            asked=Asked(layers="packed"),
            versions={"torch": "2.13.0"},
            at="2026-11-30T01:00:00Z",
            summary={"winner": "layers packed", "ratio": 1.45, "it_per_s": {"median": 14.5}},
        )
        path = save_profile(profile, self.settings.data_dir)
        return Result(
            facts={"rows": list(TUNE_ROWS), "best": "layers packed", "ratio": 1.45, "profile": str(path), "steps": 20}
        )

    def _bench(self, record: JobRecord) -> Result:
        self._steps(record, "run 1", 3)
        History(path=self.settings.data_dir / FILE_NAME).add({**MEASUREMENT, "label": record.body.get("label", "")})
        return Result(facts=MEASUREMENT)
