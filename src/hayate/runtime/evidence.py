"""Proof that a switch acted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was asked of one optimisation, and what was seen of it at work."""

    name: str
    """The switch, such as "attention"."""
    requested: str
    """What the plan asked for, such as "native"."""
    active: bool
    """Whether it acted, as counted where the work is done."""
    detail: str
    """What was counted or seen: calls, kernels, strides, replays; or why it did not act."""
