"""The ways to merge models, one function each, over float32 tensors of one shape.

The modes are those of AUTOMATIC1111's merger and of SuperMerger, by their published descriptions and their behaviour;
then TIES, DARE and SLERP from their papers. `alpha` and `beta` are numbers, already those of the tensor's block. No
argument is changed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

Span = tuple[float, float]
"""The lowest and highest similarity of two models, outliers left out."""

NORM_FLOOR = 1e-12
TRAIN_GAIN = 1.8
"""What trainDifference multiplies by, so that equal distances give 0.9 of a plain difference."""
SLERP_LIMIT = 0.9995
"""Beyond this cosine the arc is a line, and its formula 0/0."""
TENSOR2_COLUMNS = 100
"""tensor2 divides columns only where there are more of them."""


def weighted_sum(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """A·(1 − α) + B·α. Source: A1111 behaviour, docs/compat.md."""
    return torch.lerp(a, b, alpha)


def add_difference(a: Tensor, b: Tensor, c: Tensor, alpha: float) -> Tensor:
    """A + α·(B − C). Source: A1111 behaviour, docs/compat.md."""
    return torch.add(a, b - c, alpha=alpha)


def triple_sum(a: Tensor, b: Tensor, c: Tensor, alpha: float, beta: float) -> Tensor:
    """A·(1 − α − β) + B·α + C·β. Source: SuperMerger's readme, "Triple sum"."""
    return (a * (1 - alpha - beta)).add_(b, alpha=alpha).add_(c, alpha=beta)


def sum_twice(a: Tensor, b: Tensor, c: Tensor, alpha: float, beta: float) -> Tensor:
    """(A·(1 − α) + B·α)·(1 − β) + C·β. Source: SuperMerger's readme, "sum Twice"."""
    return torch.lerp(torch.lerp(a, b, alpha), c, beta)


def scaled(a: Tensor, alpha: float) -> Tensor:
    """A·α; an α of 0 leaves A, so that blocks can be left out.

    Source: SuperMerger behaviour, calculation mode `self`; it leaves some layers alone, which here elemental rules do.
    """
    return a * alpha if alpha else a


def train_difference(a: Tensor, b: Tensor, c: Tensor, alpha: float) -> Tensor:
    """A + 1.8·α·(B − C)·|B − A| / (|B − C| + |B − A|): less of the difference where A is already near B.

    Source: SuperMerger's calcmode_en.md, "trainDifference", and its behaviour for the numbers.
    """
    return trained(a, b, c, TRAIN_GAIN * alpha)


def trained(a: Tensor, b: Tensor, c: Tensor, gain: float) -> Tensor:
    """A + gain·(B − C)·|B − A| / (|B − C| + |B − A|), where 0/0 is 0."""
    difference, distance = b - c, (b - a).abs()
    share = distance / (difference.abs() + distance)
    return torch.add(a, difference.mul_(share.nan_to_num_(0.0)), alpha=gain)


def extract(a: Tensor, b: Tensor, c: Tensor, alpha: float, *, beta: float, gamma: float) -> Tensor:
    """A + (b·(1 − α) + c·α)·(d·(1 − β) + (1 − d)·β) for b = B − A and c = C − A, where d = ((1 + cos(b, c)) / 2)^γ.

    β = 0 keeps what both changes have in common, row by row, and β = 1 what sets them apart.
    Source: SuperMerger behaviour, calculation mode `extract`.
    """
    first, second = b - a, c - a
    alike = torch.nn.functional.cosine_similarity(first, second, dim=-1, eps=NORM_FLOOR).clamp_(-1, 1).unsqueeze(-1)
    common = ((1 + alike) / 2) ** gamma
    return a + torch.lerp(first, second, alpha) * torch.lerp(common, 1 - common, beta)


def divided(a: Tensor, b: Tensor, alpha: float, beta: float, dim: int) -> Tensor:
    """A with a share α of its slices from B, from the share β on; what goes beyond the end begins again at the start.

    Source: SuperMerger's calcmode_en.md, "tensor".
    """
    size, end = a.shape[dim], alpha + beta
    inside = end <= 1
    start, stop = (int(size * beta), int(size * end)) if inside else (int(size * (end - 1)), int(size * beta))
    outer, inner = (a, b) if inside else (b, a)
    merged = outer.clone()
    merged.narrow(dim, start, stop - start).copy_(inner.narrow(dim, start, stop - start))
    return merged


def tensor_rows(a: Tensor, b: Tensor, alpha: float, beta: float) -> Tensor:
    """`divided` by outputs: SuperMerger's `tensor`."""
    return divided(a, b, alpha, beta, 0)


def tensor_columns(a: Tensor, b: Tensor, alpha: float, beta: float) -> Tensor:
    """`divided` by inputs where there are more than 100: SuperMerger's `tensor2`."""
    return divided(a, b, alpha, beta, 1 if a.dim() > 1 and a.shape[1] > TENSOR2_COLUMNS else 0)


def cosine_a(a: Tensor, b: Tensor, alpha: float, span: Span) -> Tensor:
    """A·k + B·(1 − k), where k follows the similarity of the *normalised* columns: A's structure, B's details.

    k = clip((s − low) / (high − low) − |α|, 0, 1) for each column's s, of `similarities`.
    Source: SuperMerger's calcmode_en.md, "cosineA/cosineB", and its behaviour for the numbers.
    """
    return _by_similarity(a, b, abs(alpha), span, similarities(a, b, is_normalised=True))


