"""Classifier-free guidance: which conditioning each evaluation sees, and how its predictions are combined.

Source: Ho & Salimans 2022; Liu et al. 2022 for composed prompts (`AND`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hayate.engines.base import Engine
from hayate.pipeline.encode import Conditioning, TextStyle, encode_texts
from hayate.prompt.schedule import Prompt, Stage
from hayate.runtime.approximate import Approximate


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One batch of conditioning: `len(weights)` prompts and, where guidance needs it, the negative one last."""

    context: Tensor
    """[prompts (+ 1), length, width]"""
    vector: Tensor | None
    """[prompts (+ 1), vector_width] or None"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """Everything about the prompts that the loop needs, computed before it."""

    variants: tuple[Variant, ...]
    variant_of_evaluation: tuple[int, ...]
    weights: tuple[float, ...]
    """Scale of each prompt's difference from the negative one; empty when only the prompt is evaluated."""
    has_padding: bool
    """Whether prompt and negative prompt had different lengths, so that the shorter was padded."""
    unguided: frozenset[int] = frozenset()
    """Evaluations that go without the negative prompt, which the others have."""

    @property
    def batch(self) -> int:
        """How many U-Net inputs each image takes."""
        return self.variants[0].context.shape[0]

    def batch_at(self, evaluation: int) -> int:
        """How many of them are given to one evaluation."""
        return self.batch - (evaluation in self.unguided)

    def limited(self, sigmas: np.ndarray, limits: Approximate) -> Guidance:
        """This guidance, acting only where `limits` let it."""
        return replace(self, unguided=unguided(sigmas, limits)) if self.weights else self


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidanceScale:
    """How strongly, and whether the negative prompt is evaluated even where its weight is zero."""

    scale: float
    needs_negative: bool = False


def build_guidance(
    engine: Engine,
    prompts: tuple[Prompt, Prompt],
    style: TextStyle,
    scale: GuidanceScale,
    evaluations: int,
) -> Guidance:
    """Encodes every stage of both prompts once and maps each evaluation to its batch.

    `prompts` is the prompt and the negative prompt, which knows no `AND`.
    """
    positive, negative = prompts[0], prompts[1].subprompts[0].stages
    conditionings = [
        encode_texts(engine, [stage.text for stage in subprompt.stages], style) for subprompt in positive.subprompts
    ]
    is_plain = len(conditionings) == 1 and positive.subprompts[0].weight == 1 and scale.scale == 1
    timelines = [subprompt.stages for subprompt in positive.subprompts]
    if not is_plain or scale.needs_negative:
        conditionings.append(encode_texts(engine, [stage.text for stage in negative], style, is_negative=True))
        timelines.append(negative)
    has_negative = len(conditionings) > len(positive.subprompts)
    empty = encode_texts(engine, [""], style)[0].context
    keys = [tuple(stage_index(stages, step) for stages in timelines) for step in range(evaluations)]
    distinct = list(dict.fromkeys(keys))
    chosen = [[of_prompt[index] for of_prompt, index in zip(conditionings, key, strict=True)] for key in distinct]
    return Guidance(
        variants=tuple(_variant(parts, empty, has_negative) for parts in chosen),
        variant_of_evaluation=tuple(distinct.index(key) for key in keys),
        weights=tuple(sub.weight * scale.scale for sub in positive.subprompts) if has_negative else (),
        has_padding=has_negative and any(len(parts[0].context) != len(parts[-1].context) for parts in chosen),
    )


def stage_index(stages: Sequence[Stage], evaluation: int) -> int:
    """Which stage the `evaluation`-th call of the U-Net sees, counted from 0.

    Source: A1111 behaviour, docs/compat.md: a stage lasts up to and including the evaluation numbered `until_step`
    when counting from 0, so the first stage sees one evaluation more than its number says.
    """
    return next((index for index, stage in enumerate(stages) if evaluation <= stage.until_step), len(stages) - 1)


def unguided(sigmas: np.ndarray, limits: Approximate) -> frozenset[int]:
    """The evaluations, by their noise levels, at which `limits` do without the negative prompt.

    Shapes: sigmas [evaluations].
    Source: Kynkäänniemi et al. 2024, eq. 5, for the interval; A1111 behaviour for `s_min_uncond` (NGMS): of the
    evaluations below it, those with an odd number when counting from 0.
    """
    low, high = limits.guidance_interval or (0.0, np.inf)
    is_outside = (sigmas < low) | (sigmas > high)
    is_odd = np.arange(len(sigmas)) % 2 == 1
    is_skipped = is_outside | (is_odd & (sigmas < limits.s_min_uncond))
    return frozenset(np.flatnonzero(is_skipped).tolist())


def combine(outputs: Tensor, weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The guided prediction and the negative prompt's own; where that is left out, the first prompt stands in for it.

    Shapes: outputs [prompts (+ 1), B, C, h, w] → two of [B, C, h, w].
    Source: A1111 behaviour, for what stands in.
    """
    if not weights:
        return outputs[0], outputs[0]
    negative = outputs[-1] if len(outputs) > len(weights) else outputs[0]
    guided = negative
    for output, weight in zip(outputs[: len(weights)], weights, strict=True):
        guided = guided + (output - negative) * weight
    return guided, negative


def _variant(parts: Sequence[Conditioning], empty: Tensor, has_negative: bool) -> Variant:
    """One batch: composed prompts take their own last token as padding, prompt against negative the empty prompt."""
    prompts = [part.context for part in (parts[:-1] if has_negative else parts)]
    longest = max(len(context) for context in prompts)
    contexts = [_pad(context, context[-1:], longest) for context in prompts]
    if has_negative:
        contexts.append(parts[-1].context)
        longest = max(len(context) for context in contexts)
        contexts = [_pad(context, empty, longest) for context in contexts]
    vectors = [part.vector for part in parts if part.vector is not None]
    return Variant(context=torch.stack(contexts), vector=torch.stack(vectors) if vectors else None)


def _pad(context: Tensor, filler: Tensor, length: int) -> Tensor:
    repeats = (length - len(context)) // len(filler)
    return torch.cat([context, *[filler] * repeats]) if repeats else context
