"""Textual inversions in prompts: what the text encoders make of them equals transformers' with a longer vocabulary."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from hayate.models.clip import Inserted, text_encoder
from hayate.models.config import Family, TextLayout
from hayate.pipeline.encode import TextStyle, encode_texts
from hayate.pipeline.infotext import parse_infotext
from hayate.pipeline.inversions import find_inversions
from hayate.pipeline.pasted import paste_picture
from hayate.pipeline.report import Report
from hayate.pipeline.session import make_pictures
from hayate.pipeline.workspace import Workspace
from hayate.prompt.chunks import Emphasis
from hayate.prompt.tokenizer import load_tokenizer
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from hayate.settings import Settings, load_settings
from tests.models.diffusers_names import text_state
from tests.models.reference import reference_text
from tests.tiny_models import tiny_config, write_tiny

BOS, EOS = 49406, 49407


class TextOnly:
    """An engine with nothing but text encoders."""

    def __init__(self, family: Family) -> None:
        self.config, self.device = tiny_config(family), torch.device("cpu")
        self.theirs = [reference_text(config) for config in self.config.text]
        self.text = []
        for config, theirs in zip(self.config.text, self.theirs, strict=True):
            with torch.device("meta"):
                ours = text_encoder(config)
            ours.load_state_dict(text_state(theirs.state_dict(), config), assign=True)
            self.text.append(ours)

    def encode_text(self, encoder: int, ids: Tensor, skip: int | None, inserted: Inserted | None = None) -> Any:
        return self.text[encoder](ids, skip, inserted)


def extended(theirs: Any, vectors: Tensor) -> Any:
    """transformers' encoder with the vectors as further words."""
    table = theirs.get_input_embeddings()
    longer = torch.nn.Embedding(table.num_embeddings + len(vectors), table.embedding_dim)
    longer.weight.data = torch.cat([table.weight.data, vectors])
    theirs.set_input_embeddings(longer)
    return theirs


def write(folder: Path, config: Any, **counts: int) -> dict[str, list[Tensor]]:
    """Embeddings of so many vectors for a model."""
    folder.mkdir(exist_ok=True)
    made = {}
    for name, count in counts.items():
        vectors = made[name] = [torch.randn(count, text.width) for text in config.text]
        keys = ["emb_params"] if len(vectors) == 1 else ["clip_l", "clip_g"]
        save_file(dict(zip(keys, vectors, strict=True)), folder / f"{name}.safetensors")
    return made


@pytest.mark.parametrize("family", [Family.SD1, Family.SD2, Family.SDXL])
@torch.inference_mode()
def test_the_encoders_equal_transformers_with_more_words(family: Family, tmp_path: Path) -> None:
    torch.manual_seed(4)
    engine, tokenizer = TextOnly(family), load_tokenizer()
    vectors = write(tmp_path / "e", engine.config, ink=3, mist=1)
    notes: list[str] = []
    text = "a (mist:1.0) sea, Ink"
    inverted = find_inversions([text], (tokenizer, Emphasis.ORIGINAL), tmp_path / "e", engine.config, notes)
    assert (list(inverted.paths), notes) == (["mist", "ink"], [])
    style = TextStyle(tokenizer=tokenizer, width_px=64, height_px=64, inverted=inverted)
    (ours,) = encode_texts(engine, [text], style)  # pyright: ignore[reportArgumentType]
    contexts, pooled = [], None
    for number, (config, theirs) in enumerate(zip(engine.config.text, engine.theirs, strict=True)):
        table = torch.cat([vectors["mist"][number], vectors["ink"][number]])
        first = config.vocabulary
        a, sea, comma = (tokenizer.encode(word)[0] for word in ("a", "sea", ","))
        ids = [BOS, a, first, sea, comma, first + 1, first + 2, first + 3, EOS]
        rows = torch.tensor([ids + [config.pad_id] * (77 - len(ids))])
        expected = extended(theirs, table)(rows, output_hidden_states=True)
        hidden = expected.hidden_states[-config.skip]
        encoder: Any = engine.text[number]
        norm = encoder.final_layer_norm if config.layout is TextLayout.CLIP else encoder.ln_final
        contexts.append(norm(hidden) if config.has_final_norm else hidden)
        pooled = expected.text_embeds if config.projection_width else pooled
    assert (ours.context - torch.cat(contexts, dim=-1)[0]).abs().max() <= 1e-5
    if family is Family.SDXL:
        assert ours.vector is not None
        assert pooled is not None
        assert (ours.vector[: pooled.shape[1]] - pooled[0]).abs().max() <= 1e-5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    write_tiny(path, Family.SD1)
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folders = ("cache_dir", "data_dir", "outputs_dir", "embeddings_dir", "lora_dir", "models_dir")
    return load_settings({name: tmp_path / name for name in folders}, environment={})


@pytest.fixture
def workspace(settings: Settings) -> Iterator[Workspace]:
    with Workspace(settings) as made:
        yield made


def made(model: Path, settings: Settings, prompt: str, workspace: Workspace, **more: Any) -> Report:
    asked = more.pop("asked", None)
    request = TextToImage(
        prompt=prompt, model=str(model), steps=2, seed=7, width_px=64, height_px=64, sampler="Euler", **more
    )
    return make_pictures(request, settings, None, lambda *_: None, asked, workspace=workspace)


