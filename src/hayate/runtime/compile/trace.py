"""A network's call as a function of its weights and inputs, as the compiler is given it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from hayate.models.clip import text_encoder
from hayate.models.config import TextConfig, UNetConfig, VAEConfig
from hayate.models.layers import skeleton
from hayate.models.unet import CrossAttention, ResBlock, UNet
from hayate.models.vae import AutoencoderKL
from hayate.runtime.compile.spec import CHUNK, MAX_CHUNKS, Bucket, CompileSpec, Part, Sizes, Target
from hayate.runtime.fused import fuse_projections

_PREFIXES: dict[Part, tuple[str, ...]] = {"unet": ("",), "text": ("",), "vae": ("decoder.", "post_quant_conv.")}
"""Which parameters a call reads, by the start of their names."""


class InputShape(NamedTuple):
    """One input besides the weights."""

    shape: tuple[int, ...]
    is_ids: bool = False
    """Token ids are int64; everything else has the network's type."""


def shape_of(target: Target) -> nn.Module:
    """The network of `target` without memory."""
    with skeleton():
        if isinstance(target.config, UNetConfig):
            network: nn.Module = UNet(target.config)
        elif isinstance(target.config, VAEConfig):
            network = AutoencoderKL(target.config)
        else:
            network = text_encoder(target.config)
    if target.is_fused:
        fuse_projections(network)
    return network.eval()


def parameters_of(network: nn.Module, part: Part) -> dict[str, Tensor]:
    """The weights that the call of `part` takes, in their order."""
    return {name: each.detach() for name, each in network.named_parameters() if name.startswith(_PREFIXES[part])}


def run(network: Any, target: Target, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The call itself, on whatever weights are in `network`.

    Shapes: U-Net x [B, in, h, w], times [B, width], contexts… → [B, out, h, w]; VAE latents [B, 4, h, w] → pixels;
    text ids [B, 77] → context and, where the encoder has one, pooled.
    """
    if target.part == "unet":
        return (network.step(inputs[0], inputs[1], inputs[2:]),)
    if target.part == "vae":
        return (network.decode(inputs[0]),)
    return tuple(each for each in network(inputs[0], target.skip) if each is not None)


def input_shapes(target: Target, network: nn.Module, sizes: Sizes) -> list[InputShape]:
    """The inputs of a call of these sizes."""
    batch, height, width, chunks = sizes
    config = target.config
    if isinstance(config, TextConfig):
        return [InputShape((batch, CHUNK), is_ids=True)]
    if isinstance(config, VAEConfig):
        return [InputShape((batch, config.latent_channels, height, width))]
    times = max(each.times.stop for each in network.modules() if isinstance(each, ResBlock))
    keys = [each.to_q.out_features for each in network.modules() if isinstance(each, CrossAttention)]
    first = InputShape((batch, config.in_channels, height, width))
    return [first, InputShape((batch, times)), *(InputShape((batch, CHUNK * chunks, 2 * each)) for each in keys)]


def random_inputs(target: Target, network: nn.Module, sizes: Sizes) -> list[Tensor]:
    """Inputs of unit variance on the target's device, the same at every call."""
    generator = torch.Generator().manual_seed(sum(sizes))
    vocabulary = target.config.vocabulary if isinstance(target.config, TextConfig) else 0

    def make(each: InputShape) -> Tensor:
        if each.is_ids:
            return torch.randint(vocabulary, each.shape, generator=generator).to(target.device)
        return torch.randn(each.shape, generator=generator).to(target.device, target.dtype)

    return [make(each) for each in input_shapes(target, network, sizes)]


def examples(spec: CompileSpec) -> tuple[list[Tensor], list[Tensor]]:
    """Uninitialised weights and inputs of a call, of the bucket's largest sizes."""
    target = spec.target
    network = shape_of(target)
    parameters = [_weight(each, target) for each in parameters_of(network, target.part).values()]
    inputs = [
        torch.empty(each.shape, dtype=torch.int64 if each.is_ids else target.dtype, device=target.device)
        for each in input_shapes(target, network, example_sizes(target, spec.bucket))
    ]
    return parameters, inputs


def export(spec: CompileSpec, parameters: list[Tensor], inputs: list[Tensor]) -> ExportedProgram:
    """The call as a graph whose first inputs are the weights."""
    target = spec.target
    dims = [None] * len(parameters), _dynamic_dims(target, spec.bucket, len(inputs))
    call = Call(shape_of(target), target)
    with torch.no_grad():
        return torch.export.export(call, (parameters, inputs), dynamic_shapes=dims, strict=False)


class Call(nn.Module):
    """`run` as a module without parameters of its own."""

    def __init__(self, network: nn.Module, target: Target) -> None:
        super().__init__()
        self.target = target
        self.names = [f"network.{name}" for name in parameters_of(network, target.part)]
        self.inner = (_Inner(network, target),)  # in a tuple, so that its meta weights are not this module's

    def forward(self, parameters: list[Tensor], inputs: list[Tensor]) -> tuple[Tensor, ...]:
        return torch.func.functional_call(self.inner[0], dict(zip(self.names, parameters, strict=True)), (inputs,))


class _Inner(nn.Module):
    """The network under a name, with `run` as its call."""

    def __init__(self, network: nn.Module, target: Target) -> None:
        super().__init__()
        self.network = network
        self.target = target

    def forward(self, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        return run(self.network, self.target, inputs)


def example_sizes(target: Target, bucket: Bucket) -> Sizes:
    """The sizes that the compiler tunes for: the bucket's largest, with unlike sides, which it can't take for equal."""
    if bucket.exact:
        return Sizes(*bucket.exact, chunks=2)
    if target.part == "text":
        return Sizes(bucket.batch)
    side = int(bucket.area_lat**0.5) // target.stride * target.stride
    return Sizes(bucket.batch, side, side - target.stride, chunks=2)


def _weight(like: Tensor, target: Target) -> Tensor:
    is_map = target.is_channels_last and like.dim() == 4
    order = torch.channels_last if is_map else torch.contiguous_format
    return torch.empty(like.shape, dtype=target.dtype, device=target.device, memory_format=order)


def _dynamic_dims(target: Target, bucket: Bucket, inputs: int) -> list[dict[int, Any]]:
    """Which sizes of each input are left open, and how far."""
    chunks = CHUNK * Dim("chunks", min=1, max=MAX_CHUNKS)
    if bucket.exact:
        return [{}, {}, *({1: chunks} for _ in range(inputs - 2))] if target.part == "unet" else [{}]
    batch = Dim("batch", min=1, max=bucket.batch)
    if target.part == "text":
        return [{0: batch}]
    most = bucket.side_lat // target.stride
    sides = (target.stride * Dim(name, min=2, max=most) for name in ("rows", "columns"))
    if target.stride == 1:
        sides = (Dim(name, min=2, max=most) for name in ("rows", "columns"))
    maps = {0: batch, **dict(zip((2, 3), sides, strict=True))}
    return [maps] if target.part == "vae" else [maps, {0: batch}, *({0: batch, 1: chunks} for _ in range(inputs - 2))]
