"""How wrong predictions are: published records predicted from each other, and docs/predict.md, which says so.

python -m hayate.bench.validate > docs/predict.md
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hayate.bench.cards import CARDS, Card
from hayate.bench.predict import FEED_FLOPS, LAUNCH_S, OLD, processor_card, step_s, work_of
from hayate.bench.records import FP16_ACCUMULATING, RECORDS, UNSEEN, Record

BOUND = 0.25
"""Beyond this an error counts as a failure."""
HEADLINE = ("H100 SXM", "A100 80GB", "RTX 4090", "RTX 3060 12GB")
HOST_BOUND = "H200"
"""A record of this card is slower than H100's of the same path: no model of cards can explain it."""
PROCESSOR = Record(source="benchmarks/results", path="torch", card="two Zen 4 cores", model="sd15", it_per_s=0.246)
"""Measured here: step-bf16.json, and 388 to 428 GFLOP/s of matrix products in bf16."""
_CARDS: Mapping[str, Card] = {**CARDS, PROCESSOR.card: processor_card(PROCESSOR.card, 408e9, 24 << 30)}
_SIZES_PX = {"sd15": 512, "sdxl": 1024}
_FEEDS = tuple(500 * 1.05**power for power in range(48))
_LAUNCHES = tuple(2e-6 * 1.1**power for power in range(26))


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """What is fitted."""

    feed_flops: float
    launch_s: float


