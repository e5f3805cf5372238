"""Posted texts become the right request, with a word on all that can't be had; models are found by hash and name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hayate.errors import UsageError
from hayate.models.config import Family
from hayate.pipeline.infotext import parse_infotext
from hayate.pipeline.left_out import old_behaviour
from hayate.pipeline.pasted import paste, paste_picture, pasted_request
from hayate.pipeline.pasted_files import files_named
from hayate.settings import Settings, load_settings
from hayate.weights.builtin import builtin_model
from tests.pipeline.infotexts import POSTED
from tests.tiny_models import write_tiny


@pytest.mark.parametrize("name", POSTED)
def test_a_posted_text_is_understood(name: str) -> None:
    posted = POSTED[name]
    info = parse_infotext(posted.text)
    pasted = paste(info)
    assert {field: getattr(pasted.request, field) for field in posted.fields} == posted.fields
    assert set(pasted.left_out) == posted.left_out
    assert len(pasted.faults) == posted.faults
    assert bool(old_behaviour(info)) == posted.old
    assert len(pasted.notes) == posted.faults + len(posted.left_out) + posted.old
    assert all(note.startswith("not honoured: ") and "\n" not in note for note in pasted.notes)


def test_there_are_enough_of_them() -> None:
    assert len(POSTED) >= 30


def test_every_key_that_is_left_out_is_named() -> None:
    for posted in POSTED.values():
        pasted = paste(parse_infotext(posted.text))
        for keys in pasted.left_out.values():
            assert all(any(key in note for note in pasted.notes) or len(keys) > 5 for key in keys)


def test_approximate_methods_come_back() -> None:
    line = "Steps: 20, Token merging ratio: 0.5, NGMS: 2.5, DeepCache: 3, Guidance interval: 0.28-1e+06"
    asked = paste(parse_infotext(f"a cat\n{line}")).asked
    assert (asked.tome, asked.s_min_uncond, asked.deepcache) == (0.5, 2.5, 3)
    assert asked.guidance_interval == (0.28, 1e6)


def test_what_is_given_beside_a_text_needs_no_note() -> None:
    info = parse_infotext("a cat\nSteps: many, Sampler: Unheard of, Size: x, VAE Decoder: TAESD")
    assert len(paste(info).notes) == 4
    given_fields = {"steps", "sampler", "width_px", "height_px", "tiny_vae"}
    assert paste(info, given_fields).notes == ()


def test_a_bench_refuses_what_can_not_be_had() -> None:
    with pytest.raises(UsageError, match="Unheard of"):
        pasted_request(parse_infotext("a cat\nSteps: 20, Sampler: Unheard of, Seed: 1"))


@given(st.text(max_size=300))
def test_any_text_can_be_pasted(text: str) -> None:
    paste(parse_infotext(text))


KEYS = st.sampled_from(["Steps", "Size", "Seed", "Sampler", "Guidance interval", "Emphasis", "Hires upscale", "Xy"])
VALUES = st.text(st.characters(exclude_characters='",:\n'), max_size=12) | st.sampled_from(["0x0", "1x", "9e9", "-1"])


@given(st.lists(st.tuples(KEYS, VALUES), min_size=3))
def test_any_values_can_be_pasted(pairs: list[tuple[str, str]]) -> None:
    line = ", ".join(f"{key}: {value}" for key, value in pairs)
    assert all("\n" not in note for note in paste(parse_infotext(f"x\n{line}")).notes)


def test_a_strangers_words_do_not_steer_the_terminal(tmp_path: Path, settings: Settings) -> None:
    texts = PngInfo()
    quoted = json.dumps("a: \n\x1b[2J")
    line = f"Model: \x1b[31m, VAE: \x9b2J, Hires upscaler: \x07x, Odd key: {quoted}, Seed: \x1b, Sampler: \x1b"
    texts.add_text("parameters", f"sea\n{line}")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=texts)
    notes = paste_picture(tmp_path / "a.png", settings).notes
    assert len(notes) == 6
    assert all(note.isprintable() for note in notes)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    places = {key: tmp_path / key for key in ("models_dir", "vae_dir", "cache_dir")}
    (tmp_path / "models_dir/sub").mkdir(parents=True)
    (tmp_path / "vae_dir").mkdir()
    write_tiny(tmp_path / "models_dir/sub/Some Model.safetensors", Family.SD1)
    (tmp_path / "vae_dir/mse.safetensors").write_bytes(b"vae" * 1000)
    return load_settings(places, environment={})


def found(settings: Settings, line: str, given_fields: set[str] | None = None) -> tuple[dict[str, str], list[str]]:
    return files_named(parse_infotext(f"x\nSteps: 1, Seed: 1, {line}"), settings, given_fields or set())


def test_the_built_in_model_is_known_by_its_hash(settings: Settings) -> None:
    digits = hashlib.sha256(builtin_model().read_bytes()).hexdigest()[:10]
    assert found(settings, f"Model hash: {digits}, Model: another name") == ({"model": "built-in"}, [])


def test_a_model_is_found_by_its_name_and_its_hash(settings: Settings) -> None:
    path = settings.models_dir / "sub/Some Model.safetensors"
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:10]
    assert found(settings, f"Model hash: {digits}, Model: some model") == ({"model": str(path)}, [])
    assert found(settings, "Model: Some Model") == ({"model": str(path)}, [])
    # Its hash is remembered from now on, so it is found under any name.
    assert found(settings, f"Model hash: {digits}, Model: renamed") == ({"model": str(path)}, [])


def test_the_old_hash_finds_a_model_too(settings: Settings) -> None:
    path = settings.models_dir / "sub/Some Model.safetensors"
    with path.open("rb") as file:
        file.seek(0x100000)
        old = hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
    assert found(settings, f"Model hash: {old}") == ({"model": str(path)}, [])


def test_another_file_of_that_name_is_taken_with_a_word(settings: Settings) -> None:
    files, (note,) = found(settings, "Model hash: 0123456789, Model: Some Model")
    assert files == {"model": str(settings.models_dir / "sub/Some Model.safetensors")}
    assert "0123456789" in note


def test_a_vae_is_found_by_its_file_name(settings: Settings) -> None:
    path = settings.vae_dir / "mse.safetensors"
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:10]
    assert found(settings, f"VAE hash: {digits}, VAE: mse.safetensors") == ({"vae": str(path)}, [])


def test_what_is_not_here_is_said_unless_another_is_given(settings: Settings) -> None:
    line = "Model hash: 0123456789, Model: nobody's, VAE: none.pt"
    files, notes = found(settings, line)
    assert files == {}
    assert ["nobody's [0123456789]" in notes[0], "none.pt" in notes[1], "--vae" in notes[1]] == [True] * 3
    assert found(settings, line, {"model", "vae"}) == ({}, [])


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "~/x.safetensors", "sub/../../secret"])
def test_a_name_from_a_text_leads_nowhere(settings: Settings, tmp_path: Path, name: str) -> None:
    write_tiny(tmp_path / "secret.safetensors", Family.SD1)
    assert found(settings, f"Model: {name}")[0] == {}
