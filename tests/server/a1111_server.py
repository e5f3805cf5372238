"""A1111's API over a fake desk, as tests call it."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from hayate.server.a1111 import a1111_router
from hayate.server.preferences import Preferences
from hayate.settings import Settings, load_settings
from tests.server.fake_desk import FakeDesk


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    port: int = 7860
    is_local: bool = True
    has_page: bool = True
    may_stop: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The API, what is behind it, and the folders that it looks into."""

    client: TestClient
    desk: FakeDesk
    settings: Settings
    preferences: Preferences
    app: FastAPI

    def post(self, path: str, body: Any = None) -> Any:
        """The reply's JSON, once it is 200."""
        reply = self.client.post(f"/sdapi/v1/{path}", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def get(self, path: str) -> Any:
        reply = self.client.get(f"/sdapi/v1/{path}")
        assert reply.status_code == 200, reply.text
        return reply.json()

    def refused(self, path: str, body: Any, status: int = 422) -> dict[str, Any]:
        """The error of a call that can't be had, in A1111's shape."""
        reply = self.client.post(f"/sdapi/v1/{path}", json=body)
        assert reply.status_code == status, reply.text
        error = reply.json()
        assert set(error) >= {"error", "detail", "body", "errors"}
        return error

    def last(self) -> dict[str, Any]:
        """The body of the last job, as the database would give it back."""
        return json.loads(json.dumps(self.desk.handed_in[-1].body))


def serve(folder: Path, *, may_stop: bool = False, **settings: Any) -> Served:
    """The API over folders in `folder`."""
    places = {f"{name}_dir": folder / name for name in ("models", "vae", "lora", "embeddings", "upscalers", "data")}
    known = load_settings({**places, "styles_file": folder / "styles.csv", "cache_dir": folder / "cache", **settings})
    desk = FakeDesk(folder / "desk", known)
    desk.start()
    preferences = Preferences(known.data_dir / "server", known)
    app = FastAPI()
    app.include_router(a1111_router(desk, known, Serving(may_stop=may_stop), preferences))
    return Served(client=TestClient(app), desk=desk, settings=known, preferences=preferences, app=app)


def picture(width: int = 64, height: int = 64, colour: str = "teal", *, has_prefix: bool = False) -> str:
    """A PNG as base64."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, format="PNG")
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/png;base64,{text}" if has_prefix else text


def half_mask() -> str:
    """A mask whose right half is white."""
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 0, 64, 64))
    buffer = io.BytesIO()
    mask.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def opened(text: str) -> Image.Image:
    """The picture of a reply."""
    assert not text.startswith("data:")
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
