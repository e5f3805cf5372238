"""Tiny upscalers of real architectures with random weights, as the single files that people share."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from hayate.weights.upscalers import load_spandrel

BUILDERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ESRGAN": ("ESRGAN", "ESRGAN", {"num_filters": 8, "num_blocks": 1, "scale": 4}),
    "Compact": ("Compact.__arch.SRVGG", "SRVGGNetCompact", {"num_feat": 8, "num_conv": 1, "upscale": 2}),
    "SPAN": ("SPAN.__arch.span", "SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2}),
}
"""spandrel's module, its class, and how to make a small one."""


def tiny_upscaler(kind: str) -> torch.nn.Module:
    """A network of spandrel's own, always the same one."""
    load_spandrel()
    module, name, sizes = BUILDERS[kind]
    torch.manual_seed(5)
    return getattr(importlib.import_module(f"spandrel.architectures.{module}"), name)(**sizes).eval()


def write_upscaler(path: Path, kind: str = "Compact", wrapper: str | None = "params_ema") -> torch.nn.Module:
    """Writes one, as a pickle in a dictionary or as safetensors; what was written."""
    network = tiny_upscaler(kind)
    tensors = {name: each.contiguous() for name, each in network.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors if wrapper is None else {wrapper: tensors}, path)
    return network
