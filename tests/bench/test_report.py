"""The page: everything that was measured is on it, nothing that was not, and no record can break it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hayate.bench.report import report_page
from tests.bench.records import MACHINE, NASTY, record

JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just(NASTY)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text by section, table row and detail."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())

    @property
    def text(self) -> str:
        return "\n".join(word for word in self.words if word)


def page_of(*records: Mapping[str, Any]) -> str:
    return report_page(records, "Speed")


def row(page: str, number: int) -> list[str]:
    """The cells of one measurement in the headline table, as text."""
    (found,) = [each for each in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL) if f'href="#m{number}"' in each]
    return [re.sub("<.*?>", "", cell).strip() for cell in re.findall(r"<t[dh][ >].*?</t[dh]>", found, re.DOTALL)]


def test_the_headline_row_has_every_figure() -> None:
    first = {"load": 0.3, "total": 2.5}
    page = page_of(record(12, speed=20.0, first=first, compile_s=31.0, label="mine"))
    name = ["12", "mine", "20.0", "19.4–20.4"]
    assert row(page, 12)[:4] == name
    assert row(page, 12)[5:] == ["2.5", "31.0", "700 MiB", "48.2", "0.9991", "3", "yes"]


def test_what_was_not_measured_is_a_dash_and_not_a_zero() -> None:
    page = page_of({"id": 3, "at": "2026-11-25T10:00:00Z", "summary": {}})
    assert row(page, 3) == ["3", "as planned", "–", "–", "–", "–", "–", "–", "not compared", "–"]


@pytest.mark.parametrize(
    ("difference", "cells"),
    [
        ({"psnr_db": None, "ssim": 1.0, "max_levels": 0}, ["identical", "1.0000", "0"]),
        ({"psnr_db": 35.25, "ssim": None, "max_levels": None}, ["35.2", "–", "–"]),
        (None, ["not compared"]),
    ],
)
def test_identical_differs_from_not_compared(difference: Any, cells: list[str]) -> None:
    assert row(page_of(record(1, difference=difference)), 1)[8:-1] == cells


@pytest.mark.parametrize(("is_repeated", "said"), [(True, "yes"), (False, "no"), (None, "–")])
def test_same_bits_twice_has_three_answers(is_repeated: bool | None, said: str) -> None:
    assert row(page_of(record(1, is_repeated=is_repeated)), 1)[-1] == said


def test_rows_go_from_the_fastest_to_the_slowest() -> None:
    page = page_of(record(1, speed=5), record(2, speed=50), {**record(3), "summary": {}}, record(4, speed=20))
    assert re.findall(r'<td class="n id"><a href="#m(\d+)"', page) == ["2", "4", "1", "3"]


def test_the_verdict_names_the_fastest_and_its_ratio() -> None:
    text = Page(page_of(record(1, speed=10.0, label="slow"), record(2, speed=25.0, label="quick"))).text
    assert "Fastest: #2 quick, 2.50 times as fast as #1 slow." in text


def test_runs_that_overlap_are_not_a_victory() -> None:
    text = Page(page_of(record(1, speed=20.0), record(2, speed=20.2))).text
    assert "No clear winner" in text
    assert "Fastest" not in text
    three = Page(page_of(record(1, speed=20.0), record(2, speed=20.2), record(3, speed=9.0))).text
    assert "Fastest: #2" in three
    assert "Level with it, since their runs overlap: #1." in three


def test_a_switch_that_did_not_act_is_flagged_and_wins_nothing() -> None:
    idle = [{"name": "attention", "requested": "sage", "active": False, "detail": "no call was served"}]
    unasked = [{"name": "overlapped decode", "requested": "off", "active": False, "detail": "0 batches"}]
    liar = record(3, speed=99.0, evidence=idle, asked={"attention": "sage"})
    page = page_of(record(1, speed=10.0, asked={}, evidence=unasked), record(2, speed=12.0), liar)
    assert "Fastest: #2" in page
    assert "a switch did not act" in row(page, 3)[1]
    assert "a switch did not act" not in row(page, 2)[1]
    scatter = page[page.index("Speed against picture difference") : page.index("Peak memory")]
    assert "3: " not in re.findall(r"<title>(.*?)</title>", scatter)[0]
    assert "99" not in scatter
    assert "no call was served" in page
    assert "did not act" not in row(page, 1)[1]


def test_machines_are_apart_and_the_reader_is_warned() -> None:
    other = {**MACHINE, "gpus": [{"name": "GeForce RTX 4090"}]}
    page = page_of(record(1), record(2, machine=other), record(3))
    assert page.count('<section class="machine">') == 2
    assert "are not one race" in page
    assert page.index('href="#m3"') < page.index("GeForce RTX 4090") < page.index('href="#m2"')
    assert "are not one race" not in page_of(record(1), record(2))


def test_another_torch_is_still_the_same_machine() -> None:
    newer = {**MACHINE, "versions": {"torch": "2.14.0"}}
    page = page_of(record(1), record(2, machine=newer))
    assert page.count('<section class="machine">') == 1
    assert "2.14.0" in page


@pytest.mark.parametrize(
    "changes", [{"steps": 21}, {"width_px": 256}, {"batch_size": 2}, {"sampler": "Euler"}, {"schedule": "Simple"}]
)
def test_another_picture_is_another_race(changes: dict[str, Any]) -> None:
    work = {**record(1)["work"], **changes}
    assert page_of(record(1), record(2, work=work)).count('<section class="race">') == 2
    assert page_of(record(1), record(2)).count('<section class="race">') == 1


def test_another_model_of_the_same_name_is_another_race() -> None:
    model = {**record(1)["model"], "hash": "ffffffffff"}
    assert page_of(record(1), record(2, model=model)).count('<section class="race">') == 2


def test_evidence_choices_runs_and_fingerprint_are_all_there() -> None:
    page = Page(page_of(record(7)))
    for said in (
        "640 calls",
        "asked for",
        "Ryzen 7 5800X",
        "2.13.0",
        "the machine was quiet",
        "gpus 1 name",
        "infotext",
    ):
        assert said in page.text
    assert page.words.count("first") == 1
    assert ("details", {"id": "m7"}) in page.tags


@settings(max_examples=30)
@given(hostile=st.one_of(st.just(NASTY), st.text(max_size=40)))
def test_no_name_becomes_markup(hostile: str) -> None:
    plain = Page(page_of(record(1, label="x", notes=["x"], at="x"), record(2, label="x")))
    page = Page(
        report_page([record(1, label=hostile or "x", notes=[hostile], at=hostile), record(2, label="x")], hostile)
    )
    tags = [tag for tag, _ in page.tags if tag != "text"]
    assert tags == [tag for tag, _ in plain.tags if tag != "text"]


def test_nothing_on_the_page_leads_outside() -> None:
    page = page_of(record(1), record(2, label="https://example.org/"))
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": policy}) in Page(page).tags
    for tag, attributes in Page(page).tags:
        assert tag not in {"script", "iframe", "img", "object", "embed", "base", "form"}
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src") is None
        assert (attributes.get("href") or "#").startswith(("#", "data:"))
    assert "url(" not in page
    assert "@import" not in page


@settings(max_examples=60)
@given(data=st.data())
def test_a_record_with_any_field_missing_or_odd_is_still_shown(data: st.DataObject) -> None:
    odd = record(41)
    for name in data.draw(st.sets(st.sampled_from(sorted(odd.keys() - {"id", "at"})), min_size=1)):
        odd[name] = spoilt(odd[name], data)
    page = page_of(odd, record(42))
    assert 'href="#m41"' in page
    assert 'href="#m42"' in page
    # What is not a number must not look like one.
    cells = row(page, 41)
    assert not {"nan", "inf", "None", "-inf"} & set(cells[2:])
    page.encode()


def spoilt(value: object, data: st.DataObject) -> object:
    """`value` with one part of it missing or replaced by anything that JSON can hold."""
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(value)))
        return {**value, name: spoilt(value[name], data)}
    return data.draw(JUNK)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 1e300, 10**400, True, "20", [20]])
def test_what_is_no_figure_is_not_drawn(odd: object) -> None:
    page = page_of(record(1, summary={"it_per_s": {"median": odd}}, compile_s=odd, memory={"peak_bytes": odd}))
    assert row(page, 1)[2:5] == ["–", "–", "–"]
    assert row(page, 1)[6:8] == ["–", "–"]


def test_half_a_surrogate_pair_does_not_keep_the_page_from_being_written() -> None:
    page = report_page([record(1, label="a\ud800b\x00c", notes=["\udfff"])], "\ud800")
    assert page.encode().decode() == page
    assert "a\ufffdb\ufffdc" in page
    assert "\x00" not in page


def test_no_measurement_is_said_in_words() -> None:
    assert "Nothing has been measured yet" in page_of()
