"""An engine that runs compiled steps where they are ready, and the eager ones of another engine everywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from hayate.engines.base import Engine, Part
from hayate.engines.reuse import DeepFeatures
from hayate.models.clip import CLIPText, Inserted, OpenCLIPText, TextEncoding
from hayate.models.config import ModelConfig
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.runtime.compile.call import BoundCall
from hayate.runtime.compile.compiler import FAULTS, Compiler
from hayate.runtime.compile.loaded import Loaded
from hayate.runtime.compile.spec import CHUNK, CompileRefused, Sizes
from hayate.runtime.compile.workshop import Compiled
from hayate.runtime.evidence import Evidence
from hayate.runtime.graphs import GraphedStep, Recorder
from hayate.runtime.precision import Precision


class EagerEngine(Engine, Protocol):
    """An engine whose networks are PyTorch modules."""

    @property
    def unet(self) -> UNet: ...

    @property
    def vae(self) -> AutoencoderKL: ...

    @property
    def text(self) -> tuple[CLIPText | OpenCLIPText, ...]: ...


@dataclass(slots=True, kw_only=True, eq=False)
class CompiledEngine:
    """Implements `engines.base.Engine`. The compiler outlives it: its steps serve the next checkpoint too."""

    engine: EagerEngine
    compiler: Compiler
    parts: frozenset[Part]
    """The networks whose steps are compiled."""
    recorder: Recorder | None = None
    """Records the U-Net's compiled steps as CUDA graphs, where there is one."""
    _calls: dict[tuple[Part, int, int | None], BoundCall | str] = field(default_factory=dict)
    """By part, number of the encoder and skip: the weights as compiled code takes them, or why it can't."""
    _graphs: dict[Loaded, GraphedStep] = field(default_factory=dict)
    """The recordings of each compiled step; one that is recompiled or withdrawn is not asked for again."""

    @property
    def config(self) -> ModelConfig:
        return self.engine.config

    @property
    def device(self) -> torch.device:
        return self.engine.device

    @property
    def precision(self) -> Precision:
        return self.engine.precision

    def widen(self, part: Part, dtype: torch.dtype) -> CompiledEngine:
        """The same around a wider engine; a wider type has artefacts of its own."""
        wider: Any = self.engine.widen(part, dtype)
        return CompiledEngine(engine=wider, compiler=self.compiler, parts=self.parts, recorder=self.recorder)

    def is_like(self, other: CompiledEngine) -> bool:
        """Whether both run the same steps in the same way."""
        ways = [(each.compiler, each.parts, each.recorder is None) for each in (self, other)]
        return ways[0] == ways[1]

    def evidence(self) -> Sequence[Evidence]:
        requested = self.compiler.options.mode.value
        refused = [
            Evidence(name=f"compile {part}", requested=requested, active=False, detail=call)
            for (part, _, _), call in self._calls.items()
            if isinstance(call, str)
        ]
        recorded = [graphed.evidence() for graphed in self._graphs.values()]
        return (*self.engine.evidence(), *refused, *self.compiler.evidence(), *recorded)

    @torch.inference_mode()
    def encode_text(
        self, encoder: int, ids: Tensor, skip: int | None, inserted: Inserted | None = None
    ) -> TextEncoding:
        network = self.engine.text[encoder]
        outputs = None
        if inserted is None:  # which compiled encoders have no input for
            outputs = self._compiled(("text", encoder, skip), network, Sizes(len(ids)), [ids])
        if outputs is None:
            return self.engine.encode_text(encoder, ids, skip, inserted)
        return TextEncoding(outputs[0].float(), outputs[1].float() if len(outputs) > 1 else None)

    def project_times(self, timesteps: Tensor, vector: Tensor | None) -> Tensor:
        return self.engine.project_times(timesteps, vector)

    def project_context(self, context: Tensor) -> Sequence[Tensor]:
        return self.engine.project_context(context)

    @torch.inference_mode()
    def predict(
        self, x: Tensor, times: Tensor, contexts: Sequence[Tensor], features: DeepFeatures | None = None
    ) -> Tensor:
        if features is not None:  # a plan compiles no U-Net that uses features again; other parts it may
            return self.engine.predict(x, times, contexts, features)
        chunks, rest = divmod(contexts[0].shape[1], CHUNK) if contexts else (1, 0)
        outputs = None
        if not rest:
            inputs = [x, times.expand(len(x), -1), *contexts]
            sizes = Sizes(len(x), x.shape[2], x.shape[3], chunks)
            outputs = self._compiled(("unet", 0, None), self.engine.unet, sizes, inputs)
        return self.engine.predict(x, times, contexts) if outputs is None else outputs[0].float()

    def encode(self, pixels: Tensor) -> Tensor:
        return self.engine.encode(pixels)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        vae = self.engine.vae
        sizes = Sizes(len(latents), latents.shape[2], latents.shape[3])
        outputs = self._compiled(("vae", 0, None), vae, sizes, [latents / vae.config.scale])
        return self.engine.decode(latents) if outputs is None else outputs[0].float()

    def _compiled(
        self, which: tuple[Part, int, int | None], network: Any, sizes: Sizes, inputs: Sequence[Tensor]
    ) -> Sequence[Tensor] | None:
        """The outputs of the compiled step, or None where there is none, or none any more because it failed."""
        if which[0] not in self.parts:
            return None
        call = self._calls.get(which)
        if call is None:
            call = self._calls[which] = _bound(which[0], network, which[2])
        if isinstance(call, str) or (step := self.compiler.step_for(call, sizes)) is None:
            return None
        try:
            return step(inputs) if self.recorder is None or which[0] != "unet" else self._replayed(step, inputs)
        except FAULTS as error:
            self.compiler.withdraw(step, f"it failed at work: {error}")
        return None

    def _replayed(self, step: Compiled, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The outputs of a recording of `step`, which computes as usual where it can't be recorded."""
        assert self.recorder is not None
        if (graphed := self._graphs.get(step.loaded)) is None:
            graphed = GraphedStep(lambda x, times, contexts: step([x, times, *contexts])[0], self.recorder)
            self._graphs[step.loaded] = graphed
        dtype, device = self.precision.unet, self.device
        x, times, *contexts = (each.to(device, dtype).contiguous() for each in inputs)
        served = step.job.served
        output = graphed(x, times, contexts)
        step.job.served = served + 1  # also a replay is a call that compiled code has answered
        return [output]


def _bound(part: Part, network: Any, skip: int | None) -> BoundCall | str:
    try:
        return BoundCall(part, network, skip)
    except CompileRefused as error:
        return error.message
