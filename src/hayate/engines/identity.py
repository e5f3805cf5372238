"""What tells one loaded part of a model from another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from hayate.errors import UsageError
from hayate.models.config import ModelConfig
from hayate.runtime.precision import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class FileId:
    """One state of one file: a file that was replaced is another."""

    path: Path
    size_bytes: int
    modified_ns: int

    def replaces(self, other: FileId) -> bool:
        return self.path == other.path and self != other


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """What decides the bits of an engine, and where it is."""

    model: FileId
    vae: FileId
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

    file: FileId
    device: torch.device
    unet: torch.dtype
    text: torch.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class VAEKey:
    """What decides the bits of a VAE, and where they are; the scale is that of the U-Net which it serves."""

    file: FileId
    device: torch.device
    dtype: torch.dtype
    scale: float


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
