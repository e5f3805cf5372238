"""Prompts that change with the step, against the cases that A1111 published, its text bombs and any text at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.errors import UsageError
from hayate.prompt.grammar import MAX_PROMPT_CHARS, parse_attention
from hayate.prompt.schedule import MAX_STEPS, MAX_SUBPROMPTS, Stage, parse_prompt, parse_schedule

# Input and output pairs published with A1111 1.6, for 10 steps.
PUBLISHED = [
    ("test", [(10, "test")]),
    ("a [b:3]", [(3, "a "), (10, "a b")]),
    ("a [b: 3]", [(3, "a "), (10, "a b")]),
    ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
    ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
    ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
    ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
    ("a [unbalanced", [(10, "a [unbalanced")]),
    ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
    ("a [{b|d{:.5] c", [(5, "a  c"), (10, "a {b|d{ c")]),
    ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
    ("[a|(b:1.1)]", [(step, ("a", "(b:1.1)")[(step - 1) % 2]) for step in range(1, 11)]),
    ("[fe|]male", [(step, ("female", "male")[(step - 1) % 2]) for step in range(1, 11)]),
    ("[fe|||]male", [(step, ("female", "male", "male", "male")[(step - 1) % 4]) for step in range(1, 11)]),
]
PUBLISHED_HIRES = [
    ("a [b:.5] c", [(10, "a b c")]),
    ("a [b:1.5] c", [(5, "a  c"), (10, "a b c")]),
]
BOMBS = {
    "round brackets": "(" * 100_000,
    "nested alternations": "[a|" * 50 + "a" + "]" * 50,
    "open alternations": "[a|" * 50,
    "few round brackets": "(" * 200,
    "paired brackets": "(" * 400 + ")" * 400,
    "weights": "(a:1.1), " * 50,
    "alternations": "[a|b]" * 40,
    "colons": ":" * 50_000,
    "square brackets": "[" * 100_000,
    "open edits": "[a:b:" * 5_000,
    "edits": "[a:b:.5]" * 5_000,
    "weighed opening": "(" * 60 + "[a]" * 5_000,
    "spaces": "a" + " " * 100_000 + "BREA",
    "spaces before no weight": "a:" + " " * 100_000 + "x",
    "digits": "(a:" + "1" * 100_000,
    "backslashes": "\\" * 99_999,
    "joined": "AND " * 25_000,
    "pipes": "[" + "|" * 100_000 + "]",
}
FRAGMENTS = [*"()[]:|\\ab13. -+\n", " AND ", "[a:", ":.5]", ":3]", "|b]"]
SYNTAX = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join)


def stages(text: str, steps: int = 10, **options: Any) -> list[tuple[int, str]]:
    return [(stage.until_step, stage.text) for stage in parse_schedule(text, steps, **options)]


def cpu_seconds(action: Callable[[], object]) -> float:
    """CPU time of the fastest of three runs: on a busy machine a single one says little."""

    def once() -> float:
        start = time.process_time()
        action()
        return time.process_time() - start

    return min(once() for _ in range(3))


@pytest.mark.parametrize(("text", "expected"), PUBLISHED)
def test_published_cases(text: str, expected: list[tuple[int, str]]) -> None:
    assert stages(text) == expected


@pytest.mark.parametrize(("text", "expected"), PUBLISHED_HIRES)
def test_published_cases_of_the_second_pass(text: str, expected: list[tuple[int, str]]) -> None:
    assert stages(text, hires_steps=10) == expected


def test_the_example_of_the_wiki() -> None:
    text = (
        "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75]"
        "[ in foreground::0.6][ in background:0.25] [shoddy:masterful:0.5]"
    )
    assert stages(text, 100) == [
        (25, "fantasy landscape with a mountain and an oak in foreground shoddy"),
        (50, "fantasy landscape with a lake and an oak in foreground in background shoddy"),
        (60, "fantasy landscape with a lake and an oak in foreground in background masterful"),
        (75, "fantasy landscape with a lake and an oak in background masterful"),
        (100, "fantasy landscape with a lake and a christmas tree in background masterful"),
    ]


# What A1111's grammar answered to these texts when it was run with lark 1.3.1.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a::3]", [(3, "a"), (10, "")]),
        ("[::3]", [(3, ""), (10, "")]),
        ("[:3:4]", [(4, ""), (10, "3")]),
        ("[a:-2]", [(10, "a")]),
        ("[a:0]", [(10, "a")]),
        ("[a:1.0]", [(10, "")]),
        ("[a:2.5]", [(10, "")]),
        ("[a:99]", [(10, "")]),
        ("[a:1e1]", [(10, "")]),
        ("[a:b: .5 ]", [(5, "a"), (10, "b")]),
        ("[a:3 4]", [(10, "[a:3 4]")]),
        ("[a:b:c:3]", [(10, "[a:b:c:3]")]),
        ("[(a:b:c):3]", [(10, "[(a:b:c):3]")]),
        ("[[a:b]:3]", [(10, "[[a:b]:3]")]),
        ("[a (b:3]", [(10, "[a (b:3]")]),
        ("(a:[b:3])", [(3, "(a:)"), (10, "(a:b)")]),
        (r"[a\:b:3]", [(3, ""), (10, r"a\:b")]),
        (r"[a\|b|c]", [(step, (r"a\|b", "c")[(step - 1) % 2]) for step in range(1, 11)]),
        ("[[a|b]:3]", [(step, "" if step <= 3 else ("a", "b")[(step - 1) % 2]) for step in range(1, 11)]),
        ("a|b [c:3]", [(10, "a|b [c:3]")]),
        ("[(a|b)|c]", [(10, "[(a|b)|c]")]),
        ("[a:3] \\", [(10, "[a:3] \\")]),
    ],
)
def test_corners_of_the_grammar(text: str, expected: list[tuple[int, str]]) -> None:
    assert stages(text) == expected


def test_old_timelines_take_numbers_below_one_as_fractions() -> None:
    assert stages("[a:0.5]", use_old_timelines=True) == [(5, ""), (10, "a")]
    assert stages("[a:2.0]", use_old_timelines=True) == [(2, ""), (10, "a")]
    assert stages("[a:1]", use_old_timelines=True) == [(1, ""), (10, "a")]
    assert stages("[a:12]", 10, hires_steps=8) == [(2, ""), (8, "a")]
    assert stages("[a:2]", 10, hires_steps=8, use_old_timelines=True) == [(2, ""), (10, "a")]


def test_and_joins_weighted_prompts() -> None:
    prompt = parse_prompt("a cat :1.5 AND a [dog:3] : -.5 AND SAND ANDY and", 10)
    assert [subprompt.weight for subprompt in prompt.subprompts] == [1.5, -0.5, 1.0]
    assert prompt.subprompts[0].stages == (Stage(until_step=10, text="a cat"),)
    assert [stage.text for stage in prompt.subprompts[1].stages] == [" a ", " a dog"]
    assert prompt.subprompts[2].stages[0].text == " SAND ANDY and"
    assert prompt.warnings == ()


def test_a_negative_prompt_is_not_split() -> None:
    prompt = parse_prompt("a AND b :2", 10, is_negative=True)
    assert [(s.weight, s.stages[0].text) for s in prompt.subprompts] == [(1.0, "a AND b :2")]


def test_text_at_switches_after_the_stage_ends() -> None:
    subprompt = parse_prompt("[a:b:3]", 10).subprompts[0]
    assert [subprompt.text_at(step) for step in (1, 3, 4, 10, 11)] == ["a", "a", "b", "b", "b"]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("a|b [c:3]", "'|' is not inside"),
        ("[a:3] \\", "backslash"),
        ("[" * 65, "deeper than 64"),
        ("[a|b]" + "c" * 190_000, "too long to change 20 times"),
        ("a AND " * 100, f"more than {MAX_SUBPROMPTS} prompts"),
        ("ratio 16:9", "read as the weight of the whole prompt"),
        ("(a:1.2.3)", "not a weight"),
        ("(a", "never closed"),
    ],
)
def test_what_does_not_act_is_said(text: str, warning: str) -> None:
    assert any(warning in line for line in parse_prompt(text, 20).warnings)
    assert parse_prompt("(a:1.2), [b:c:.5], [d|e], <f>", 20).warnings == ()


@pytest.mark.parametrize("steps", [0, -1, MAX_STEPS + 1, 10**30])
def test_steps_are_capped(steps: int) -> None:
    with pytest.raises(UsageError, match="steps"):
        parse_schedule("[a|b]", steps)


def test_length_is_capped() -> None:
    with pytest.raises(UsageError, match="1000000 characters"):
        parse_prompt("a" * 1_000_000, 20)


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_text_bombs_are_answered_at_once(text: str) -> None:
    # The promise is 100 ms; the guard leaves room for a slow machine and is far below any quadratic reading.
    assert len(text) <= MAX_PROMPT_CHARS
    assert cpu_seconds(lambda: (parse_prompt(text, 150), parse_attention(text))) < 1.0


@pytest.mark.parametrize("name", ["round brackets", "nested alternations", "open alternations"])
def test_the_promised_bombs_are_answered_in_100_ms(name: str) -> None:
    assert cpu_seconds(lambda: parse_prompt(BOMBS[name], 50)) < 0.3


@given(SYNTAX | st.text(max_size=40), st.integers(1, 40), st.none() | st.integers(1, 40), st.booleans())
def test_any_text_has_stages_to_the_last_step(text: str, steps: int, hires_steps: int | None, is_old: bool) -> None:
    prompt = parse_prompt(text, steps, hires_steps=hires_steps, use_old_timelines=is_old)
    last = steps if hires_steps is None or is_old else hires_steps
    for subprompt in prompt.subprompts:
        ends = [stage.until_step for stage in subprompt.stages]
        assert ends == sorted(set(ends))
        assert ends[0] >= 1
        assert ends[-1] == last


@given(st.text(st.characters(exclude_characters="[]"), max_size=40), st.integers(1, 40))
def test_text_without_square_brackets_never_changes(text: str, steps: int) -> None:
    assert stages(text, steps) == [(steps, text)]