def cosine_b(a: Tensor, b: Tensor, alpha: float, span: Span) -> Tensor:
    """As `cosine_a`, by the similarity of the tensors as they are: B's structure, A's details."""
    return _by_similarity(a, b, alpha, span, similarities(a, b, is_normalised=False))


def similarities(a: Tensor, b: Tensor, *, is_normalised: bool) -> Tensor:
    """For each column the mean of its cosine and of the whole tensor's. Shapes: [n, …] → […]."""
    columns = column_cosines(a, b)
    if is_normalised:
        a, b = (each / torch.linalg.vector_norm(each, dim=0).clamp_min(NORM_FLOOR) for each in (a, b))
    return (columns + _cosine(a, b)) / 2


def column_cosines(a: Tensor, b: Tensor) -> Tensor:
    """The cosine of each column with its counterpart. Shapes: [n, …] → […]."""
    norms = torch.linalg.vector_norm(a, dim=0) * torch.linalg.vector_norm(b, dim=0)
    return (a * b).sum(0) / norms.clamp_min(NORM_FLOOR)


def similarity_span(found: Sequence[Tensor]) -> Span:
    """The ends of all similarities: those below the 1st percentile left out, then those above the others' 99th.

    Source: SuperMerger behaviour; percentiles between two values lie in their middle.
    """
    values = torch.cat([each.flatten() for each in found] or [torch.zeros(1)]).double().sort().values
    values = values[values >= _percentile(values, 0.01)]
    values = values[values <= _percentile(values, 0.99)]
    return float(values[0]), float(values[-1])


def ties(a: Tensor, others: Sequence[Tensor], alpha: float, keep: float) -> Tensor:
    """A + α·τ: each model's difference from A trimmed to its largest, the sign elected, those that agree averaged.

    `keep` is the share of numbers kept, tensor by tensor.
    Source: Yadav et al. 2023 (TIES-Merging), algorithm 1; k = 20 % there.
    """
    changes = [_trimmed(other - a, keep) for other in others]
    elected = torch.sign(sum(changes[1:], changes[0]))
    total, voices = torch.zeros_like(a), torch.zeros_like(a)
    for change in changes:
        agrees = (torch.sign(change) == elected) & (elected != 0)
        total += torch.where(agrees, change, 0.0)
        voices += agrees
    return torch.add(a, total / voices.clamp_min(1), alpha=alpha)


def dare(a: Tensor, others: Sequence[Tensor], alpha: float, drop: float, masks: Sequence[Tensor]) -> Tensor:
    """A + α·Σ m∘(B − A) / (1 − p): a share p of each model's difference dropped at random, the rest made larger.

    Source: Yu et al. 2023 (DARE), eq. 1–3, added up as in task arithmetic.
    """
    total = torch.zeros_like(a)
    for other, mask in zip(others, masks, strict=True):
        total += (other - a) * mask
    return torch.add(a, total, alpha=alpha / (1 - drop))


def kept_at_random(shape: Sequence[int], drop: float, seed: int, name: str, number: int) -> Tensor:
    """Which numbers of the tensor called `name` of a model are kept: the same for the same seed, whatever the order."""
    digest = hashlib.blake2b(f"{seed} {number} {name}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
    return torch.rand(tuple(shape), generator=generator) >= drop


def slerp(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """A·sin((1 − α)Ω)/sin Ω + B·sin(αΩ)/sin Ω for the angle Ω between the tensors; a line where they are parallel.

    Source: Shoemake 1985, section 3.3.
    """
    cosine = _cosine(a, b)
    if not abs(cosine) < SLERP_LIMIT:
        return weighted_sum(a, b, alpha)
    angle = math.acos(cosine)
    return (a * (math.sin((1 - alpha) * angle) / math.sin(angle))).add_(
        b, alpha=math.sin(alpha * angle) / math.sin(angle)
    )


def _cosine(a: Tensor, b: Tensor) -> float:
    """Of two tensors as vectors; summed in float64, so that large ones lose nothing."""
    norms = math.sqrt(float((a * a).sum(dtype=torch.float64)) * float((b * b).sum(dtype=torch.float64)))
    return float((a * b).sum(dtype=torch.float64)) / max(norms, NORM_FLOOR)


def _by_similarity(a: Tensor, b: Tensor, alpha: float, span: Span, found: Tensor) -> Tensor:
    low, high = span
    share = (found - low) / (high - low) if high > low else torch.ones_like(found)
    return torch.lerp(b, a, (share - alpha).clamp_(0, 1).expand_as(a))


def _percentile(ordered: Tensor, share: float) -> float:
    """The value at this share of the way through, or the middle of its two neighbours."""
    place = share * (len(ordered) - 1)
    if abs(place - round(place)) < 1e-9:
        return float(ordered[round(place)])
    return float(ordered[math.floor(place)] + ordered[math.ceil(place)]) / 2


def _trimmed(change: Tensor, keep: float) -> Tensor:
    """A change with only its largest numbers, the rest zero; equal ones stay or go together."""
    dropped = change.numel() - max(1, round(keep * change.numel()))
    if dropped <= 0:
        return change
    size = change.abs()
    return torch.where(size > size.flatten().kthvalue(dropped).values, change, 0.0)
