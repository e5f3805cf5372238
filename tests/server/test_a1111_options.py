"""/options: what acts, what is kept, what is refused; and that it outlives the server."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copy
from typing import Any

import pytest

from hayate.server.a1111.option_keys import ACTING, KEPT, MODEL, NAMES, PLACES, READ_ONLY
from hayate.settings import KEYS
from hayate.weights.builtin import builtin_model
from hayate.weights.hashes import file_sha256
from tests.server.a1111_server import Served, serve


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return serve(tmp_path)


def test_a_value_comes_back_as_it_was_set(served: Served) -> None:
    for value in (False, True):
        assert served.post("options", {"send_seed": value}) is None
        assert served.get("options")["send_seed"] is value


def test_all_options_can_be_sent_back_as_they_came(served: Served) -> None:
    before = served.get("options")

    served.post("options", before)

    assert served.get("options") == before
    assert len(before) > 60


@pytest.mark.parametrize(
    ("key", "value", "setting", "held"),
    [
        ("CLIP_stop_at_last_layers", 2, "clip_skip", 2),
        ("eta_noise_seed_delta", 31337, "ensd", 31337),
        ("randn_source", "NV", "rng", "NV"),
        ("emphasis", "No norm", "emphasis", "No norm"),
        ("samples_format", "jpg", "format", "jpeg"),
        ("jpeg_quality", 90, "quality", 90),
        ("cross_attention_optimization", "sdp - scaled dot product", "attention", "sdp"),
        ("cross_attention_optimization", "Doggettx", "attention", "split"),
    ],
)
def test_what_acts_is_a_setting_of_every_job(served: Served, key: str, value: Any, setting: str, held: Any) -> None:
    served.post("options", {key: value})

    served.post("txt2img", {"width": 64, "height": 64})
    assert served.last()["settings"] == {setting: held}
    assert getattr(served.preferences.settings(), setting) == held


def test_half_made_pictures_are_returned_and_saved_where_that_is_set(served: Served) -> None:
    served.post("txt2img", {"width": 64, "height": 64})
    assert served.last()["half_made"] == "shown"
    served.post("options", {"save_incomplete_images": True})
    served.post("txt2img", {"width": 64, "height": 64})
    assert served.last()["half_made"] == "saved"


def test_every_option_that_acts_is_a_setting_there_is() -> None:
    assert {each.setting for each in ACTING.values()} <= set(KEYS)
    assert {name for name in PLACES.values() if name} <= set(KEYS)
    assert not set(ACTING) & set(KEPT)
    assert not READ_ONLY & {*ACTING, *KEPT, *NAMES}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("jpeg_quality", 1000),
        ("CLIP_stop_at_last_layers", "two"),
        ("randn_source", "dice"),
        ("cross_attention_optimization", "magic"),
        ("send_seed", "yes"),
        ("sigma_max", True),
        ("show_progress_type", "x" * 20_000),
        ("samples_format", "exe"),
        (MODEL, "nobody's"),
        (MODEL, 7),
        ("sd_vae", "nobody's"),
    ],
)
def test_a_value_that_can_not_be_changes_nothing(served: Served, key: str, value: Any) -> None:
    before = served.get("options")

    served.refused("options", {"send_size": False, key: value})

    assert served.get("options") == before


@pytest.mark.parametrize("key", [*PLACES, "sd_checkpoint_hash", "an_extensions_own"])
def test_places_and_strangers_are_not_set_and_that_is_said(served: Served, key: str, tmp_path: Path) -> None:
    before = served.get("options")

    reply = served.client.post("/sdapi/v1/options", json={key: str(tmp_path / "elsewhere")})

    assert (reply.status_code, reply.json()) == (200, None)
    assert key in json.loads(reply.headers["X-Hayate-Notes"])[0]
    assert served.get("options") == before
    assert not (tmp_path / "elsewhere").exists()


def test_setting_a_model_loads_it_and_later_jobs_use_it(served: Served) -> None:
    (served.settings.models_dir / "sub").mkdir(parents=True)
    copy(builtin_model(), served.settings.models_dir / "sub" / "mine.safetensors")

    served.post("options", {MODEL: "mine"})

    assert served.desk.handed_in[-1].kind == "load"
    assert served.last() == {"model": "sub/mine.safetensors"}
    assert served.get("options")[MODEL].startswith("sub/mine.safetensors")
    served.post("txt2img", {"width": 64, "height": 64})
    assert served.last()["request"]["model"] == "sub/mine.safetensors"
    count = len(served.desk.handed_in)
    served.post("options", {MODEL: served.get("options")[MODEL]})
    assert len(served.desk.handed_in) == count, "it was loaded already"


def test_a_model_is_known_by_a_hash_that_is_known(served: Served) -> None:
    served.settings.models_dir.mkdir(parents=True)
    path = served.settings.models_dir / "mine.safetensors"
    copy(builtin_model(), path)
    digits = file_sha256(path, served.settings.cache_dir)

    for name in (digits, digits[:10], f"mine.safetensors [{digits[:10]}]"):
        served.post("txt2img", {"width": 64, "height": 64, "override_settings": {MODEL: name}})
        assert served.last()["request"]["model"] == "mine.safetensors"


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..\\outside", "a\0b", "CON", "x" * 300])
def test_a_models_name_leads_nowhere_else(served: Served, name: str, tmp_path: Path) -> None:
    copy(builtin_model(), tmp_path / "outside.safetensors")
    served.settings.models_dir.mkdir(parents=True)

    for body in ({MODEL: name}, {"sd_vae": name}):
        served.refused("options", body)
        served.refused("txt2img", {"override_settings": body})
    assert served.desk.handed_in == []


def test_what_was_set_outlives_the_server(tmp_path: Path) -> None:
    serve(tmp_path).post("options", {"send_seed": False, "CLIP_stop_at_last_layers": 2})

    found = serve(tmp_path).get("options")

    assert (found["send_seed"], found["CLIP_stop_at_last_layers"]) == (False, 2)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"{", b"[]", b'{"settings": {"steps": "x"}}', b'{"model": 1}', b"[" * 9999]
)
def test_a_damaged_file_is_put_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data" / "server" / "options.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    served = serve(tmp_path)

    assert served.get("options")["send_seed"] is True
    served.post("options", {"send_seed": False})

    aside = list(path.parent.glob("options.json.broken-*"))
    assert [each.read_bytes() for each in aside] == [content]
    assert json.loads(path.read_text())["others"] == {"send_seed": False}


def test_a_full_disk_is_said_and_nothing_changes(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.post("options", {"send_size": False})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hayate.server.preferences.os.fsync", full)
    error = served.refused("options", {"send_seed": False})
    monkeypatch.undo()

    assert "No space left" in error["detail"]
    assert served.get("options")["send_seed"] is True
    folder = served.settings.data_dir / "server"
    assert [each.name for each in folder.iterdir()] == ["options.json"]
    assert serve(folder.parent.parent).get("options")["send_size"] is False
