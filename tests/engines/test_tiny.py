"""The tiny decoder, against diffusers' AutoencoderTiny on random weights, under the names that its files have."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from safetensors.torch import save_file

from hayate.cli.main import main
from hayate.engines.tiny import check_tiny, load_tiny
from hayate.errors import HayateError, RefusedFormat, TensorMismatch
from hayate.models.config import Family
from hayate.runtime.native.kernels import refusal
from hayate.runtime.prepare import PLAIN, Preparation
from tests.models.reference import relative_error
from tests.tiny_models import write_tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def reference() -> AutoencoderTiny:
    torch.manual_seed(4)
    return AutoencoderTiny().eval()


def write(reference: AutoencoderTiny, path: Path, layout: str) -> Path:
    """The reference's weights under diffusers' names, both halves, or the original decoder's, one number further."""
    tensors = reference.state_dict()
    if layout == "original":
        decoder = {name: tensor for name, tensor in tensors.items() if name.startswith("decoder.layers.")}
        found = (re.fullmatch(r"decoder\.layers\.(\d+)\.(.*)", name) for name in decoder)
        tensors = {f"{int(m[1]) + 1}.{m[2]}": decoder[m[0]] for m in found if m}
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)
    return path


@pytest.mark.parametrize("layout", ["diffusers", "original"])
@pytest.mark.parametrize("preparation", [PLAIN, Preparation(is_packed=True)], ids=["plain", "packed"])
@torch.inference_mode()
def test_pixels_equal_diffusers(reference, layout: str, preparation: Preparation, tmp_path: Path) -> None:
    if preparation.is_packed and refusal():
        pytest.skip(f"no kernels here: {refusal()}")
    tiny = load_tiny(write(reference, tmp_path / "tiny.safetensors", layout), CPU, torch.float32, preparation)
    latents = 3 * torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(1))
    expected = reference.decode(latents).sample
    assert expected.shape == (2, 3, 48, 40)
    assert relative_error(tiny.decode(latents), expected) <= 1e-5
    assert tiny.evidence().active


def test_a_wider_type_comes_from_the_file_and_goes_on_counting(reference, tmp_path: Path) -> None:
    path = write(reference, tmp_path / "tiny.safetensors", "original")
    narrow, exact = (load_tiny(path, CPU, dtype, PLAIN) for dtype in (torch.bfloat16, torch.float32))
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(narrow.decode(latents), exact.decode(latents))
    wide = narrow.widen(torch.float32)
    assert torch.equal(wide.decode(latents), exact.decode(latents))
    assert wide.decodes == 2


def test_other_files_are_refused_with_a_hint(reference, tmp_path: Path) -> None:
    encoder = tmp_path / "taesd_encoder.safetensors"
    tensors = {
        name.removeprefix("encoder.layers."): t for name, t in reference.state_dict().items() if "encoder" in name
    }
    save_file(tensors, encoder)
    with pytest.raises(RefusedFormat) as caught:
        check_tiny(encoder)
    assert "taesd_decoder" in caught.value.hint
    model = tmp_path / "model.safetensors"
    write_tiny(model, Family.SD1)
    with pytest.raises(RefusedFormat):
        check_tiny(model)
    with pytest.raises(HayateError):
        check_tiny(tmp_path / "nothing.safetensors")


def test_a_decoder_for_more_latent_channels_is_refused(tmp_path: Path) -> None:
    path = write(AutoencoderTiny(latent_channels=16), tmp_path / "taesd3_decoder.safetensors", "original")
    with pytest.raises(TensorMismatch):
        load_tiny(path, CPU, torch.float32, PLAIN)


def test_a_picture_is_decoded_by_it_and_says_so(reference, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, tiny = tmp_path / "model.safetensors", write(reference, tmp_path / "tiny.safetensors", "diffusers")
    write_tiny(model, Family.SD1)
    words = ["generate", "a cat", "--model", str(model), "--size", "64x64", "--steps", "2", "--seed", "1", "--json"]
    made = []
    for more in ([], ["--tiny-vae", str(tiny)]):
        assert main([*words, *more, "--device", "cpu", "-o", str(tmp_path / f"{len(more)}.png")]) == 0
        made.append(json.loads(capsys.readouterr().out))
    exact, fast = made
    [line] = [each for each in fast["speed"]["evidence"] if each["name"] == "tiny VAE"]
    assert line["active"]
    assert line["detail"] == "1 decodes"
    assert "VAE Decoder: TAESD" in fast["images"][0]["infotext"]
    assert fast["plan"]["choices"]["promise"]["value"] == "fast"
    pictures = [np.asarray(Image.open(each["images"][0]["path"])) for each in made]
    assert pictures[0].shape == pictures[1].shape
    assert not np.array_equal(*pictures)
    assert "VAE Decoder" not in exact["images"][0]["infotext"]


def test_a_missing_file_is_one_line_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "a cat", "--tiny-vae", str(tmp_path / "nothing.safetensors"), "-o", str(tmp_path)]) != 0
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "nothing.safetensors" in shown.err
