"""What outlives a job: models in memory, weights that wait on the host, compiled steps, recorded graphs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import torch

from hayate.engines.base import Engine
from hayate.engines.compiled import CompiledEngine
from hayate.engines.loras import LoraEditor, LoraUse
from hayate.engines.networks import loaders_for
from hayate.engines.store import ModelStore
from hayate.engines.tiny import load_tiny
from hayate.engines.torch import TorchEngine
from hayate.runtime.compile.compiler import Compiler
from hayate.runtime.compile.spec import Mode
from hayate.runtime.compile.workshop import CompileOptions
from hayate.runtime.evidence import Evidence
from hayate.runtime.graphs import CudaRecorder, GraphedStep, Recorder
from hayate.runtime.merging import TokenMerging
from hayate.runtime.offload import Offloader
from hayate.runtime.plan import Plan
from hayate.runtime.precision import Precision
from hayate.runtime.prepare import Preparation
from hayate.settings import Settings
from hayate.weights.embedding import embedding_hash
from hayate.weights.hashes import lora_hash, start_hash
from hayate.weights.merged import ModelSource, start_source_hash
from hayate.weights.upscalers import Upscaler, load_upscaler

_HOST = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Moving:
    """An engine whose networks come to the device when they compute."""

    base: TorchEngine
    kind: tuple[str, torch.device]
    offloader: Offloader


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Edited:
    """Networks whose weights have, or had, LoRAs in them."""

    unet: object
    editor: LoraEditor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Recorded:
    """Steps that were recorded of a U-Net with one attention."""

    unet: object
    attention: str
    step: GraphedStep


class Workspace:
    """Gives the engine that a plan asks for; what the job before has made is used again where it fits.

    One job at a time: the engine of before shares its networks with the next one. Close it at the end.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        is_lasting: bool = True,
        recorder: Callable[[torch.device], Recorder] = CudaRecorder,
    ) -> None:
        """Without `is_lasting` nothing is kept beside the model in use: for a process that ends with its first job."""
        self._folder = settings.cache_dir
        self._limits = (settings.checkpoints_cache_bytes, settings.vae_cache_bytes) if is_lasting else (0, 0)
        self._recorder = recorder
        self._store: ModelStore | None = None
        self._made_for: tuple[Preparation, torch.device] | None = None
        self._moving: _Moving | None = None
        self._edited: _Edited | None = None
        self._recorded: _Recorded | None = None
        self._compilers: dict[Mode, Compiler] = {}
        self._compiled: tuple[TorchEngine, CompiledEngine] | None = None
        self._upscaler: Upscaler | None = None

    def engine(
        self, model: ModelSource, vae: Path | None, plan: Plan, precision: Precision, *, loras: Sequence[LoraUse] = ()
    ) -> Engine:
        """The engine of a model, or of a model with another VAE, in `precision` and otherwise as planned.

        Its weights have `loras` in them and no others.
        Raises: UsageError where there is no file, ModelFileError.
        """
        device = plan.device.torch
        home = device if plan.offload == "none" else _HOST
        self._make_way((plan.offload, device))
        base = self._store_for(plan.preparation, home).engine(model, home, precision, vae)
        self._edit(base, loras)
        engine = replace(_shortened(base.attending_by(plan.attention.attention), plan), loras=tuple(loras))
        if plan.offload != "none":
            return self._offloaded(base, engine, plan)
        if plan.compile is not Mode.OFF:
            return self._compiled_engine(base, engine, plan)
        return replace(engine, graphed=self._graphed(engine, plan)) if plan.is_graphed else engine

    def upscaler(self, path: Path) -> Upscaler:
        """An upscaler's network; the last one is kept.

        Raises: ModelFileError, MissingDependency, UsageError.
        """
        if self._upscaler is None or self._upscaler.path != path:
            self._upscaler = load_upscaler(path)
        return self._upscaler

    def hash_of(self, path: ModelSource) -> Future[str]:
        """A file's "Model hash", from another thread.

        Raises: UsageError where there is no file.
        """
        return start_source_hash(path, self._folder) if self._store is None else self._store.hash_of(path)

    def lora_hash_of(self, path: Path) -> Future[str]:
        """A LoRA's hash, as A1111 writes it, from another thread."""
        return start_hash(path, self._folder, lora_hash)

    def embedding_hash_of(self, path: Path) -> Future[str]:
        """A textual inversion's hash, as A1111 writes it, from another thread."""
        return start_hash(path, self._folder, embedding_hash)

    def lora_notes(self) -> tuple[str, ...]:
        """What the user should know of the LoRAs in the weights."""
        return () if self._edited is None else self._edited.editor.notes

    def evidence(self) -> tuple[Evidence, ...]:
        """What the caches did so far, and what is in the weights."""
        edited = None if self._edited is None else self._edited.editor.evidence()
        kept = () if self._store is None else self._store.evidence()
        return kept if edited is None else (edited, *kept)

    def settle(self, limit_s: float) -> float:
        """Waits until nothing is being compiled any more, or the time is up; the seconds that it took."""
        started = time.monotonic()
        for compiler in self._compilers.values():
            compiler.wait(max(0.0, limit_s - (time.monotonic() - started)))
        return time.monotonic() - started

    def clear(self) -> None:
        """Gives up everything that is kept, also what is in use: its memory is free when its users let go of it."""
        self._make_way(None)
        self._recorded = self._compiled = self._edited = self._upscaler = None
        if self._store is not None:
            self._store.clear()

    def close(self) -> None:
        """Gives up everything and ends what is being compiled."""
        self.clear()
        for compiler in self._compilers.values():
            compiler.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _store_for(self, preparation: Preparation, home: torch.device) -> ModelStore:
        """Networks that are prepared otherwise, or wait elsewhere, share nothing with those of before."""
        if self._store is None or self._made_for != (preparation, home):
            self.clear()
            models, vaes = self._limits
            loaders = loaders_for(preparation)
            self._store = ModelStore(models, vaes, hashes_dir=self._folder, loaders=loaders)
            self._store.before_switch = self._restore
            self._made_for = (preparation, home)
        return self._store

    def _make_way(self, kind: tuple[str, torch.device] | None) -> None:
        """Sends home what moves in another way than is asked for now."""
        if self._moving is not None and self._moving.kind != kind:
            self._moving.offloader.send_home()
            self._moving = None

    def _edit(self, base: TorchEngine, loras: Sequence[LoraUse]) -> None:
        """Puts LoRAs into the weights of `base`, and takes out what a job before has put there."""
        if self._edited is None or self._edited.unet is not base.unet:
            if not loras:
                return
            networks = dict(enumerate((base.unet, *base.text)))
            self._edited = _Edited(unet=base.unet, editor=LoraEditor(base.config, networks))
        if not self._edited.editor.is_applied(loras):
            self._send_home()
            self._edited.editor.apply(loras)

    def _restore(self) -> None:
        """Takes all LoRAs out of the weights, and gives up the copies of what was there."""
        self._send_home()  # a merge is made in the weights that stand
        if self._edited is not None:
            self._edited.editor.restore()
            self._edited = None

    def _send_home(self) -> None:
        """Weights may be changed at home only."""
        if self._moving is not None:
            self._moving.offloader.send_home()

    def _offloaded(self, base: TorchEngine, engine: TorchEngine, plan: Plan) -> TorchEngine:
        device = plan.device.torch
        moving = self._moving
        if moving is not None and moving.base is not base:
            moving.offloader.send_home()
            moving = None
        if moving is None:
            offloader = Offloader(engine.unet, engine.text, engine.vae, device, is_streamed=plan.offload == "lowvram")
            moving = self._moving = _Moving(base=base, kind=(plan.offload, device), offloader=offloader)
        return replace(engine, device=device, offloader=moving.offloader)

    def _graphed(self, engine: TorchEngine, plan: Plan) -> GraphedStep:
        """Recorded steps stay good while other weights are poured into the same U-Net."""
        attention = plan.attention.backend.name
        known = self._recorded
        if known is None or known.unet is not engine.unet or known.attention != attention:
            step = GraphedStep(engine.unet.step, self._recorder(plan.device.torch))
            known = self._recorded = _Recorded(unet=engine.unet, attention=attention, step=step)
        return known.step

    def _compiled_engine(self, base: TorchEngine, engine: TorchEngine, plan: Plan) -> CompiledEngine:
        if plan.compile not in self._compilers:
            self._compilers[plan.compile] = Compiler(self._folder / "compiled", CompileOptions(mode=plan.compile))
        compiler = self._compilers[plan.compile]
        recorder = self._recorder(plan.device.torch) if plan.is_graphed else None
        wanted = CompiledEngine(engine=engine, compiler=compiler, parts=plan.compile_parts, recorder=recorder)
        if self._compiled is not None and self._compiled[0] is base and self._compiled[1].is_like(wanted):
            self._compiled[1].engine = engine  # its weights are the same ones, bound and recorded already
        else:
            self._compiled = (base, wanted)
        return self._compiled[1]


def _shortened(engine: TorchEngine, plan: Plan) -> TorchEngine:
    """The engine with what its networks leave out; what a plan before left out is taken back."""
    methods, device = plan.approximate, plan.device.torch
    engine = engine.merging_by(TokenMerging(methods.tome) if methods.tome else None)
    if methods.tiny_vae is None:
        return engine
    return replace(engine, tiny=load_tiny(methods.tiny_vae, device, engine.precision.vae, plan.preparation))
