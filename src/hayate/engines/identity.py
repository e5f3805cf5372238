"""What tells one loaded part of a model from another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import torch

from hayate.errors import UsageError
from hayate.models.config import ModelConfig
from hayate.runtime.precision import Precision
from hayate.weights.merged import MergedModel, ModelSource


@dataclass(frozen=True, slots=True, kw_only=True)
class FileId:
    """One state of one file: a file that was replaced is another."""

    path: Path
    size_bytes: int
    modified_ns: int

    def replaces(self, other: SourceId) -> bool:
        return self.path == other.path and self != other


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedId:
    """One recipe over one state of each of its files."""

    path: MergedModel
    inputs: tuple[FileId, ...]
    """Of its LoRAs as well."""

    def replaces(self, other: SourceId) -> bool:
        return self.path == other.path and self != other

    def keeps(self, other: SourceId | None, name: str) -> bool:
        """Whether the tensor `name` is the same in another merge, to the bit: inputs and coefficients are."""
        return self.is_variant_of(other) and self.path.recipe.key(name) == other.path.recipe.key(name)

    def is_variant_of(self, other: SourceId | None) -> TypeGuard[MergedId]:
        return isinstance(other, MergedId) and self.inputs == other.inputs


SourceId = FileId | MergedId


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """What decides the bits of an engine, and where it is."""

    model: SourceId
    vae: SourceId
    """The VAE's file, or the model's own."""
    device: torch.device
    precision: Precision

    def networks(self, device: torch.device) -> NetworksKey:
        """The U-Net and the text encoders, with their weights on `device`."""
        return NetworksKey(file=self.model, device=device, unet=self.precision.unet, text=self.precision.text)

    def decoder(self, config: ModelConfig, device: torch.device) -> VAEKey:
        """The VAE for the U-Net that `config` describes, with its weights on `device`."""
        return VAEKey(file=self.vae, device=device, dtype=self.precision.vae, scale=config.vae.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworksKey:
    """What decides the bits of a U-Net and its text encoders, and where they are."""

    file: SourceId
    device: torch.device
    unet: torch.dtype
    text: torch.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class VAEKey:
    """What decides the bits of a VAE, and where they are; the scale is that of the U-Net which it serves."""

    file: SourceId
    device: torch.device
    dtype: torch.dtype
    scale: float


def source_id(source: ModelSource) -> SourceId:
    """The state in which a file, or a merge's files, are now.

    Raises: UsageError as `file_id` does.
    """
    if isinstance(source, MergedModel):
        return MergedId(path=source, inputs=tuple(map(file_id, source.files)))
    return file_id(source)


def file_id(path: Path) -> FileId:
    """The state in which a file is now.

    Raises: UsageError when it isn't there or can't be asked.
    """
    try:
        real = path.resolve(strict=True)
        status = real.stat()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}", hint="check the path") from error
    return FileId(path=real, size_bytes=status.st_size, modified_ns=status.st_mtime_ns)
