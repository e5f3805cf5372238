"""What each kind of low-rank file adds to a weight: one formula per kind, in float32.

Every formula gives ΔW for the *clean* weight W at strength 1, so that the changes of several files are added up and
their order does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

Parts = Mapping[str, Tensor]
"""The tensors of one layer by what they are, such as `up` and `down`."""

NORM_FLOOR = 1e-12
"""Norms are at least this, so that a row of zeros stays one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One way to write a change of a weight."""

    title: str
    marks: tuple[str, ...]
    """A layer with one of these parts is of this kind."""
    needs: Callable[[Parts], tuple[str, ...]]
    """The parts that a layer must have."""
    fits: Callable[[Parts, Sequence[int]], bool]
    """Whether the parts change a weight of this shape."""
    delta: Callable[[Parts, Tensor], Tensor]
    """ΔW for W, which is [out, in, …]; in the shape of W."""


def kind_of(parts: Parts) -> Kind | None:
    """The kind of a layer with these parts; None where there is none."""
    return next((kind for kind in KINDS if any(mark in parts for mark in kind.marks)), None)


def missing_parts(kind: Kind, parts: Parts) -> tuple[str, ...]:
    """What a layer of this kind lacks: half of a pair that a broken download lost."""
    return tuple(name for name in kind.needs(parts) if name not in parts)


def has_fitting_scales(parts: Parts, shape: Sequence[int]) -> bool:
    """Whether what a layer may have beside its kind's own parts is for a weight of this shape."""
    magnitude, rescale = parts.get("dora_scale"), parts.get("rescale")
    if magnitude is not None and not (_is_by_input(magnitude, shape) or magnitude.numel() == shape[0]):
        return False
    return rescale is None or rescale.numel() == shape[0]


def delta_of(kind: Kind, parts: Parts, weight: Tensor) -> Tensor:
    """ΔW at strength 1, with the magnitudes of DoRA where the layer has them. Shapes: those of `weight`, float32."""
    added = kind.delta(parts, weight)
    return added if "dora_scale" not in parts else renormed(weight, added, parts["dora_scale"]) - weight


def factors_of(kind: Kind, parts: Parts) -> tuple[Tensor, Tensor, float] | None:
    """The change as a thin product and its scale, where it is one. Shapes: [out, rank] and [rank, in·…]."""
    if kind.title != "LoRA" or "mid" in parts or "dora_scale" in parts:
        return None
    up, down = (parts[name].flatten(1) for name in ("up", "down"))
    return up, down, scale_of(parts, down.shape[0])


def shortened(parts: Parts, rank: int | None) -> Parts:
    """A LoRA of which only the first `rank` directions act; its scale stays that of the whole.

    Source: A1111 behaviour, `dyn`.
    """
    if rank is None or not {"up", "down"} <= parts.keys():
        return parts
    full = parts["down"].shape[0]
    cut = {"up": parts["up"][:, :rank], "down": parts["down"][:rank]}
    if "mid" in parts:
        cut["mid"] = parts["mid"][:rank, :rank]
    return {**parts, **cut, "alpha": torch.tensor(scale_of(parts, full) * min(rank, full))}


def scale_of(parts: Parts, rank: int) -> float:
    """α / rank, and 1 without α. Source: Hu et al. 2021 (LoRA), section 4.1."""
    return float(parts["alpha"]) / rank if "alpha" in parts else 1.0


def low_rank(parts: Parts, weight: Tensor) -> Tensor:
    """ΔW = α/r · up·down; with `mid`, the core of a Tucker decomposition of a convolution, up·mid·down.

    Source: Hu et al. 2021; LyCORIS (Yeh et al. 2023), section 3 for convolutions.
    """
    up, down = parts["up"].flatten(1), parts["down"]
    scale = scale_of(parts, down.shape[0])
    if "mid" in parts:
        return scale * torch.einsum("oa,ab...,bi->oi...", up, parts["mid"], down.flatten(1)).reshape(weight.shape)
    return (scale * up @ down.flatten(1)).reshape(weight.shape)


def hadamard(parts: Parts, weight: Tensor) -> Tensor:
    """LoHa: ΔW = α/r · (w1a·w1b) ∘ (w2a·w2b). Source: Hyeon-Woo et al. 2021 (FedPara), proposition 2."""
    first, second = (_half(parts, f"hada_w{n}", f"hada_t{n}") for n in "12")
    return scale_of(parts, parts["hada_w1_b"].shape[0]) * (first * second).reshape(weight.shape)


def kronecker(parts: Parts, weight: Tensor) -> Tensor:
    """LoKr: ΔW = α/r · w1 ⊗ w2, each whole or a product; two whole ones have no rank and no scale.

    Source: LyCORIS (Yeh et al. 2023), section 3.
    """
    first = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    second = parts["lokr_w2"] if "lokr_w2" in parts else _half(parts, "lokr_w2", "lokr_t2")
    thin = next((parts[name] for name in ("lokr_w2_b", "lokr_w1_b") if name in parts), None)
    scale = 1.0 if thin is None else scale_of(parts, thin.shape[0])
    first = first.reshape(*first.shape, *[1] * (second.dim() - first.dim()))
    return scale * torch.kron(first, second.contiguous()).reshape(weight.shape)


