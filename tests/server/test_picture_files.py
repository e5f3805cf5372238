"""Pictures that somebody has damaged since they were made: the gallery goes on, and says which they are."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from hayate.jobs.records import Picture
from hayate.server.app import create_app
from hayate.settings import Settings, load_settings
from tests.server.stub_desk import StubDesk

SIDE_PX = 300
JOB = {"kind": "generate", "body": {"request": {"prompt": "a lake"}}}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "random bytes": lambda data: np.random.default_rng(0).bytes(len(data)),
    "cut off": lambda data: data[: len(data) // 2],
    "its head alone": lambda data: data[:30],
    "nothing": lambda data: b"",
    "a web page": lambda data: b"<html><script>alert(1)</script></html>",
    "EPS": lambda data: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999 9999\nshowpage\n%%EOF",
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"data_dir": tmp_path / "data", "outputs_dir": tmp_path / "outputs"}, environment={})


@pytest.fixture
def desk(settings: Settings) -> StubDesk:
    made = StubDesk(settings.data_dir / "server")
    made.start()
    return made


@pytest.fixture
def caller(desk: StubDesk, settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(desk, settings), base_url="http://localhost") as opened:
        yield opened


def saved(path: Path) -> Picture:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(1).integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
    Image.fromarray(noise).save(path, "PNG")
    return Picture(path=str(path), seed=7, subseed=8, infotext="x", width_px=SIDE_PX, height_px=SIDE_PX, is_saved=True)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_picture_is_one_line_and_the_others_are_shown(
    caller: TestClient, desk: StubDesk, settings: Settings, damage: str
) -> None:
    id_ = caller.post("/v1/jobs", json=JOB).json()["id"]
    pictures = [saved(settings.outputs_dir / f"{number}.png") for number in range(3)]
    desk.begin(id_)
    desk.finish(id_, tuple(pictures))
    path = Path(pictures[1].path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))

    listed = caller.get("/v1/pictures").json()["pictures"]

    assert len(listed) == 3
    for index, each in enumerate(sorted(listed, key=lambda one: one["name"])):
        small = caller.get(each["url"], params={"thumb": 128})
        if index != 1:
            assert Image.open(io.BytesIO(small.content)).size == (128, 128)
            continue
        assert small.status_code == 422
        assert "1.png" in small.json()["message"]
        assert "\n" not in small.json()["message"]
        as_it_is = caller.get(each["url"])
        assert as_it_is.content == path.read_bytes(), "it is the user's"
        assert as_it_is.headers["content-type"] == "image/png"
        assert as_it_is.headers["x-content-type-options"] == "nosniff"


def test_a_picture_that_is_mended_is_shown_again(caller: TestClient, desk: StubDesk, settings: Settings) -> None:
    id_ = caller.post("/v1/jobs", json=JOB).json()["id"]
    picture = saved(settings.outputs_dir / "a.png")
    desk.begin(id_)
    desk.finish(id_, (picture,))
    url, path = f"/v1/jobs/{id_}/pictures/0", Path(picture.path)
    whole = path.read_bytes()
    path.write_bytes(b"")
    assert caller.get(url, params={"thumb": 64}).status_code == 422
    path.write_bytes(whole)
    assert caller.get(url, params={"thumb": 64}).status_code == 200
