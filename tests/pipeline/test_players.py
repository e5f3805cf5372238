"""Which models and LoRAs a job takes, and which can't be together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hayate.engines.store import ModelStore
from hayate.errors import TensorMismatch, UnknownName, UsageError
from hayate.models.config import Family
from hayate.pipeline.prepared import prepare_request
from hayate.pipeline.workspace import Workspace
from hayate.request import Hires
from hayate.settings import Settings
from hayate.weights.embedding import read_embedding
from tests.pipeline.several import SDP, made, pixels, request_for, same
from tests.tiny_models import tiny_config


def test_the_model_itself_is_no_refiner(own: Settings) -> None:
    report = made(own, refiner="base.safetensors")
    assert same(pixels(report), pixels(made(own)))
    assert any("it is the model that it would take over from" in note for note in report.notes)
    assert "Refiner" not in report.pictures[0].infotext


def test_a_second_pass_by_another_model_is_that_models_and_a_refiner_acts_there(own: Settings) -> None:
    def hires(**more: object) -> list[np.ndarray]:
        second = Hires(scale=1.5, denoising=0.6, model=more.pop("second", None))
        return pixels(made(own, hires=second, batch_count=2, **more))

    plain, other = hires(), hires(second="other")
    assert same(hires(second="copy"), plain)
    assert not same(other, plain)
    assert same(hires(refiner="copy"), plain)
    assert not same(hires(refiner="other", refiner_switch_at=0.9), plain)
    assert same(hires(refiner="other", refiner_switch_at=0.01), other), "from its first step on it is the refiner's"


def test_a_second_pass_has_the_loras_of_its_own_prompt(own: Settings) -> None:
    def second(prompt: str | None, model: str | None = None) -> list[np.ndarray]:
        return pixels(made(own, batch_count=2, hires=Hires(scale=1.5, denoising=0.6, prompt=prompt, model=model)))

    plain = second(None)
    assert same(second("a red sun"), plain)
    inked = second("a red sun<lora:ink>")
    assert not same(inked, plain)
    assert same(second("a red sun<lora:ink>", "copy"), inked)


@pytest.mark.parametrize("is_poured", [False, True], ids=["seated", "poured"])
def test_loras_are_in_both_models_and_in_none_afterwards(
    own: Settings, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, is_poured: bool
) -> None:
    if is_poured:
        monkeypatch.setattr(ModelStore, "_pours", lambda store, device: True)
    plain, inked = pixels(made(own)), pixels(made(own, prompt="a red sun<lora:ink>", batch_count=2))
    refined = made(own, workspace, prompt="a red sun<lora:ink>", batch_count=2, refiner="copy")
    assert same(pixels(refined), inked)
    assert "Lora hashes: " in refined.pictures[0].infotext
    assert not same(plain, inked[:1])
    assert same(pixels(made(own, workspace)), plain)
    assert same(pixels(made(own, workspace, model="copy")), plain)


def test_a_lora_that_the_refiner_has_no_place_for_is_in_the_first_model_alone(own: Settings) -> None:
    words = {"model": "xl", "refiner": "xl refiner"}
    report = made(own, prompt="a red sun<lora:oil>", **words)
    assert any("LoRA oil is not put into the refiner" in note for note in report.notes)
    assert not same(pixels(report), pixels(made(own, **words)))
    with pytest.raises(TensorMismatch):
        made(own, prompt="a red sun<lora:ink>", **words)


def test_an_embedding_is_told_to_each_model_that_it_fits(own: Settings, tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_file({"emb_params": torch.randn(2, 64)}, tmp_path / "mist.safetensors")
    both = {"clip_l": torch.randn(2, 64), "clip_g": torch.randn(2, 128)}
    save_file(both, tmp_path / "fog.safetensors")
    there = replace(own, embeddings_dir=tmp_path)
    refined = made(there, prompt="a red sun, mist", refiner="copy")
    assert same(pixels(refined), pixels(made(there, prompt="a red sun, mist")))
    assert not same(pixels(refined), pixels(made(own, prompt="a red sun, mist")))
    report = made(there, prompt="a red sun, fog", model="xl", refiner="xl refiner")
    assert any(note.startswith("for the refiner the embedding fog is left out") for note in report.notes)
    config = tiny_config(Family.SDXL_REFINER)
    config = replace(config, text=(replace(config.text[0], width=128),))
    (found,) = read_embedding(tmp_path / "fog.safetensors", config) or ()
    assert torch.equal(found, both["clip_g"]), "the vectors for SDXL's second encoder, which is the refiner's own"


@pytest.mark.parametrize(("base", "refiner"), [("nine", "copy"), ("copy", "nine")])
def test_an_inpainting_model_and_another_are_each_shown_what_they_take(own: Settings, base: str, refiner: str) -> None:
    """The nine channels' five others have no weight here, so both are the same model."""
    found, expected = pixels(made(own, model=base, refiner=refiner)), pixels(made(own))
    assert np.abs(found[0] - expected[0]).max() <= 1


def is_in_memory(*_: object, **__: object) -> None:
    raise AssertionError("a model was loaded")


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"refiner": "ohter"}, UnknownName, "nearest: .*other"),
        ({"refiner": "xl refiner"}, UsageError, "the refiner is SDXL-REFINER, whose latents are not those"),
        ({"model": "xl", "refiner": "base"}, UsageError, "the refiner is SD1"),
        ({"hires": Hires(model="xl")}, UsageError, "the model of the second pass is SDXL"),
        ({"hires": Hires(model="none")}, UnknownName, "none"),
        ({"model": "xl refiner"}, UsageError, "finishes another model's picture"),
        ({"refiner": "other", "refiner_switch_at": 0.0}, UsageError, "--refiner-switch-at takes 0.01 to 1"),
    ],
)
def test_what_can_not_be_is_said_before_anything_is_loaded(
    own: Settings, monkeypatch: pytest.MonkeyPatch, words: dict[str, object], error: type[Exception], message: str
) -> None:
    monkeypatch.setattr(Workspace, "engine", is_in_memory)
    with pytest.raises(error, match=message) as caught:
        made(own, **words)
    assert "\n" not in str(caught.value)


def test_the_plan_is_for_the_larger_of_the_models(own: Settings, workspace: Workspace) -> None:
    alone = [prepare_request(request_for(name), own, SDP, workspace).plan.forecast for name in ("base", "nine")]
    both = prepare_request(request_for("base", refiner="nine"), own, SDP, workspace).plan.forecast
    assert both.peak_bytes("none") == max(each.peak_bytes("none") for each in alone)
    assert len({each.peak_bytes("none") for each in alone}) == 2