def gated(parts: Parts, weight: Tensor) -> Tensor:
    """IA³: ΔW = W ∘ l, with a number per output, or per input where the file says so. Source: Liu et al. 2022."""
    gate = parts["ia3"].flatten()
    rest = [1] * (weight.dim() - 2)
    return weight * (gate.reshape(1, -1, *rest) if _is_on_input(parts) else gate.reshape(-1, 1, *rest))


def whole(parts: Parts, weight: Tensor) -> Tensor:
    """The difference itself."""
    return parts["diff" if "diff" in parts else "w_norm"].reshape(weight.shape)


def rotated(parts: Parts, weight: Tensor) -> Tensor:
    """OFT: ΔW = Rᵀ·W − W in blocks of outputs, R = (I + Q)(I − Q)⁻¹ for skew Q, whose norm α·out limits.

    Source: Qiu et al. 2023, section 3.3; the order of the product and the limit as in A1111.
    """
    blocks = parts["oft_blocks" if "oft_blocks" in parts else "oft_diag"]
    skew = blocks - blocks.transpose(1, 2)
    limit = float(parts["alpha"]) * weight.shape[0] if "alpha" in parts and "oft_blocks" in parts else 0.0
    if limit > 0:
        skew = skew * (limit / skew.norm().clamp_min(limit))
    identity = torch.eye(skew.shape[1], device=skew.device)
    rotation = (identity + skew) @ torch.linalg.inv(identity - skew)
    turned = (rotation.transpose(1, 2) @ weight.reshape(*skew.shape[:2], -1)).reshape(weight.shape)
    if "rescale" in parts:
        turned = turned * parts["rescale"].reshape(-1, *[1] * (weight.dim() - 1))
    return turned - weight


