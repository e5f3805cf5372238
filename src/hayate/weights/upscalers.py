"""Upscalers in single files (ESRGAN, SPAN, Compact, SwinIR …): found by name, recognised and built by spandrel."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from hayate.errors import BrokenFile, MissingDependency, RefusedFormat, UnknownName, UsageError
from hayate.weights.pickles import read_pickle_tensors
from hayate.weights.read import open_checkpoint

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SAFE = ".safetensors"
ENDINGS = frozenset({SAFE, ".pth", ".pt"})
A1111_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "R-ESRGAN General 4xV3": "realesr-general-x4v3",
        "R-ESRGAN General WDN 4xV3": "realesr-general-wdn-x4v3",
        "R-ESRGAN AnimeVideo": "realesr-animevideov3",
        "R-ESRGAN 4x+": "RealESRGAN_x4plus",
        "R-ESRGAN 4x+ Anime6B": "RealESRGAN_x4plus_anime_6B",
        "R-ESRGAN 2x+": "RealESRGAN_x2plus",
    }
)
"""What A1111 calls the files that it downloads itself."""
_WRAPPERS = ("params_ema.", "params-ema.", "params.", "state_dict.", "", "model.", "net.")
"""Dictionaries around the weights in training programs' files; the averaged weights first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Upscaler:
    """A network that enlarges pictures by a whole factor."""

    name: str
    path: Path
    scale: int
    architecture: str
    is_tileable: bool
    """Whether parts of a picture come out as they would in the whole, but for their edges."""
    network: Any
    """spandrel's description of the model, which can be called."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Shapes: [1, 3, H, W] of 0…1, on the network's device → [1, 3, scale·H, scale·W] of 0…1."""
        return self.network(pixels)

    def to(self, device: torch.device) -> None:
        """Moves the network."""
        self.network.to(device)


def upscaler_files(folder: Path) -> dict[str, Path]:
    """The files in `folder` and below by what they are called; of two with one name the safetensors counts."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    named: dict[str, Path] = {}
    for path in sorted(found, key=lambda each: each.suffix.lower() != SAFE):
        named.setdefault(path.stem, path)
    return named


def upscaler_names(folder: Path) -> set[str]:
    """What the files in `folder` can be called exactly: by their own names, and by A1111's."""
    files = upscaler_files(folder)
    return {*files, *(name for name, stem in A1111_NAMES.items() if stem in files)}


def find_upscaler(name: str, folder: Path, beside: Iterable[str] = ()) -> Path:
    """The file that `name` means: its name without ending, in any case, or what A1111 calls it.

    Raises: UnknownName, which lists the nearest, also those of `beside`.
    """
    files = upscaler_files(folder)
    folded = {stem.casefold(): path for stem, path in files.items()}
    for wanted in (name, Path(name).stem, A1111_NAMES.get(name, name)):
        if wanted.casefold() in folded:
            return folded[wanted.casefold()]
    raise UnknownName("upscaler", name, (*beside, *files))


def load_upscaler(path: Path) -> Upscaler:
    """The network of a file, in fp32 on the CPU.

    Raises: MissingDependency without spandrel; ModelFileError for a file that is no upscaler; UsageError.
    Cost: a pickle is read by another process first, which takes a second or two.
    """
    spandrel = load_spandrel()
    tensors = _tensors(path)
    network = _built(tensors, spandrel, path)
    is_picture_model = isinstance(network, spandrel.ImageModelDescriptor)
    if not is_picture_model or network.purpose not in ("SR", "Restoration"):
        raise RefusedFormat(f"{path} is a {network.architecture.name} model, not an upscaler", hint="choose another")
    if (network.input_channels, network.output_channels) != (3, 3):
        raise RefusedFormat(f"{path} is for pictures without colours", hint="choose an upscaler of RGB pictures")
    network.model.float().requires_grad_(False)
    network.eval()
    return Upscaler(
        name=path.stem,
        path=path,
        scale=network.scale,
        architecture=network.architecture.name,
        is_tileable=network.tiling is not spandrel.ModelTiling.INTERNAL,
        network=network,
    )


def load_spandrel() -> Any:
    """The package, which builds a network from the names and shapes of its tensors.

    Raises: MissingDependency.
    """
    try:
        with _without_torchvision():
            import spandrel
    except ModuleNotFoundError as error:
        message = f"upscalers from files need the package {error.name!r}, which is not installed"
        raise MissingDependency(message, hint='pip install -c constraints.txt -e ".[upscalers]"') from error
    return spandrel


def _tensors(path: Path) -> dict[str, Tensor]:
    """Raises: ModelFileError, UsageError."""
    try:
        with path.open("rb") as file:
            is_safe = file.read(9)[8:9] == b"{"
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", hint="check the path") from error
    if path.suffix.lower() != SAFE and not is_safe:
        return read_pickle_tensors(path)
    with open_checkpoint(path) as checkpoint:
        return {name: checkpoint.get(name).clone() for name in checkpoint.tensors}


def _built(tensors: Mapping[str, Tensor], spandrel: Any, path: Path) -> Any:
    """Raises: RefusedFormat for tensors of no known architecture, BrokenFile for some that don't fit theirs."""
    import torch

    if not all(torch.isfinite(each).all() for each in tensors.values() if each.is_floating_point()):
        raise BrokenFile(f"{path} has weights that are no numbers", hint="download it again")
    for wrapper in _WRAPPERS:
        inside = {name.removeprefix(wrapper): each for name, each in tensors.items() if name.startswith(wrapper)}
        if not inside:
            continue
        try:
            return spandrel.MAIN_REGISTRY.load(spandrel.canonicalize_state_dict(inside))
        except spandrel.UnsupportedModelError:
            continue
        except (RuntimeError, LookupError, ValueError, TypeError, AssertionError) as error:
            reason = str(error).strip().split("\n")[-1].strip()
            raise BrokenFile(f"{path} is no whole upscaler: {reason[:200]}", hint="download it again") from error
    raise RefusedFormat(f"{path} is no upscaler that is known here", hint="ESRGAN, SPAN, Compact, SwinIR, HAT, DAT …")


@contextmanager
def _without_torchvision() -> Iterator[None]:
    """Stands in for torchvision while spandrel is imported, unless it is loaded already.

    spandrel imports three of its functions, for LaMa and RestoreFormer, which are no upscalers. A torchvision that was
    built for another torch can't even be imported; so it isn't needed here.
    """
    name = "torchvision.transforms.functional"
    if "torchvision" in sys.modules or "spandrel" in sys.modules:
        yield
        return
    functional = ModuleType(name)
    functional.__dict__.update(rotate=None, normalize=None, InterpolationMode=None)
    stand_ins = {"torchvision": ModuleType("torchvision"), "torchvision.transforms": ModuleType("transforms")}
    stand_ins[name] = functional
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for each in stand_ins:
            del sys.modules[each]
