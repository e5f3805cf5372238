"""Stand-ins for the compiling process and for the loader of what it makes, and tiny networks to compile."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from hayate.models.config import Family
from hayate.models.unet import UNet
from hayate.runtime.compile.call import BoundCall
from hayate.runtime.compile.loaded import Loaded
from hayate.runtime.compile.spec import from_json
from hayate.runtime.compile.trace import Call, parameters_of, shape_of
from hayate.runtime.compile.workshop import CompileOptions, Tools
from tests.tiny_models import tiny_config

GOOD = "import sys, zipfile; zipfile.ZipFile(sys.argv[2], 'w').write(sys.argv[1], 'spec.json')"
"""A compiler whose package says what was to be compiled."""

Network = TypeVar("Network", bound=nn.Module)
UNRACED = CompileOptions(is_raced=False)


def worker(program: str = GOOD) -> tuple[str, ...]:
    """A compiling process that runs `program`."""
    return (sys.executable, "-I", "-S", "-c", program)


def load_eager(package: Path, device: torch.device) -> Loaded:
    """Runs what `GOOD` was told to compile, in eager PyTorch, on the weights that it is given as inputs."""
    del device
    with zipfile.ZipFile(package) as archive:
        target = from_json(archive.read("spec.json").decode()).target
    call = Call(shape_of(target), target)
    count = len(parameters_of(shape_of(target), target.part))
    return lambda tensors: list(call(tensors[:count], tensors[count:]))


def tools(
    program: str = GOOD, *, spoil: Callable[[list[Tensor]], list[Tensor]] = lambda outputs: outputs, refusal: str = ""
) -> Tools:
    """A compiler whose results are put through `spoil`."""

    def load(package: Path, device: torch.device) -> Loaded:
        loaded = load_eager(package, device)
        return lambda tensors: spoil(loaded(tensors))

    return Tools(worker=worker(program), load=load, refusal=lambda device: refusal or None)


def tiny_unet(seed: int = 0) -> UNet:
    """A U-Net with random weights, scaled so that activations keep their size."""
    torch.manual_seed(seed)
    return randomise(UNet(tiny_config(Family.SD1).unet))


def randomise(network: Network) -> Network:
    """Gives every weight numbers that matter, also those that start at 0."""
    for each in network.parameters():
        each.requires_grad_(False)
        if each.dim() > 1:
            each.normal_(0, each[0].numel() ** -0.5)
        else:
            each.add_(0.05 * torch.randn_like(each))
    return network.eval()


def outputs_of(step: Callable[[Sequence[Tensor]], Sequence[Tensor]], inputs: Sequence[Tensor]) -> Tensor:
    return step(inputs)[0].double()


def bound(seed: int = 0) -> BoundCall:
    return BoundCall("unet", tiny_unet(seed))
