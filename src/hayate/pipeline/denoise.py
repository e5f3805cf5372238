"""The loop: a sampler's table applied to latents, one U-Net batch for each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hayate.engines.base import Engine
from hayate.engines.reuse import FeatureReuse
from hayate.errors import Cancelled
from hayate.models.config import Prediction
from hayate.pipeline.acted import Acted
from hayate.pipeline.guidance import Guidance, combine
from hayate.pipeline.stops import Half, HalfCancelled, HalfSkipped, Skipped
from hayate.samplers.table import Noise, StepTable

StepCallback = Callable[[int, int], None]
"""Called after each row with the number of rows done and of all rows."""
DenoisedCallback = Callable[[int, int, Tensor], None]
"""Called like a StepCallback, with the denoised latents as well, which it may read and must not change."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LatentNoise:
    """All noise of a batch: where the latents start, and what the rows that add noise are given."""

    first: Tensor
    """[B, 4, h, w] float32, of unit variance"""
    draw: Callable[[Noise], Tensor]
    """The next unit noise of a kind, in the shape of `first`."""
    image: Tensor | None = None
    """The latents of a picture to start from, in the shape of `first`."""
    beside: Tensor | None = None
    """What an inpainting model is shown beside the latents, [1, 5, h, w]: the mask, and the picture around it."""
    mask: Tensor | None = None
    """How much of them is made anew, [1, 1, h, w]; None makes all."""

    def shown(self, x: Tensor) -> Tensor:
        """What the U-Net is given: the latents, and for inpainting models the mask and the picture around it."""
        if self.beside is None:
            return x
        return torch.cat([x, self.beside.expand(len(x), -1, -1, -1)], dim=1)

    def kept(self, made: Tensor) -> Tensor:
        """`made` where the mask is, and the given picture elsewhere. Source: A1111 behaviour, docs/compat.md."""
        if self.mask is None or self.image is None:
            return made
        return made * self.mask + self.image * (1 - self.mask)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A table as tensors on the device."""

    matrix: Tensor
    """[rows, slots, slots + 3] float32: state' = matrix · [state, denoised, negative's denoised, noise]"""
    scale_in: Tensor
    """[rows]: 1/√(σ² + 1), what the U-Net's input is multiplied by"""
    skip: Tensor
    """[rows]: how much of x there is in the denoised latents"""
    out: Tensor
    """[rows]: how much of the U-Net's output there is in them"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditions:
    """What the U-Net is told, projected once per job: by row for the time, by variant for the prompts."""

    times: tuple[Tensor, ...]
    """For each variant [rows, prompts or 1, width]; one tensor for all where no vector tells them apart."""
    contexts: tuple[Sequence[Tensor], ...]
    """For each variant the keys and values of every transformer block, [prompts, length, 2·channels]."""

    def at(self, row: int, variant: int, images: int, prompts: int) -> tuple[Tensor, Sequence[Tensor]]:
        """Times and contexts of one evaluation's first `prompts`, each repeated for every image of the batch."""
        contexts = self.contexts[variant]
        times = self.times[variant][row].expand(len(contexts[0]), -1)
        if prompts < len(times):
            times, contexts = times[:prompts], [context[:prompts] for context in contexts]
        if images == 1:
            return times, contexts
        contexts = [context.repeat_interleave(images, dim=0) for context in contexts]
        return times.repeat_interleave(images, dim=0), contexts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turn:
    """What the model that makes the next rows is told and shown."""

    guidance: Guidance
    conditions: Conditions
    noise: LatentNoise


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relay:
    """Another model makes the rows from here on; the sampler's state goes on as it is."""

    row: int
    take_over: Callable[[Tensor], Turn | None]
    """Given the latents, puts the model in the engine's place and says what it is told; None breaks the loop off."""


@torch.inference_mode()
def project_conditions(engine: Engine, table: StepTable, guidance: Guidance) -> Conditions:
    """All of the U-Net's work that depends on prompts and schedule alone, done before the loop."""
    timesteps = torch.from_numpy(table.timestep).to(torch.float32).to(engine.device)
    vectors = [variant.vector for variant in guidance.variants]
    if vectors[0] is None:
        times = (engine.project_times(timesteps, None),) * len(vectors)
    else:
        times = tuple(engine.project_times(timesteps, vector) for vector in vectors)
    return Conditions(
        times=times, contexts=tuple(engine.project_context(variant.context) for variant in guidance.variants)
    )


