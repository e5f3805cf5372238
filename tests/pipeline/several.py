"""Jobs of small models in the folder of the fixture `own`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from hayate.pipeline.prepared import Prepared, prepare_request
from hayate.pipeline.report import Report
from hayate.pipeline.session import make_pictures
from hayate.pipeline.workspace import Workspace
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from hayate.settings import Settings

SDP = Asked(attention="sdp")


def request_for(model: str = "base", **more: object) -> TextToImage:
    words = {"prompt": "a red sun", "steps": 5, "seed": 7, "width_px": 64, "height_px": 64, "sampler": "Euler"}
    return TextToImage(**{**words, "model": model, "refiner_switch_at": 0.4 if "refiner" in more else None, **more})


def made(own: Settings, workspace: Workspace | None = None, **more: object) -> Report:
    return make_pictures(request_for(**more), own, None, lambda *_: None, SDP, workspace=workspace)


def pixels(report: Report) -> list[np.ndarray]:
    return [np.asarray(Image.open(each.path)).astype(int) for each in report.pictures]


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


def prepared(own: Settings, workspace: Workspace, plan: dict[str, object], **more: object) -> Prepared:
    """A request whose plan is changed to what no plan for a CPU would be."""
    found = prepare_request(request_for(**more), own, SDP, workspace)
    return replace(found, plan=replace(found.plan, **plan))