AS_USED = Constants(feed_flops=FEED_FLOPS, launch_s=LAUNCH_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One record predicted from another of the same software path, model and batch."""

    here: Record
    there: Record
    predicted_it_per_s: float

    @property
    def error(self) -> float:
        """Of the prediction, as a part of the truth: 0.1 for a tenth too much."""
        return self.predicted_it_per_s / self.there.it_per_s - 1


Pair = tuple[Record, Record]


def source_trials() -> list[Trial]:
    """Every record from every other of the same source, with constants of a fit without the predicted chip."""
    return _left_out(pairs(RECORDS, is_same_source=True))


def headline_trials() -> list[Trial]:
    """H100, A100, 4090 and 3060 from each other in plain PyTorch, whoever measured; fitted as above."""
    chosen = [record for record in RECORDS if record.path == "torch" and record.card in HEADLINE]
    return _left_out(pairs(chosen, is_same_source=False))


def unseen_trials(*, has_old: bool) -> list[Trial]:
    """A source that no constant was fitted to, one picture at a time: with cards older than Ampere, or without."""
    single = [record for record in UNSEEN if record.batch == 1]
    trials = [_trial(pair, AS_USED) for pair in pairs(single, is_same_source=True)]
    return [trial for trial in trials if has_old == (_is_old(trial.here) or _is_old(trial.there))]


def processor_trials() -> list[Trial]:
    """PyTorch's records from the one processor that was measured here."""
    chosen = [record for record in RECORDS if record.path == "torch" and record.model == "sd15"]
    return [_trial((PROCESSOR, record), AS_USED) for record in chosen]


def growth() -> list[tuple[Record, float, float]]:
    """Of each record of 16 pictures at once: how many times the pictures of one at a time, published and predicted."""
    single = {(record.path, record.card): record for record in UNSEEN if record.batch == 1}
    found = []
    for record in UNSEEN:
        if record.batch == 16:
            one = single[record.path, record.card]
            predicted = _trial((one, record), AS_USED).predicted_it_per_s
            found.append((record, 16 * record.it_per_s / one.it_per_s, 16 * predicted / one.it_per_s))
    return found


def pairs(records: Sequence[Record], *, is_same_source: bool) -> list[Pair]:
    """Ordered pairs of records of different chips that differ in nothing else (but perhaps the source)."""
    return [
        (here, there)
        for here in records
        for there in records
        if (here.path, here.model, here.batch) == (there.path, there.model, there.batch)
        and chip(here) != chip(there)
        and (not is_same_source or here.source == there.source)
    ]


def chip(record: Record) -> object:
    """What cards have in common that differ in memory alone, such as A100 and A800, H100 and H200."""
    card = _CARDS[record.card]
    return (card.generation, card.multiprocessors, card.clock_hz)


def fit(chosen: Iterable[Pair]) -> Constants:
    """The constants with the least sum of absolute logarithmic errors, found on a grid.

    Pairs with the host-bound record are left out.
    """
    kept = [pair for pair in chosen if HOST_BOUND not in (pair[0].card, pair[1].card)]
    rows = [(*_parts(here), *_parts(there), here.it_per_s / there.it_per_s) for here, there in kept]

    def loss(constants: Constants) -> float:
        feed, launch = 1 / constants.feed_flops, constants.launch_s
        return sum(
            abs(math.log((a + b * feed + c * launch) / (d + e * feed + f * launch) * ratio))
            for a, b, c, d, e, f, ratio in rows
        )

    return min((Constants(feed_flops=feed, launch_s=launch) for feed in _FEEDS for launch in _LAUNCHES), key=loss)


def spread(trials: Sequence[Trial]) -> tuple[float, float]:
    """The factors of the prediction between which eight of ten truths lie."""
    factors = sorted(1 / (1 + trial.error) for trial in trials)
    last = len(factors) - 1
    return factors[round(0.1 * last)], factors[round(0.9 * last)]


def page() -> str:
    """docs/predict.md."""
    trials, headline = source_trials(), headline_trials()
    unseen, old = unseen_trials(has_old=False), unseen_trials(has_old=True)
    low, high = spread(trials)
    growths = (f"| {r.path} | {r.card} | {true:.2f} | {predicted:.2f} |" for r, true, predicted in growth())
    return f"""# How far predictions of other cards can be trusted

Written by `scripts/docs` from `src/hayate/bench/`. `hayate.bench.predict` estimates a card's speed from one measured on
another card: by FLOPs, bytes and operators counted from the networks, the cards' published figures, and two constants
(a multiprocessor is fed at {FEED_FLOPS:.0f} FLOPs per clock, an operator takes at least {LAUNCH_S * 1e6:.1f} µs). The
constants are fitted to published records. In the first two tables every error is of a fit that saw **no record of the
predicted chip**; the model's form was chosen with all records in view. An error is a part of the published speed: +10 %
is a tenth too much. Those beyond {BOUND:.0%} are bold.

## H100, A100, 4090 and 3060

Plain PyTorch (eager, SDPA), fp16, one picture, each from each other. Who measured differs, and with it hosts and
versions. {_within(headline)}

{_table(headline)}

## Every record from every other of its source

{_within(trials)} Eight of ten truths lie between {low:.2f} and {high:.2f} times the prediction.

{_table(trials)}

## A source that nothing was fitted to

diffusers' documentation: whole pipelines, SD1.5, PyTorch 2.1 nightly; the constants as used. {_within(unseen)}

{_table(unseen)}

Cards older than Ampere, in the same source. {_within(old)}

{_table(old)}

## More pictures at once

How many times the pictures of one at a time 16 at a time give, in the same source:

| Software | Card | Published | Predicted |
|---|---|---|---|
{chr(10).join(growths)}

## From a processor

SD1.5 in bf16, {PROCESSOR.it_per_s} it/s on {PROCESSOR.card}: plain PyTorch's records predicted from it.

{_table(processor_trials())}

{_FAILURES}"""


_FAILURES = """## Where it fails, and why

- **A host that can't keep up.** SD.Next's H200 makes 40 it/s of SD1.5 where stable-fast's H100 makes 54: its host is
  the limit, not the card. diffusers' A100 is another: 23 it/s eager, 50 compiled. From such a machine predictions are
  too low, to it too high. What was measured with a compiled step, or with several pictures at once, is free of it.
- **RTX 4080.** stable-fast measured it in WSL2 on a desktop with a fast host, and its H100 and A100 in a data centre:
  beside them it is faster, in SD1.5 by torch and torch.compile, than other records would have it.
- **OneDiff's SDXL** from A800 to GeForce cards: adding up in 16 bits doubles their peak on paper, and gives less.
- **Older than Ampere.** V100 and T4 attain about 60 and 35 % of what is predicted: no asynchronous copies, no flash
  attention, and a T4 is held to 70 W. Their range says so.
- **Larger batches** on GeForce cards gain less than predicted: their launches are hidden behind the work already.
- **A processor** says how fast its software multiplies, not what eager PyTorch loses on a GPU: all are too high.
- **Not tried**: RTX 50, AMD, Intel and Apple GPUs; sizes other than 512×512 and 1024×1024.
"""


def _is_old(record: Record) -> bool:
    return _CARDS[record.card].generation in OLD


def _left_out(chosen: Sequence[Pair]) -> list[Trial]:
    everything = pairs(RECORDS, is_same_source=True)
    constants = {
        left: fit(pair for pair in everything if left not in (chip(pair[0]), chip(pair[1])))
        for left in {chip(there) for _, there in chosen}
    }
    return [_trial(pair, constants[chip(pair[1])]) for pair in chosen]


def _trial(pair: Pair, constants: Constants) -> Trial:
    here, there = pair
    scale = 1 / here.it_per_s / _step_s(here, constants)
    return Trial(here=here, there=there, predicted_it_per_s=1 / (scale * _step_s(there, constants)))


def _step_s(record: Record, constants: Constants) -> float:
    side_px = _SIZES_PX[record.model]
    return step_s(
        work_of(record.model, side_px, side_px, record.batch),
        _CARDS[record.card],
        is_fp16_accumulating=record.path in FP16_ACCUMULATING,
        feed_flops=constants.feed_flops,
        launch_s=constants.launch_s,
    )


def _parts(record: Record) -> tuple[float, float, float]:
    """What a step's time is made of: without constants, over the rate of feeding, times the seconds of a launch."""
    rest = _step_s(record, Constants(feed_flops=math.inf, launch_s=0.0))
    fed = _step_s(record, Constants(feed_flops=1.0, launch_s=0.0)) - rest
    return rest, fed, _step_s(record, Constants(feed_flops=math.inf, launch_s=1.0)) - rest


def _within(trials: Sequence[Trial]) -> str:
    good = sum(abs(trial.error) <= BOUND for trial in trials)
    middle = sorted(abs(trial.error) for trial in trials)[len(trials) // 2]
    return f"{good} of {len(trials)} are within {BOUND:.0%}; the middle error is {middle:.0%}."


def _table(trials: Sequence[Trial]) -> str:
    head = ("Software", "Model", "Measured", "it/s", "Predicted", "it/s", "Published", "Error")
    rows = [head, ("---",) * len(head), *map(_row, trials)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(trial: Trial) -> tuple[str, ...]:
    here, there = trial.here, trial.there
    error = f"{trial.error:+.0%}"
    speeds = f"{here.it_per_s:g}", there.card, f"{trial.predicted_it_per_s:.3g}", f"{there.it_per_s:g}"
    return there.path, there.model, here.card, *speeds, f"**{error}**" if abs(trial.error) > BOUND else error


if __name__ == "__main__":
    sys.stdout.write(page())
