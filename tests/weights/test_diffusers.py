"""Folders of diffusers: what we write it loads and computes with alike, and what it writes we read."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hayate.engines.torch import TorchEngine, load_engine
from hayate.errors import BrokenFile, OutputError, RefusedFormat, TensorMismatch
from hayate.models.config import Family, Prediction
from hayate.models.layers import sinusoidal_embedding
from hayate.prompt.tokenizer import load_tokenizer
from hayate.runtime.precision import Precision
from hayate.weights.convert import Conversion, open_source
from hayate.weights.detect import UNET_PREFIX, VAE_PREFIX
from hayate.weights.rewrite import convert_file
from tests.models.diffusers_names import text_state, unet_state, vae_state
from tests.models.reference import relative_error
from tests.tiny_models import tiny_config, write_tiny

FP32 = Precision(unet=torch.float32, text=torch.float32, vae=torch.float32, reason="a test")
TEXTS = {"text_encoder": ("tokenizer", 0), "text_encoder_2": ("tokenizer_2", -1)}


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def folder_of(path: Path, family: Family, **words: Any) -> tuple[Path, Path]:
    """A tiny model of a family, and the folder that is made of it."""
    file, folder = path / "model.safetensors", path / "folder"
    write_tiny(file, family, **words)
    convert_file(file, folder, Conversion())
    return file, folder


def pipeline_of(folder: Path) -> Any:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(folder, local_files_only=True)


@pytest.mark.parametrize("family", list(Family))
def test_diffusers_loads_the_folder_and_computes_alike(family: Family, tmp_path: Path) -> None:
    file, folder = folder_of(tmp_path, family)
    theirs, ours = pipeline_of(folder), load_engine(file, torch.device("cpu"), FP32)
    with torch.inference_mode():
        check_unet(theirs.unet, ours)
        check_vae(theirs.vae, ours)
        for name, (tokenizer, encoder) in TEXTS.items():
            if getattr(theirs, name, None) is not None:
                check_text(getattr(theirs, name), getattr(theirs, tokenizer), ours, encoder)


def check_unet(theirs: Any, ours: TorchEngine) -> None:
    unet = ours.config.unet
    x, context = normal(2, unet.in_channels, 8, 8, seed=1), normal(2, 77, unet.context_width, seed=2)
    timesteps, vector, added = torch.tensor([981.0, 3.0]), None, None
    if unet.vector_width:
        numbers = 5 if ours.config.family is Family.SDXL_REFINER else 6
        pooled, sizes = normal(2, unet.vector_width - 256 * numbers, seed=3), torch.arange(2.0 * numbers).view(2, -1)
        vector = torch.cat([pooled, sinusoidal_embedding(sizes.flatten(), 256).view(2, -1)], dim=1)
        added = {"text_embeds": pooled, "time_ids": sizes}
    expected = theirs(x, timesteps, context, added_cond_kwargs=added).sample
    assert relative_error(ours.unet(x, timesteps, context, vector), expected) <= 1e-5


def check_vae(theirs: Any, ours: TorchEngine) -> None:
    pixels, latents = normal(1, 3, 64, 64, seed=4).clamp(-1, 1), normal(1, 4, 8, 8, seed=5)
    assert theirs.config.scaling_factor == ours.config.vae.scale
    assert relative_error(ours.vae.encode_moments(pixels)[0], theirs.encode(pixels).latent_dist.mean) <= 1e-5
    assert relative_error(ours.vae.decode(latents), theirs.decode(latents).sample) <= 1e-5


def check_text(theirs: Any, tokenizer: Any, ours: TorchEngine, encoder: int) -> None:
    text = ours.config.text[encoder]
    words = "A red Sun's rays, over (3) mountains"
    ids = tokenizer(words, padding="max_length", max_length=77, return_tensors="pt").input_ids
    own = [49406, *load_tokenizer().encode(words), 49407]
    assert ids[0].tolist() == own + [text.pad_id] * (77 - len(own))
    encoding, expected = ours.text[encoder](ids, text.skip), theirs(ids, output_hidden_states=True)
    is_last = text.has_final_norm
    context = expected.last_hidden_state if is_last else expected.hidden_states[-text.skip]
    assert relative_error(encoding.context, context) <= 1e-5
    if not is_last and text.projection_width:
        assert relative_error(encoding.pooled, expected.text_embeds) <= 1e-5


@pytest.mark.parametrize("family", [Family.SD1, Family.SDXL, Family.SDXL_REFINER])
def test_there_and_back_every_bit_is_the_same(family: Family, tmp_path: Path) -> None:
    file, folder = folder_of(tmp_path, family, dtype=torch.float16)
    convert_file(folder, tmp_path / "back.safetensors", Conversion())
    before, after = load_file(file), load_file(tmp_path / "back.safetensors")
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert (after[name].dtype, after[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(after[name], tensor), name


def test_sd2_comes_back_without_the_block_that_nothing_uses(tmp_path: Path) -> None:
    file, folder = folder_of(tmp_path, Family.SD2)
    convert_file(folder, tmp_path / "back.safetensors", Conversion())
    before, after = load_file(file), load_file(tmp_path / "back.safetensors")
    gone = before.keys() - after.keys()
    assert gone
    assert all(".resblocks.2." in name or name.endswith("text_projection") for name in gone)
    assert all(torch.equal(after[name], before[name]) for name in after)


@pytest.mark.parametrize(
    ("family", "suffix"), [*((family, "safetensors") for family in Family), (Family.SD1, "bin")], ids=str
)
def test_what_diffusers_writes_is_read_under_the_original_names(family: Family, suffix: str, tmp_path: Path) -> None:
    """Against the tests' own table of names, by which the networks' parity with diffusers is shown."""
    _, ours = folder_of(tmp_path, family)
    theirs, folder = pipeline_of(ours), tmp_path / "theirs"
    theirs.save_pretrained(folder)
    if suffix == "bin":
        as_pickles(folder)
    expected = expected_names(theirs, family)
    with open_source(ours, tmp_path) as known, open_source(folder, tmp_path) as source:
        assert source.tensors.keys() == known.tensors.keys()
        # The tests' table wants a projection, which SD2's folders don't have.
        named = {name for name in source.tensors if family is not Family.SD2 or not name.startswith("cond_stage")}
        assert named == expected.keys()
        for name in named:
            assert torch.equal(source.tensors[name].load(), expected[name]), name


def as_pickles(folder: Path) -> None:
    """The folder with pickled files in the place of safetensors, as old ones have them."""
    for path in folder.rglob("*.safetensors"):
        stem = "pytorch_model" if path.stem == "model" else path.stem
        torch.save(load_file(path), path.with_name(f"{stem}.bin"))
        path.unlink()


def expected_names(theirs: Any, family: Family) -> dict[str, Tensor]:
    config = tiny_config(family)
    expected = {UNET_PREFIX + name: each for name, each in unet_state(theirs.unet.state_dict(), config.unet).items()}
    expected |= {VAE_PREFIX + name: each for name, each in vae_state(theirs.vae.state_dict(), config.vae).items()}
    encoders = [getattr(theirs, name) for name in TEXTS if getattr(theirs, name, None) is not None]
    for encoder, text in zip(encoders, config.text, strict=True):
        if family is not Family.SD2:
            inner = text_state(encoder.state_dict(), text)
            expected |= {text.prefix + name: tensor for name, tensor in inner.items()}
    return expected


def test_vaes_of_before_diffusers_0_16_are_read(tmp_path: Path) -> None:
    _, folder = folder_of(tmp_path, Family.SD1)
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in load_file(path).items():
        for new, before in old.items():
            name = name.replace(f".{new}.", f".{before}.")  # noqa: PLW2901
        renamed[name] = tensor
    save_file(renamed, path)
    with open_source(folder, tmp_path) as source:
        before = load_file(tmp_path / "model.safetensors")
        assert source.tensors.keys() == before.keys()
        assert all(torch.equal(lazy.load(), before[name]) for name, lazy in source.tensors.items())


def test_what_the_unet_predicts_goes_both_ways(tmp_path: Path) -> None:
    file, folder = folder_of(tmp_path, Family.SD1, prediction=Prediction.V)
    assert pipeline_of(folder).scheduler.config.prediction_type == "v_prediction"
    convert_file(folder, tmp_path / "back.safetensors", Conversion())
    for path in (file, tmp_path / "back.safetensors"):
        assert load_engine(path, torch.device("cpu"), FP32).config.prediction is Prediction.V


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    write_tiny(file, Family.SD1)

    def interrupt(name: str) -> None:
        if name.startswith("text_model."):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_file(file, tmp_path / "folder", Conversion(), on_tensor=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="is there already"):
        convert_file(file, tmp_path / "folder", Conversion())


def test_folders_that_are_no_stable_diffusion_are_refused(tmp_path: Path) -> None:
    _, folder = folder_of(tmp_path, Family.SD1)
    (folder / "text_encoder" / "model.safetensors").rename(tmp_path / "text.safetensors")
    with pytest.raises(BrokenFile, match="no text encoder"):
        convert_file(folder, tmp_path / "x.safetensors", Conversion())
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(RefusedFormat, match="no Stable Diffusion U-Net"):
        convert_file(folder, tmp_path / "x.safetensors", Conversion())
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("content", ["[]", json.dumps({"prediction_type": {"a": 1}})])
def test_odd_settings_are_a_clean_error_or_no_matter(content: str, tmp_path: Path) -> None:
    _, folder = folder_of(tmp_path, Family.SD1)
    (folder / "scheduler" / "scheduler_config.json").write_text(content)
    with contextlib.suppress(BrokenFile):
        convert_file(folder, tmp_path / "x.safetensors", Conversion())


@pytest.mark.parametrize(
    "odd",
    ["encoder.layers.x.mlp.fc1.weight", "down_blocks.0.resnets.x.conv1.weight", "encoder.down_blocks.0.resnets.99.a"],
)
def test_tensors_of_no_such_network_are_a_clean_error(odd: str, tmp_path: Path) -> None:
    _, folder = folder_of(tmp_path, Family.SD1)
    path = next((folder / ("unet" if odd.startswith("down") else "vae")).glob("*.safetensors"))
    save_file(load_file(path) | {odd: torch.ones(1)}, path)
    with pytest.raises(TensorMismatch, match="has no place"):
        convert_file(folder, tmp_path / "x.safetensors", Conversion())


def test_a_text_encoder_with_a_tensor_missing_is_a_clean_error(tmp_path: Path) -> None:
    file, folder = folder_of(tmp_path, Family.SDXL)
    path = folder / "text_encoder_2" / "model.safetensors"
    tensors = load_file(path)
    del tensors["text_model.encoder.layers.1.self_attn.k_proj.bias"]
    save_file(tensors, path)
    with pytest.raises(TensorMismatch, match="is missing"):
        convert_file(folder, tmp_path / "x.safetensors", Conversion())
    whole = load_file(file)
    del whole["conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight"]
    save_file(whole, file)
    with pytest.raises(TensorMismatch, match="is missing"):
        convert_file(file, tmp_path / "other", Conversion())
    assert not (tmp_path / "other").exists()
