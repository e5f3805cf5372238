"""Three small models, and the two ways to merge them: as they are asked for, and into a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hayate.models.config import Family
from hayate.weights.merge_file import write_merge
from tests.tiny_models import write_tiny
from tests.weights.merges import Run, opened


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of A, B and C."""
    folder = tmp_path_factory.mktemp("three")
    for seed, name in enumerate("ABC"):
        write_tiny(folder / f"{name}.safetensors", Family.SD1, seed=seed, dtype=torch.float16)
    return folder


@pytest.fixture
def merged(three: Path) -> Run:
    """Merges without a file."""

    def run(text: str, home: Path = three, names: Sequence[str] = (), **how) -> dict[str, Tensor]:
        with opened(text, home) as merge:
            wanted = names or merge.names
            return dict(zip(wanted, merge.get_all(wanted, **how), strict=True))

    return run


@pytest.fixture
def written(three: Path, tmp_path: Path) -> Run:
    """Merges into a file, and reads it with the library of the format."""

    def run(text: str, home: Path = three, **how) -> dict[str, Tensor]:
        with opened(text, home) as merge:
            write_merge(merge, tmp_path / "out.safetensors", may_replace=True, **how)
        return load_file(tmp_path / "out.safetensors")

    return run
