"""The stated errors: the page is fresh, the constants are those of the fit, and the goal is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from hayate.bench.cards import CARDS
from hayate.bench.predict import FEED_FLOPS, LAUNCH_S, OLD_SPREAD, PROCESSOR_SPREAD, SPREAD, step_s, work_of
from hayate.bench.records import RECORDS, UNSEEN, Record
from hayate.bench.validate import (
    BOUND,
    HEADLINE,
    Constants,
    Trial,
    chip,
    fit,
    headline_trials,
    page,
    pairs,
    processor_trials,
    source_trials,
    spread,
    unseen_trials,
)

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return source_trials()


def test_the_page_of_errors_is_fresh() -> None:
    assert (DOCS / "predict.md").read_text(encoding="utf-8") == page(), "run scripts/docs"


def test_the_constants_are_those_of_the_fit() -> None:
    fitted = fit(pairs(RECORDS, is_same_source=True))
    assert fitted.feed_flops == pytest.approx(FEED_FLOPS, rel=0.01)
    assert fitted.launch_s == pytest.approx(LAUNCH_S, rel=0.01)


def test_the_fit_finds_constants_that_made_the_records() -> None:
    true = Constants(feed_flops=1200.0, launch_s=20e-6)
    records = [made(card, model, true) for card in ("A100 80GB", "RTX 4090", "H100 SXM") for model in ("sd15", "sdxl")]
    fitted = fit(pairs(records, is_same_source=True))
    assert fitted.feed_flops == pytest.approx(true.feed_flops, rel=0.06)
    assert fitted.launch_s == pytest.approx(true.launch_s, rel=0.11)


def test_h100_a100_4090_and_3060_are_predicted_from_each_other_within_a_quarter() -> None:
    trials = headline_trials()
    assert {trial.here.card for trial in trials} == {trial.there.card for trial in trials} == set(HEADLINE)
    assert max(abs(trial.error) for trial in trials) <= BOUND


def test_the_ranges_are_those_of_the_errors(trials: list[Trial]) -> None:
    assert spread(trials) == pytest.approx(SPREAD, abs=0.02)
    for stated, others in ((OLD_SPREAD, onto_old()), (PROCESSOR_SPREAD, processor_trials())):
        truths = [1 / (1 + trial.error) for trial in others]
        inside = sum(stated[0] <= truth <= stated[1] for truth in truths)
        assert inside >= 0.8 * len(truths)


def test_a_record_is_never_predicted_from_its_own_chip(trials: list[Trial]) -> None:
    assert all(chip(trial.here) != chip(trial.there) for trial in trials)
    assert chip(record_of("A100 80GB")) == chip(record_of("A800 80GB"))
    assert chip(record_of("H100 SXM")) == chip(record_of("H200"))


def test_no_constant_of_a_trial_saw_the_predicted_chip(trials: list[Trial]) -> None:
    """With every record of a chip made wrong by half, the predictions of that chip stay what they are."""
    spoilt = [halved(record) if record.card == "RTX 3090" else record for record in RECORDS]
    kept = {describe(trial): trial.predicted_it_per_s for trial in trials if trial.there.card == "RTX 3090"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hayate.bench.validate.RECORDS", tuple(spoilt))
        again = {describe(trial): trial.predicted_it_per_s for trial in source_trials()}
    assert kept
    assert all(again[key] == pytest.approx(value) for key, value in kept.items())


def test_every_record_is_of_a_known_card() -> None:
    assert {record.card for record in (*RECORDS, *UNSEEN)} <= set(CARDS)
    assert not {record.source for record in RECORDS} & {record.source for record in UNSEEN}


def onto_old() -> list[Trial]:
    old = {"V100", "T4"}
    return [each for each in unseen_trials(has_old=True) if each.there.card in old and each.here.card not in old]


def made(card: str, model: str, constants: Constants) -> Record:
    side_px = 512 if model == "sd15" else 1024
    seconds = step_s(
        work_of(model, side_px, side_px, 1), CARDS[card], feed_flops=constants.feed_flops, launch_s=constants.launch_s
    )
    return Record(source="made", path="torch", card=card, model=model, it_per_s=0.7 / seconds)  # pyright: ignore[reportArgumentType]


def record_of(card: str) -> Record:
    return next(record for record in RECORDS if record.card == card)


def halved(record: Record) -> Record:
    return Record(
        source=record.source,
        path=record.path,
        card=record.card,
        model=record.model,
        it_per_s=record.it_per_s / (2 if record.model == "sd15" else 3),
    )


def describe(trial: Trial) -> tuple[str, ...]:
    return trial.there.path, trial.there.model, trial.there.source, trial.here.card, trial.there.card