def generalised(parts: Parts, weight: Tensor) -> Tensor:
    """GLoRA: ΔW = α/r · (W·A + B), both low-rank. Source: Chavan et al. 2023, eq. 10, without its other terms.

    Old files hold the factors in the other order, which shows in where the rank stands.
    """
    first, second, left, right = (parts[name].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    if first.shape[0] < first.shape[1]:
        first, second, left, right = second, first, right, left
    inner = torch.einsum("oi...,ir,rj->oj...", weight, first, second)
    return scale_of(parts, second.shape[0]) * (inner + (left @ right).reshape(weight.shape))


def renormed(weight: Tensor, added: Tensor, magnitude: Tensor) -> Tensor:
    """DoRA: m · (W + ΔW) / ‖W + ΔW‖, with a norm for each output or each input, as `magnitude` has them.

    Source: Liu et al. 2024 (DoRA), eq. 5.
    """
    merged = weight + added
    kept = 1 if _is_by_input(magnitude, weight.shape) else 0
    norm = torch.linalg.vector_norm(merged, dim=[each for each in range(merged.dim()) if each != kept], keepdim=True)
    return merged * (magnitude.reshape(norm.shape) / norm.clamp_min(NORM_FLOOR))


def _half(parts: Parts, name: str, core: str) -> Tensor:
    """A product of two factors, around the core of a Tucker decomposition where there is one."""
    left, right = parts[f"{name}_a"], parts[f"{name}_b"]
    return left @ right if core not in parts else torch.einsum("ab...,bi,ao->oi...", parts[core], right, left)


def _is_by_input(magnitude: Tensor, shape: Sequence[int]) -> bool:
    """Whether a layer of DoRA has a magnitude for each input; PEFT's have one for each output."""
    return magnitude.dim() > 1 and magnitude.shape[0] == 1 and magnitude.numel() == shape[1]


def _is_on_input(parts: Parts) -> bool:
    return bool(parts["on_input"])


def _fits_low_rank(parts: Parts, shape: Sequence[int]) -> bool:
    up, down = parts["up"], parts["down"]
    columns = down[0].numel() * (parts["mid"][0, 0].numel() if "mid" in parts else 1)
    ranks = parts["mid"].shape[:2] if "mid" in parts else (down.shape[0],) * 2
    return up[0].numel() == ranks[0] and down.shape[0] == ranks[1] and _is(shape, up.shape[0], columns)


def _half_shape(parts: Parts, name: str, core: str) -> tuple[int, int]:
    """Outputs and numbers for each of what `_half` makes; no outputs where its factors don't belong together."""
    left, right = parts[f"{name}_a"], parts[f"{name}_b"]
    if core in parts:
        is_whole = parts[core].shape[:2] == (left.shape[0], right.shape[0])
        return left.shape[1] if is_whole else 0, right.shape[1] * parts[core][0, 0].numel()
    return left.shape[0] if left.shape[1] == right.shape[0] else 0, right.shape[1]


def _fits_hadamard(parts: Parts, shape: Sequence[int]) -> bool:
    return all(_is(shape, *_half_shape(parts, f"hada_w{n}", f"hada_t{n}")) for n in "12")


def _fits_kronecker(parts: Parts, shape: Sequence[int]) -> bool:
    second = (
        (parts["lokr_w2"].shape[0], parts["lokr_w2"][0].numel())
        if "lokr_w2" in parts
        else _half_shape(parts, "lokr_w2", "lokr_t2")
    )
    first = parts["lokr_w1"].shape if "lokr_w1" in parts else _half_shape(parts, "lokr_w1", "")
    return _is(shape, first[0] * second[0], first[1] * second[1])


def _fits_gate(parts: Parts, shape: Sequence[int]) -> bool:
    return len(shape) > 1 and parts["ia3"].numel() == shape[1 if _is_on_input(parts) else 0]


def _fits_whole(parts: Parts, shape: Sequence[int]) -> bool:
    tensor = parts["diff" if "diff" in parts else "w_norm"]
    return tensor.dim() > 0 and _is(shape, tensor.shape[0], tensor[0].numel())


def _fits_rotation(parts: Parts, shape: Sequence[int]) -> bool:
    blocks = parts["oft_blocks" if "oft_blocks" in parts else "oft_diag"]
    return blocks.dim() == 3 and blocks.shape[1] == blocks.shape[2] and blocks.shape[0] * blocks.shape[1] == shape[0]


def _fits_generalised(parts: Parts, shape: Sequence[int]) -> bool:
    first, second, left, right = (parts[name].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    if first.shape[0] < first.shape[1]:
        first, second, left, right = second, first, right, left
    is_inner = len(shape) > 1 and first.shape[0] == second.shape[1] == shape[1]
    are_pairs = first.shape[1] == second.shape[0] and left.shape[1] == right.shape[0]
    return is_inner and are_pairs and _is(shape, left.shape[0], right.shape[1])


def _is(shape: Sequence[int], rows: int, columns: int) -> bool:
    """Whether a weight of this shape has so many outputs, and so many numbers for each."""
    return rows == shape[0] and columns == torch.Size(shape[1:]).numel()


def _kronecker_needs(parts: Parts) -> tuple[str, ...]:
    pairs = ("lokr_w1", ("lokr_w1_a", "lokr_w1_b")), ("lokr_w2", ("lokr_w2_a", "lokr_w2_b"))
    return tuple(name for one, two in pairs for name in ((one,) if one in parts else two))


def _all(*names: str) -> Callable[[Parts], tuple[str, ...]]:
    return lambda parts: names


KINDS = (
    Kind(
        title="LoRA",
        marks=("up", "down"),
        needs=_all("up", "down"),
        fits=_fits_low_rank,
        delta=low_rank,
    ),
    Kind(
        title="LoHa",
        marks=("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
        needs=_all("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
        fits=_fits_hadamard,
        delta=hadamard,
    ),
    Kind(
        title="LoKr",
        marks=("lokr_w1", "lokr_w1_a", "lokr_w2", "lokr_w2_a"),
        needs=_kronecker_needs,
        fits=_fits_kronecker,
        delta=kronecker,
    ),
    Kind(title="OFT", marks=("oft_blocks",), needs=_all("oft_blocks"), fits=_fits_rotation, delta=rotated),
    Kind(title="OFT", marks=("oft_diag",), needs=_all("oft_diag"), fits=_fits_rotation, delta=rotated),
    Kind(
        title="GLoRA",
        marks=("a1", "a2", "b1", "b2"),
        needs=_all("a1", "a2", "b1", "b2"),
        fits=_fits_generalised,
        delta=generalised,
    ),
    Kind(title="IA³", marks=("on_input",), needs=_all("ia3", "on_input"), fits=_fits_gate, delta=gated),
    Kind(title="full", marks=("diff",), needs=_all("diff"), fits=_fits_whole, delta=whole),
    Kind(title="norm", marks=("w_norm",), needs=_all("w_norm"), fits=_fits_whole, delta=whole),
)
"""Every kind that is known, in the order in which they are looked for."""

LEAVES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys((".lora_up.weight", ".lora.up.weight", ".lora_B.weight", ".lora_B.default.weight"), "up"),
        **dict.fromkeys((".lora_down.weight", ".lora.down.weight", ".lora_A.weight", ".lora_A.default.weight"), "down"),
        **dict.fromkeys((".lora_linear_layer.up.weight", "_lora.up.weight"), "up"),
        **dict.fromkeys((".lora_linear_layer.down.weight", "_lora.down.weight"), "down"),
        ".lora_mid.weight": "mid",
        ".alpha": "alpha",
        ".dora_scale": "dora_scale",
        ".lora_magnitude_vector": "dora_scale",
        ".lora_magnitude_vector.weight": "dora_scale",
        ".lora_magnitude_vector.default.weight": "dora_scale",
        **{f".hada_{name}": f"hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
        **{f".lokr_{name}": f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
        ".oft_blocks": "oft_blocks",
        ".oft_diag": "oft_diag",
        ".rescale": "rescale",
        **{f".{name}.weight": name for name in ("a1", "a2", "b1", "b2")},
        ".on_input": "on_input",
        ".weight": "ia3",
        ".diff": "diff",
        ".diff_b": "diff_b",
        ".w_norm": "w_norm",
        ".b_norm": "b_norm",
    }
)
"""How a tensor's name ends, and which part of its layer it is."""
