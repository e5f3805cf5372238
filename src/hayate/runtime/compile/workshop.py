"""One compiled step from the first request to its adoption, on the thread that prepares steps."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from hayate.errors import clip
from hayate.runtime.compile.artefacts import Artefacts, Seal
from hayate.runtime.compile.call import BoundCall
from hayate.runtime.compile.child import Limits, run_child
from hayate.runtime.compile.loaded import Loaded, load
from hayate.runtime.compile.spec import (
    Bucket,
    CompileRefused,
    CompileSpec,
    Mode,
    Sizes,
    Target,
    artefact_key,
    to_json,
)
from hayate.runtime.compile.state import CompileState, Stage
from hayate.runtime.compile.toolchain import toolchain_refusal
from hayate.runtime.compile.trace import random_inputs
from hayate.runtime.compile.verify import disagreement, race

WORKER = (sys.executable, "-P", "-m", "hayate.runtime.compile.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileOptions:
    """What is wished of compiled steps."""

    mode: Mode = Mode.DEFAULT
    limits: Limits = field(default_factory=Limits)
    is_raced: bool = True
    """Whether a step must be faster than eager to be adopted."""
    exact_shapes: frozenset[tuple[int, int, int]] = frozenset()
    """Batch, height and width in latents that are used so often that each gets an artefact of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What does the work; tests give others."""

    worker: Sequence[str] = WORKER
    """A command that is given the paths of a specification and of the package to write."""
    load: Callable[[Path, torch.device], Loaded] = load
    refusal: Callable[[torch.device], str | None] = toolchain_refusal


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """What is known of the compiled step of one target and bucket."""

    target: Target
    bucket: Bucket
    sizes: Sizes
    """What was asked for first."""
    state: CompileState = field(default_factory=lambda: CompileState(stage=Stage.WAITING))
    loaded: Loaded | None = None
    """The compiled code, once it is adopted."""
    call: weakref.ref[BoundCall] | None = None
    """Who asked last: a model that is given up meanwhile is not kept in memory for the compiler's sake."""
    is_queued: bool = False
    served: int = 0
    """Calls that the compiled code has answered."""
    asked_at: float = field(default_factory=time.monotonic)

    def reject(self, reason: str) -> None:
        self.loaded = None
        self.state = replace(self.state, stage=Stage.REJECTED, reason=reason)


class Workshop:
    """Finds or compiles what a job needs, checks it against eager, and adopts it."""

    def __init__(self, folder: Path, options: CompileOptions, tools: Tools) -> None:
        self.artefacts = Artefacts(folder)
        self.options = options
        self.tools = tools
        self.stop = threading.Event()
        self.compilations = 0
        """Compiling processes that were started."""

    def prepare(self, job: Job) -> None:
        """Brings a job to its adoption; it goes on waiting when nobody is left who asked for it.

        Raises: CompileRefused, OSError, RuntimeError (PyTorch's "out of memory" is one) or MemoryError with the reason
        why it can't be adopted.
        """
        if reason := self.tools.refusal(job.target.device):
            raise CompileRefused(reason)
        spec = CompileSpec(target=job.target, bucket=job.bucket, is_tuned=self.options.mode is Mode.MAX_AUTOTUNE)
        key = artefact_key(spec)
        found = self.artefacts.find(key)
        job.state = replace(job.state, stage=Stage.COMPILING, is_from_disk=found is not None)
        package, seal = found or self._compiled(spec, key)
        call = job.call() if job.call else None
        if call is None:
            job.state = CompileState(stage=Stage.WAITING)
            return
        job.state = replace(job.state, compile_s=seal.compile_s)
        loaded = self._loaded(package, job.target.device, key)
        try:
            self._verify(job, call, loaded, is_known=seal.speedup is not None)
        except CompileRefused as error:
            self.artefacts.discard(key, error.message)
            raise
        job.state = replace(job.state, stage=Stage.VERIFIED)
        self._adopt(job, call, loaded, (key, seal))

    def _compiled(self, spec: CompileSpec, key: str) -> tuple[Path, Seal]:
        self.artefacts.sweep()
        with self.artefacts.working_folder() as folder:
            order, package = folder / "spec.json", folder / "step.pt2"
            order.write_text(to_json(spec))
            self.compilations += 1
            command = [*self.tools.worker, str(order), str(package)]
            finished = run_child(command, folder, self.options.limits, self.stop)
            return self.artefacts.put(key, package, order.read_text(), finished.seconds)

    def _loaded(self, package: Path, device: torch.device, key: str) -> Loaded:
        try:
            return self.tools.load(package, device)
        except (CompileRefused, OSError, RuntimeError) as error:
            self.artefacts.discard(key, "it could not be loaded")
            raise CompileRefused(f"the compiled package could not be loaded: {clip(str(error), 200)}") from error

    def _verify(self, job: Job, call: BoundCall, loaded: Loaded, *, is_known: bool) -> None:
        """Compares a small call, and, unless this artefact was adopted before, one of the sizes that were asked for.

        A disagreement is looked at twice: weights may be poured into the network between the two steps.
        Raises: CompileRefused when the compiled code is wrong.
        """
        asked = [] if is_known and job.bucket.exact is None else [job.sizes]
        for sizes in [*_smallest(job), *asked]:
            inputs = random_inputs(job.target, call.network, sizes)
            for is_last in (False, True):
                reason = disagreement(call.compiled(loaded, inputs), call.eager(inputs), job.target.dtype)
                if reason is None:
                    break
                if is_last:
                    raise CompileRefused(f"the compiled step is wrong: {reason}")

    def _adopt(self, job: Job, call: BoundCall, loaded: Loaded, kept: tuple[str, Seal]) -> None:
        """Raises: CompileRefused when the step is right, but no faster here."""
        key, seal = kept
        speedup = seal.speedup
        if self.options.is_raced and speedup is None:
            inputs = random_inputs(job.target, call.network, job.sizes)
            speedup = race(lambda given: call.compiled(loaded, given), call.eager, inputs, job.target.device)
            job.state = replace(job.state, speedup=speedup)
            if speedup <= 1:
                raise CompileRefused("it is no faster than eager here")
            self.artefacts.write(key, replace(seal, speedup=round(speedup, 3)))
        ready_s = time.monotonic() - job.asked_at
        job.state = replace(job.state, stage=Stage.ADOPTED, speedup=speedup, ready_s=ready_s)
        job.loaded = loaded


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compiled:
    """Adopted code on one engine's weights."""

    call: BoundCall
    job: Job
    loaded: Loaded

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        outputs = self.call.compiled(self.loaded, inputs)
        self.job.served += 1
        return outputs


def _smallest(job: Job) -> list[Sizes]:
    """Sizes that the code was not tuned for: a dynamic artefact must be right for them as well."""
    if job.bucket.exact:
        return []
    if job.target.part == "text":
        return [Sizes(1)]
    return [Sizes(1, 3 * job.target.stride, 2 * job.target.stride)]
