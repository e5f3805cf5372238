"""Upscalers' files: built as spandrel builds them, found by the names that people use."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hayate.errors import BrokenFile, HayateError, MissingDependency, RefusedFormat, UnknownName, UsageError
from hayate.weights.upscalers import A1111_NAMES, find_upscaler, load_upscaler, upscaler_files, upscaler_names
from tests.upscaler_files import BUILDERS, tiny_upscaler, write_upscaler

has_spandrel = pytest.mark.skipif(importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed")


@has_spandrel
@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize(("suffix", "wrapper"), [(".safetensors", None), (".pth", "params_ema"), (".pth", None)])
def test_a_file_computes_what_its_network_does(tmp_path: Path, kind: str, suffix: str, wrapper: str | None) -> None:
    network = write_upscaler(tmp_path / f"x{suffix}", kind, wrapper)
    found = load_upscaler(tmp_path / f"x{suffix}")
    pixels = torch.rand((1, 3, 12, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(pixels).clamp(0, 1)
    assert found.name == "x"
    assert expected.shape[2:] == (12 * found.scale, 20 * found.scale)
    torch.testing.assert_close(found(pixels), expected, atol=1e-6, rtol=0)


@has_spandrel
def test_the_averaged_weights_of_a_training_file_count(tmp_path: Path) -> None:
    averaged = tiny_upscaler("Compact").state_dict()
    other = {name: torch.zeros_like(each) for name, each in averaged.items()}
    torch.save({"params": other, "params_ema": averaged, "epoch": 3}, tmp_path / "x.pth")
    assert load_upscaler(tmp_path / "x.pth")(torch.rand((1, 3, 8, 8))).std() > 0


@has_spandrel
def test_what_is_no_upscaler_is_refused_in_one_line(tmp_path: Path) -> None:
    tensors = tiny_upscaler("Compact").state_dict()
    files: dict[str, tuple[dict[str, torch.Tensor], type[HayateError], str]] = {
        "a lora": ({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, RefusedFormat, "no upscaler that is known"),
        "half": (dict(list(tensors.items())[:-2]), HayateError, "upscaler"),
        "nan": ({**tensors, "body.0.weight": tensors["body.0.weight"] * torch.nan}, BrokenFile, "no numbers"),
    }
    for name, (content, kind, message) in files.items():
        save_file(content, tmp_path / f"{name}.safetensors")
        with pytest.raises(kind, match=message) as caught:
            load_upscaler(tmp_path / f"{name}.safetensors")
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError):
        load_upscaler(tmp_path / "none.pth")


@has_spandrel
def test_a_network_for_pictures_without_colours_is_refused(tmp_path: Path) -> None:
    module, name, sizes = BUILDERS["Compact"]
    grey = getattr(importlib.import_module(f"spandrel.architectures.{module}"), name)(
        **sizes, num_in_ch=1, num_out_ch=1
    )
    save_file(grey.state_dict(), tmp_path / "grey.safetensors")
    with pytest.raises(RefusedFormat, match="without colours"):
        load_upscaler(tmp_path / "grey.safetensors")


def test_names_are_stems_in_any_case_and_those_of_a1111(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("4x-UltraSharp.pth", "sub/RealESRGAN_x4plus.pth", "both.pth", "both.safetensors", "read.me"):
        (tmp_path / name).touch()
    assert set(upscaler_files(tmp_path)) == {"4x-UltraSharp", "RealESRGAN_x4plus", "both"}
    assert find_upscaler("4X-ultrasharp", tmp_path).name == "4x-UltraSharp.pth"
    assert find_upscaler("4x-UltraSharp.pth", tmp_path).name == "4x-UltraSharp.pth"
    assert find_upscaler("both", tmp_path).suffix == ".safetensors"
    assert find_upscaler("R-ESRGAN 4x+", tmp_path).stem == A1111_NAMES["R-ESRGAN 4x+"]
    assert "R-ESRGAN 4x+" in upscaler_names(tmp_path)
    assert "R-ESRGAN 2x+" not in upscaler_names(tmp_path)
    with pytest.raises(UnknownName, match="nearest: 4x-UltraSharp"):
        find_upscaler("4x-UltraShrap", tmp_path, ("Lanczos",))
    with pytest.raises(UnknownName, match="nearest: Lanczos"):
        find_upscaler("Lancos", tmp_path / "none", ("Lanczos",))


def test_without_the_package_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(MissingDependency, match=r"spandrel.*\[upscalers\]"):
        load_upscaler(tmp_path / "x.pth")


@has_spandrel
def test_no_torchvision_is_needed_and_none_is_left_behind() -> None:
    program = (
        "import sys\n"
        "class Refusing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('torchvision'): raise RuntimeError('operator torchvision::nms does not exist')\n"
        "sys.meta_path.insert(0, Refusing())\n"
        "from hayate.weights.upscalers import load_spandrel\n"
        "load_spandrel()\n"
        "assert not [name for name in sys.modules if name.startswith('torchvision')]\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
