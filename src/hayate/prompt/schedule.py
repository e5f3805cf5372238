"""A prompt that changes while the picture is made: `[from:to:when]`, `[one|other]` and `AND`.

`when` is a step, or with a decimal point a fraction of the steps. Everything else keeps its text, brackets included:
the weights are read later, from each stage (see `grammar`).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from hayate.errors import UsageError, clip
from hayate.prompt.grammar import MAX_PROMPT_CHARS, read_attention
from hayate.prompt.syntax import Alternation, Node, Switch, Unreadable, parse_tree

MAX_STEPS = 10_000
MAX_SUBPROMPTS = 64
MAX_STAGE_CHARS = 2_000_000
"""Bound on steps × characters of a prompt that changes at every step."""

AND_WORD = re.compile(r"\bAND\b")
WEIGHT = re.compile(r"[-+]?(?:\d+\.?|\d*\.\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The text in force up to and including a step, counted from 1."""

    until_step: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subprompt:
    """One of the prompts that `AND` joins."""

    weight: float
    stages: tuple[Stage, ...]

    def text_at(self, step: int) -> str:
        """The text in force at `step`, counted from 1; past the last stage, the last text."""
        index = bisect_left(self.stages, step, key=lambda stage: stage.until_step)
        return self.stages[min(index, len(self.stages) - 1)].text


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt read for a number of steps, with what in it may not act as its writer meant."""

    subprompts: tuple[Subprompt, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """How the `when` of an edit becomes a step."""

    steps: int
    step_offset: int = 0
    fraction_offset: float = 0.0
    is_old: bool = False

    def step_of(self, when: str) -> int:
        """The last step before the edit; below 1, the edit is in force from the start."""
        number = float(when)
        if self.is_old:
            step = number * self.steps if number < 1 else number
        elif "." in when:
            step = (number - self.fraction_offset) * self.steps
        else:
            step = number - self.step_offset
        return int(max(0.0, min(float(self.steps), step)))


def parse_prompt(
    text: str,
    steps: int,
    *,
    hires_steps: int | None = None,
    use_old_timelines: bool = False,
    is_negative: bool = False,
) -> Prompt:
    """The subprompts of `text` and their stages; any text up to `MAX_PROMPT_CHARS` has a reading.

    A negative prompt is not split: in it `AND` and a closing `:weight` are plain text.
    Raises: UsageError when the text or the number of steps is beyond the caps.
    Source: A1111 behaviour.
    """
    if len(text) > MAX_PROMPT_CHARS:
        hint = f"at most {MAX_PROMPT_CHARS}; CLIP reads 75 tokens, about 300 characters, at a time"
        raise UsageError(f"the prompt has {len(text)} characters", hint=hint)
    timeline = timeline_of(steps, hires_steps, use_old_timelines)
    parts, warnings = ([(text, 1.0)], []) if is_negative else split_at_and(text)
    subprompts: list[Subprompt] = []
    for part, weight in parts:
        stages, troubles = read_schedule(part, timeline, max_chars=MAX_STAGE_CHARS // len(parts))
        subprompts.append(Subprompt(weight=weight, stages=stages))
        warnings += [*troubles, *read_attention(part).warnings]
    return Prompt(subprompts=tuple(subprompts), warnings=tuple(dict.fromkeys(warnings)))


def parse_schedule(
    text: str, steps: int, *, hires_steps: int | None = None, use_old_timelines: bool = False
) -> tuple[Stage, ...]:
    """The stages of one subprompt, in order; the last one ends with the last step.

    With `hires_steps` the stages are those of the second pass: whole numbers go on counting from the first pass and
    fractions run from 1 to 2. The old timelines (before A1111 1.6) have no second pass and take numbers below 1 as
    fractions.
    Raises: UsageError when the number of steps is beyond the cap.
    Source: A1111 behaviour; its sixteen published cases are in the tests.
    """
    return read_schedule(text, timeline_of(steps, hires_steps, use_old_timelines), max_chars=MAX_STAGE_CHARS)[0]


def timeline_of(steps: int, hires_steps: int | None, use_old_timelines: bool) -> Timeline:
    """The timeline of the first pass, or of the second if `hires_steps` is given."""
    if hires_steps is None or use_old_timelines:
        timeline = Timeline(steps=steps, is_old=use_old_timelines)
    else:
        timeline = Timeline(steps=hires_steps, step_offset=steps, fraction_offset=1.0)
    if not 1 <= timeline.steps <= MAX_STEPS:
        raise UsageError(f"{timeline.steps} steps can't be scheduled", hint=f"from 1 to {MAX_STEPS}")
    return timeline


def split_at_and(text: str) -> tuple[list[tuple[str, float]], list[str]]:
    """The texts that `AND` joins with their weights, and warnings."""
    parts = AND_WORD.split(text)
    if len(parts) > MAX_SUBPROMPTS:
        return [(text, 1.0)], [f"more than {MAX_SUBPROMPTS} prompts joined by AND: AND is read as text"]
    weighted = [split_weight(part) for part in parts]
    warnings = []
    if len(parts) == 1 and weighted[0][1] != 1.0:
        warnings.append(f"the closing ':{weighted[0][1]:g}' is read as the weight of the whole prompt")
    return weighted, warnings


def split_weight(text: str) -> tuple[str, float]:
    """`text` without the `:weight` that closes it, and the weight, 1 if there is none."""
    head, colon, tail = text.rpartition(":")
    if colon and WEIGHT.fullmatch(tail.strip()) and abs(float(tail)) < 1e6:
        return head.rstrip(), float(tail)
    return text.rstrip(), 1.0


def read_schedule(text: str, timeline: Timeline, *, max_chars: int) -> tuple[tuple[Stage, ...], list[str]]:
    """The stages of `text` and warnings; text that can't be read is one stage of plain text.

    Cost: linear in the text for each stage; stages × characters are at most `max_chars`.
    """
    plain = (Stage(until_step=timeline.steps, text=text),)
    if "[" not in text:
        return plain, []
    tree = parse_tree(text)
    if isinstance(tree, Unreadable):
        return plain, [f"{tree.reason}: the edits in {clip(text)!r} are read as text"]
    ends = stage_ends(tree, timeline)
    if len(ends) > 1 and len(ends) * len(text) > max_chars:
        return plain, [f"too long to change {len(ends)} times: the edits in {clip(text)!r} are read as text"]
    stages = (Stage(until_step=end, text="".join(texts_at(tree, end, timeline))) for end in ends)
    return tuple(stages), []


def stage_ends(tree: tuple[Node, ...], timeline: Timeline) -> list[int]:
    """The steps after which something in `tree` changes, and the last one."""
    ends = {timeline.steps}
    todo = list(tree)
    while todo:
        node = todo.pop()
        if isinstance(node, Switch):
            ends.add(timeline.step_of(node.when))
            todo += [*node.before, *node.after]
        elif isinstance(node, Alternation):
            ends.update(range(1, timeline.steps + 1))
            todo += [child for option in node.options for child in option]
        elif isinstance(node, tuple):
            todo += node
    return sorted(ends - {0})


def texts_at(tree: tuple[Node, ...], step: int, timeline: Timeline) -> Iterator[str]:
    """The pieces of text in force at `step`, in order."""
    todo = list(reversed(tree))
    while todo:
        node = todo.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, tuple):
            todo += reversed(node)
        elif isinstance(node, Switch):
            todo += reversed(node.before if step <= timeline.step_of(node.when) else node.after)
        else:
            todo += reversed(node.options[(step - 1) % len(node.options)])
