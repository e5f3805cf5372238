"""The small model that comes with Hayate, so that a fresh machine makes a picture offline."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

FILE_NAME = "hayate-landscapes.safetensors"


def builtin_model() -> Path:
    """Where the built-in model's file is; docs/demo-model.md says how it was trained."""
    return Path(str(files("hayate.weights"))) / "builtin" / FILE_NAME
