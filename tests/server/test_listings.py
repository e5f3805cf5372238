"""The lists of the user's folders: what is asked often is read seldom, and nothing leads out of a folder."""

from __future__ import annotations

import os
from pathlib import Path
from shutil import copy

import pytest

from hayate.errors import UnknownName, UsageError
from hayate.server import listings
from hayate.server.listings import Listings, inside, preview_of
from hayate.settings import Settings, load_settings
from hayate.weights.builtin import builtin_model


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    names = ("models", "vae", "lora", "embeddings", "upscalers", "cache")
    for name in names:
        (tmp_path / name).mkdir()
    return load_settings({f"{name}_dir": tmp_path / name for name in names})


def test_a_list_is_read_again_when_it_is_old(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Listings(settings)
    assert [each.title for each in found.models()] == ["built-in"]
    (settings.models_dir / "new.safetensors").write_bytes(b"x")
    assert len(found.models()) == 1

    monkeypatch.setattr(listings, "KEPT_S", 0)

    assert [(each.name, bool(each.problem)) for each in found.models()] == [
        ("built-in", False),
        ("new.safetensors", True),
    ]


def test_a_link_out_of_the_folder_is_listed_with_its_fault_and_not_found(settings: Settings, tmp_path: Path) -> None:
    copy(builtin_model(), tmp_path / "outside.safetensors")
    for folder in (settings.models_dir, settings.vae_dir):
        (folder / "link.safetensors").symlink_to(tmp_path / "outside.safetensors")
    found = Listings(settings)

    for listed, find in ((found.models()[1:], found.find_model), (found.vaes(), found.find_vae)):
        assert [each.name for each in listed if each.problem] == ["link.safetensors"]
        with pytest.raises(UsageError, match="link"):
            find("link")


@pytest.mark.parametrize("name", ["built-in", "built-in [0123456789]"])
def test_the_built_in_model_by_its_title(settings: Settings, name: str) -> None:
    assert Listings(settings).find_model(name) == "built-in"


@pytest.mark.parametrize("name", ["0123456789", "nobody's", "../x", ""])
def test_a_name_that_nobody_has(settings: Settings, name: str) -> None:
    with pytest.raises(UnknownName):
        Listings(settings).find_model(name)


def test_what_is_inside_of_the_folders(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.png").write_bytes(b"x")
    (tmp_path / "out.png").write_bytes(b"x")

    assert inside(tmp_path / "in" / ".." / "in" / "x.png", (tmp_path / "in",)) == tmp_path / "in" / "x.png"
    for path in (
        tmp_path / "in" / ".." / "out.png",
        tmp_path / "in",
        tmp_path / "gone",
        Path("a\0b"),
        Path("x" * 5000),
    ):
        with pytest.raises(UsageError, match="no such file"):
            inside(path, (tmp_path / "in",))


def test_the_picture_beside_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ink.v2.safetensors"
    assert preview_of(file) is None
    (tmp_path / "ink.v2.jpg").write_bytes(b"x")
    assert preview_of(file) == tmp_path / "ink.v2.jpg"
    (tmp_path / "ink.v2.preview.png").write_bytes(b"x")
    assert os.fspath(preview_of(file) or "").endswith("ink.v2.preview.png")
