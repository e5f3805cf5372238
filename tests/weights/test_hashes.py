"""Hashes against hashlib and published values, and a cache that never lies."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hayate.errors import UsageError
from hayate.weights import hashes
from hayate.weights.hashes import CACHE_NAME, file_sha256, legacy_hash, lora_hash, model_hash, start_hash


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(range(256)) * 6000)  # 1.5 MB
    return path


def forget(cache: Path, file: Path, digest: str) -> None:
    """Puts a false digest into the cache, so that a test sees whether the cache answers."""
    with sqlite3.connect(cache / CACHE_NAME) as database:
        assert database.execute("UPDATE hashes SET sha256 = ? WHERE path = ?", (digest, str(file))).rowcount == 1


def test_hashes_are_those_of_hashlib(file, tmp_path):
    data = file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    assert file_sha256(file) == file_sha256(file, tmp_path) == file_sha256(file, tmp_path) == digest
    assert model_hash(file) == start_hash(file, tmp_path).result(timeout=30) == digest[:10]
    assert legacy_hash(file) == hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]


def test_the_published_hash_of_nothing(tmp_path):
    (tmp_path / "empty").touch()
    assert model_hash(tmp_path / "empty") == "e3b0c44298"
    assert legacy_hash(tmp_path / "empty") == "e3b0c442"


def test_the_cache_answers_while_the_file_is_the_same(file, tmp_path):
    real = file_sha256(file, tmp_path / "cache")
    forget(tmp_path / "cache", file, "f" * 64)
    assert file_sha256(file, tmp_path / "cache") == "f" * 64
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert file_sha256(file, tmp_path / "cache") == real
    forget(tmp_path / "cache", file, "f" * 64)
    with file.open("ab") as more:
        more.write(b"1")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # the same time, another size
    assert file_sha256(file, tmp_path / "cache") == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_link_and_its_file_share_an_entry(file, tmp_path):
    file_sha256(file, tmp_path)
    forget(tmp_path, file, "f" * 64)
    (tmp_path / "link").symlink_to(file)
    assert file_sha256(tmp_path / "link", tmp_path) == "f" * 64


def test_a_damaged_cache_is_begun_anew(file, tmp_path, caplog):
    (tmp_path / CACHE_NAME).write_bytes(b"this is no database at all" * 100)
    real = hashlib.sha256(file.read_bytes()).hexdigest()
    assert file_sha256(file, tmp_path) == real
    assert "begun anew" in caplog.text
    assert file_sha256(file, tmp_path) == real
    forget(tmp_path, file, "f" * 64)
    assert file_sha256(file, tmp_path) == "f" * 64


def test_a_cache_that_cannot_be_written_only_costs_time(file, tmp_path, caplog):
    (tmp_path / "blocked").write_text("a file where the folder should be")
    assert file_sha256(file, tmp_path / "blocked") == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "can't be remembered" in caplog.text


def test_a_file_that_changes_while_it_is_read_is_not_remembered(file, tmp_path, monkeypatch):
    stamps = iter([(1, 1), (1, 2)])
    monkeypatch.setattr(hashes, "file_stamp", lambda _: next(stamps))
    file_sha256(file, tmp_path)
    with sqlite3.connect(tmp_path / CACHE_NAME) as database:
        assert database.execute("SELECT count(*) FROM hashes").fetchone() == (0,)


def test_many_threads_and_processes_share_a_cache(tmp_path):
    files = [tmp_path / f"{index}.bin" for index in range(20)]
    for file in files:
        file.write_bytes(file.name.encode())
    code = (
        "import sys; from pathlib import Path; from hayate.weights.hashes import file_sha256\n"
        "for name in sys.argv[2:]: file_sha256(name, Path(sys.argv[1]))"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *map(str, files)], stderr=subprocess.PIPE)
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda file: file_sha256(file, tmp_path), files * 3))
    assert digests == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files] * 3
    assert other.communicate()[1] == b""
    with sqlite3.connect(tmp_path / CACHE_NAME) as database:
        assert database.execute("SELECT count(*) FROM hashes").fetchone() == (20,)


def test_a_missing_file_is_reported_where_the_result_is_asked_for(tmp_path):
    future = start_hash(tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match=r"none\.safetensors can't be read"):
        future.result(timeout=30)


def test_a_loras_hash_is_of_what_follows_the_header_or_what_the_header_says(tmp_path: Path) -> None:
    tensors = {"a.lora_up.weight": torch.arange(6.0)}
    files = {
        "plain": None,
        "titled": {"ss_output_name": "another title"},
        "said": {"sshs_model_hash": "0123456789abcdef" * 4},
        "nonsense": {"sshs_model_hash": "../../etc"},
    }
    for name, metadata in files.items():
        save_file(tensors, tmp_path / name, metadata=metadata)
    expected = hashlib.sha256(tensors["a.lora_up.weight"].numpy().tobytes()).hexdigest()[:12]
    for _ in range(2):
        for name in ("plain", "titled", "nonsense"):
            assert lora_hash(tmp_path / name, tmp_path / "cache") == expected
    assert lora_hash(tmp_path / "said", tmp_path / "cache") == "0123456789ab"
    whole = hashlib.sha256((tmp_path / "plain").read_bytes()).hexdigest()
    assert file_sha256(tmp_path / "plain", tmp_path / "cache") == whole, "both are remembered, and not mixed up"
