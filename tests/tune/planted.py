"""Attention backends that do not do what they say, and a worker that knows them."""

from __future__ import annotations

import os
import sys
import time

from torch import Tensor

from hayate.runtime.attention.catalogue import BACKENDS
from hayate.runtime.attention.explicit import MathAttention

PLANTED = {name: f"tests.tune.planted:{name.capitalize()}" for name in ("idle", "wrong", "crash", "hang", "raises")}


class Planted(MathAttention):
    """What they have in common: a forecast of memory does not call them."""

    has_scratch = False


class Idle(Planted):
    """Claims to serve every network, and serves not one call."""

    name = "idle"

    def misfit(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> str | None:  # noqa: ARG002
        return "not today"


class Wrong(Planted):
    """Does next to nothing, and so is the fastest of all."""

    name = "wrong"

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:  # noqa: ARG002
        return v[..., :1, :].expand_as(q).clone()


class Crash(Planted):
    name = "crash"

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:  # noqa: ARG002
        os.abort()


class Hang(Planted):
    name = "hang"

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        time.sleep(3600)
        return super().__call__(q, k, v, is_causal)


class Raises(Planted):
    name = "raises"

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:  # noqa: ARG002
        raise RuntimeError("CUDA error: planted\nwith a second line")


def plant() -> None:
    """Makes them known to this process."""
    BACKENDS.places.update(PLANTED)  # pyright: ignore[reportAttributeAccessIssue]


if __name__ == "__main__":
    from hayate.tune.worker import main

    plant()
    sys.exit(main())
