"""`hayate info`: what a picture says, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hayate.cli.main import main
from hayate.pipeline.formats import PictureTexts
from hayate.pipeline.png import Target, save_picture

TEXT = "a boat\x1b[31m, 海\nSteps: 20, Sampler: Euler a, Seed: 1, Size: 24x16"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    texts = PictureTexts(parameters=TEXT, record={"prompt": "a boat"})
    return save_picture(np.zeros((16, 24, 3), np.uint8), Target(folder=tmp_path), stem="1", texts=texts)


def test_people_get_the_text_without_what_would_steer_their_terminal(
    picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(picture)]) == 0
    shown = capsys.readouterr().out
    assert "海\nSteps: 20, Sampler: Euler a" in shown
    assert "\x1b" not in shown


def test_programs_get_one_json_object(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(picture), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["parameters"] == TEXT
    assert content["infotext"]["parameters"]["Sampler"] == "Euler a"
    assert (content["record"], content["pasted"]["Size-1"]) == ({"prompt": "a boat"}, "24")
