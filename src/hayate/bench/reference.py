"""The picture that every other way of computing it is held to: plain networks in fp32."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from PIL import Image

from hayate import __version__
from hayate.pipeline.hooked import NOBODY
from hayate.pipeline.prepared import find_files
from hayate.pipeline.session import make_pictures
from hayate.pipeline.workspace import Workspace
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from hayate.settings import Settings, lossless
from hayate.weights.hashes import file_stamp
from hayate.weights.merged import MergedModel

EAGER = Asked(dtype="fp32", attention="sdp", layers="plain", layout="contiguous", compile="off")
"""Networks as they are in the file, by PyTorch's own operators, one after the other."""


def reference_pictures(request: TextToImage, settings: Settings) -> np.ndarray:
    """The request's pictures in fp32 eager; computed once for a request and a state of its model's file.

    Shapes: → [B, H, W, 3] uint8.
    Raises: HayateError.
    """
    request, settings = replace(request, dtype=None), lossless(settings)
    with Workspace(settings, is_lasting=False) as workspace:
        kept = settings.cache_dir / "references" / f"{_key(request, settings, workspace)}.npy"
        if kept.exists() and (found := _loaded(kept)) is not None:
            return found
        with tempfile.TemporaryDirectory() as name:
            report = make_pictures(
                request, settings, Path(name), lambda *_: None, EAGER, workspace=workspace, hooked=NOBODY
            )
            pictures = np.stack([np.asarray(Image.open(each.path)) for each in report.pictures])
    _keep(kept, pictures)
    return pictures


def _key(request: TextToImage, settings: Settings, workspace: Workspace) -> str:
    files = find_files(request, settings, workspace)
    sources = [*files.models.values(), *([] if files.vae is None else [files.vae])]
    paths = [path for each in sources for path in (each.files if isinstance(each, MergedModel) else (each,))]
    stamps = [[str(path.resolve()), *file_stamp(path)] for path in paths]
    names = ("sampler", "scheduler", "steps", "cfg", "width_px", "height_px", "clip_skip", "emphasis", "rng", "ensd")
    defaults = {name: getattr(settings, name) for name in names}
    text = json.dumps([__version__, asdict(request), stamps, defaults], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _loaded(path: Path) -> np.ndarray | None:
    """None for a file that is damaged; it is made again then."""
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def _keep(path: Path, pictures: np.ndarray) -> None:
    """Keeps pictures for the next time, if they can be kept."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.npy")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(temporary, pictures)
        os.replace(temporary, path)  # noqa: PTH105
    except OSError:
        temporary.unlink(missing_ok=True)
