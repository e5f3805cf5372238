"""Files of random weights: whole, of the true architecture, and never half there."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from hayate.bench.random_model import RANDOM_MODELS, random_model, shapes_of, write_random
from hayate.engines.torch import load_engine
from hayate.errors import OutputError, UnknownName
from hayate.models.config import Family
from hayate.runtime.precision import resolve_precision
from tests.tiny_models import tiny_config

CPU = torch.device("cpu")


@pytest.mark.parametrize("family", [Family.SD1, Family.SD2, Family.SDXL])
def test_a_written_file_is_a_model_of_its_family(family: Family, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    shares: list[float] = []
    write_random(path, shapes_of(tiny_config(family)), on_share=shares.append)
    engine = load_engine(path, CPU, resolve_precision("fp32", CPU))
    assert engine.config.family is family
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_weights_have_a_variance_of_one_over_their_fan_in(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    write_random(path, shapes_of(tiny_config(Family.SD1)))
    large = {name: each for name, each in load_file(path).items() if each.dim() > 1 and each.numel() > 20000}
    for name, tensor in large.items():
        assert tensor.float().std() * tensor[0].numel() ** 0.5 == pytest.approx(1, rel=0.05), name


@pytest.mark.parametrize("name", RANDOM_MODELS)
def test_full_size_shapes_are_those_of_the_published_models(name: str) -> None:
    """Published counts of U-Net, text encoders and VAE: 860 + 123 + 84, 866 + 354 + 84, 2567 + 123 + 695 + 84 M."""
    count = sum(torch.Size(shape).numel() for shape in shapes_of(RANDOM_MODELS[name]).values())
    assert count / 1e6 == pytest.approx({"sd15": 1067, "sd21": 1304, "sdxl": 3469}[name], rel=0.002)


def test_an_unknown_one_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="sd15"):
        random_model("sd1.5", tmp_path)


def test_no_room_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    with pytest.raises(OutputError, match=r"no room for 2\.1 GB"):
        random_model("sd15", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    def fail(_: float) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "x.safetensors"
    with pytest.raises(OutputError, match="No space left"):
        write_random(path, shapes_of(tiny_config(Family.SD1)), on_share=fail)
    assert not list(tmp_path.iterdir())
