"""A measurement from its order to the list of all measurements."""

from __future__ import annotations

from typing import Any

from hayate.bench.history import FILE_NAME, History
from hayate.bench.measure import OnEvent, Order, measure
from hayate.bench.presets import Preset
from hayate.bench.protocol import Limits
from hayate.errors import UsageError
from hayate.pipeline.denoise import StepCallback
from hayate.pipeline.players import model_paths, read_config
from hayate.request import TextToImage
from hayate.settings import Settings


def measure_and_keep(
    order: Order,
    preset: Preset,
    settings: Settings,
    limits: Limits,
    on_event: OnEvent = lambda what: None,
    *,
    on_row: StepCallback = lambda done, rows: None,
) -> tuple[dict[str, Any], list[str]]:
    """The measurement with its number in the history, and what is to be said of that.

    Raises: UsageError for a model that is not the preset's kind; otherwise as `measure`.
    """
    check_family(preset, order.request, settings)
    measurement = measure(order, settings, limits, on_event, on_row=on_row)
    history = History(path=settings.data_dir / FILE_NAME)
    return {"id": history.add(measurement), **measurement}, history.notes


def check_family(preset: Preset, request: TextToImage, settings: Settings) -> None:
    """Raises: UsageError where a preset is for another kind of model."""
    if preset.family is None:
        return
    if read_config(model_paths(request, settings)["base"]).family is not preset.family:
        wanted = preset.family.value
        raise UsageError(f"the preset {preset.name} needs a model of {wanted}", hint=f"--model, or --random {wanted}")
