"""An installation of A1111, as people have it: used where it is, shown, and taken over on request only."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from hayate.cli.a1111_folders import at_places, places, read_config
from hayate.cli.a1111_models import begin
from hayate.cli.main import main
from hayate.errors import UsageError
from hayate.flags import take_flags
from hayate.server.preferences import Preferences
from hayate.settings import load_settings
from hayate.weights.builtin import builtin_model

CONFIG = {
    "samples_save": False,
    "samples_format": "jpg",
    "jpeg_quality": 80,
    "CLIP_stop_at_last_layers": 2,
    "eta_noise_seed_delta": 31337,
    "outdir_txt2img_samples": "outputs/txt2img-images",
    "sd_model_checkpoint": "mine.safetensors [0123456789]",
    "ESRGAN_tile": "many",
    "some_extension_option": 3,
}


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A1111's folder; the user has an empty home."""
    for name in [name for name in os.environ if name.startswith("HAYATE_")]:
        monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    root = tmp_path / "webui"
    for name in ("models/Stable-diffusion/sub", "models/VAE", "models/Lora", "models/ESRGAN", "embeddings", "outputs"):
        (root / name).mkdir(parents=True)
    shutil.copyfile(builtin_model(), root / "models/Stable-diffusion/mine.safetensors")
    (root / "models/Stable-diffusion/sub/old.ckpt").write_bytes(b"PK")
    (root / "models/Lora/style.safetensors").write_bytes(b"x" * 10)
    (root / "styles.csv").write_text("name,prompt,negative_prompt\nwarm,warm light,\n")
    (root / "config.json").write_text(json.dumps(CONFIG))
    return root


def settings_at(*words: str) -> Any:
    notes: list[str] = []
    with at_places(take_flags(words)[0], notes.append):
        return load_settings(), notes


def test_its_folders_become_ours_while_the_command_runs(theirs: Path) -> None:
    settings, notes = settings_at("--data-dir", str(theirs))
    assert settings.models_dir == theirs / "models/Stable-diffusion"
    assert settings.vae_dir == theirs / "models/VAE"
    assert settings.lora_dir == theirs / "models/Lora"
    assert settings.upscalers_dir == theirs / "models/ESRGAN"
    assert settings.embeddings_dir == theirs / "embeddings"
    assert settings.styles_file == theirs / "styles.csv"
    assert settings.outputs_dir == theirs / "outputs"
    assert (settings.format, settings.clip_skip, settings.ensd) == ("jpeg", 2, 31337)
    assert len(notes) == 1
    assert "ESRGAN_tile" in notes[0]
    assert load_settings().models_dir == Path("models/Stable-diffusion")


def test_what_is_narrower_wins_and_config_gives_way_to_the_user(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAYATE_CLIP_SKIP", "1")
    monkeypatch.setenv("HAYATE_LORA_DIR", "/elsewhere")
    settings, _ = settings_at("--ckpt-dir", "/big/disk", "--data-dir", str(theirs), "--lora-dir", "/loras")
    assert settings.models_dir == Path("/big/disk").absolute()
    assert settings.lora_dir == Path("/loras").absolute()
    assert settings.clip_skip == 1
    assert os.environ["HAYATE_LORA_DIR"] == "/elsewhere"


def test_models_dir_is_the_folder_of_folders_or_the_checkpoints_own(theirs: Path, tmp_path: Path) -> None:
    flags, _ = take_flags(["--models-dir", str(theirs / "models")])
    assert places(flags)["vae_dir"] == theirs / "models/VAE"
    flags, _ = take_flags(["--models-dir", str(tmp_path)])
    assert places(flags) == {"models_dir": tmp_path}


@pytest.mark.parametrize(
    ("flag", "below"),
    [("--data-dir", ""), ("--models-dir", "models"), ("--ckpt-dir", "models/Stable-diffusion")],
)
def test_its_models_are_listed_where_they_are(
    theirs: Path, flag: str, below: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "list", flag, str(theirs / below)]) == 0
    shown = capsys.readouterr().out
    assert "mine.safetensors" in shown
    assert "sub/old.ckpt" in shown
    assert "style.safetensors" not in shown


