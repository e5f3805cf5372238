"""A diffusers folder as one model under the original files' names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hayate.errors import BrokenFile, RefusedFormat, TensorMismatch, clip
from hayate.models import config as models
from hayate.models.config import TextConfig, TextLayout
from hayate.weights import diffusers_names as names
from hayate.weights.declared import KEY
from hayate.weights.detect import PUBLISHED, UNET_PREFIX, VAE_PREFIX
from hayate.weights.source import Lazy, Source, open_file

if TYPE_CHECKING:
    from torch import Tensor

INDEX = "model_index.json"
_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_MAX_JSON_BYTES = 2**20
_VAE_BLOCK = re.compile(r"\w+\.\w+_blocks\.\d+\.resnets\.(\d{1,2})\.")
_LAYER = re.compile(r"text_model\.encoder\.layers\.(\d{1,3})\.")


def is_diffusers_folder(path: Path) -> bool:
    return (path / INDEX).is_file()


@contextmanager
def open_diffusers(folder: Path, scratch: Path) -> Iterator[Source]:
    """The networks of a diffusers folder, from its safetensors or, where there are none, its pickled files.

    Raises: RefusedFormat for a pipeline other than Stable Diffusion's, BrokenFile for a part that is missing.
    """
    with ExitStack() as stack:

        def part(name: str) -> Mapping[str, Lazy]:
            files = _files(folder / name)
            sources = [stack.enter_context(open_file(file, scratch)) for file in files]
            return {name: lazy for source in sources for name, lazy in source.tensors.items()}

        unet = part("unet")
        if "down_blocks.0.resnets.0.conv1.weight" not in unet:
            raise RefusedFormat(f"{folder} has no Stable Diffusion U-Net", hint="only SD1, SD2 and SDXL are converted")
        texts = _texts(folder, {each: part(each) for each in ("text_encoder", "text_encoder_2")}, unet)
        tensors = original_unet(unet, str(folder)) | original_vae(part("vae"), str(folder))
        for config, tensors_of in texts:
            tensors |= original_text(tensors_of, config)
        yield Source(path=folder, tensors=tensors, metadata=_declared(folder))


def original_unet(tensors: Mapping[str, Lazy], source: str) -> dict[str, Lazy]:
    """diffusers' U-Net under our names. Raises: TensorMismatch for a tensor that has no place."""
    table = names.unet_table(names.unet_layout(tensors))
    return {UNET_PREFIX + _renamed(name, table, source): lazy for name, lazy in tensors.items()}


def original_vae(tensors: Mapping[str, Lazy], source: str) -> dict[str, Lazy]:
    """diffusers' VAE under our names; its attention's matrices become 1x1 convolutions, as the original files have."""
    blocks = max((int(found[1]) + 1 for name in tensors if (found := _VAE_BLOCK.match(name))), default=0)
    table = names.vae_table(names.vae_levels(tensors), blocks) | names.old_vae_table()
    renamed = {}
    for name, lazy in tensors.items():
        ours = _renamed(name, table, source)
        is_projection = ours in names.VAE_PROJECTIONS and len(lazy.shape) == 2
        renamed[VAE_PREFIX + ours] = _viewed(lazy, (*lazy.shape, 1, 1)) if is_projection else lazy
    return renamed


def original_text(tensors: Mapping[str, Lazy], config: TextConfig) -> dict[str, Lazy]:
    """transformers' text encoder under the names of `config`'s layout, with its prefix."""
    tensors = {
        name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}": lazy
        for name, lazy in tensors.items()
        if not name.endswith((".position_ids", "logit_scale"))
    }
    if config.layout is TextLayout.CLIP:
        inner = {
            name.removeprefix("text_model."): lazy for name, lazy in tensors.items() if "text_projection" not in name
        }
    else:
        inner = _open_clip(tensors)
    return {config.prefix + name: lazy for name, lazy in inner.items()}


