"""The routes of the tool tabs over a desk without a worker, and files for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from hayate.server.failures import install_failures
from hayate.server.ui.tools import tools_router
from hayate.settings import KEYS, Settings, load_settings
from tests.server.stub_desk import StubDesk


@pytest.fixture
def route_settings(tmp_path: Path) -> Settings:
    folders = {key: tmp_path / key for key, each in KEYS.items() if each.kind == "path"}
    return replace(load_settings(environment={"HOME": str(tmp_path)}), **folders)


@pytest.fixture
def route_desk(tmp_path: Path) -> StubDesk:
    return StubDesk(tmp_path)


@pytest.fixture
def route_client(route_desk: StubDesk, route_settings: Settings) -> Iterator[TestClient]:
    app = FastAPI()
    install_failures(app)
    app.include_router(tools_router(route_desk, route_settings))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def refusal(answer: Any) -> str:
    """The message of an answer that explains itself."""
    assert answer.status_code == 422, answer.text
    said = answer.json()
    assert said["hint"]
    return said["message"]


def merged_file(path: Path, metadata: dict[str, str]) -> None:
    """A safetensors file with one tensor."""
    header = {"__metadata__": metadata, "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
