"""Where a layer's weight is in networks that were prepared for speed, and how it is changed there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hayate.runtime.fused import FusedSelfAttention
from hayate.runtime.packed import FusedGroupNorm, Packed, PackedFeedForward, PackedUpsample

_THIRDS = {"to_q": 0, "to_k": 1, "to_v": 2}
_HOST = torch.device("cpu")


SeatKey = tuple[int, str, int | None]
"""The layer's identity, the tensor's name in it and, where only a third of its rows is meant, which."""


class Scratch:
    """Memory for one weight at a time, that is not given back in between: fresh memory costs more than the work."""

    def __init__(self) -> None:
        self._bytes = torch.empty(0, dtype=torch.uint8)

    def like(self, tensor: Tensor) -> Tensor:
        """As large as `tensor`, of its type and where it is, contiguous; good until the next call."""
        return self.room(tensor.shape, tensor.dtype, tensor.device)

    def room(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device = _HOST) -> Tensor:
        """Contiguous memory; good until the next call."""
        size_bytes = math.prod(shape) * dtype.itemsize
        if len(self._bytes) < size_bytes or self._bytes.device != device:
            self._bytes = torch.empty(size_bytes, dtype=torch.uint8, device=device)
        return self._bytes[:size_bytes].view(dtype).view(tuple(shape))


class Seat(Protocol):
    """The place of one weight or bias, which is changed from a clean copy and given it back bit by bit."""

    @property
    def key(self) -> SeatKey:
        """The same for two seats of one tensor; good as long as the network lives."""
        ...

    @property
    def third(self) -> int | None:
        """Which third of the rows of what `plain` gives is meant, where only one is."""
        ...

    def clean(self) -> Any:
        """What `restore` takes, of a weight that is not changed yet."""
        ...

    def plain(self, clean: Any) -> Tensor:
        """The clean weight in plain order, where it computes; not to be written to."""
        ...

    def room(self, plain: Tensor, scratch: Scratch) -> Tensor:
        """Memory for the new weight, as `plain` is laid out; filled, it is what `write` takes."""
        ...

    def write(self, new: Tensor) -> None: ...

    def restore(self, clean: Any) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TensorSeat:
    """A tensor, or a third of its rows, that is changed where it is: graphs and compiled code keep its address."""

    owner: Any
    leaf: str
    rows: int | None = None
    """Which third."""
    third: int | None = None
    """Always None: the seat itself is the third."""

    @property
    def key(self) -> SeatKey:
        return id(self.owner), self.leaf, self.rows

    def tensor(self) -> Tensor:
        """Looked up anew each time, since offloading moves the data of a parameter."""
        whole = self.owner.affine[self.leaf == "bias"] if self.is_affine else getattr(self.owner, self.leaf).detach()
        return whole if self.rows is None else whole.chunk(3)[self.rows]

    @property
    def is_affine(self) -> bool:
        return isinstance(self.owner, FusedGroupNorm)

    def clean(self) -> Tensor:
        """A copy on the host, where memory is not as dear as on a GPU."""
        return self.tensor().to(_HOST, copy=True)

    def plain(self, clean: Tensor) -> Tensor:
        return clean.to(self.tensor().device)

    def room(self, plain: Tensor, scratch: Scratch) -> Tensor:
        own = self.tensor()
        return own if own.stride() == plain.stride() else scratch.like(plain)

    def write(self, new: Tensor) -> None:
        own = self.tensor()
        if own.data_ptr() != new.data_ptr():
            own.copy_(new)

    def restore(self, clean: Tensor) -> None:
        self.tensor().copy_(clean)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedSeat:
    """A packed weight, of which a changed one is packed anew.

    The clean one is kept in plain order, which is what changes are added to, unless it can't be packed to the same
    bits again.
    """

    owner: Packed
    third: int | None = None

    @property
    def key(self) -> SeatKey:
        return id(self.owner), "weight", None

    def clean(self) -> Any:
        return self.owner.weight if self.is_rounded else self.owner.plain_weight()

    def plain(self, clean: Any) -> Tensor:
        if not self.is_rounded:
            return clean
        self.restore(clean)  # what is packed can be unpacked only where it belongs
        return self.owner.plain_weight()

    @property
    def is_rounded(self) -> bool:
        """Whether unpacking does not give back every bit."""
        return isinstance(self.owner, PackedUpsample)

    def room(self, plain: Tensor, scratch: Scratch) -> Tensor:
        return scratch.like(plain)

    def write(self, new: Tensor) -> None:
        del self.owner.weight  # its memory is there for the new one, which saves the half of the time
        self.owner.pack_weight(new)

    def restore(self, clean: Any) -> None:
        if self.is_rounded:
            self.owner.weight = clean
        else:
            self.write(clean)


def find_seat(network: nn.Module, name: str, third: int | None) -> Seat:
    """The seat of the parameter that is called `name` in the original file, or of a third of its rows."""
    path, _, leaf = name.rpartition(".")
    module: Any = network
    parts = path.split(".") if path else []
    for index, part in enumerate(parts):
        if isinstance(module, FusedSelfAttention) and part in _THIRDS:
            module, third = module.to_qkv, _THIRDS[part]
        elif isinstance(module, PackedFeedForward):
            module = module.widen if parts[index:] == ["net", "0", "proj"] else module.narrow
            break
        elif isinstance(module, Packed):  # the convolution of a packed upsampling
            break
        else:
            module = getattr(module, part)
    if isinstance(module, Packed) and leaf == "weight":
        return PackedSeat(owner=module, third=third)
    return TensorSeat(owner=module, leaf=leaf, rows=third)