def _open_clip(tensors: Mapping[str, Lazy]) -> dict[str, Lazy]:
    """open_clip keeps queries, keys and values of a layer in one tensor, and the projection the other way round."""
    ours = {}
    for theirs, name in names.OPEN_CLIP_ENDS.items():
        if theirs in tensors:
            ours[name] = _transposed(tensors[theirs]) if name == "text_projection" else tensors[theirs]
    layers = {int(found[1]) for name in tensors if (found := _LAYER.match(name))}
    for layer in sorted(layers):
        old, new = f"text_model.encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for leaf in ("weight", "bias"):
            for theirs, name in names.OPEN_CLIP_LAYER.items():
                ours[f"{new}{name}.{leaf}"] = needed(tensors, f"{old}{theirs}.{leaf}")
            parts = [needed(tensors, f"{old}self_attn.{each}_proj.{leaf}") for each in "qkv"]
            ours[f"{new}attn.in_proj_{leaf}"] = _joined(parts)
    return ours


def needed(tensors: Mapping[str, Lazy], name: str) -> Lazy:
    """Raises: TensorMismatch."""
    if name not in tensors:
        raise TensorMismatch(f"tensor {name!r} is missing", hint="the model is incomplete; download it again")
    return tensors[name]


def _texts(
    folder: Path, parts: Mapping[str, Mapping[str, Lazy]], unet: Mapping[str, Lazy]
) -> list[tuple[TextConfig, Mapping[str, Lazy]]]:
    """Each text encoder, with where the original files have it."""
    first, second = parts["text_encoder"], parts["text_encoder_2"]
    if first and second:
        return [(models.SDXL_CLIP_L, first), (models.SDXL_OPEN_CLIP_G, second)]
    if second:
        return [(PUBLISHED[models.Family.SDXL_REFINER].text[0], second)]
    if not first:
        raise BrokenFile(f"{folder} has no text encoder", hint="download the whole folder")
    projection = next((lazy for name, lazy in unet.items() if name.endswith(".proj_in.weight")), None)
    is_sd2 = projection is not None and len(projection.shape) == 2
    return [(models.OPEN_CLIP_H if is_sd2 else models.CLIP_L, first)]


def _files(folder: Path) -> list[Path]:
    """The weights of one part: whole rather than in pieces, safetensors before pickles, the plain file before others.

    An empty list where the part is not there.
    """
    for suffix in ("safetensors", "bin"):
        for stem in _STEMS:
            for pattern in (f"{stem}.{suffix}", f"{stem}-*-of-*.{suffix}", f"{stem}.fp16.{suffix}"):
                if found := sorted(folder.glob(pattern)):
                    return found
    return []


def _declared(folder: Path) -> dict[str, str]:
    """What the scheduler's settings say of the U-Net's output, as `hayate.config` in a header would."""
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    declared: dict[str, Any] = {}
    if scheduler.get("prediction_type") == "v_prediction":
        declared["prediction"] = "v"
    if scheduler.get("rescale_betas_zero_snr") is True:
        declared["is_zero_terminal_snr"] = True
    return {KEY: json.dumps(declared)} if declared else {}


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON object; empty where there is no file. Raises: BrokenFile."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_JSON_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenFile(f"{path} can't be read", hint=clip(str(error))) from error
    if not isinstance(content, dict):
        raise BrokenFile(f"{path} is no JSON object", hint="download it again")
    return content


def _renamed(name: str, table: Mapping[str, str], source: str) -> str:
    ours = names.rename(name, table)
    if ours is None:
        raise TensorMismatch(
            f"{source}: tensor {clip(name, 120)!r} has no place in a Stable Diffusion file",
            hint="only SD1, SD2 and SDXL are converted",
        )
    return ours


def _viewed(lazy: Lazy, shape: tuple[int, ...]) -> Lazy:
    return replace(lazy, shape=shape, load=lambda: lazy.load().reshape(shape))


def _transposed(lazy: Lazy) -> Lazy:
    return replace(lazy, shape=lazy.shape[::-1], load=lambda: lazy.load().T)


def _joined(parts: list[Lazy]) -> Lazy:
    def load() -> Tensor:
        import torch

        return torch.cat([part.load() for part in parts])

    if len({(part.shape, part.dtype) for part in parts}) > 1 or not parts[0].shape:
        raise TensorMismatch("queries, keys and values of the text encoder differ in shape", hint="it is damaged")
    rows = sum(part.shape[0] for part in parts)
    return replace(parts[0], shape=(rows, *parts[0].shape[1:]), load=load)
