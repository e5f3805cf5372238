"""`hayate extensions`: the list, switches and refusals, as a person at a terminal meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hayate.cli.main import main
from tests.extensions.folders import write_extension

CONTROLS = """
[[controls]]
key = "strength"
kind = "slider"
default = 0.5
low = 0
high = 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HAYATE_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    monkeypatch.setenv("HAYATE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HAYATE_OUTPUTS_DIR", str(tmp_path / "out"))
    folder = tmp_path / "extensions"
    code = "raise ValueError('no luck')"
    write_extension(folder, "bad", code, {"prompts": {"it": "act"}})
    write_extension(folder, "asks", "def act(latents, call): return latents * call.values['strength']",
                    {"after_sampling": {"it": "act"}}, more=CONTROLS)  # fmt: skip
    (folder / "for-a1111" / "scripts").mkdir(parents=True)
    return folder


def rows(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    capsys.readouterr()
    assert main(["extensions", "list", "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)["extensions"]}


@pytest.mark.usefixtures("folder")
def test_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extensions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("on ") and "loopback 1.0.0" in line and "built in" in line for line in lines)
    assert any(line.startswith(" – ") and "for-a1111" in line and "not run" in line for line in lines)
    assert set(rows(capsys)) >= {"bad", "asks", "for-a1111", "xyz-plot"}


@pytest.mark.usefixtures("folder")
def test_one_is_switched_off_and_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extensions", "disable", "asks"]) == 0
    assert rows(capsys)["asks"]["state"] == "off"
    assert main(["generate", "a lake", "--extension", "asks"]) == 2
    assert "the extension asks can't act: it is switched off" in capsys.readouterr().err
    assert main(["extensions", "enable", "asks"]) == 0
    assert rows(capsys)["asks"]["state"] == "on"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["extensions", "disable", "ask"], "unknown extension 'ask' (nearest: asks"),
        (["extensions", "remove", "asks"], "was not put there by `install`"),
        (["extensions", "install", "no such folder"], "no folder and no wheel"),
        (["extensions", "instal", "x"], "install"),
        (["generate", "a", "--extension", "ask"], "nearest: asks"),
        (["generate", "a", "--extension", "asks.strenth=1"], "nearest: strength"),
        (["generate", "a", "--extension", "asks.strength"], "has no value"),
        (["generate", "a", "--extension", "asks.strength=much"], "is not a number (a number, 0 to 1)"),
        (["generate", "a", "--extension", "for-a1111"], "not run here"),
        (["generate", "a", "--extension", "asks", "--disable-all-extensions"], "unknown extension"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert why in error


def test_a_picture_names_what_acted_and_what_failed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "a lake", "--steps", "1", "--size", "64x64", "--json"]
    assert main([*words, "--extension", "asks.strength=0.5"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert "Extensions: asks 1.2.3" in made["images"][0]["infotext"]
    assert any("the extension bad is left out" in note and "no luck" in note for note in made["notes"])
    found = rows(capsys)
    assert "when it was last in use its import failed: ValueError: no luck" in str(found["bad"]["problem"])
    assert found["asks"]["calls"] == 1
    assert (folder.parent / "data" / "extension-times.json").is_file()


def test_one_is_installed_and_removed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_extension(tmp_path / "from", "fresh", "act = 1", {"prompts": {"it": "act"}})
    assert main(["extensions", "install", str(source), "--dry-run"]) == 0
    assert "would add no packages" in capsys.readouterr().out
    assert not (folder / "fresh").exists()
    assert main(["extensions", "install", str(source)]) == 0
    assert rows(capsys)["fresh"]["source"] == str(source)
    assert main(["extensions", "remove", "fresh"]) == 0
    assert "fresh" not in rows(capsys)


def test_the_help_imports_no_extensions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del folder
    assert main(["extensions", "--help"]) == 0
    assert "install" in capsys.readouterr().out


def test_a_removal_says_what_it_does_and_can_be_tried(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_extension(tmp_path / "from", "mine", "", {"prompts": {"it": "act"}})
    assert main(["extensions", "install", str(source)]) == 0
    capsys.readouterr()
    assert main(["extensions", "remove", "mine", "--dry-run"]) == 0
    assert (capsys.readouterr().out, (folder / "mine").is_dir()) == ("would remove mine\n", True)
    assert main(["extensions", "remove", "mine", "--keep-packages"]) == 0
    assert (capsys.readouterr().out, (folder / "mine").exists()) == ("removed mine\n", False)
    assert main(["extensions", "remove", "mine"]) == 2
    assert "unknown installed extension 'mine'" in capsys.readouterr().err
