"""Turns plain networks into the ones that a plan asks for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from hayate.models.layers import Attention
from hayate.runtime.evidence import Evidence
from hayate.runtime.fused import fuse_projections
from hayate.runtime.native.allocator import keep_freed_memory
from hayate.runtime.native.kernels import kernels, refusal
from hayate.runtime.packed import pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What is made of a network once its weights are there; two networks of one preparation are alike."""

    is_fused: bool = False
    """Queries, keys and values by one product."""
    is_packed: bool = False
    """Weights laid out for the CPU's kernels."""
    is_channels_last: bool = False
    """Convolutions' weights, and with them the feature maps, in channels-last order."""


PLAIN = Preparation()


def prepare(network: nn.Module, preparation: Preparation) -> tuple[Evidence, ...]:
    """Does to `network` what the preparation says; what was done and how often.

    Cost: 2 s for packing a full-size U-Net on two cores.
    """
    evidence = []
    if preparation.is_fused:
        count = fuse_projections(network)
        evidence.append(_seen("qkv", "fused", count, "self-attentions fused"))
    if preparation.is_channels_last and not preparation.is_packed:
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        evidence.append(_seen("layout", "channels-last", count_channels_last(network), "convolutions are so"))
    if preparation.is_packed:
        reason = refusal()
        count = pack(network, None if reason else kernels())
        kind = f"without kernels: {reason}" if reason else "with compiled norms and gates"
        evidence += [_seen("layers", "packed", count, f"layers packed, {kind}"), keep_freed_memory()]
    return tuple(evidence)


def set_attention(network: nn.Module, attention: Attention) -> int:
    """Gives every attention of `network` this function, at any time; how many there were."""
    count = 0
    for module in network.modules():
        if hasattr(module, "attention"):
            module.__dict__["attention"] = attention
            count += 1
    return count


def count_channels_last(network: nn.Module) -> int:
    """How many convolutions hold their weights in channels-last order."""
    weights = (module.weight for module in network.modules() if isinstance(module, nn.Conv2d))
    return sum(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def _seen(name: str, requested: str, count: int, what: str) -> Evidence:
    return Evidence(name=name, requested=requested, active=count > 0, detail=f"{count} {what}")
