"""Files of the LoRA family with random numbers, and in float64 and by other means what each of them should do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

Parts = dict[str, Tensor]
Reference = Callable[[Parts, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """One way to write a change: random parts for a weight of some shape, and the dense ΔW by the published formula."""

    title: str
    parts: Callable[[Sequence[int]], Parts]
    reference: Reference
    is_for: Callable[[Sequence[int]], bool] = lambda shape: len(shape) > 1


def array(tensor: Tensor) -> np.ndarray:
    return tensor.double().numpy()


def random(*shape: int) -> Tensor:
    return torch.randn(shape) * 0.2


def save(path: Path, layers: dict[str, Parts], metadata: dict[str, str] | None = None) -> Path:
    """Writes layers, each under its name in the file, a dot before each part."""
    tensors = {
        f"{name}.{part}": tensor.contiguous() for name, parts in layers.items() for part, tensor in parts.items()
    }
    save_file(tensors, path, metadata=metadata)
    return path


def _rest(shape: Sequence[int]) -> int:
    return int(np.prod(shape[1:]))


def _lora(shape: Sequence[int], rank: int = 3) -> Parts:
    kernel = [1] * (len(shape) - 2)
    return {
        "lora_up.weight": random(shape[0], rank, *kernel),
        "lora_down.weight": random(rank, *shape[1:]),
        "alpha": torch.tensor(2.0),
    }


def _lora_reference(parts: Parts, weight: np.ndarray) -> np.ndarray:
    up, down = array(parts["lora_up.weight"]), array(parts["lora_down.weight"])
    rank = len(down)
    product = up.reshape(len(up), rank) @ down.reshape(rank, -1)
    return float(parts["alpha"]) / rank * product.reshape(weight.shape)


def _locon(shape: Sequence[int]) -> Parts:
    return {
        "lora_up.weight": random(shape[0], 4, 1, 1),
        "lora_mid.weight": random(4, 4, *shape[2:]),
        "lora_down.weight": random(4, shape[1], 1, 1),
        "alpha": torch.tensor(1.5),
    }


def _locon_reference(parts: Parts, weight: np.ndarray) -> np.ndarray:
    up, mid, down = (array(parts[f"lora_{name}.weight"]) for name in ("up", "mid", "down"))
    new = np.zeros(weight.shape)
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            new[:, :, row, column] = up[:, :, 0, 0] @ mid[:, :, row, column] @ down[:, :, 0, 0]
    return 1.5 / 4 * new


def _loha(shape: Sequence[int]) -> Parts:
    halves = {f"hada_w{n}_a": random(shape[0], 2) for n in "12"} | {
        f"hada_w{n}_b": random(2, _rest(shape)) for n in "12"
    }
    return {**halves, "alpha": torch.tensor(3.0)}


def _loha_reference(parts: Parts, weight: np.ndarray) -> np.ndarray:
    one, two = (array(parts[f"hada_w{n}_a"]) @ array(parts[f"hada_w{n}_b"]) for n in "12")
    return 3.0 / 2 * np.multiply(one, two).reshape(weight.shape)


def _loha_core(shape: Sequence[int]) -> Parts:
    return {
        **{f"hada_w{n}_a": random(3, shape[0]) for n in "12"},
        **{f"hada_w{n}_b": random(3, shape[1]) for n in "12"},
        **{f"hada_t{n}": random(3, 3, *shape[2:]) for n in "12"},
    }


def _core(core: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The Tucker product with [rank, out] and [rank, in], position by position."""
    new = np.zeros((left.shape[1], right.shape[1], *core.shape[2:]))
    for row in range(core.shape[2]):
        for column in range(core.shape[3]):
            new[:, :, row, column] = left.T @ core[:, :, row, column] @ right
    return new


def _loha_core_reference(parts: Parts, weight: np.ndarray) -> np.ndarray:
    one, two = (_core(*(array(parts[f"hada_{name}{n}{end}"]) for name, end in NAMES)) for n in "12")
    return (one * two).reshape(weight.shape)


