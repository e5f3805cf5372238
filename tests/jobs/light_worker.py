"""The real worker with a trade that needs no torch: pictures of one colour, and jobs that misbehave when they are told.

The prompt says what happens: `slow` takes steps of 20 ms, `poison` ends the process, `poison once` does so in the
first attempt, `broken` raises what nobody foresaw, `wrong` what is foreseen, `loud` prints on every standard output,
`left out` gives up the extension `lent`, and every picture's notes name the extensions that are given up.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np

from hayate.errors import Cancelled, EngineError
from hayate.extensions.current import current
from hayate.flags import given
from hayate.jobs import worker
from hayate.jobs.bodies import Unload
from hayate.jobs.generate import Generate
from hayate.jobs.meter import Meter
from hayate.jobs.records import Picture, Result
from hayate.jobs.tasks.station import Outcome, Station, Trade
from hayate.pipeline.formats import PictureTexts
from hayate.pipeline.png import Target, save_picture
from hayate.pipeline.stops import Skipped

COMMAND = (sys.executable, "-m", "tests.jobs.light_worker")


def generate(body: Generate, station: Station) -> Outcome:
    """One picture a batch, each saved when its steps are done."""
    request, meter = body.request, station.meter()
    misbehave(request.prompt, station)
    meter.loaded((request.steps or 1,), request.batch_count or 1)
    pictures, is_stopped = [], False
    for number in range(request.batch_count or 1):
        try:
            steps(meter, request.steps or 1, 0.02 if "slow" in request.prompt else 0.0)
        except Skipped:
            continue
        except Cancelled:
            is_stopped = True
            break
        pictures.append(saved(body, station, (request.seed or 0) + number))
        if station.signals.is_watched:
            station.show("AAAA")
    notes = tuple(current().failed())
    return Outcome(result=Result(pictures=tuple(pictures), notes=notes), is_stopped=is_stopped, model="light [0000]")


def misbehave(prompt: str, station: Station) -> None:
    mark = station.results.parent / f"{station.job}.poisoned"
    if prompt == "poison" or (prompt == "poison once" and not mark.exists()):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        os._exit(9)
    if prompt == "broken":
        raise ZeroDivisionError("nobody foresaw this\nand there is more")
    if prompt == "wrong":
        raise EngineError("the picture is not finite", hint="try another")
    if prompt == "left out":
        current().leave_out({"lent": "it failed"})
    if prompt == "loud":
        print("not a message")
        subprocess.run(["/bin/echo", "nor is this"], check=False)


def steps(meter: Meter, rows: int, row_s: float) -> None:
    for row in range(1, rows + 1):
        time.sleep(row_s)
        meter.row(row, rows)


def unload(body: Unload, station: Station) -> Outcome:
    del body, station
    return Outcome(result=Result(), model="")


def saved(body: Generate, station: Station, seed: int) -> Picture:
    folder = station.settings.outputs_dir if body.saves_pictures else station.results
    pixels = np.full((64, 64, 3), seed % 256, np.uint8)
    path = save_picture(pixels, Target(folder=folder), stem=str(seed), texts=PictureTexts(parameters=f"seed {seed}"))
    return Picture(
        path=str(path),
        seed=seed,
        subseed=-1,
        infotext=f"seed {seed}",
        width_px=64,
        height_px=64,
        is_saved=body.saves_pictures,
    )


class Nothing:
    """A workspace without models."""

    def clear(self) -> None:
        print("cleared")


def learn() -> Trade:
    def answer(ask: Any, settings: Any, workspace: Any) -> dict[str, Any]:
        del settings, workspace
        if ask.question == "die":
            os._exit(9)
        if ask.question == "flags":
            return {name: list(words) for name, words in given.get().values.items()}
        if ask.question == "fail":
            raise EngineError("there is no answer", hint="ask otherwise")
        return {"question": ask.question, **ask.arguments}

    return Trade(
        tasks={"generate": generate, "unload": unload},
        open_workspace=lambda settings: contextlib.nullcontext(Nothing()),  # pyright: ignore[reportArgumentType]
        facts=lambda settings: {"torch": "none", "threads": settings.threads},
        pour=lambda model, vae, settings, workspace: f"{model} [0000]",
        answer=answer,
    )


if __name__ == "__main__":
    assert "torch" not in sys.modules
    sys.exit(worker.main(learn))
