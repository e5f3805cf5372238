"""One engine's network, as what is compiled is run on its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hayate.models.layers import Conv2d
from hayate.runtime.compile.loaded import Loaded
from hayate.runtime.compile.spec import Bucket, CompileRefused, CompileSpec, Part, Target, to_json
from hayate.runtime.compile.trace import parameters_of, run, shape_of
from hayate.runtime.fused import FusedSelfAttention


class BoundCall:
    """A network's weights, in the order in which compiled code takes them, and its eager call.

    Pouring other weights into the parameters keeps it good; other parameters need another one.
    """

    def __init__(self, part: Part, network: Any, skip: int | None = None) -> None:
        """`skip` is the hidden state from the end that a text encoder gives, the model's own by default.

        Raises: CompileRefused when the weights are not plain parameters of one type on one device.
        Cost: 0.02 s for a full-size U-Net.
        """
        self.network = network
        self.target = _target_of(part, network, skip)
        self.parameters = _checked_parameters(network, self.target)
        self.key = to_json(CompileSpec(target=self.target, bucket=Bucket(batch=0, area_lat=0), is_tuned=False))
        """The same for two calls that one artefact serves."""

    @torch.inference_mode()
    def eager(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        return run(self.network, self.target, inputs)

    @torch.inference_mode()
    def compiled(self, loaded: Loaded, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The outputs of compiled code, which reads memory as it was compiled to, whatever it is given."""
        target = self.target
        dtype = torch.int64 if target.part == "text" else target.dtype
        return loaded([*self.parameters, *(each.to(target.device, dtype).contiguous() for each in inputs)])


def _target_of(part: Part, network: Any, skip: int | None) -> Target:
    parameters = list(parameters_of(network, part).values())
    if not parameters:
        raise CompileRefused("its weights are packed for eager kernels, and can't be handed to compiled code")
    maps = [each.weight for each in network.modules() if isinstance(each, Conv2d) and each.kernel_size != (1, 1)]
    return Target(
        part=part,
        config=network.config,
        dtype=parameters[0].dtype,
        device=parameters[0].device,
        is_fused=any(isinstance(each, FusedSelfAttention) for each in network.modules()),
        is_channels_last=bool(maps) and all(_is_channels_last(each) for each in maps),
        skip=(network.config.skip if skip is None else skip) if part == "text" else 1,
    )


def _checked_parameters(network: nn.Module, target: Target) -> list[Tensor]:
    """The weights, each as the compiled code will expect it."""
    found, wanted = parameters_of(network, target.part), parameters_of(shape_of(target), target.part)
    if {name: each.shape for name, each in found.items()} != {name: each.shape for name, each in wanted.items()}:
        raise CompileRefused("its layers are prepared for eager kernels, and can't be handed to compiled code")
    for name, each in found.items():
        if each.dtype != target.dtype or each.device != target.device or each.is_meta:
            raise CompileRefused(f"its weight {name} is {each.dtype} on {each.device}, unlike others")
        order = torch.channels_last if target.is_channels_last and each.dim() == 4 else torch.contiguous_format
        if not each.is_contiguous(memory_format=order):
            raise CompileRefused(f"its weight {name} is in another memory order than others")
    return [found[name] for name in wanted]


def _is_channels_last(weight: Tensor) -> bool:
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
