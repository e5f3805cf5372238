"""Tiny engines from files, with faults planted in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hayate.engines.base import Engine, Part
from hayate.engines.torch import TorchEngine, load_engine
from hayate.models.clip import Inserted, TextEncoding
from hayate.models.config import Family, ModelConfig
from hayate.pipeline.job import Job
from hayate.pipeline.resolve import resolve
from hayate.pipeline.text2image import text2image
from hayate.request import TextToImage
from hayate.runtime.evidence import Evidence
from hayate.runtime.precision import Precision
from hayate.settings import load_settings
from hayate.weights.detect import detect_checkpoint
from hayate.weights.read import open_checkpoint
from tests.tiny_models import write_tiny

CPU = torch.device("cpu")


@dataclass(slots=True, kw_only=True)
class FileEngine:
    """An engine that counts its calls and whose results go through `fault`."""

    inner: TorchEngine
    fault: Callable[[str, Engine, Tensor], Tensor] = lambda call, engine, result: result
    """Given the call's name, the engine and the call's result; may raise or return another result."""
    before: Callable[[str, Tensor], None] = lambda call, argument: None
    """Given the call's name and its first argument; may raise."""
    calls: list[str] = field(default_factory=list)

    @property
    def config(self) -> ModelConfig:
        return self.inner.config

    @property
    def device(self) -> torch.device:
        return self.inner.device

    @property
    def precision(self) -> Precision:
        return self.inner.precision

    def encode_text(
        self, encoder: int, ids: Tensor, skip: int | None, inserted: Inserted | None = None
    ) -> TextEncoding:
        self.calls.append("encode_text")
        encoding = self.inner.encode_text(encoder, ids, skip, inserted)
        return encoding._replace(context=self.fault("encode_text", self, encoding.context))

    def project_times(self, timesteps: Tensor, vector: Tensor | None) -> Tensor:
        return self.inner.project_times(timesteps, vector)

    def project_context(self, context: Tensor) -> Sequence[Tensor]:
        return self.inner.project_context(context)

    def predict(self, x: Tensor, times: Tensor, contexts: Sequence[Tensor]) -> Tensor:
        self.calls.append("predict")
        self.before("predict", x)
        return self.fault("predict", self, self.inner.predict(x, times, contexts))

    def encode(self, pixels: Tensor) -> Tensor:
        self.calls.append("encode")
        self.before("encode", pixels)
        return self.fault("encode", self, self.inner.encode(pixels))

    def decode(self, latents: Tensor) -> Tensor:
        self.calls.append("decode")
        self.before("decode", latents)
        return self.fault("decode", self, self.inner.decode(latents))

    def widen(self, part: Part, dtype: torch.dtype) -> FileEngine:
        return replace(self, inner=self.inner.widen(part, dtype))

    def evidence(self) -> Sequence[Evidence]:
        return [Evidence(name="attention", requested="planted", active=True, detail="by a test")]


def file_engine(path: Path, dtype: torch.dtype = torch.float32, **types: torch.dtype) -> FileEngine:
    """The engine of `path`, all in `dtype` but for the parts in `types`."""
    precision = replace(Precision(unet=dtype, text=dtype, vae=dtype, reason="a test"), **types)
    return FileEngine(inner=load_engine(path, CPU, precision))


def write_overflowing(path: Path, part: Part | None) -> None:
    """A tiny model, one part of which overflows in fp16 and is finite in bf16; none for None.

    The first layer's result is scaled up, which the norms behind it undo. The text encoder's weights are themselves out
    of fp16's reach, so that only the file still has them.
    """
    write_tiny(path, Family.SD1, seed=5)
    if part is None:
        return
    name, scale = {
        "unet": ("model.diffusion_model.input_blocks.0.0.weight", 6e4),
        "vae": ("first_stage_model.decoder.conv_in.weight", 6e4),
        "text": ("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", 1e7),
    }[part]
    tensors = load_file(path)
    tensors[name] *= scale
    save_file(tensors, path)


def job_of(path: Path, **asked: object) -> Job:
    """A small job for the model at `path`."""
    words = {"prompt": "a red sun", "negative_prompt": "rain", "steps": 3, "seed": 7, "width_px": 64, "height_px": 64}
    with open_checkpoint(path) as checkpoint:
        config = detect_checkpoint(checkpoint)
    request = TextToImage(**{**words, "noise_source": "CPU", **asked})
    return resolve(request, load_settings(environment={}), config)


def pictures_of(engine: Engine, job: Job) -> np.ndarray:
    """All pictures of a job, one after the other."""
    return np.concatenate([batch.pictures for batch in text2image(engine, job, lambda done, rows: None)])
