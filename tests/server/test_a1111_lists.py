"""The lists, the networks' cards, and the machine: A1111's cases of its utilities, and what front ends read."""

from __future__ import annotations

import base64
import json
import os
import struct
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from hayate.errors import UsageError
from hayate.flags import given, take_flags
from hayate.samplers.catalogue import sampler_names
from hayate.server.a1111 import replies
from hayate.server.a1111.lists import scale_in
from hayate.server.a1111.machine import shown_flags
from hayate.weights.builtin import builtin_model
from tests.server.a1111_server import Served, Serving, picture, serve

PNG = base64.b64decode(picture())
SHAPES: dict[str, Any] = {
    "samplers": list[replies.SamplerItem],
    "schedulers": list[replies.SchedulerItem],
    "upscalers": list[replies.UpscalerItem],
    "latent-upscale-modes": list[replies.NamedItem],
    "sd-models": list[replies.ModelItem],
    "sd-vae": list[replies.VaeItem],
    "hypernetworks": list[replies.HypernetworkItem],
    "face-restorers": list[replies.FaceRestorerItem],
    "realesrgan-models": list[replies.RealesrganItem],
    "prompt-styles": list[replies.StyleItem],
    "embeddings": replies.EmbeddingsReply,
    "loras": list[replies.LoraItem],
    "scripts": replies.ScriptsReply,
    "script-info": list[replies.ScriptItem],
    "extensions": list[replies.ExtensionItem],
    "memory": replies.MemoryReply,
    "progress": replies.ProgressReply,
    "cmd-flags": dict[str, Any],
    "options": dict[str, Any],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to link to, since no test needs 20 MB of its own."""
    return Path(copy(builtin_model(), tmp_path_factory.mktemp("model")))


@pytest.fixture
def served(tmp_path: Path, model: Path) -> Served:
    """One whose folders have something of everything."""
    for name in ("models", "vae", "lora", "embeddings", "upscalers"):
        (tmp_path / name / "sub").mkdir(parents=True)
    os.link(model, tmp_path / "models" / "sub" / "mine.safetensors")
    (tmp_path / "models" / "broken.safetensors").write_bytes(b"<html>")
    _write(tmp_path / "vae" / "soft.safetensors", {"decoder.x": (2, 2)})
    _write(tmp_path / "lora" / "ink.safetensors", {"x": (2, 2)}, ss_output_name="Ink", ss_tags='{"a": 1}')
    (tmp_path / "lora" / "ink.preview.png").write_bytes(PNG)
    _write(tmp_path / "embeddings" / "easy.safetensors", {"emb_params": (3, 768)})
    (tmp_path / "embeddings" / "bad.safetensors").write_bytes(b"x")
    (tmp_path / "upscalers" / "RealESRGAN_x4plus.pth").write_bytes(b"x")
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nOil,oil painting,photo\n")
    return serve(tmp_path)


@pytest.mark.parametrize("path", SHAPES)
def test_every_list_has_a1111s_shape_full_or_empty(served: Served, tmp_path: Path, path: str) -> None:
    for each in (served, serve(tmp_path / "empty")):
        TypeAdapter(SHAPES[path]).validate_python(each.get(path), strict=True)
        if isinstance(SHAPES[path], type) and issubclass(SHAPES[path], BaseModel):
            assert set(each.get(path)) == set(SHAPES[path].model_fields)


def test_samplers_and_schedules_are_those_that_calls_can_name(served: Served) -> None:
    for each in served.get("samplers"):
        for name in (each["name"], *each["aliases"]):
            served.post("txt2img", {"width": 64, "height": 64, "sampler_name": name})
            assert served.last()["request"]["sampler"] == each["name"]
    for each in served.get("schedulers"):
        for name in (each["name"], each["label"], *(each["aliases"] or ())):
            served.post("txt2img", {"width": 64, "height": 64, "scheduler": name})
            assert served.last()["request"]["scheduler"] == each["label"]
    assert [each["name"] for each in served.get("samplers")] == list(sampler_names())


def test_models_with_what_is_wrong_with_them(served: Served) -> None:
    found = {each["title"]: each for each in served.get("sd-models")}

    assert list(found) == ["built-in", "broken.safetensors", "sub/mine.safetensors"]
    assert found["sub/mine.safetensors"]["model_name"] == "sub_mine"
    assert Path(found["sub/mine.safetensors"]["filename"]).is_file()
    assert found["broken.safetensors"]["problem"]
    assert found["sub/mine.safetensors"]["problem"] is None
    assert (found["built-in"]["hash"], found["built-in"]["sha256"]) == (None, None), "nothing is read for its hash"


def test_networks_and_styles(served: Served) -> None:
    assert [(each["name"], each["alias"], each["metadata"]) for each in served.get("loras")] == [
        ("ink", "Ink", {"ss_output_name": "Ink", "ss_tags": {"a": 1}})
    ]
    embeddings = served.get("embeddings")
    assert (embeddings["loaded"]["easy"]["shape"], embeddings["loaded"]["easy"]["vectors"]) == (768, 3)
    assert list(embeddings["skipped"]) == ["bad"]
    assert served.get("sd-vae")[0]["model_name"] == "soft.safetensors"
    assert served.get("prompt-styles") == [{"name": "Oil", "prompt": "oil painting", "negative_prompt": "photo"}]


def test_upscalers_by_their_files_and_by_a1111s_names(served: Served) -> None:
    found = {each["name"]: each["scale"] for each in served.get("upscalers")}

    assert found == {"None": None, "Lanczos": 4, "Nearest": 4, "RealESRGAN_x4plus": 4, "R-ESRGAN 4x+": 4}


@pytest.mark.parametrize(
    ("name", "scale"), [("4x-UltraSharp", 4), ("RealESRGAN_x2plus", 2), ("2xNomos8k", 2), ("swin", 4), ("1024x768", 4)]
)
def test_the_factor_in_a_name(name: str, scale: int) -> None:
    assert scale_in(name) == scale


def test_a_new_file_is_there_after_a_refresh(served: Served, tmp_path: Path, model: Path) -> None:
    assert len(served.get("sd-models")) == 3
    os.link(model, tmp_path / "models" / "new.safetensors")

    served.post("refresh-checkpoints")

    assert len(served.get("sd-models")) == 4
    for name in ("refresh-vae", "refresh-loras", "refresh-embeddings"):
        assert served.post(name) is None


def test_the_picture_on_a_card(served: Served, tmp_path: Path) -> None:
    for path in ("lora/ink.preview.png", "lora/ink.safetensors"):
        reply = _thumb(served, tmp_path / path)
        assert (reply.status_code, reply.content, reply.headers["content-type"]) == (200, PNG, "image/png")


@pytest.mark.parametrize(
    "path", ["secret.png", "lora/../secret.png", "lora/link.png", "data/server/jobs.sqlite3", "\0"]
)
def test_no_card_shows_what_is_elsewhere(served: Served, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "lora" / "link.png").symlink_to(tmp_path / "secret.png")

    assert _thumb(served, f"{tmp_path}/{path}").status_code == 404


def test_no_card_shows_what_is_no_picture(served: Served, tmp_path: Path) -> None:
    assert _thumb(served, tmp_path / "models" / "broken.safetensors").status_code == 404


def test_the_metadata_of_a_card(served: Served) -> None:
    reply = served.client.get("/sd_extra_networks/metadata", params={"page": "lora", "item": "ink"}).json()

    assert json.loads(reply["metadata"])["ss_output_name"] == "Ink"
    assert served.client.get("/sd_extra_networks/metadata", params={"page": "lora", "item": "no"}).json() == {}


def test_a_cover_in_the_metadata(served: Served, tmp_path: Path) -> None:
    _write(tmp_path / "lora" / "oil.safetensors", {"x": (2, 2)}, ssmd_cover_images=json.dumps([picture(), "no"]))
    served.post("refresh-loras")

    statuses = []
    for index in (0, 1, 2, -1):
        asked = {"page": "lora", "item": "oil", "index": index}
        reply = served.client.get("/sd_extra_networks/cover-images", params=asked)
        statuses.append(reply.status_code)
    assert statuses == [200, 404, 404, 404]


def test_scripts_are_on_the_tabs_that_have_them(served: Served) -> None:
    found = served.get("scripts")

    assert "sd upscale" not in found["txt2img"]
    assert set(found["txt2img"]) < set(found["img2img"])
    info = served.get("script-info")
    assert {(each["name"], each["is_img2img"]) for each in info} == {
        *((name, False) for name in found["txt2img"]),
        *((name, True) for name in found["img2img"]),
    }


def test_flags_by_their_names_in_code(served: Served) -> None:
    taken, _ = take_flags(["--xformers", "--port", "7861", "--api-auth", "me:secret"])
    token = given.set(taken)
    try:
        found = shown_flags(Serving(port=7861, is_local=False, has_page=False))
    finally:
        given.reset(token)
    assert (found["xformers"], found["opt_sdp_attention"], found["vae_path"]) == (True, False, None)
    assert (found["port"], found["listen"], found["nowebui"], found["api_server_stop"]) == (7861, True, True, False)
    assert found["api_auth"] == "hidden"
    assert set(served.get("cmd-flags")) == set(found)


def test_memory_is_the_workers_word_else_the_machines(served: Served) -> None:
    cuda = {"error": "no card"}
    served.desk.answers["memory"] = {"ram": {"free": 1, "used": 2, "total": 3}, "cuda": cuda}
    assert served.get("memory")["ram"]["total"] == 3

    served.desk.answers["memory"] = UsageError("the worker is starting")
    assert served.get("memory")["cuda"] == {"error": "the worker is starting"}
    assert served.get("memory")["ram"]["total"] > 0


@pytest.mark.parametrize(("path", "kind"), [("unload-checkpoint", "unload"), ("reload-checkpoint", "load")])
def test_models_go_out_of_memory_and_come_back(served: Served, path: str, kind: str) -> None:
    assert served.post(path) == {}
    assert served.desk.handed_in[-1].kind == kind


@pytest.mark.parametrize("path", ["create/embedding", "create/hypernetwork", "train/embedding", "train/hypernetwork"])
def test_nothing_is_trained_here(served: Served, path: str) -> None:
    assert "trainer" in served.refused(path, {"name": "x"}, 501)["detail"]


def test_the_server_is_ended_by_its_callers_only_where_that_is_allowed(served: Served, tmp_path: Path) -> None:
    ended: list[bool] = []

    class Lifecycle:
        def stop(self) -> None:
            ended.append(True)

    assert served.client.post("/sdapi/v1/server-stop").status_code == 404
    open_one = serve(tmp_path / "open", may_stop=True)
    open_one.app.state.lifecycle = Lifecycle()
    open_one.refused("server-restart", None, 501)
    assert ended == []
    for name in ("server-stop", "server-kill"):
        assert open_one.post(name) == {}
    assert ended == [True, True]


@pytest.mark.parametrize("path", ["ping", "pending-tasks", "profile-startup", "quicksettings-hint"])
def test_what_front_ends_ask_beside_it(served: Served, path: str) -> None:
    assert served.client.get(f"/internal/{path}").status_code == 200


def test_a_report_of_the_system_has_no_secrets(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hunter2")

    plain = served.client.get("/internal/sysinfo")
    file = served.client.get("/internal/sysinfo-download")

    assert json.loads(plain.text)["Version"]
    assert "hunter2" not in plain.text
    assert "attachment" in file.headers["content-disposition"]


def _thumb(served: Served, path: Path | str) -> Any:
    return served.client.get("/sd_extra_networks/thumb", params={"filename": str(path)})


def _write(path: Path, shapes: dict[str, tuple[int, int]], **metadata: str) -> None:
    """A safetensors file of zeros."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, (rows, columns) in shapes.items():
        begin, end = end, end + 4 * rows * columns
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
