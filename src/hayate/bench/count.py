"""How much work a step and a decode are, counted from the networks' own code run without memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hayate.models.config import UNetConfig, VAEConfig
from hayate.models.layers import skeleton
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.runtime.live import LiveBytes, bare

Kind = Literal["convolution", "linear", "attention"]
PX_PER_LAT = 8
CONTEXT_LENGTH = 77
_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.bmm.default, torch.ops.aten.addmm.default)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """What a network computes and moves in one run."""

    convolution_flops: int
    linear_flops: int
    attention_flops: int
    """Scores and their product with the values."""
    traffic_bytes: int
    """Operands, weights and results of convolutions, linear layers and attention, each once: what must pass through the
    device's memory even where everything between them is fused away."""
    operators: int
    """Operators that make new numbers: about as many kernels are launched where nothing is fused."""

    @property
    def flops(self) -> int:
        return self.convolution_flops + self.linear_flops + self.attention_flops


@lru_cache(maxsize=64)
def count_step(config: UNetConfig, *, inputs: int, height_px: int, width_px: int, itemsize: int = 2) -> StepWork:
    """The work of one U-Net run for `inputs` latents (two a picture), of which a number takes `itemsize` bytes.

    The prompt's keys and values are in it, as most programs compute them in every step; the embedding of the time, less
    than a thousandth, is not.
    Cost: 0.1 s (SDXL 0.3 s) the first time.
    """

    def run(unet: nn.Module, dtype: torch.dtype) -> Tensor:
        latents = bare(inputs, config.in_channels, height_px // PX_PER_LAT, width_px // PX_PER_LAT, dtype=dtype)
        context = bare(inputs, CONTEXT_LENGTH, config.context_width, dtype=dtype)
        assert isinstance(unet, UNet)
        times = bare(inputs, max(block.times.stop for block in unet.res_blocks()), dtype=dtype)
        return unet.step(latents, times, unet.project_context(context))

    return _count(lambda attention: UNet(config, attention), run, itemsize)


@lru_cache(maxsize=64)
def count_decode(config: VAEConfig, *, images: int, height_px: int, width_px: int, itemsize: int = 2) -> StepWork:
    """The work of decoding `images` pictures whole."""

    def run(vae: nn.Module, dtype: torch.dtype) -> Tensor:
        assert isinstance(vae, AutoencoderKL)
        size = height_px // PX_PER_LAT, width_px // PX_PER_LAT
        return vae.decode(bare(images, config.latent_channels, *size, dtype=dtype))

    return _count(lambda attention: AutoencoderKL(config, attention), run, itemsize)


def _count(
    make: Callable[[Callable[..., Tensor]], nn.Module], run: Callable[[nn.Module, torch.dtype], Tensor], itemsize: int
) -> StepWork:
    dtype = torch.float32 if itemsize == 4 else torch.float16
    counts = _Counts()
    with skeleton():
        network = make(counts.attention).requires_grad_(requires_grad=False).to(dtype)
    with torch.no_grad(), counts:
        run(network, dtype)
    flops = counts.flops
    return StepWork(
        convolution_flops=flops["convolution"],
        linear_flops=flops["linear"],
        attention_flops=flops["attention"],
        traffic_bytes=counts.traffic_bytes,
        operators=counts.operators,
    )


class _Counts(LiveBytes):
    """Adds up work where `LiveBytes` adds up memory, and gives the networks an attention that is counted whole."""

    def __init__(self) -> None:
        super().__init__()
        self.flops: dict[Kind, int] = {"convolution": 0, "linear": 0, "attention": 0}
        self.traffic_bytes = 0
        self.operators = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if func is torch.ops.aten.convolution.default:
            self._add("convolution", 2 * result.numel() * args[1][0].numel(), (*args[:2], result))
        elif func in _PRODUCTS:
            a, b = args[-2:]
            self._add("linear", 2 * result.numel() * a.shape[-1], (a, b, result))
        elif not _is_view(func):
            self.operators += 1
        return result

    def attention(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:  # noqa: ARG002
        """Shapes: as `hayate.models.layers.Attention`; a fused kernel, whose scores never leave the chip."""
        result = bare(*q.shape, dtype=q.dtype)
        self._add("attention", 4 * math.prod(q.shape) * k.shape[-2], (q, k, v, result))
        return result

    def _add(self, kind: Kind, flops: int, tensors: Sequence[Tensor]) -> None:
        self.flops[kind] += flops
        self.traffic_bytes += sum(tensor.nbytes for tensor in tensors)
        self.operators += 1


def _is_view(func: Any) -> bool:
    """Whether an operator launches nothing: it looks at its input in another way, or reserves memory."""
    returned = func._schema.returns
    return func in (torch.ops.aten.empty.memory_format, torch.ops.aten._unsafe_view.default) or bool(
        returned and returned[0].alias_info is not None and not returned[0].alias_info.is_write
    )
