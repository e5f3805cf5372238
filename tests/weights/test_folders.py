"""The library of models: everything is listed, nothing is raised, and no name leads out of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from hayate.errors import UnknownName, UsageError
from hayate.models.config import Family
from hayate.weights.folders import BUILT_IN, find_model, list_models
from tests.tiny_models import write_tiny


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "models"
    (folder / "anime").mkdir(parents=True)
    for name in ("photo.safetensors", "Old.ckpt", "anime/ink.safetensors", "notes.txt", ".hidden.safetensors"):
        (folder / name).write_bytes(b"PK\x03\x04" + bytes(20))
    return folder


def test_models_are_listed_with_their_family_or_what_is_wrong(tmp_path):
    write_tiny(tmp_path / "good.safetensors", Family.SD1)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "pickle.ckpt").write_bytes(b"PK\x03\x04")
    (tmp_path / "pointer.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nothing.safetensors")
    found = {entry.name: entry for entry in list_models(tmp_path)}
    assert list(found) == ["gone.safetensors", "good.safetensors", "pointer.safetensors", "sub/pickle.ckpt"]
    assert found["good.safetensors"].family is Family.SD1
    assert found["good.safetensors"].problem is None
    assert found["good.safetensors"].size_bytes == (tmp_path / "good.safetensors").stat().st_size
    for name, reason in [("gone", "no file"), ("pointer", "git lfs pull"), ("sub/pickle", "hayate models convert")]:
        (entry,) = (entry for entry in found.values() if entry.name.startswith(name))
        assert entry.family is None
        assert reason in (entry.problem or "")


def test_a_folder_that_is_not_there_has_no_models(tmp_path):
    assert list_models(tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("photo", "photo.safetensors"),
        ("photo.safetensors", "photo.safetensors"),
        ("PHOTO", "photo.safetensors"),
        ("photo.safetensors [6ce0161689]", "photo.safetensors"),
        ("photo [6ce0161689]", "photo.safetensors"),
        ("Old", "Old.ckpt"),
        ("ink", "anime/ink.safetensors"),
        ("anime/ink", "anime/ink.safetensors"),
        ("anime\\ink.safetensors", "anime/ink.safetensors"),
    ],
)
def test_a_model_is_found_by_name(folder, name, file):
    assert find_model(name, folder) == folder / file


def test_a_path_is_taken_from_the_command_line_only(folder, tmp_path):
    outside = tmp_path / "outside.safetensors"
    outside.touch()
    assert find_model(str(outside), folder) == outside
    with pytest.raises(UnknownName):
        find_model(str(outside), folder, allows_paths=False)


@pytest.mark.parametrize(
    "name",
    [
        *("../outside", "../outside.safetensors", "anime/../../outside", "..\\outside", "%2e%2e/outside"),
        *("a\0b", "x" * 300, "CON", "", ".", "/", ".hidden", "notes.txt", "photo.safetensors/", "~nobody-here/x"),
    ],
)
def test_no_name_leads_out_of_the_folder(folder, tmp_path, name):
    (tmp_path / "outside.safetensors").touch()
    with pytest.raises(UnknownName):
        find_model(name, folder, allows_paths=False)


def test_links_out_of_the_folder_are_listed_and_not_followed(folder, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    write_tiny(store / "secret.safetensors", Family.SD1)
    (folder / "link.safetensors").symlink_to(store / "secret.safetensors")
    (folder / "linked").symlink_to(store)
    (folder / "inside.safetensors").symlink_to(folder / "photo.safetensors")
    problems = {entry.name: entry.problem or "" for entry in list_models(folder, follows_links=False)}
    assert "leads out" in problems["link.safetensors"]
    assert "leads out" in problems["linked"]
    assert "zip file" in problems["inside.safetensors"]
    assert "linked/secret.safetensors" not in problems
    for name in ("link", "linked"):
        with pytest.raises(UsageError, match="leads out"):
            find_model(name, folder, allows_paths=False)


def test_the_users_own_links_are_followed_once(folder, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    write_tiny(store / "far.safetensors", Family.SD1)
    (folder / "linked").symlink_to(store)
    (store / "round").symlink_to(folder)
    entries = {entry.name: entry for entry in list_models(folder)}
    assert entries["linked/far.safetensors"].family is Family.SD1
    assert entries["linked/far.safetensors"].problem is None
    assert find_model("far", folder) == folder / "linked" / "far.safetensors"
    assert sum(name.endswith("far.safetensors") for name in entries) == 1


def test_an_unknown_name_gets_the_nearest(folder):
    with pytest.raises(UnknownName, match=r"unknown model 'foto' \(nearest: .*photo\.safetensors"):
        find_model("foto", folder)


def test_a_name_that_several_files_share_is_asked_back(folder):
    (folder / "anime" / "photo.safetensors").touch()
    assert find_model("photo.safetensors", folder) == folder / "photo.safetensors"
    with pytest.raises(UsageError, match=r"choose anime/photo\.safetensors or photo\.safetensors"):
        find_model("photo", folder)


def test_the_built_in_model_has_a_name(folder, tmp_path):
    assert find_model(BUILT_IN, folder, tmp_path / "demo.safetensors") == tmp_path / "demo.safetensors"
    with pytest.raises(UnknownName):
        find_model(BUILT_IN, folder)
