"""What strangers and broken files try, against both APIs with the real checks behind them: refused, without effect."""

from __future__ import annotations

import base64
import io
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image, PngImagePlugin

from tests.server.fuzzing import fuzzed_app

PICTURE = {"Content-Type": "image/png"}


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[TestClient]:
    (tmp_path / "models_dir").mkdir()
    with TestClient(fuzzed_app(tmp_path), base_url="http://localhost") as opened:
        yield opened


def png(*, side_px: int = 8, texts: dict[str, str] | None = None) -> bytes:
    made, info = io.BytesIO(), PngImagePlugin.PngInfo()
    for name, text in (texts or {}).items():
        info.add_itxt(name, text, zip=True)
    Image.new("RGB", (side_px, side_px)).save(made, "PNG", pnginfo=info)
    return made.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side_px: int) -> bytes:
    """A PNG of one bit per pixel whose rows are all zero: a few kilobytes, however large it says it is."""
    pack = zlib.compressobj(9)
    row = bytes(1 + min(side_px, 13_000) // 8 + 1)
    packed = b"".join(pack.compress(row) for _ in range(min(side_px, 13_000))) + pack.flush()
    head = struct.pack(">IIBBBBB", side_px, side_px, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999 9999\nshowpage\n%%EOF"
BOMBS = {
    "13000 px": bomb(13_000),
    "2 billion px": bomb(2**31 - 1),
    "EPS": EPS,
    "EPS under a PNG's name": EPS,
    "TIFF": b"II*\x00\x08\x00\x00\x00" + bytes(100),
    "cut off": png()[:40],
    "nothing": b"",
    "zeros": bytes(4000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_picture_that_would_fill_the_memory_is_not_decoded(caller: TestClient, name: str) -> None:
    data = BOMBS[name]
    assert len(data) < 50_000
    assert caller.post("/v1/images", content=data, headers=PICTURE).status_code == 422
    encoded = base64.b64encode(data).decode()
    for path, body in (
        ("/sdapi/v1/img2img", {"init_images": [encoded]}),
        ("/sdapi/v1/extra-single-image", {"image": encoded}),
        *([("/sdapi/v1/png-info", {"image": encoded})] if data else []),  # it says nothing of nothing, as at A1111
    ):
        assert 400 <= caller.post(path, json=body).status_code < 500, path


LONG = "a" * 900_000
"""Quadratic parsing of it, as in A1111's own readers, would take an hour."""
PROMPTS = [
    "(" * 200,
    "(a:1.1), " * 50,
    "[a|b]" * 40,
    ":" * 100,
    "(" * 400 + ")" * 400,
    "(a:1.2.3)",
    "(a:.)",
    "[" * 5000 + ":" * 5000,
    "<lora:" * 2000,
    "BREAK " * 5000,
    "a" * 99_000,
]


@pytest.mark.parametrize("texts", [{"parameters": LONG}, {"parameters": "Steps: " * 100_000}, {"Comment": LONG}])
def test_a_picture_with_a_monstrous_text_is_read_or_refused(caller: TestClient, texts: dict[str, str]) -> None:
    data = png(texts=texts)
    assert len(data) < 10_000
    image = base64.b64encode(data).decode()
    assert caller.post("/sdapi/v1/png-info", json={"image": image}).status_code in (200, 422)


@pytest.mark.parametrize("prompt", PROMPTS, ids=[f"{each[:8]} {len(each)}" for each in PROMPTS])
def test_no_prompt_keeps_the_server_busy(caller: TestClient, prompt: str) -> None:
    """Each of these kept a reader of others busy for a second to hours; a test that hangs has failed."""
    job = {"kind": "generate", "body": {"request": {"prompt": prompt}}}
    assert caller.post("/v1/jobs", json=job).status_code in (202, 422)
    for body in ({"prompt": prompt, "steps": 1}, {"infotext": prompt + "\nSteps: 1, Sampler: Euler, Seed: 1"}):
        assert caller.post("/sdapi/v1/txt2img", json={**body, "send_images": False}).status_code in (200, 422)


NAMES = [
    "../secret",
    "..\\secret",
    "%2e%2e/secret",
    "/etc/passwd",
    "C:\\secret",
    "secret\0",
    "CON",
    "x" * 300,
    "link",
    ".",
    "..",
    "~/secret",
    "http://127.0.0.1/secret",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_out_of_the_folders(caller: TestClient, tmp_path: Path, name: str) -> None:
    """A model, VAE, upscaler or picture is known by its name; whatever is written as one is no path."""
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes(b"secret")
    (tmp_path / "models_dir" / "link.safetensors").symlink_to(secret)
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("generate", {"request": {"prompt": "a", "model": name}}),
        ("generate", {"request": {"prompt": "a", "vae": name}}),
        ("generate", {"request": {"prompt": "a", "refiner": name}}),
        ("generate", {"request": {"prompt": "a", "hires": {"upscaler": name}}}),
        ("generate", {"request": {"prompt": "a", "start": {"path": name}}}),
        ("upscale", {"images": [name]}),
        ("merge", {"recipe": name, "output_name": "merged"}),
        ("merge", {"recipe": "built-in", "output_name": name}),
        ("convert", {"model": name, "output_name": "converted"}),
        ("convert", {"model": "built-in", "output_name": name}),
        ("load", {"model": name}),
        ("bench", {"model": name}),
        ("tune", {"model": name}),
    ]
    harmless = name in ("link", "~/secret")  # as a file's name in its folder these would do
    for kind, body in bodies:
        if harmless and "output_name" in body and body["output_name"] == name:
            continue
        answer = caller.post("/v1/jobs", json={"kind": kind, "body": body})
        assert answer.status_code == 422, (kind, body)
        assert "secret\n" not in answer.text
    for body in ({"override_settings": {"sd_model_checkpoint": name}}, {"override_settings": {"sd_vae": name}}):
        assert caller.post("/sdapi/v1/txt2img", json={"prompt": "a", **body}).status_code == 422


PATH_SETTINGS = ("outputs_dir", "models_dir", "lora_dir", "data_dir", "cache_dir", "styles_file")


@pytest.mark.parametrize("key", PATH_SETTINGS)
def test_no_caller_says_where_files_go(caller: TestClient, tmp_path: Path, key: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    job = {"kind": "generate", "body": {"request": {"prompt": "a"}, "settings": {key: str(elsewhere)}}}
    assert caller.post("/v1/jobs", json=job).status_code == 422
    assert caller.patch("/v1/settings", json={key: str(elsewhere)}).status_code == 422
    assert not elsewhere.exists()


@pytest.mark.parametrize(
    "key", ["outdir_samples", "outdir_txt2img_samples", "outdir_grids", "samples_filename_pattern"]
)
def test_nor_by_a1111s_options(caller: TestClient, tmp_path: Path, key: str) -> None:
    elsewhere = str(tmp_path / "elsewhere")
    caller.post("/sdapi/v1/options", json={key: elsewhere})
    assert caller.get("/sdapi/v1/options").json().get(key) != elsewhere
    caller.post("/sdapi/v1/txt2img", json={"prompt": "a", "steps": 1, "override_settings": {key: elsewhere}})
    assert not Path(elsewhere).exists()


def test_no_address_is_ever_called(caller: TestClient) -> None:
    called: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        threading.Thread(target=_note_callers, args=(listening, called), daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/picture.png"
        for path, body in (
            ("/sdapi/v1/img2img", {"init_images": [url]}),
            ("/sdapi/v1/img2img", {"init_images": [base64.b64encode(png()).decode()], "mask": url}),
            ("/sdapi/v1/extra-single-image", {"image": url}),
            ("/sdapi/v1/extra-batch-images", {"imageList": [{"data": url, "name": "a.png"}]}),
            ("/sdapi/v1/png-info", {"image": url}),
            ("/v1/jobs", {"kind": "generate", "body": {"request": {"prompt": "a", "start": {"path": url}}}}),
            ("/v1/jobs", {"kind": "upscale", "body": {"images": [url]}}),
        ):
            assert caller.post(path, json=body).status_code == 422, path
    assert called == []


def _note_callers(listening: socket.socket, called: list[Any]) -> None:
    while True:
        try:
            called.append(listening.accept())
        except TimeoutError:
            continue
        except OSError:
            return


INERT = '<img src=x onerror="alert(1)">'


def test_names_and_texts_of_strangers_are_inert(caller: TestClient, tmp_path: Path) -> None:
    """They reach a browser as JSON that it does not take for a page, or escaped."""
    (tmp_path / "models_dir" / f"{INERT.replace('/', '')}.safetensors").write_bytes(b"nothing")
    caller.post("/v1/jobs", json={"kind": "generate", "body": {"request": {"prompt": INERT}}})
    refused = caller.post("/v1/jobs", json={"kind": INERT, "body": {}})
    for answer in (refused, caller.get("/v1/jobs"), caller.get("/v1/models"), caller.get("/sdapi/v1/sd-models")):
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert INERT in [each["body"]["request"]["prompt"] for each in caller.get("/v1/jobs").json()["jobs"]]
    assert "<img src=x" not in caller.get("/").text
    assert "<img src=x" not in caller.get(f"/{INERT}").text