def pixels(report: Report) -> np.ndarray:
    return np.asarray(Image.open(report.pictures[0].path)).astype(int)


def test_a_name_in_a_prompt_changes_the_picture_and_is_written(
    model: Path, settings: Settings, workspace: Workspace
) -> None:
    plain = made(model, settings, "a red ink sun", workspace)
    assert "TI hashes" not in parse_infotext(plain.pictures[0].infotext).parameters
    config = tiny_config(Family.SD1)
    write(settings.embeddings_dir, config, ink=4, unused=2)
    write(settings.embeddings_dir / "sub", config, bad=1)
    with_ink = made(model, settings, "a red ink sun", workspace, negative_prompt="bad")
    assert np.abs(pixels(with_ink) - pixels(plain)).max() > 4
    digits = [
        hashlib.sha256((settings.embeddings_dir / name).read_bytes()).hexdigest()[:12]
        for name in ("ink.safetensors", "sub/bad.safetensors")
    ]
    parameters = parse_infotext(with_ink.pictures[0].infotext).parameters
    assert parameters["TI hashes"] == f"ink: {digits[0]}, bad: {digits[1]}"
    offloaded = made(model, settings, "a red ink sun", workspace, negative_prompt="bad", asked=Asked(offload="lowvram"))
    assert np.array_equal(pixels(offloaded), pixels(with_ink))


@pytest.mark.parametrize("fault", ["another family", "cut", "pickle", "a picture"])
def test_what_can_not_be_used_stays_words_with_a_note(
    fault: str, model: Path, settings: Settings, workspace: Workspace
) -> None:
    plain = made(model, settings, "a red ink sun", workspace)
    settings.embeddings_dir.mkdir()
    path = settings.embeddings_dir / "ink.safetensors"
    if fault == "another family":
        save_file({"emb_params": torch.randn(2, 1024)}, path)
    elif fault == "cut":
        path.write_bytes(b"\x40\0\0\0\0\0\0\0{")
    elif fault == "pickle":
        torch.save({"x": torch.randn(2, 64), "evil": SimpleNamespace()}, path.with_suffix(".pt"))
    else:
        Image.new("RGB", (8, 8)).save(path.with_suffix(".png"))
    report = made(model, settings, "a red ink sun", workspace)
    assert np.array_equal(pixels(report), pixels(plain))
    said = [note for note in report.notes if "the embedding ink is left out" in note]
    assert len(said) == (0 if fault == "a picture" else 1)
    assert "TI hashes" not in report.pictures[0].infotext


def test_a_picture_is_made_again_and_files_are_found_by_their_hashes(
    model: Path, settings: Settings, workspace: Workspace
) -> None:
    write(settings.embeddings_dir, tiny_config(Family.SD1), ink=2)
    first = made(model, settings, "a red ink sun, inkwell", workspace)
    pasted = paste_picture(first.pictures[0].path, settings)
    assert not any("ink" in note for note in pasted.notes)
    (settings.embeddings_dir / "ink.safetensors").rename(settings.embeddings_dir / "tusche.safetensors")
    pasted = paste_picture(first.pictures[0].path, settings)
    assert pasted.request.prompt == "a red tusche sun, inkwell"
    assert "embedding ink is called tusche here" in pasted.notes
    again = make_pictures(
        TextToImage(
            **{**{name: getattr(pasted.request, name) for name in pasted.request.__slots__}, "model": str(model)}
        ),
        settings,
        None,
        lambda *_: None,
        workspace=workspace,
    )
    assert np.array_equal(pixels(again), pixels(first))
    (settings.embeddings_dir / "tusche.safetensors").unlink()
    notes = paste_picture(first.pictures[0].path, settings).notes
    assert any(note.startswith("not honoured: embedding ink [") for note in notes)
    write(settings.embeddings_dir, tiny_config(Family.SD1), ink=3)
    notes = paste_picture(first.pictures[0].path, settings).notes
    assert any(note.startswith("embedding ink: the picture was made with one whose hash is ") for note in notes)


def test_a_lora_is_found_by_its_hash_under_another_name(settings: Settings, tmp_path: Path) -> None:
    settings.lora_dir.mkdir()
    path = settings.lora_dir / "tusche.safetensors"
    save_file({"lora_unet_x.alpha": torch.ones(1)}, path, {"sshs_model_hash": "ab" * 32})
    text = 'sea <lora:ink:0.5> ink\nSteps: 2, Seed: 1, Size: 64x64, Lora hashes: "ink: abababababab", Version: v1.10.1'
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_text("parameters", text)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png", pnginfo=chunks)
    pasted = paste_picture(tmp_path / "a.png", settings)
    assert pasted.request.prompt == "sea <lora:tusche:0.5> ink"
    assert "LoRA ink is called tusche here" in pasted.notes
    path.unlink()
    notes = json.dumps(paste_picture(tmp_path / "a.png", settings).notes)
    assert "not honoured: LoRA ink [abababababab]" in notes
