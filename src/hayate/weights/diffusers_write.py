"""A model as a diffusers folder, which diffusers and transformers load without asking anybody else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hayate.errors import RefusedFormat, TensorMismatch
from hayate.models.config import ModelConfig, TextConfig, TextLayout
from hayate.prompt.tokenizer import Tokenizer, read_merges, vocabulary, vocabulary_path
from hayate.weights import diffusers_configs as configs
from hayate.weights import diffusers_names as names
from hayate.weights.detect import UNET_PREFIX, VAE_PREFIX, detect
from hayate.weights.diffusers_read import needed
from hayate.weights.ignored import is_ignored
from hayate.weights.source import Lazy, Source
from hayate.weights.write import check_room, write_safetensors, writing

FORMAT = {"format": "pt"}
"""transformers asks for this in a header."""


def write_diffusers(source: Source, folder: Path, on_tensor: Callable[[str], None] = lambda name: None) -> None:
    """Writes the folder whole, or not at all.

    SD2's last text block, which its pictures never pass through, has no place there; A1111's schedules and averages
    neither.
    Raises: OutputError, and what `detect` does.
    """
    tensors = source.tensors
    config = detect(
        source.infos(), source.metadata, source=str(source.path), peek=lambda name: source.tensors[name].load()
    )
    parts = {"unet": theirs_unet(tensors, config), "vae": theirs_vae(tensors, config)}
    texts = configs.text_names(config)
    parts |= {name: theirs_text(tensors, text) for name, text in zip(texts, config.text, strict=True)}
    if not parts["vae"]:
        raise RefusedFormat(f"{source.path} has no VAE of its own", hint="bake one into it first")
    check_room(folder, source.size_bytes)
    unfinished = folder.with_name(f".{folder.name}.part")
    try:
        with writing(folder):
            shutil.rmtree(unfinished, ignore_errors=True)
            _write_all(unfinished, config, parts, on_tensor)
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def theirs_unet(tensors: Mapping[str, Lazy], config: ModelConfig) -> dict[str, Lazy]:
    """The U-Net under diffusers' names."""
    unet = config.unet
    layout = names.UNetLayout(
        res_blocks=unet.res_blocks,
        has_attention=tuple(depth > 0 for depth in unet.transformer_depths),
        has_middle_attention=unet.middle_depth > 0,
    )
    return _renamed(_under(tensors, UNET_PREFIX), names.unet_table(layout))


def theirs_vae(tensors: Mapping[str, Lazy], config: ModelConfig) -> dict[str, Lazy]:
    """The VAE under diffusers' names."""
    inner = {
        name: _flat(lazy) if name in names.VAE_PROJECTIONS else lazy
        for name, lazy in _under(tensors, VAE_PREFIX).items()
    }
    return _renamed(inner, names.vae_table(len(config.vae.multipliers), config.vae.res_blocks + 1))


def theirs_text(tensors: Mapping[str, Lazy], config: TextConfig) -> dict[str, Lazy]:
    """A text encoder under transformers' names."""
    inner = _under(tensors, config.prefix)
    if config.layout is TextLayout.CLIP:
        return {f"text_model.{name}": lazy for name, lazy in inner.items()}
    theirs = {
        their: _transposed(inner[ours]) if ours == "text_projection" else inner[ours]
        for their, ours in names.OPEN_CLIP_ENDS.items()
        if ours in inner and (ours != "text_projection" or configs.has_projection(config))
    }
    for layer in range(configs.text_depth(config)):
        old, new = f"transformer.resblocks.{layer}.", f"text_model.encoder.layers.{layer}."
        for leaf in ("weight", "bias"):
            theirs |= {
                f"{new}{their}.{leaf}": needed(inner, f"{old}{ours}.{leaf}")
                for their, ours in names.OPEN_CLIP_LAYER.items()
            }
            for index, each in enumerate("qkv"):
                theirs[f"{new}self_attn.{each}_proj.{leaf}"] = _third(needed(inner, f"{old}attn.in_proj_{leaf}"), index)
    return theirs


def _write_all(
    folder: Path,
    config: ModelConfig,
    parts: Mapping[str, Mapping[str, Lazy]],
    on_tensor: Callable[[str], None],
) -> None:
    for name, tensors in parts.items():
        (folder / name).mkdir(parents=True)
        stem = "model" if name.startswith("text_encoder") else "diffusion_pytorch_model"

        def produce(each: str, tensors: Mapping[str, Lazy] = tensors) -> Any:
            on_tensor(each)
            return tensors[each].load()

        entries = [lazy.entry(each) for each, lazy in tensors.items()]
        write_safetensors(folder / name / f"{stem}.safetensors", entries, produce, FORMAT)
    for path, content in configs.all_configs(config).items():
        _write_json(folder / path, content)
    for name, text in zip(configs.text_names(config), config.text, strict=True):
        _write_tokenizer(folder / name.replace("text_encoder", "tokenizer"), text)


def _write_tokenizer(folder: Path, text: TextConfig) -> None:
    merges = read_merges(vocabulary_path())
    known = vocabulary(merges)
    markers = {configs.START: Tokenizer.bos_id, configs.END: Tokenizer.eos_id}
    _write_json(folder / "vocab.json", known | markers)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, content in configs.tokenizer_configs(text).items():
        _write_json(folder / name, content)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _under(tensors: Mapping[str, Lazy], prefix: str) -> dict[str, Lazy]:
    """The tensors of one network, without what real files carry beside it."""
    inner = {name[len(prefix) :]: lazy for name, lazy in tensors.items() if name.startswith(prefix)}
    return {name: lazy for name, lazy in inner.items() if not is_ignored(name)}


def _renamed(inner: Mapping[str, Lazy], table: Mapping[str, str]) -> dict[str, Lazy]:
    back = {ours: theirs for theirs, ours in table.items()}
    renamed = {}
    for name, lazy in inner.items():
        theirs = names.rename(name, back)
        if theirs is None:
            raise TensorMismatch(
                f"tensor {name!r} has no name in diffusers", hint="only SD1, SD2 and SDXL are converted"
            )
        renamed[theirs] = lazy
    return renamed


def _flat(lazy: Lazy) -> Lazy:
    """A 1x1 convolution as the matrix it is."""
    return replace(lazy, shape=lazy.shape[:2], load=lambda: lazy.load().reshape(lazy.shape[:2]))


def _transposed(lazy: Lazy) -> Lazy:
    return replace(lazy, shape=lazy.shape[::-1], load=lambda: lazy.load().T)


def _third(lazy: Lazy, index: int) -> Lazy:
    rows = lazy.shape[0] // 3
    return replace(lazy, shape=(rows, *lazy.shape[1:]), load=lambda: lazy.load()[index * rows : (index + 1) * rows])
