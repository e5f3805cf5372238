"""Networks of random weights on the device, and the contenders that run them. Not yet run on a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from hayate.errors import HayateError
from hayate.models.config import SD1, SDXL, Family, ModelConfig
from hayate.models.layers import Attention, scaled_dot_product, skeleton
from hayate.models.unet import UNet
from hayate.runtime.evidence import Evidence
from hayate.runtime.graphs import CudaRecorder, GraphedStep, Recording, Step
from hayate.runtime.prepare import Preparation, prepare

FAULTS = (RuntimeError, HayateError, ImportError, ValueError, OSError)
"""What a contender may fail with; the others go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """Where it runs: a GPU, or in a dry run the CPU with tiny networks."""

    device: torch.device
    is_dry: bool
    dtype: torch.dtype
    cache: Path
    """Where the repository's artefacts are kept from the first section to the last."""

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def model(self, name: str) -> tuple[ModelConfig, int]:
        """What the model is, and the side of its pictures in latents."""
        if not self.is_dry:
            return {"sd15": (SD1, 64), "sdxl": (SDXL, 128)}[name]
        from tests.tiny_models import tiny_config

        return tiny_config({"sd15": Family.SD1, "sdxl": Family.SDXL}[name]), 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Given:
    """What the U-Net takes in every step, besides the latents."""

    first: Tensor
    times: Tensor
    contexts: list[Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contender:
    """One way to compute a step."""

    name: str
    call: Callable[[Tensor], Tensor]
    """The U-Net's output for the latents of prompt and negative prompt."""
    proof: Callable[[], Evidence] | None = None
    """What it did, where it could also have done nothing."""


def say(kind: str, **content: Any) -> None:
    print(json.dumps({"kind": kind, **content}), flush=True)


def hayate_contenders(
    rig: Rig, plain: dict, config: ModelConfig, given: Given, *, is_quick: bool = False, whose: str = "all"
) -> list[Contender]:
    """Our own steps on one set of weights, from plain eager to compiled and replayed."""
    eager = unet_of(config, plain)
    prepared = unet_of(config, {key: each.clone() for key, each in plain.items()})
    prepare(prepared, Preparation(is_fused=True, is_channels_last=True))
    found: list[tuple[str, Step]] = []
    if whose == "all":
        found += [("eager", eager.step), ("prepared", prepared.step), ("graphs", graphed(rig, prepared.step))]
    if not is_quick and whose in ("all", "hayate"):
        options = compile_options(rig, given, "max-autotune-no-cudagraphs")
        compiled: Any = torch.compile(prepared.step, fullgraph=True, dynamic=False, **options)
        found += [("compiled", compiled), ("compiled + graphs", graphed(rig, compiled))]
    if not is_quick and whose in ("all", "artefact") and len(given.first) == 1:
        step = artefact(rig, prepared, given)
        found += [("artefact", step), ("artefact + graphs", graphed(rig, step))] if step else []
    return [bound(name, step, given) for name, step in found]


def artefact(rig: Rig, unet: UNet, given: Given) -> Step | None:
    """The repository's own compiled step, prepared in another process and checked there; None where there is none."""
    from hayate.runtime.compile.call import BoundCall
    from hayate.runtime.compile.compiler import Compiler
    from hayate.runtime.compile.spec import Mode, Sizes
    from hayate.runtime.compile.workshop import CompileOptions

    if rig.is_dry:
        say("refused", section="steps", contender="artefact", reason="a dry run compiles nothing")
        return None
    inputs, _, height, width = doubled(given.first).shape
    options = CompileOptions(mode=Mode.MAX_AUTOTUNE, is_raced=False, exact_shapes=frozenset({(inputs, height, width)}))
    compiler, sizes = Compiler(rig.cache, options), Sizes(inputs, height, width)
    call = BoundCall("unet", unet)
    compiler.step_for(call, sizes)
    compiler.wait(240)
    step = compiler.step_for(call, sizes)
    if step is None:
        say("refused", section="steps", contender="artefact", reason=str(compiler.state(call, sizes)))
        return None
    return lambda x, times, contexts: step([x, times, *contexts])[0]


def diffusers_contenders(rig: Rig, config: ModelConfig, given: Given, *, is_quick: bool = False) -> list[Contender]:
    """diffusers' U-Net of the same architecture: channels-last, eager; and fused and compiled as its guides have it."""
    try:
        with mock.patch("tests.models.reference.randomised", lambda model, seed: model):  # filled on the device below
            from tests.models.reference import reference_unet

            unet: Any = reference_unet(config.unet)
    except ImportError as error:
        say("refused", section="steps", contender="diffusers", reason=str(error))
        return []
    fill(unet, rig.device, rig.dtype).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    inputs = 2 * len(given.first)
    context = random(rig, inputs, 77, config.unet.context_width).to(rig.dtype)
    told: dict[str, Any] = {"encoder_hidden_states": context, "return_dict": False}
    if config.unet.vector_width:
        pooled = random(rig, inputs, config.unet.vector_width - 6 * 256).to(rig.dtype)
        size_px = torch.full((inputs, 6), 8.0 * given.first.shape[-1], device=rig.device)
        told["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": size_px}
    when = torch.full((), 500.0, device=rig.device)
    found = [Contender(name="diffusers eager", call=lambda x: unet(x, when, **told)[0])]
    if is_quick:
        return found
    unet.fuse_qkv_projections()
    compiled = torch.compile(
        unet, fullgraph=True, dynamic=False, **compile_options(rig, given, "max-autotune")
    )  # graphs included
    return [*found, Contender(name="diffusers compiled", call=lambda x: compiled(x, when, **told)[0].clone())]


def compile_options(rig: Rig, given: Given, best: str) -> dict[str, Any]:
    """The best mode for single pictures; the usual one for batches, whose kernels there is no time to try out."""
    if rig.is_dry:
        return {"backend": "eager"}
    return {"mode": best} if len(given.first) == 1 else {}


def bound(name: str, step: Step, given: Given) -> Contender:
    proof = step.evidence if isinstance(step, GraphedStep) else None
    return Contender(name=name, call=lambda x: step(x, given.times, given.contexts), proof=proof)


def graphed(rig: Rig, step: Step) -> GraphedStep:
    return GraphedStep(step, _Repeater() if rig.is_dry else CudaRecorder(rig.device))


class _Repeater:
    """Stands for CUDA's recorder in a dry run: computes anew."""

    def warm_up(self, work: Callable[[], Tensor]) -> Tensor:
        return work()

    def record(self, work: Callable[[], Tensor]) -> Recording:
        return _Repeated(output=work(), work=work)


@dataclass(slots=True, kw_only=True, eq=False)
class _Repeated:
    output: Tensor
    work: Callable[[], Tensor]

    def replay(self) -> None:
        self.output.copy_(self.work())


def random_unet(rig: Rig, config: ModelConfig, dtype: torch.dtype) -> UNet:
    with skeleton():
        unet = UNet(config.unet)
    fill(unet, rig.device, dtype)
    return unet


def unet_of(config: ModelConfig, weights: dict[str, Tensor], attention: Attention = scaled_dot_product) -> UNet:
    """A U-Net on weights that others may have too."""
    with skeleton():
        unet = UNet(config.unet, attention)
    unet.load_state_dict(weights, assign=True)
    return unet.eval().requires_grad_(requires_grad=False)


def fill(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Gives a network without memory random weights that keep activations at their size, made on the device."""
    network.to(dtype).to_empty(device=device).eval().requires_grad_(requires_grad=False)
    generator = torch.Generator(device).manual_seed(1)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            parameter.normal_(generator=generator).mul_(parameter[0].numel() ** -0.5)
        else:
            parameter.normal_(generator=generator).mul_(0.1).add_(1.0 if name.endswith("weight") else 0.0)
    return network


def random_given(rig: Rig, unet: UNet, images: int, side: int) -> Given:
    widths = [2 * block.attn2.to_q.out_features for block in unet.transformer_blocks()]
    times = random(rig, 2 * images, max(block.times.stop for block in unet.res_blocks()))
    contexts = [random(rig, 2 * images, 77, width) for width in widths]
    return Given(first=random(rig, images, unet.config.in_channels, side, side), times=times, contexts=contexts)


def in_type(given: Given, dtype: torch.dtype) -> Given:
    contexts = [each.to(dtype) for each in given.contexts]
    return replace(given, first=given.first.to(dtype), times=given.times.to(dtype), contexts=contexts)


def random(rig: Rig, *shape: int) -> Tensor:
    generator = torch.Generator(rig.device).manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, device=rig.device)


def doubled(latents: Tensor) -> Tensor:
    return latents.repeat(2, 1, 1, 1)


def reference(unet: UNet, given: Given) -> Tensor:
    """The step in fp32, without the shorter mantissa that GPUs take for it by default."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        torch.backends.cuda.matmul.allow_tf32 = False
        return unet.step(doubled(given.first), given.times, given.contexts)
