"""The ways to merge models, one function each, over float32 tensors of one shape.

The modes are those of AUTOMATIC1111's merger and of SuperMerger, by their published descriptions and their behaviour;
then TIES, DARE and SLERP from their papers. `alpha` and `beta` are numbers, already those of the tensor's block. No
argument is changed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence

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


def divided(a: Tensor, b: Tensor, part: range, is_b_inside: bool, dim: int) -> Tensor:
    """A outside a part along `dim` and B inside, or the other way round."""
    outer, inner = (a, b) if is_b_inside else (b, a)
    merged = outer.clone()
    merged.narrow(dim, part.start, len(part)).copy_(inner.narrow(dim, part.start, len(part)))
    return merged


def division(size: int, alpha: float, beta: float) -> tuple[range, bool]:
    """The part of a tensor that is B's, a share α from the share β on; where that goes beyond the end and begins again
    at the start, the part that is not.

    Source: SuperMerger's calcmode_en.md, "tensor".
    """
    end = alpha + beta
    inside = end <= 1
    start, stop = (int(size * beta), int(size * end)) if inside else (int(size * (end - 1)), int(size * beta))
    return range(start, stop), inside


def tensor_rows(a: Tensor, b: Tensor, alpha: float, beta: float) -> Tensor:
    """`divided` by outputs: SuperMerger's `tensor`."""
    return divided(a, b, *division(a.shape[0], alpha, beta), 0)


def tensor_columns(a: Tensor, b: Tensor, alpha: float, beta: float) -> Tensor:
    """`divided` by inputs where there are more than 100: SuperMerger's `tensor2`."""
    dim = 1 if has_columns(a.shape) else 0
    return divided(a, b, *division(a.shape[dim], alpha, beta), dim)


def has_columns(shape: Sequence[int]) -> bool:
    """Whether `tensor2` divides such tensors by inputs."""
    return len(shape) > 1 and shape[1] > TENSOR2_COLUMNS


def cosine_a(a: Tensor, b: Tensor, alpha: float, span: Span) -> Tensor:
    """A·k + B·(1 − k), where k follows the similarity of the *normalised* columns: A's structure, B's details.

    k = clip((s − low) / (high − low) − |α|, 0, 1) for each column's s, of `similarities`.
    Source: SuperMerger's calcmode_en.md, "cosineA/cosineB", and its behaviour for the numbers.
    """
    return torch.lerp(b, a, shares(similarities(column_sums(a, b), is_normalised=True), abs(alpha), span).expand_as(a))


def cosine_b(a: Tensor, b: Tensor, alpha: float, span: Span) -> Tensor:
    """As `cosine_a`, by the similarity of the tensors as they are: B's structure, A's details."""
    return torch.lerp(b, a, shares(similarities(column_sums(a, b), is_normalised=False), alpha, span).expand_as(a))


def column_sums(a: Tensor, b: Tensor) -> Tensor:
    """Σa·b, Σa² and Σb² of each column; those of some rows add up to those of all. Shapes: [n, …] → [3, …], float64."""
    return torch.stack([(x * y).sum(0, dtype=torch.float64) for x, y in ((a, b), (a, a), (b, b))])


def similarities(sums: Tensor, *, is_normalised: bool) -> Tensor:
    """For each column the mean of its cosine and of the whole tensor's, by the `column_sums`. Shapes: [3, …] → […]."""
    parts = sums
    if is_normalised:
        first, second = sums[1:].sqrt().clamp_min(NORM_FLOOR)
        parts = sums / torch.stack([first * second, first * first, second * second])
    dot, first, second = (float(each.sum()) for each in parts)
    return (column_cosines(sums) + dot / max(math.sqrt(first * second), NORM_FLOOR)) / 2


def column_cosines(sums: Tensor) -> Tensor:
    """The cosine of each column with its counterpart, by the `column_sums`. Shapes: [3, …] → […]."""
    return (sums[0] / (sums[1] * sums[2]).sqrt().clamp_min(NORM_FLOOR)).float()


def shares(found: Tensor, alpha: float, span: Span) -> Tensor:
    """How much of A there is in each column of a cosine merge."""
    low, high = span
    share = (found - low) / (high - low) if high > low else torch.ones_like(found)
    return (share - alpha).clamp_(0, 1)


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
    thresholds = [kept_from(lambda other=other: [other - a], keep) for other in others]
    return ties_above(a, others, alpha, thresholds)