def test_its_command_line_works_unchanged(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What people have in COMMANDLINE_ARGS, before a command that does not serve."""
    theirs_words = (
        "--xformers --medvram --no-half-vae --listen --port 7861 --api --autolaunch --theme dark --no-hashing "
        f"--enable-insecure-extension-access --skip-torch-cuda-test --data-dir {theirs} --vae-dir {theirs}/models/VAE"
    )
    assert main(["models", "list", *theirs_words.split()]) == 0
    assert "mine.safetensors" in capsys.readouterr().out


def test_a_folder_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--data-dir", str(tmp_path / "gone")]) == 2
    assert capsys.readouterr().err.startswith("error: no folder ")


@pytest.mark.parametrize("text", ["[1]", "{", "\xff"])
def test_a_broken_config_is_one_line(theirs: Path, text: str) -> None:
    (theirs / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=r"config\.json"):
        read_config(theirs)


def test_the_import_shows_and_writes_nothing(theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import-a1111", str(theirs)]) == 0
    shown = capsys.readouterr()
    assert "2 files" in shown.out
    assert "1 of them pickles" in shown.out
    assert "mine.safetensors" in shown.out
    assert "some_extension_option" in shown.out
    assert "ESRGAN_tile" in shown.err
    assert not (tmp_path / "home").exists()


def test_written_it_holds_without_a_flag(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted((path, path.lstat().st_mtime_ns) for path in theirs.rglob("*"))
    assert main(["import-a1111", str(theirs), "--write", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "mine.safetensors"
    settings = load_settings()
    assert settings.models_dir == theirs / "models/Stable-diffusion"
    assert settings.clip_skip == 2
    chosen = Preferences(settings.data_dir / "server", settings).chosen
    assert chosen.model == "mine.safetensors"
    assert chosen.others == {"samples_save": False}
    assert sorted((path, path.lstat().st_mtime_ns) for path in theirs.rglob("*")) == before
    assert main(["import-a1111", str(theirs), "--write"]) == 0, "again"


def begun(*words: str) -> tuple[Preferences, str | None, tuple[str, ...]]:
    """The choices of a server that begins with A1111's flags, its model, and the notes."""
    flags = take_flags(words)[0]
    asked = {"model": flags.value("--ckpt"), "vae": flags.value("--vae-path")}
    with at_places(flags, lambda note: None):
        settings = load_settings()
        preferences = Preferences(settings.data_dir / "server", settings)
        notes = begin(preferences, settings, flags, asked)
    return preferences, preferences.chosen.model, notes


def test_a_server_begins_with_the_checkpoint_of_config_json_until_another_is_chosen(theirs: Path) -> None:
    preferences, model, notes = begun("--data-dir", str(theirs))
    assert (model, notes) == ("mine.safetensors", ())
    preferences.change(names={"model": "other"})
    assert begun("--data-dir", str(theirs))[1] == "other"


def test_a_checkpoint_of_config_json_that_is_gone_is_a_note(theirs: Path) -> None:
    (theirs / "models/Stable-diffusion/mine.safetensors").unlink()
    _, model, [note] = begun("--data-dir", str(theirs))
    assert model is None
    assert "config.json chose a model that can't be used: unknown model" in note


def test_ckpt_wins_over_what_was_chosen_and_is_not_kept(theirs: Path) -> None:
    data = ("--data-dir", str(theirs))
    begun(*data)[0].change(names={"model": "sub/old.ckpt"})
    whole = str(theirs / "models/Stable-diffusion/mine.safetensors")
    for name in ("mine", "mine.safetensors", whole):
        assert begun(*data, "--ckpt", name)[1:] == ("mine.safetensors", ())
    assert begun(*data)[1] == "sub/old.ckpt"
    with pytest.raises(UsageError, match=r"--ckpt: unknown model 'mime'") as caught:
        begun(*data, "--ckpt", "mime")
    assert "mine" in (caught.value.hint or "")


def test_a_ckpt_elsewhere_is_a_note_that_names_the_folder(theirs: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "x.safetensors"
    shutil.copyfile(builtin_model(), elsewhere)
    _, model, [note] = begun("--data-dir", str(theirs), "--ckpt", str(elsewhere))
    assert model == "mine.safetensors"
    assert note == f"--ckpt: the server offers what is in {theirs / 'models/Stable-diffusion'}"


def test_ckpt_is_the_model_of_a_picture(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--data-dir", str(theirs), "--ckpt", "mine", "--json"]) == 0
    named = json.loads(capsys.readouterr().out)
    assert main(["plan", "--data-dir", str(theirs), "--model", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == named
    assert main(["generate", "a", "--data-dir", str(theirs), "--ckpt", "mime"]) == 2
    assert "unknown model 'mime' (nearest: mine.safetensors" in capsys.readouterr().err


def test_what_the_user_has_set_stays_unless_it_may_be_replaced(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "home/hayate/settings.toml"
    file.parent.mkdir(parents=True)
    file.write_text("# mine\nclip_skip = 1\n")
    assert main(["import-a1111", str(theirs), "--write"]) == 0
    assert "clip_skip stays as you have it: 1" in capsys.readouterr().err
    assert file.read_text().startswith("# mine\nclip_skip = 1\n")
    assert main(["import-a1111", str(theirs), "--write", "--replace"]) == 0
    assert load_settings().clip_skip == 2
    assert file.read_text().startswith("# mine\n")


def test_a_folder_without_anything_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import-a1111", str(tmp_path)]) == 2
    assert "no installation of A1111" in capsys.readouterr().err
