"""What would a new GPU give? Steps per second and the largest batch on other cards, from one speed measured here.

The time of a step is taken for the sum of three:

    roofline  the larger of FLOPs / peak and bytes / bandwidth
    feed      FLOPs / (FEED_FLOPS · multiprocessors · clock)
    launches  operators · LAUNCH_S

FLOPs, bytes and operators are counted from the networks themselves (`hayate.bench.count`), the card's figures are
published (`hayate.bench.cards`). `feed` is what fast tensor cores wait for: operands on their way through a
multiprocessor, softmax and norms go at a rate per clock that changed little from Ampere to Hopper, while tensor cores
became eight times as fast. All that these three leave out, the software first of all, is one factor: the measured time
over their sum. It is carried over to the other card.

FEED_FLOPS and LAUNCH_S are fitted to published records. docs/predict.md has the errors, each of a fit that saw no
record of the card that was predicted; docs/decisions/predict.md has the reasons.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

import torch

from hayate.bench.cards import CARDS, Card
from hayate.bench.count import PX_PER_LAT, StepWork, count_step
from hayate.errors import UnknownName, UsageError
from hayate.models.config import SD1, SD2, SDXL, ModelConfig
from hayate.runtime.memory import Forecast, Work, forecast, needed_bytes
from hayate.runtime.precision import Precision

Model = Literal["sd15", "sd21", "sdxl"]
MODELS: Mapping[str, ModelConfig] = MappingProxyType({"sd15": SD1, "sd21": SD2, "sdxl": SDXL})
FEED_FLOPS = 2269.0
"""Units: FLOPs per clock of one multiprocessor."""
LAUNCH_S = 11.1e-6
"""Units: seconds for an operator, however small."""

SPREAD = (0.8, 1.3)
"""Between these factors of their prediction are eight of ten published records."""
PROCESSOR_SPREAD = (0.4, 1.0)
"""The same where this machine computes on its processor: of the one that was tried, predictions were too high."""
OLD_SPREAD = (0.3, 1.0)
"""The same for cards older than Ampere, which attain less of their peak than those that the records are of."""
OLD = frozenset({"volta", "turing"})

LARGEST_BATCH = 64
"""No larger batch is looked for: speed has long ceased to grow with it."""
DRIVER_BYTES = 768 << 20
"""What the driver, the kernels' code and a desktop take of a card's memory."""
_FP16 = Precision(unet=torch.float16, text=torch.float16, vae=torch.bfloat16, reason="what a plan takes on GPUs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A speed that was measured on this machine, with guidance."""

    card: Card
    """What it was measured on: `find_card(name)` or `processor_card(…)`."""
    model: Model
    it_per_s: float
    """Steps of the whole batch per second."""
    width_px: int
    height_px: int
    batch: int = 1
    is_fp16_accumulating: bool = False
    """Whether products were added up in 16 bits, as PyTorch does only where it is told to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What another card would give with the same software."""

    card: Card
    it_per_s: float
    """Steps per second, one picture at a time."""
    low_it_per_s: float
    high_it_per_s: float
    largest_batch: int
    """Pictures at once with all networks on the card, decoded one by one; 0 where not even one fits so."""
    largest_it_per_s: float
    """Steps per second times pictures at the largest batch; 0 without one."""
    worth: float
    """`it_per_s` over that of this machine, one picture at a time."""
    note: str
    """Why this prediction deserves less trust than others, or empty."""


def predict(measured: Measured, cards: Iterable[Card] = CARDS.values()) -> list[Prediction]:
    """What each card would give, fastest first.

    Raises: UnknownName for a model; UsageError for a size, batch or speed that can't be.
    Cost: 0.3 s (SDXL 0.6 s) the first time, for counting and for two forecasts of memory.
    """
    _check(measured)
    scale = 1 / measured.it_per_s / _modelled_s(measured, measured.card, measured.batch)
    here_s = scale * _modelled_s(measured, measured.card, 1)
    found = []
    for card in cards:
        it_per_s = 1 / (scale * _modelled_s(measured, card, 1))
        (low, high), note = _trust(measured.card, card)
        batch = largest_batch(measured.model, measured.width_px, measured.height_px, card.memory_bytes)
        found.append(
            Prediction(
                card=card,
                it_per_s=it_per_s,
                low_it_per_s=low * it_per_s,
                high_it_per_s=high * it_per_s,
                largest_batch=batch,
                largest_it_per_s=batch / (scale * _modelled_s(measured, card, batch)) if batch else 0.0,
                worth=it_per_s * here_s,
                note=note,
            )
        )
    return sorted(found, key=lambda prediction: -prediction.it_per_s)


def step_s(
    work: StepWork,
    card: Card,
    *,
    is_fp16_accumulating: bool = False,
    feed_flops: float = FEED_FLOPS,
    launch_s: float = LAUNCH_S,
) -> float:
    """Seconds that the model gives a step, before the factor for all that it leaves out."""
    peak_flops = card.fp16_peak_flops if is_fp16_accumulating else card.peak_flops
    roofline_s = max(work.flops / peak_flops, work.traffic_bytes / card.bandwidth_bytes_s)
    return roofline_s + work.flops / (feed_flops * card.cycles_per_s) + work.operators * launch_s


