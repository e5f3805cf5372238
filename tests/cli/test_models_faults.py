"""What stops `hayate models` half-way: a full disk, Ctrl-C, a folder that is locked. Nothing half is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hayate.cli.main import main
from hayate.models.config import Family
from hayate.weights.hashes import file_sha256
from tests.tiny_models import write_tiny

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="no limits of file size, no signals")
_LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from hayate.cli.main import main
for line in sys.stdin:
    sys.stderr.write(f"code {main(line.split())}\\n")
"""
"""Runs a command of each line that it is given; the limit of a file's size stands for a disk that fills up."""
WAIT_S = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Models of 2 to 4 MB: two in 16 bits, and a pickle."""
    folder = tmp_path / "models"
    folder.mkdir()
    for seed, name in enumerate(("one", "two")):
        write_tiny(folder / f"{name}.safetensors", Family.SD1, seed=seed, dtype=torch.float16)
    torch.save({"state_dict": load_file(folder / "one.safetensors")}, folder / "old.ckpt")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def state(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, by its content."""
    return {str(path.relative_to(folder)): file_sha256(path) for path in folder.rglob("*") if path.is_file()}


@needs_posix
def test_a_disk_that_is_full_leaves_nothing_of_any_command(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    one, two, old = (folder / name for name in ("one.safetensors", "two.safetensors", "old.ckpt"))
    commands = [
        f"models merge merge({one},{two},0.5) -o {out}/merged",
        f"models convert {one} {out}/wide.safetensors --dtype fp32",
        f"models convert {old} {out}/old.safetensors",
        f"models convert {one} {out}/folder --diffusers",
        f"models bake {one} {out}/baked.safetensors --vae {two}",
        f"models extract unet {one} {out}/unet.safetensors",
        f"models convert {folder} {out}",
    ]
    before = state(folder)
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, "300000"],
        input="\n".join(commands),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("code")] == ["code 2"] * 6 + ["code 3"]
    errors = [line for line in lines if line.startswith("error")]
    assert len(errors) == 6
    assert all("can't be written" in line or "is not opened" in line for line in errors)
    assert lines.index(errors[-1]) == 10
    assert "Traceback" not in done.stderr
    assert list(out.rglob("*")) == []
    assert state(folder) == before


def started(*words: str) -> subprocess.Popen[str]:
    """The command in a group of its own, as a shell starts it, so that Ctrl-C reaches all its processes.

    What runs these tests in the background may have told them to pass over Ctrl-C, which children inherit.
    """
    listens = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{listens}; import sys; from hayate.cli.main import main; sys.exit(main({list(words)!r}))"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.002)


@needs_posix
@pytest.mark.parametrize(
    ("source", "signum"),
    [("one.safetensors", signal.SIGINT), ("one.safetensors", signal.SIGTERM), ("old.ckpt", signal.SIGINT)],
)
def test_what_is_ended_leaves_whole_models_only_and_the_next_run_goes_on(
    folder: Path, tmp_path: Path, source: str, signum: signal.Signals
) -> None:
    models, out = tmp_path / "many", tmp_path / "out"
    models.mkdir()
    out.mkdir()
    for number in range(40):
        os.link(folder / source, models / f"m{number:02}{Path(source).suffix}")
    before = state(models)
    process = started("models", "convert", str(models), str(out), "--dtype", "bf16")
    wait_for(lambda: len(list(out.glob("m*.safetensors"))) >= 1)
    os.killpg(process.pid, signum)
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert said.endswith("interrupted\n")
    assert "Traceback" not in said
    done = state(out)
    assert 1 <= len(done) < 40
    assert all(name.startswith("m") and name.endswith(".safetensors") for name in done)
    assert len(set(done.values())) == 1
    assert state(models) == before
    for path in sorted(models.iterdir())[len(done) + 1 :]:
        path.unlink()  # one more is enough
    assert main(["models", "convert", str(models), str(out), "--dtype", "bf16"]) == 0
    after = state(out)
    assert len(after) == len(done) + 1
    assert set(after.values()) == set(done.values())


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o500)
    one, two = folder / "one.safetensors", folder / "two.safetensors"
    try:
        for words in (
            ["merge", f"merge({one}, {two}, 0.5)", "-o", f"{out}/x"],
            ["merge", f"merge({one}, {two}, 0.5)", "-o", f"{out}/x.recipe"],
            ["convert", str(one), f"{out}/x.safetensors"],
            ["convert", str(one), f"{out}/x", "--diffusers"],
        ):
            assert main(["models", *words]) == 2
            shown = capsys.readouterr()
            assert (shown.out, shown.err.count("\n")) == ("", 1)
            assert "can't be written" in shown.err
    finally:
        out.chmod(0o700)
    assert list(out.iterdir()) == []


def test_a_name_that_is_taken_is_left_as_it_is(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = {tmp_path / name: b"mine" for name in ("x.safetensors", "x.recipe", "d")}
    for path, content in taken.items():
        path.write_bytes(content)
    one, two = folder / "one.safetensors", folder / "two.safetensors"
    for words in (
        ["merge", f"merge({one}, {two}, 0.5)", "-o", f"{tmp_path}/x.safetensors"],
        ["merge", f"merge({one}, {two}, 0.5)", "-o", f"{tmp_path}/x.recipe"],
        ["merge", str(one), "-o", str(folder / "one.safetensors")],
        ["convert", str(one), f"{tmp_path}/x.safetensors"],
        ["convert", str(one), f"{tmp_path}/d", "--diffusers"],
        ["extract-lora", str(one), str(two), "--rank", "2", "-o", f"{tmp_path}/x"],
    ):
        assert main(["models", *words]) == 2
        shown = capsys.readouterr()
        assert (shown.out, shown.err.count("\n")) == ("", 1)
        assert "is there already" in shown.err
    assert all(path.read_bytes() == content for path, content in taken.items())
