"""What is kept on the disk is handed out only whole, and only when nobody else could have written it."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from hayate.runtime.compile.artefacts import STALE_S, Artefacts
from hayate.runtime.compile.spec import CompileRefused

KEY = "0123456789abcdef"


def package(folder: Path, text: str = "code") -> Path:
    path = folder / "made.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("library.so", text * 1000)
    return path


@pytest.fixture
def artefacts(tmp_path: Path) -> Artefacts:
    return Artefacts(tmp_path / "compiled")


def put(artefacts: Artefacts, tmp_path: Path, text: str = "code") -> Path:
    artefacts.folder.mkdir(mode=0o700, exist_ok=True)
    return artefacts.put(KEY, package(tmp_path, text), "{}", 12.34)[0]


def test_what_was_put_is_found_by_the_next_process(artefacts: Artefacts, tmp_path: Path) -> None:
    assert artefacts.find(KEY) is None
    made = put(artefacts, tmp_path)
    found = Artefacts(artefacts.folder).find(KEY)
    assert found is not None
    assert found[0] == made
    assert (found[1].compile_s, found[1].speedup) == (12.3, None)
    artefacts.write(KEY, replace(found[1], speedup=1.5))
    again = artefacts.find(KEY)
    assert again is not None
    assert again[1].speedup == 1.5


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "swap", "gone"])
def test_a_damaged_package_is_deleted_and_told(artefacts: Artefacts, tmp_path: Path, damage: str) -> None:
    made = put(artefacts, tmp_path)
    content = made.read_bytes()
    if damage == "flip":
        made.write_bytes(content[:99] + bytes([content[99] ^ 1]) + content[100:])
    elif damage == "cut":
        made.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        made.write_bytes(b"")
    elif damage == "swap":
        package(tmp_path, "else").replace(made)
    else:
        made.unlink()
    assert artefacts.find(KEY) is None
    assert len(artefacts.discarded) == 1
    assert not list(artefacts.folder.iterdir())


@pytest.mark.parametrize("seal", ["", "{}", "[]", '{"file": "x"}', "null", "\xff"])
def test_a_damaged_seal_is_deleted_with_its_package(artefacts: Artefacts, tmp_path: Path, seal: str) -> None:
    put(artefacts, tmp_path)
    (artefacts.folder / f"{KEY}.json").write_bytes(seal.encode("latin-1"))
    assert artefacts.find(KEY) is None
    assert not list(artefacts.folder.iterdir())


def test_a_seal_can_not_point_out_of_the_folder(artefacts: Artefacts, tmp_path: Path) -> None:
    put(artefacts, tmp_path)
    elsewhere = package(tmp_path, "elsewhere")
    path = artefacts.folder / f"{KEY}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"file": f"../{elsewhere.name}"}))
    assert artefacts.find(KEY) is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")
@pytest.mark.parametrize("which", ["folder", "seal", "package"])
def test_what_others_can_write_is_not_run(artefacts: Artefacts, tmp_path: Path, which: str) -> None:
    made = put(artefacts, tmp_path)
    path = {"folder": artefacts.folder, "seal": artefacts.folder / f"{KEY}.json", "package": made}[which]
    path.chmod(0o777)
    with pytest.raises(CompileRefused, match="can be changed by others"):
        artefacts.find(KEY)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")
def test_what_belongs_to_another_user_is_not_run(
    artefacts: Artefacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(artefacts, tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: artefacts.folder.stat().st_uid + 1)
    with pytest.raises(CompileRefused, match="another user"):
        artefacts.find(KEY)


@pytest.mark.parametrize("cut", [0.0, 0.5, 0.99])
def test_a_truncated_package_is_never_kept(artefacts: Artefacts, tmp_path: Path, cut: float) -> None:
    made = package(tmp_path)
    made.write_bytes(made.read_bytes()[: int(made.stat().st_size * cut)])
    with pytest.raises(CompileRefused, match="no whole package"):
        artefacts.put(KEY, made, "{}", 1.0)
    assert artefacts.find(KEY) is None


def test_a_package_with_a_wrong_checksum_is_never_kept(artefacts: Artefacts, tmp_path: Path) -> None:
    made = package(tmp_path)
    content = bytearray(made.read_bytes())
    content[100] ^= 1
    made.write_bytes(content)
    with pytest.raises(CompileRefused, match="damaged"):
        artefacts.put(KEY, made, "{}", 1.0)


def test_the_same_key_put_twice_leaves_a_seal_that_fits(artefacts: Artefacts, tmp_path: Path) -> None:
    put(artefacts, tmp_path, "first")
    second = put(artefacts, tmp_path, "second")
    found = artefacts.find(KEY)
    assert found is not None
    assert found[0] == second


def test_working_folders_are_deleted_at_once_or_when_they_are_old(artefacts: Artefacts) -> None:
    with artefacts.working_folder() as folder:
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
    old, new = artefacts.folder / "work-old", artefacts.folder / "work-new"
    for each in (old, new):
        each.mkdir()
    os.utime(old, (0, old.stat().st_mtime - 2 * STALE_S))
    artefacts.sweep()
    assert not old.exists()
    assert new.exists()