NAMES = (("t", ""), ("w", "_a"), ("w", "_b"))


def _lokr(shape: Sequence[int]) -> Parts:
    return {
        "lokr_w1": random(4, 2),
        "lokr_w2_a": random(shape[0] // 4, 2),
        "lokr_w2_b": random(2, _rest(shape) // 2),
    } | {"alpha": torch.tensor(1.0)}


def _blocks(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The Kronecker product as the block matrix that it is."""
    return np.block([[value * second for value in row] for row in first])


def _lokr_reference(parts: Parts, weight: np.ndarray) -> np.ndarray:
    second = array(parts["lokr_w2_a"]) @ array(parts["lokr_w2_b"])
    kernel = weight.shape[2:]
    second = second.reshape(weight.shape[0] // 4, weight.shape[1] // 2, *kernel)
    new = np.zeros(weight.shape)
    for index in np.ndindex(*kernel):
        new[(..., *index)] = _blocks(array(parts["lokr_w1"]), second[(..., *index)])
    return 1.0 / 2 * new


def _lokr_whole(shape: Sequence[int]) -> Parts:
    return {"lokr_w1_a": random(4, 1), "lokr_w1_b": random(1, 4), "lokr_w2": random(shape[0] // 4, shape[1] // 4)}


def _lokr_whole_reference(parts: Parts, _: np.ndarray) -> np.ndarray:
    return _blocks(array(parts["lokr_w1_a"]) @ array(parts["lokr_w1_b"]), array(parts["lokr_w2"]))


def _lokr_core(shape: Sequence[int]) -> Parts:
    return {
        "lokr_w1": random(4, 2),
        "lokr_w2_a": random(2, shape[0] // 4),
        "lokr_w2_b": random(2, shape[1] // 2),
        "lokr_t2": random(2, 2, *shape[2:]),
    }


def _lokr_core_reference(parts: Parts, weight: np.ndarray) -> np.ndarray:
    second = _core(*(array(parts[f"lokr_{name}"]) for name in ("t2", "w2_a", "w2_b")))
    new = np.zeros(weight.shape)
    for index in np.ndindex(*weight.shape[2:]):
        new[(..., *index)] = _blocks(array(parts["lokr_w1"]), second[(..., *index)])
    return new


def _ia3(is_on_input: bool) -> Maker:
    def reference(parts: Parts, weight: np.ndarray) -> np.ndarray:
        gate = array(parts["weight"])
        flat = weight.reshape(weight.shape[0], weight.shape[1], -1)
        new = np.stack(
            [
                flat[:, :, k] @ np.diag(gate) if is_on_input else np.diag(gate) @ flat[:, :, k]
                for k in range(flat.shape[2])
            ],
            -1,
        )
        return new.reshape(weight.shape)

    def parts(shape: Sequence[int]) -> Parts:
        return {"weight": random(shape[1 if is_on_input else 0]), "on_input": torch.tensor(is_on_input)}

    return Maker(title=f"IA3 on {'input' if is_on_input else 'output'}", parts=parts, reference=reference)


def _dora(is_by_input: bool) -> Maker:
    def parts(shape: Sequence[int]) -> Parts:
        ones = [1] * (len(shape) - 2)
        size = (1, shape[1], *ones) if is_by_input else (shape[0], 1, *ones)
        return {**_lora(shape), "dora_scale": 1 + random(*size).abs()}

    def reference(parts: Parts, weight: np.ndarray) -> np.ndarray:
        merged = weight + _lora_reference(parts, weight)
        new = np.empty_like(merged)
        for index, size in enumerate(array(parts["dora_scale"]).flatten()):
            place = (slice(None), index) if is_by_input else index
            new[place] = size * merged[place] / np.sqrt((merged[place] ** 2).sum())
        return new - weight

    return Maker(title=f"DoRA by {'input' if is_by_input else 'output'}", parts=parts, reference=reference)


def _oft(name: str, alpha: float | None) -> Maker:
    def parts(shape: Sequence[int]) -> Parts:
        limit = {} if alpha is None else {"alpha": torch.tensor(alpha), "rescale": 1 + random(shape[0], 1)}
        return {name: random(4, shape[0] // 4, shape[0] // 4), **limit}

    def reference(parts: Parts, weight: np.ndarray) -> np.ndarray:
        skew = array(parts[name])
        skew = skew - skew.transpose(0, 2, 1)
        if alpha and (length := np.sqrt((skew**2).sum())) > alpha * len(weight):
            skew *= alpha * len(weight) / length
        size = skew.shape[1]
        whole = np.zeros((len(weight), len(weight)))
        for index, block in enumerate(skew):
            place = slice(index * size, (index + 1) * size)
            # (I + Q)(I − Q)⁻¹ transposed is (I + Q)⁻¹(I − Q), since both factors commute.
            whole[place, place] = np.linalg.solve(np.eye(size) + block, np.eye(size) - block)
        turned = whole @ weight.reshape(len(weight), -1)
        if "rescale" in parts:
            turned = np.diag(array(parts["rescale"])[:, 0]) @ turned
        return turned.reshape(weight.shape) - weight

    return Maker(title=f"OFT {name} {alpha}", parts=parts, reference=reference)


def _glora(is_old: bool) -> Maker:
    names = ("a2", "a1", "b2", "b1") if is_old else ("a1", "a2", "b1", "b2")

    def parts(shape: Sequence[int]) -> Parts:
        out, width = shape[:2]
        kernel = [1] * (len(shape) - 2)
        factors = (random(width, 2, *kernel), random(2, width, *kernel), random(out, 2, *kernel), random(2, *shape[1:]))
        return {f"{name}.weight": part for name, part in zip(names, factors, strict=True)} | {
            "alpha": torch.tensor(1.0)
        }

    def reference(parts: Parts, weight: np.ndarray) -> np.ndarray:
        flat = [array(parts[f"{name}.weight"]) for name in names]
        a, b, c, d = (factor.reshape(len(factor), -1) for factor in flat)
        new = (c @ d).reshape(weight.shape)
        for index in np.ndindex(*weight.shape[2:]):
            new[(..., *index)] += weight[(..., *index)] @ (a @ b)
        return 0.5 * new

    title = f"GLoRA {'old' if is_old else 'new'}"
    return Maker(title=title, parts=parts, reference=reference, is_for=is_matrix if is_old else is_weight)


def is_weight(shape: Sequence[int]) -> bool:
    return len(shape) > 1


def is_matrix(shape: Sequence[int]) -> bool:
    return len(shape) == 2


def is_map(shape: Sequence[int]) -> bool:
    return len(shape) == 4


MAKERS = (
    Maker(title="LoRA", parts=_lora, reference=_lora_reference),
    Maker(title="LoCon with mid", parts=_locon, reference=_locon_reference, is_for=is_map),
    Maker(title="LoHa", parts=_loha, reference=_loha_reference),
    Maker(title="LoHa with cores", parts=_loha_core, reference=_loha_core_reference, is_for=is_map),
    Maker(title="LoKr", parts=_lokr, reference=_lokr_reference),
    Maker(title="LoKr, second whole", parts=_lokr_whole, reference=_lokr_whole_reference, is_for=is_matrix),
    Maker(title="LoKr with a core", parts=_lokr_core, reference=_lokr_core_reference, is_for=is_map),
    _ia3(True),
    _ia3(False),
    Maker(
        title="full",
        parts=lambda shape: {"diff": random(*shape)},
        reference=lambda parts, weight: array(parts["diff"]),
    ),
    Maker(
        title="norm",
        parts=lambda shape: {"w_norm": random(*shape), "b_norm": random(*shape)},
        reference=lambda parts, weight: array(parts["w_norm"]),
        is_for=lambda shape: len(shape) == 1,
    ),
    _dora(True),
    _dora(False),
    _oft("oft_blocks", 0.0),
    _oft("oft_blocks", 0.01),
    _oft("oft_diag", None),
    _glora(False),
    _glora(True),
)
