"""The floors of the house, what loads torch, and that the code is clean: the checks of scripts/check."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def tool(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is not installed: python3 launch.py test installs it"
    return found


def test_the_import_contracts_hold() -> None:
    done = run(tool("lint-imports"), "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [("check", "."), ("format", "--check", ".")])
def test_the_style_is_clean(arguments: tuple[str, ...]) -> None:
    done = run(tool("ruff"), *arguments, "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_types_are_clean() -> None:
    done = run(tool("pyright"), "--pythonpath", sys.executable)
    assert done.returncode == 0, done.stdout + done.stderr


HEAVY = ("torch", "numpy", "transformers", "diffusers", "safetensors", "tokenizers", "PIL", "rich")


@pytest.mark.parametrize(
    ("code", "refused"),
    [
        ("import hayate", HEAVY),
        ("from hayate.cli.main import main; main(['--help'])", HEAVY),
        ("from hayate.cli.main import main; main(['generate', '--help'])", ("torch", "transformers", "scipy")),
        ("from hayate.cli.main import main; main(['models', 'list'])", ("torch", "transformers", "scipy")),
        ("import hayate.prompt, hayate.samplers, hayate.samplers.catalogue", ("torch", "transformers", "scipy")),
        ("import hayate.settings, hayate.request, hayate.registry", HEAVY),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code: str, refused: tuple[str, ...]) -> None:
    done = run(sys.executable, "-c", f"import sys\n{code}\nprint('loaded:', *sys.modules)")
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.rpartition("loaded:")[2].split()}
    assert "hayate" in loaded
    assert loaded.isdisjoint(refused)


def test_importing_makes_nothing(tmp_path: Path) -> None:
    code = "import hayate.cli.main, hayate.settings, hayate.request, hayate.registry"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
    }
    command = [sys.executable, "-B", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr, list(tmp_path.iterdir())) == ("", "", [])


BANNED = re.compile(r"\b(?:utils|common|helpers|manager)\b")


def test_files_are_called_by_nouns() -> None:
    names = [path.stem for path in (ROOT / "src").rglob("*.py")]
    assert names
    assert not [name for name in names if BANNED.search(name)]