@torch.inference_mode()
def denoise(
    engine: Engine,
    table: StepTable,
    guidance: Guidance,
    conditions: Conditions,
    noise: LatentNoise,
    *,
    on_row: StepCallback,
    reuse: FeatureReuse | None = None,
    acted: Acted | None = None,
    on_denoised: DenoisedCallback | None = None,
    relay: Relay | None = None,
) -> Tensor:
    """The latents at the end of `table`, or where `relay` breaks off.

    `reuse` says which evaluations take another's deep features; `acted` is told what was left out; `on_denoised` is
    shown what the picture would be by now. A Cancelled or Skipped of `on_row` comes out with the latents.

    Shapes: → [B, 4, h, w] float32, not looked at: pipeline.guards does, after the loop.
    """
    first, acted = noise.first, acted or Acted()
    plan = plan_table(table, engine.config.prediction, first.device)
    slots = plan.matrix.shape[1]
    state = torch.zeros((slots, *first.shape), device=first.device)
    state[0] = first * table.initial_scale
    if noise.image is not None:
        state[0] += noise.image * table.image_scale
    nothing = torch.zeros_like(first)
    rows = len(plan.matrix)
    for row in range(rows):
        x = state[0]
        if relay is not None and row == relay.row:
            if (turn := relay.take_over(x)) is None:
                return x
            guidance, conditions, noise = turn.guidance, turn.conditions, turn.noise
            plan = plan_table(table, engine.config.prediction, first.device)
            if reuse is not None:
                reuse.forget()
        variant, prompts = guidance.variant_of_evaluation[row], guidance.batch_at(row)
        told = conditions.at(row, variant, len(x), prompts)
        inputs = noise.shown(x * plan.scale_in[row]).repeat(prompts, 1, 1, 1)
        features = () if reuse is None else (reuse.next(len(inputs), variant),)
        acted.evaluations += 1
        acted.unguided += prompts < guidance.batch
        acted.reused += reuse is not None and reuse.is_reusing
        outputs = engine.predict(inputs, *told, *features).view(prompts, *x.shape)
        output, negative_output = combine(outputs, guidance.weights)
        kept = plan.skip[row] * x
        denoised, negative = kept + plan.out[row] * output, kept + plan.out[row] * negative_output
        denoised, negative = noise.kept(denoised), noise.kept(negative)
        wanted = table.noise[row]
        drawn = nothing if wanted is None else noise.draw(wanted)
        columns = torch.cat([state, torch.stack([denoised, negative, drawn])])
        state = (plan.matrix[row] @ columns.flatten(1)).view_as(state)
        if on_denoised is not None:
            on_denoised(row + 1, rows, denoised)
        try:
            on_row(row + 1, rows)
        except Cancelled as error:
            raise HalfCancelled(error, Half(latents=denoised, row=row + 1)) from error
        except Skipped as error:
            raise HalfSkipped(Half(latents=denoised, row=row + 1)) from error
    return noise.kept(state[0])


def plan_table(table: StepTable, prediction: Prediction, device: torch.device) -> Plan:
    """The table's numbers and the network's preconditioning, computed in float64 and rounded once.

    Source: Karras et al. 2022, table 1, for ε (c_skip 1, c_out −σ) and v (c_skip 1/(σ²+1), c_out −σ/√(σ²+1)).
    """
    sigma = torch.from_numpy(table.sigma)
    scale_in = (sigma**2 + 1).rsqrt()
    if prediction is Prediction.V:
        skip, out = scale_in**2, -sigma * scale_in
    else:
        skip, out = torch.ones_like(sigma), -sigma

    def sent(values: Tensor) -> Tensor:
        return values.to(torch.float32).to(device)

    return Plan(
        matrix=sent(torch.from_numpy(table.matrix)),
        scale_in=sent(scale_in),
        skip=sent(skip),
        out=sent(out),
    )