def largest_batch(model: str, width_px: int, height_px: int, memory_bytes: int) -> int:
    """The most pictures at once for which the memory's forecast fits a card, up to `LARGEST_BATCH`."""
    fits = (
        batch
        for batch in range(LARGEST_BATCH, 0, -1)
        if needed_bytes(batch_forecast(model, width_px, height_px, batch), "none") <= memory_bytes - DRIVER_BYTES
    )
    return next(fits, 0)


def batch_forecast(model: str, width_px: int, height_px: int, batch: int) -> Forecast:
    """The memory of a batch with guidance, from the forecasts of one and of two: a step's grows in proportion."""
    one, two = (_forecast(model, width_px, height_px, each) for each in (1, 2))
    more = batch - 1
    return replace(
        one,
        told_bytes=one.told_bytes + more * (two.told_bytes - one.told_bytes),
        step_bytes=one.step_bytes + more * (two.step_bytes - one.step_bytes),
    )


def processor_card(name: str, peak_flops: float, memory_bytes: int) -> Card:
    """A processor as "this machine". `peak_flops` is its measured rate of matrix products, see `product_flops`."""
    return Card(
        name=name,
        generation="processor",
        peak_flops=peak_flops,
        fp16_peak_flops=peak_flops,
        bandwidth_bytes_s=math.inf,
        memory_bytes=memory_bytes,
    )


def predictions_text(measured: Measured, predictions: Sequence[Prediction]) -> str:
    """The predictions as a table for a terminal, with what they rest on above and their reservations below."""
    size = f"{measured.model} at {measured.width_px}×{measured.height_px}, batch {measured.batch}"
    rows = [("card", "it/s", "range", "largest batch", "it/s × pictures", "worth"), *map(_row, predictions)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    notes = sorted({f"{_names(predictions, each.note)}: {each.note}" for each in predictions if each.note})
    head = f"From {measured.it_per_s:.3g} it/s measured on {measured.card.name}, {size}, the same software everywhere:"
    return "\n".join([head, "", *lines, *([""] if notes else []), *notes])


def work_of(model: str, width_px: int, height_px: int, batch: int) -> StepWork:
    """A step with guidance of one of the models.

    Raises: UnknownName.
    """
    if model not in MODELS:
        raise UnknownName("model", model, MODELS)
    return count_step(MODELS[model].unet, inputs=2 * batch, height_px=height_px, width_px=width_px)


def _modelled_s(measured: Measured, card: Card, batch: int) -> float:
    work = work_of(measured.model, measured.width_px, measured.height_px, batch)
    return step_s(work, card, is_fp16_accumulating=measured.is_fp16_accumulating)


def _check(measured: Measured) -> None:
    if measured.model not in MODELS:
        raise UnknownName("model", measured.model, MODELS)
    sides = (measured.width_px, measured.height_px)
    if any(side < 64 or side % PX_PER_LAT for side in sides):
        raise UsageError(f"no picture is {sides[0]}×{sides[1]}", hint="sides are multiples of 8, from 64 on")
    if measured.batch < 1:
        raise UsageError(f"no batch has {measured.batch} pictures", hint="1 or more")
    if not (math.isfinite(measured.it_per_s) and measured.it_per_s > 0):
        raise UsageError(f"no speed is {measured.it_per_s} it/s", hint="measure it: hayate bench")


@lru_cache(maxsize=64)
def _forecast(model: str, width_px: int, height_px: int, batch: int) -> Forecast:
    work = Work(inputs=2 * batch, images=1, height_px=height_px, width_px=width_px)
    return forecast(MODELS[model], _FP16, work)


def _trust(here: Card, there: Card) -> tuple[tuple[float, float], str]:
    """Between which factors of the prediction the truth is to be expected, and why it is further than usual."""
    if here.name == there.name:
        return (1.0, 1.0), "this machine" if here == there else ""
    if here.generation == "processor":
        return PROCESSOR_SPREAD, "very uncertain: how a processor spends its time says little of a GPU"
    if (here.generation in OLD) != (there.generation in OLD):
        low, high = OLD_SPREAD
        spread = (low, high) if there.generation in OLD else (1 / high, 1 / low)
        return spread, "cards older than Ampere attain less of their peak, which is not modelled"
    if "blackwell" in (here.generation, there.generation):
        return SPREAD, "no record of this generation was tried"
    return SPREAD, ""


def _row(prediction: Prediction) -> tuple[str, ...]:
    has_batch = prediction.largest_batch > 0
    batch = f"{prediction.largest_batch}{'+' if prediction.largest_batch == LARGEST_BATCH else ''}"
    return (
        prediction.card.name,
        f"{prediction.it_per_s:.1f}",
        f"{prediction.low_it_per_s:.1f}–{prediction.high_it_per_s:.1f}",
        batch if has_batch else "needs offload",
        f"{prediction.largest_it_per_s:.1f}" if has_batch else "–",
        f"{prediction.worth:.2f}×",
    )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *rest = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]


def _names(predictions: Sequence[Prediction], note: str) -> str:
    noted = [prediction.card.name for prediction in predictions if prediction.note == note]
    return "all" if len(noted) == len(predictions) > 1 else ", ".join(noted)