def ties_above(a: Tensor, others: Sequence[Tensor], alpha: float, thresholds: Sequence[float]) -> Tensor:
    """`ties`, where of each difference stays what is larger than its threshold."""
    pairs = zip(others, thresholds, strict=True)
    changes = [torch.where(change.abs() > least, change, 0.0) for other, least in pairs for change in [other - a]]
    elected = torch.sign(sum(changes[1:], changes[0]))
    total, voices = torch.zeros_like(a), torch.zeros_like(a)
    for change in changes:
        agrees = (torch.sign(change) == elected) & (elected != 0)
        total += torch.where(agrees, change, 0.0)
        voices += agrees
    return torch.add(a, total / voices.clamp_min(1), alpha=alpha)


def kept_from(parts: Callable[[], Iterable[Tensor]], keep: float) -> float:
    """The size which a share `keep` of the numbers of all parts exceeds; equal ones stay or go together.

    Found by the upper and then the lower half of the numbers' bits, which sort as the numbers do, so that it takes no
    memory for all of them. `parts` gives them twice.
    """
    upper = _counted(parts(), 0)
    count = int(upper.sum())
    dropped = count - max(1, round(keep * count))
    if dropped <= 0:
        return -1.0
    high = int(torch.searchsorted(upper.cumsum(0), dropped))
    before = int(upper[:high].sum())
    low = int(torch.searchsorted(_counted(parts(), high, is_lower=True).cumsum(0), dropped - before))
    return float(torch.tensor((high << 16) + low, dtype=torch.int32).view(torch.float32))


def _counted(parts: Iterable[Tensor], high: int, *, is_lower: bool = False) -> Tensor:
    """How often each upper half of the bits is there, or each lower half where the upper one is `high`."""
    counts = torch.zeros(1 << 16, dtype=torch.int64)
    for part in parts:
        bits = part.abs().flatten().view(torch.int32)
        halves = (bits[(bits >> 16) == high] & 0xFFFF) if is_lower else bits >> 16
        counts += torch.bincount(halves, minlength=1 << 16)
    return counts


def dare(a: Tensor, others: Sequence[Tensor], alpha: float, drop: float, masks: Sequence[Tensor]) -> Tensor:
    """A + α·Σ m∘(B − A) / (1 − p): a share p of each model's difference dropped at random, the rest made larger.

    Source: Yu et al. 2023 (DARE), eq. 1–3, added up as in task arithmetic.
    """
    total = torch.zeros_like(a)
    for other, mask in zip(others, masks, strict=True):
        total += (other - a) * mask
    return torch.add(a, total, alpha=alpha / (1 - drop))


def kept_at_random(shape: Sequence[int], drop: float, generator: torch.Generator) -> Tensor:
    """Which numbers of a model are kept; asked for some rows after the others, they are those of all at once."""
    return torch.rand(tuple(shape), generator=generator) >= drop


def generator_for(seed: int, name: str, number: int) -> torch.Generator:
    """What decides the numbers of the tensor called `name` that are kept of a model, whatever the tensors' order."""
    digest = hashlib.blake2b(f"{seed} {number} {name}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def slerp(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """A·sin((1 − α)Ω)/sin Ω + B·sin(αΩ)/sin Ω for the angle Ω between the tensors; a line where they are parallel.

    Source: Shoemake 1985, section 3.3.
    """
    first, second = arc(products(a, b), alpha)
    return (a * first).add_(b, alpha=second)


def products(a: Tensor, b: Tensor) -> Tensor:
    """Σa·b, Σa² and Σb²; those of some rows add up to those of all. Shapes: [3], float64."""
    return torch.stack([(x * y).sum(dtype=torch.float64) for x, y in ((a, b), (a, a), (b, b))])


def arc(sums: Tensor, alpha: float) -> tuple[float, float]:
    """How much of A and of B `slerp` takes, by their `products`."""
    dot, first, second = sums.tolist()
    cosine = dot / max(math.sqrt(first * second), NORM_FLOOR)
    if not abs(cosine) < SLERP_LIMIT:
        return 1 - alpha, alpha
    angle = math.acos(cosine)
    return math.sin((1 - alpha) * angle) / math.sin(angle), math.sin(alpha * angle) / math.sin(angle)


def _percentile(ordered: Tensor, share: float) -> float:
    """The value at this share of the way through, or the middle of its two neighbours."""
    place = share * (len(ordered) - 1)
    if abs(place - round(place)) < 1e-9:
        return float(ordered[round(place)])
    return float(ordered[math.floor(place)] + ordered[math.ceil(place)]) / 2
