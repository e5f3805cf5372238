"""Properties that any prediction must have; what it is worth is in test_validate.py."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hayate.bench.cards import CARDS, Card, find_card
from hayate.bench.count import StepWork
from hayate.bench.peak import product_flops
from hayate.bench.predict import (
    DRIVER_BYTES,
    LARGEST_BATCH,
    Measured,
    batch_forecast,
    largest_batch,
    predict,
    predictions_text,
    processor_card,
    step_s,
)
from hayate.errors import UnknownName, UsageError
from hayate.models.config import SD1
from hayate.runtime.memory import Work, forecast, needed_bytes
from hayate.runtime.precision import Precision

HERE = Measured(card=find_card("3060"), model="sd15", it_per_s=8.0, width_px=512, height_px=512)
FP16 = Precision(unet=torch.float16, text=torch.float16, vae=torch.bfloat16, reason="")

cards = st.sampled_from(list(CARDS.values()))
works = st.builds(
    StepWork,
    convolution_flops=st.integers(0, 10**14),
    linear_flops=st.integers(1, 10**14),
    attention_flops=st.integers(0, 10**14),
    traffic_bytes=st.integers(1, 10**12),
    operators=st.integers(1, 5000),
)
factors = st.floats(1.0, 8.0)


@given(cards, works)
def test_twice_as_fast_in_everything_is_twice_the_speed(card: Card, work: StepWork) -> None:
    double = faster(card, 2.0, 2.0, 2.0)
    assert step_s(work, double, launch_s=4e-6) == pytest.approx(step_s(work, card, launch_s=8e-6) / 2)
    assert step_s(work, card) / 2 < step_s(work, double) < step_s(work, card)


@given(cards, works, factors, factors, factors)
def test_more_of_anything_is_never_slower(
    card: Card, work: StepWork, peak: float, bandwidth: float, clock: float
) -> None:
    assert step_s(work, faster(card, peak, bandwidth, clock)) <= step_s(work, card)


@given(cards, works, factors)
def test_more_work_is_never_faster(card: Card, work: StepWork, factor: float) -> None:
    more = replace(work, linear_flops=int(factor * work.linear_flops), traffic_bytes=int(factor * work.traffic_bytes))
    assert step_s(more, card) >= step_s(work, card)


def test_no_step_is_faster_than_its_roofline() -> None:
    for prediction in predict(replace(HERE, it_per_s=1 / step_s(work_of_one(), HERE.card))):
        assert prediction.it_per_s < prediction.card.peak_flops / work_of_one().flops


def test_this_machine_is_predicted_as_it_was_measured() -> None:
    for batch in (1, 4):
        own = next(each for each in predict(replace(HERE, batch=batch)) if each.card == HERE.card)
        assert own.worth == pytest.approx(1.0)
        if batch == 1:
            assert own.it_per_s == pytest.approx(HERE.it_per_s)
            assert (own.low_it_per_s, own.high_it_per_s) == pytest.approx((8.0, 8.0))
        else:
            assert own.it_per_s < HERE.it_per_s * batch


@given(st.floats(0.1, 100.0), st.floats(1.01, 10.0))
def test_predictions_grow_in_proportion_to_the_measurement(it_per_s: float, factor: float) -> None:
    slow, fast = (predict(replace(HERE, it_per_s=each), [CARDS["H200"]])[0] for each in (it_per_s, factor * it_per_s))
    assert fast.it_per_s == pytest.approx(factor * slow.it_per_s)
    assert fast.worth == pytest.approx(slow.worth)


def test_there_and_back_again() -> None:
    there = predict(HERE, [CARDS["RTX 4090"]])[0]
    back = predict(replace(HERE, card=CARDS["RTX 4090"], it_per_s=there.it_per_s), [HERE.card])[0]
    assert back.it_per_s == pytest.approx(HERE.it_per_s)
    assert back.worth == pytest.approx(1 / there.worth)


def test_the_rows_are_ordered_and_their_ranges_hold_them() -> None:
    rows = predict(HERE)
    assert [row.it_per_s for row in rows] == sorted((row.it_per_s for row in rows), reverse=True)
    assert {row.card.name for row in rows} == set(CARDS)
    assert all(row.low_it_per_s <= row.it_per_s * 1.0001 <= row.high_it_per_s * 1.0002 for row in rows)


def test_doubtful_predictions_say_so() -> None:
    by_name = {row.card.name: row for row in predict(HERE)}
    assert by_name["RTX 4090"].note == ""
    assert "older than Ampere" in by_name["T4"].note
    assert "no record" in by_name["RTX 5090"].note
    processor = processor_card("a CPU", 400e9, 32 << 30)
    row = predict(replace(HERE, card=processor, it_per_s=0.25), [CARDS["RTX 4090"]])[0]
    assert "very uncertain" in row.note
    assert row.high_it_per_s / row.low_it_per_s > 2


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_memory_of_a_batch_is_the_forecast_of_a_batch(batch: int) -> None:
    work = Work(inputs=2 * batch, images=1, height_px=512, width_px=512)
    exact = needed_bytes(forecast(SD1, FP16, work), "none")
    assert needed_bytes(batch_forecast("sd15", 512, 512, batch), "none") == pytest.approx(exact, rel=0.002)


def test_the_largest_batch_fits_and_one_more_does_not() -> None:
    memory_bytes = 12 << 30
    batch = largest_batch("sdxl", 1024, 1024, memory_bytes)
    assert 1 < batch < LARGEST_BATCH
    needed = [needed_bytes(batch_forecast("sdxl", 1024, 1024, each), "none") for each in (batch, batch + 1)]
    assert needed[0] <= memory_bytes - DRIVER_BYTES < needed[1]
    assert largest_batch("sdxl", 1024, 1024, 6 << 30) == 0
    assert largest_batch("sd15", 512, 512, 141 << 30) == LARGEST_BATCH


@pytest.mark.parametrize(
    "change",
    [
        {"it_per_s": 0.0},
        {"it_per_s": math.nan},
        {"it_per_s": math.inf},
        {"batch": 0},
        {"width_px": 100},
        {"height_px": 8},
    ],
)
def test_what_can_not_be_is_refused_with_a_hint(change: dict[str, float]) -> None:
    with pytest.raises(UsageError) as caught:
        predict(replace(HERE, **change))
    assert caught.value.hint


def test_an_unknown_model_lists_the_known() -> None:
    with pytest.raises(UnknownName, match="sdxl"):
        predict(replace(HERE, model="sdxxl"))


def test_the_table_names_every_card_and_its_reservations() -> None:
    rows = predict(replace(HERE, model="sdxl", width_px=1024, height_px=1024, it_per_s=1.3))
    text = predictions_text(HERE, rows)
    assert all(name in text for name in CARDS)
    assert "needs offload" in text
    assert "T4" in next(line for line in text.splitlines() if "older than Ampere" in line)
    assert max(map(len, text.splitlines())) <= 120


def test_products_are_as_fast_as_a_clock_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr("hayate.bench.peak.time.perf_counter", lambda: next(ticks))
    assert product_flops(torch.float32) == 2 * 1024**3


def faster(card: Card, peak: float, bandwidth: float, clock: float) -> Card:
    return replace(
        card,
        peak_flops=peak * card.peak_flops,
        fp16_peak_flops=peak * card.fp16_peak_flops,
        bandwidth_bytes_s=bandwidth * card.bandwidth_bytes_s,
        clock_hz=clock * card.clock_hz,
    )


def work_of_one() -> StepWork:
    from hayate.bench.predict import work_of

    return work_of("sd15", 512, 512, 1)
