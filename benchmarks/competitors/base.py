"""What an adapter is: a program, how to install it, and how it serves a step and a decode."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.turns import Tasks

TASKS = ("step", "decode")
"""The U-Net on two latents, as a step with guidance needs it, and the decode of one picture, all at 512×512.

Programs that have no such thing make whole pictures, and tell the time between two steps and after the last: the
guidance and the sampler's arithmetic are in it then, less than a hundredth.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every contender of a run is given."""

    checkpoint: str
    """A single file in the original layout, fp16."""
    folder: str
    """Where a program may keep what it makes of the checkpoint."""
    dtype: str
    threads: int
    side_px: int = 512
    context_width: int = 768
    """Numbers that a prompt's token is told in."""

    def to_json(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, text: str) -> Job:
        return cls(**json.loads(text))

    def made(self, name: str) -> Path:
        """The place of something made of this checkpoint for this size."""
        return Path(self.folder) / f"{Path(self.checkpoint).stem}-{self.side_px}-{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A program that is ready."""

    tasks: Tasks
    version: str
    setting: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Competitor:
    """A program beside which Hayate is timed."""

    package: str
    """The module whose presence says that it is installed."""
    install: str
    """How a person installs it."""
    dtypes: tuple[str, ...]
    load: Callable[[Job], Loaded]
    prepare: Callable[[Job], None] | None = None
    """What is done once for a checkpoint, in a process of its own, such as a conversion; not in any time."""


def inputs(job: Job) -> dict[str, Any]:
    """What all are given, as fp32 arrays of NumPy: a program that needs no PyTorch does not have to load it."""
    import numpy

    generator, side = numpy.random.default_rng(0), job.side_px // 8

    def random(*shape: int) -> Any:
        return generator.standard_normal(shape, dtype=numpy.float32)

    step = {"x": random(2, 4, side, side), "timesteps": numpy.full(2, 500, numpy.float32)}
    return step | {"context": random(2, 77, job.context_width), "latents": random(1, 4, side, side)}


def tensors(job: Job) -> dict[str, Any]:
    """The same as PyTorch's tensors in the type of the job, but the times in fp32."""
    import torch

    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[job.dtype]
    found = {name: torch.from_numpy(array) for name, array in inputs(job).items()}
    return {name: tensor if name == "timesteps" else tensor.to(dtype) for name, tensor in found.items()}
