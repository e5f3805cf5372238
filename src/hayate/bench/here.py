"""What was measured on this machine, as a prediction takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from hayate.bench.cards import find_card
from hayate.bench.peak import product_flops
from hayate.bench.predict import MODELS, Measured, processor_card
from hayate.errors import UsageError
from hayate.runtime.precision import DTYPES
from hayate.weights.builtin import builtin_model

_MODELS = {"sd1": "sd15", "sd2": "sd21", "sdxl": "sdxl"}


def measured_here(measurement: Mapping[str, Any]) -> Measured:
    """The speed of a kept measurement.

    Raises: UsageError where it is of another kind of model than predictions are for, or without guidance.
    Cost: on a processor a tenth of a second, to measure its matrix products.
    """
    model, work = measurement["model"], measurement["work"]
    if model["family"] not in _MODELS or model["name"] == builtin_model().stem:
        raise UsageError(
            f"measurement {measurement['id']} is of {model['name']}, too small or of no kind that can be predicted",
            hint="measure a full-size one: hayate bench wiki --random sd15, or --model",
        )
    if work["cfg"] == 1:
        raise UsageError("predictions are of steps with guidance", hint="measure with --cfg 7")
    found: Any = _MODELS[model["family"]]
    assert found in MODELS
    return Measured(
        card=_card(measurement),
        model=found,
        it_per_s=measurement["summary"]["it_per_s"]["median"],
        width_px=work["width_px"],
        height_px=work["height_px"],
        batch=work["batch_size"],
    )


def _card(measurement: Mapping[str, Any]) -> Any:
    machine = measurement["machine"]
    if machine["gpus"]:
        return find_card(machine["gpus"][0]["name"])
    dtype = DTYPES[measurement["dtype"]["unet"]]
    processor = machine["processor"]
    return processor_card(processor["model"], product_flops(dtype, torch.device("cpu")), processor["ram_bytes"] or 0)
