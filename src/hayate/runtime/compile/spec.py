"""What is compiled: a network's call, for a range of sizes; and the key under which the result is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from hayate.errors import EngineError
from hayate.models.config import TextConfig, TextLayout, UNetConfig, VAEConfig
from hayate.runtime.native.build import cpu_features
from hayate.runtime.precision import DTYPES, dtype_name

Part = Literal["unet", "vae", "text"]
"""The U-Net's step, the VAE's decoding, a text encoder."""

AREAS_LAT = (1024, 4096, 16384, 65536)
"""The most positions of each bucket: 256, 512, 1024 and 2048 pixels squared."""
BATCHES = (2, 8, 32)
"""The most inputs of each bucket."""
MAX_CHUNKS = 32
CHUNK = 77


class Mode(StrEnum):
    """How much the compiler is asked for, in PyTorch's words."""

    OFF = "off"
    DEFAULT = "default"
    REDUCE_OVERHEAD = "reduce-overhead"
    """The artefact of `default`, for a caller that replays it as a CUDA graph."""
    MAX_AUTOTUNE = "max-autotune"


class CompileRefused(EngineError):
    """A step can't be compiled, or what was compiled can't be used; the eager one serves instead."""


class Sizes(NamedTuple):
    """How large one call is; a text encoder's maps are 1×1."""

    batch: int
    height_lat: int = 1
    width_lat: int = 1
    chunks: int = 1
    """77-token chunks of the prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One network's call. Checkpoints of the same architecture are the same target: weights are inputs."""

    part: Part
    config: UNetConfig | VAEConfig | TextConfig
    dtype: torch.dtype
    device: torch.device
    is_fused: bool = False
    """Whether queries, keys and values of a self-attention are one matrix product."""
    is_channels_last: bool = False
    """Whether the weights of convolutions are in channels-last order."""
    skip: int = 1
    """Which hidden state from the end a text encoder gives."""

    @property
    def stride(self) -> int:
        """What height and width must be multiples of: sizes that the U-Net halves at every level but the last."""
        return 2 ** (len(self.config.multipliers) - 1) if isinstance(self.config, UNetConfig) else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """The calls that one artefact serves."""

    batch: int
    area_lat: int
    exact: tuple[int, int, int] | None = None
    """Batch, height and width, where one shape is used so often that it has an artefact of its own."""

    @property
    def side_lat(self) -> int:
        """The longest side: a picture of aspect 4 is as wide as its bucket allows."""
        return 2 * int(self.area_lat**0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileSpec:
    """All that the compiling process is told."""

    target: Target
    bucket: Bucket
    is_tuned: bool
    """Whether the compiler tries kernels out, as `max-autotune` asks."""


def bucket_for(target: Target, sizes: Sizes, exact: Collection[tuple[int, int, int]] = ()) -> Bucket:
    """The bucket of a call: exact for the shapes in `exact`, else the smallest that holds it.

    Raises: CompileRefused with the reason where none does.
    """
    batch, height, width, chunks = sizes
    if chunks > MAX_CHUNKS:
        raise CompileRefused(f"a prompt of {chunks} chunks is longer than the {MAX_CHUNKS} that are compiled for")
    if (batch, height, width) in exact:
        return Bucket(batch=batch, area_lat=height * width, exact=(batch, height, width))
    if target.part != "text":
        _check_sides(target, height, width)
    most = next((most for most in BATCHES if batch <= most), None)
    fitting = (Bucket(batch=most or 0, area_lat=area) for area in AREAS_LAT if height * width <= area)
    bucket = next((each for each in fitting if max(height, width) <= each.side_lat), None)
    if most is None or bucket is None:
        raise CompileRefused(f"{batch} inputs of {8 * width}×{8 * height} pixels are more than is compiled for")
    return bucket


def artefact_key(spec: CompileSpec) -> str:
    """What the artefact depends on: the call, its sizes, our sources, PyTorch and the machine's instructions."""
    parts = (to_json(spec), torch.__version__, capability(spec.target.device), source_digest())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def capability(device: torch.device) -> str:
    """What compiled code needs of the device, so that a cache shared between machines hands out none that can't run."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} {torch.cuda.get_device_capability(device)} {torch.version.cuda}"
    return f"{torch.backends.cpu.get_cpu_capability()} {' '.join(sorted(cpu_features()))}"


def source_digest() -> str:
    """A hash of the sources that decide what is traced."""
    here = Path(__file__).parent
    files = [*sorted((here.parents[1] / "models").glob("*.py")), here.parent / "fused.py"]
    files += [here / name for name in ("spec.py", "trace.py", "worker.py")]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def to_json(spec: CompileSpec) -> str:
    """The specification as text, the same for equal ones."""
    target = asdict(spec.target) | {"dtype": dtype_name(spec.target.dtype), "device": spec.target.device.type}
    return json.dumps({"target": target, "bucket": asdict(spec.bucket), "is_tuned": spec.is_tuned}, sort_keys=True)


def from_json(text: str) -> CompileSpec:
    """What `to_json` wrote."""
    values = json.loads(text)
    target, bucket = values["target"], values["bucket"]
    target |= {"dtype": DTYPES[target["dtype"]], "device": torch.device(target["device"])}
    target["config"] = _config(target["part"], target["config"])
    bucket["exact"] = tuple(bucket["exact"]) if bucket["exact"] else None
    return CompileSpec(target=Target(**target), bucket=Bucket(**bucket), is_tuned=values["is_tuned"])


def _check_sides(target: Target, height: int, width: int) -> None:
    """Sizes of one position are left out: a compiler takes 1 for a constant."""
    if height % target.stride or width % target.stride:
        raise CompileRefused(
            f"{8 * width}×{8 * height} pixels are not multiples of {8 * target.stride}, which the compiled step needs"
        )
    if min(height, width) < 2 * target.stride:
        raise CompileRefused(f"{8 * width}×{8 * height} pixels are too few to compile for")


def _config(part: Part, values: Mapping[str, Any]) -> UNetConfig | VAEConfig | TextConfig:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    if part == "unet":
        return UNetConfig(**fields)
    if part == "vae":
        return VAEConfig(**fields)
    fields["layout"] = TextLayout(fields["layout"])
    return TextConfig(**fields)
