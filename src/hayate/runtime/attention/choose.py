"""Which attention backend serves, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from hayate.errors import MissingDependency, UnknownName, UsageError
from hayate.extensions.chosen import why_absent
from hayate.extensions.current import current
from hayate.runtime.attention.base import Backend
from hayate.runtime.attention.catalogue import BACKENDS
from hayate.runtime.attention.counted import CountedAttention
from hayate.runtime.attention.lent import lent_backend
from hayate.runtime.device import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenAttention:
    """A resolved attention backend."""

    attention: CountedAttention
    """What networks are given."""
    requested: str
    """The name that was asked for, or "auto"."""
    reason: str
    refusals: Mapping[str, str]
    """Better backends that can't serve here, each with why."""
    device: torch.device
    dtype: torch.dtype
    head_dims: tuple[int, ...]

    @property
    def backend(self) -> Backend:
        return self.attention.backend


def choose_attention(
    asked: str | None,
    device: Device,
    dtype: torch.dtype,
    head_dims: Collection[int],
    *,
    is_deterministic: bool = False,
) -> ChosenAttention:
    """The backend that was asked for, or the best for a network of these head dimensions.

    If `is_deterministic`, one that gives the same bits in every run.

    Raises: UnknownName; MissingDependency where it needs a package that is not installed or broken; UsageError where
    it can't serve, or can't promise the same bits.
    """
    must_repeat = is_deterministic and device.torch.type != "cpu"
    if asked in (None, "", "auto"):
        name, reason, refusals = _best(device, dtype, head_dims, must_repeat)
    else:
        name, reason, refusals = asked, "asked for", {}
        if refusal := _refusal(load_backend(name), (device, dtype, head_dims), must_repeat):
            hint = f"take {'sdp-no-mem' if must_repeat else 'sdp'}, or leave the choice to Hayate"
            raise UsageError(f"attention backend {name!r} can't serve here: {refusal}", hint=hint)
    fallback = load_backend("sdp-no-mem" if is_deterministic else "sdp")
    return ChosenAttention(
        attention=CountedAttention(load_backend(name), fallback),
        requested=asked or "auto",
        reason=reason,
        refusals=refusals,
        device=device.torch,
        dtype=dtype,
        head_dims=tuple(sorted(head_dims)),
    )


def load_backend(name: str) -> Backend:
    """A backend by its name.

    Raises: UnknownName; UsageError where its extension is off or fails; MissingDependency where it needs a package
    that is not installed or can't be imported.
    """
    if name not in BACKENDS:
        if (lent := lent_backend(name)) is not None:
            return lent
        if why := why_absent("attention", name):
            raise UsageError(f"attention backend {name!r} can't be had: {why}", hint="hayate extensions lists all")
        raise UnknownName(BACKENDS.kind, name, [*BACKENDS, *current().names("attention")])
    try:
        return BACKENDS.load(name)()
    except ModuleNotFoundError:
        raise  # a wrong place in the catalogue
    except (ImportError, OSError) as error:  # a package that was built for another torch or CUDA
        message = f"the package of attention backend {name!r} is installed, but can't be imported: {error}"
        raise MissingDependency(message, hint="install a version that was built for this torch") from error


def _best(
    device: Device, dtype: torch.dtype, head_dims: Collection[int], must_repeat: bool
) -> tuple[str, str, Mapping[str, str]]:
    """Name, reason, and the refusals on the way there."""
    if must_repeat:
        return "sdp-no-mem", "the fastest that gives the same bits in every run", {}
    if device.torch.type != "cpu":
        return "sdp", "PyTorch chooses the fastest of its kernels for each call", {}
    refusal = load_backend("native").refusal(device, dtype, head_dims)
    if refusal is None:
        return "native", "compiled for this CPU, and faster than PyTorch's", {}
    return "sdp", f"PyTorch's own, since native can't serve: {refusal}", {"native": refusal}


def _refusal(backend: Backend, need: tuple[Device, torch.dtype, Collection[int]], must_repeat: bool) -> str | None:
    if must_repeat and not backend.is_deterministic:
        return "it does not promise the same bits in every run"
    return backend.refusal(*need)
