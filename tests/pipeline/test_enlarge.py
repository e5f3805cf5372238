"""Pictures made larger: parts that come out as the whole does, sizes as A1111 makes them, and hires fix with a file."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from hayate.cli.main import main
from hayate.errors import EngineError, UsageError
from hayate.models.config import Family
from hayate.pipeline.enlarge import MAX_SIDE_PX, Enlarger, enlarged_size, open_enlarger
from hayate.pipeline.patches import Canvas, Cut, part_starts
from hayate.settings import Settings, load_settings
from hayate.weights.upscalers import Upscaler
from tests.pipeline.faulty import CPU
from tests.tiny_models import write_tiny
from tests.upscaler_files import write_upscaler

has_spandrel = pytest.mark.skipif(importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed")


def noise_picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8))


class Small(nn.Module):
    """Two convolutions and a shuffle: a pixel of the result sees two pixels around its own."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3 * scale**2, 3, padding=1)]
        self.layers = nn.Sequential(*layers, nn.PixelShuffle(scale), nn.Sigmoid()).requires_grad_(False)
        for each in (layers[0], layers[2]):
            each.weight *= 4
        self.seen: list[tuple[int, int]] = []
        self.fault = lambda pixels: pixels

    def forward(self, pixels: Tensor) -> Tensor:
        self.seen.append((pixels.shape[3], pixels.shape[2]))
        return self.fault(self.layers(pixels))


def upscaler_of(network: nn.Module, scale: int = 2) -> Upscaler:
    return Upscaler(name="tiny", path=Path("x"), scale=scale, architecture="", is_tileable=True, network=network)


@given(size=st.integers(1, 700), part=st.integers(16, 200), overlap=st.integers(0, 15))
def test_parts_cover_a_side_with_their_overlap(size: int, part: int, overlap: int) -> None:
    starts = part_starts(size, part, overlap)
    ends = [min(start + part, size) for start in starts]
    assert starts[0] == 0
    assert ends[-1] == size
    assert all(end - start == min(part, size) for start, end in zip(starts, ends, strict=True))
    assert all(before - after >= overlap for before, after in zip(ends[:-1], starts[1:], strict=True))
    assert len(starts) == max(1, -(-(size - overlap) // (part - overlap))), "as many as A1111 cuts"


@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    part=st.integers(8, 64),
    overlap=st.integers(1, 7),
    scale=st.sampled_from([1, 2]),
)
def test_parts_that_are_not_changed_are_the_picture(
    width: int, height: int, part: int, overlap: int, scale: int
) -> None:
    picture = np.asarray(noise_picture(width, height))
    canvas = Canvas(size_px=(width, height), scale=scale, margin_px=overlap // 4)
    large = picture.repeat(scale, 0).repeat(scale, 1)
    for left, top, right, bottom in Cut(size_px=(width, height), part_px=(part, part), overlap_px=overlap).boxes():
        canvas.put((left, top, right, bottom), large[top * scale : bottom * scale, left * scale : right * scale])
    assert np.array_equal(canvas.picture(), large)


@pytest.mark.parametrize("size", [(100, 70), (96, 96), (30, 150)])
def test_no_seam_where_the_network_sees_less_than_the_overlap(size: tuple[int, int]) -> None:
    picture, network = noise_picture(*size), Small()
    large = (size[0] * 2, size[1] * 2)
    whole = Enlarger(name="tiny", network=upscaler_of(network), part_px=0).enlarge(picture, large, CPU)
    assert network.seen == [size]
    parts = Enlarger(name="tiny", network=upscaler_of(network), part_px=48).enlarge(picture, large, CPU)
    assert all(max(seen) <= 48 for seen in network.seen[1:])
    difference = np.abs(np.asarray(whole).astype(int) - np.asarray(parts))
    assert difference.max() <= 1, "rounding; a seam would be tens"
    touching = Enlarger(name="tiny", network=upscaler_of(network), part_px=48, overlap_px=0)
    seams = np.abs(np.asarray(whole).astype(int) - np.asarray(touching.enlarge(picture, large, CPU)))
    assert size != (96, 96) or seams.max() > 10, "without an overlap it does show"


def test_a_network_is_used_until_the_size_is_reached_and_lanczos_does_the_rest() -> None:
    picture, network = noise_picture(24, 16), Small()
    enlarger = Enlarger(name="tiny", network=upscaler_of(network))
    made = enlarger.enlarge(picture, (24 * 3, 16 * 3), CPU)
    assert network.seen == [(24, 16), (48, 32)], "twice two is more than three"
    twice = enlarger.enlarge(picture, (96, 64), CPU)
    assert np.array_equal(np.asarray(made), np.asarray(twice.resize((72, 48), Image.Resampling.LANCZOS)))
    network.seen.clear()
    assert enlarger.enlarge(picture, (24 * 16, 16 * 16), CPU).size == (384, 256)
    assert len(network.seen) == 3, "A1111 tries three times, then resizes"
    network.seen.clear()
    enlarger.enlarge(picture, picture.size, CPU)
    assert not network.seen


def test_filters_are_pillows() -> None:
    picture = noise_picture(20, 12)
    for name, filter_ in (("Lanczos", Image.Resampling.LANCZOS), ("Nearest", Image.Resampling.NEAREST)):
        made = Enlarger(name=name).enlarge(picture, (50, 33), CPU)
        assert np.array_equal(np.asarray(made), np.asarray(picture.resize((50, 33), filter_)))


def test_scarce_memory_makes_the_parts_smaller() -> None:
    picture, network = noise_picture(128, 128), Small()

    def scarce(pixels: Tensor) -> Tensor:
        if pixels.shape[3] > 2 * 64:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return pixels

    network.fault = scarce
    made = Enlarger(name="tiny", network=upscaler_of(network)).enlarge(picture, (256, 256), CPU)
    network.fault = lambda pixels: pixels
    whole = Enlarger(name="tiny", network=upscaler_of(network)).enlarge(picture, (256, 256), CPU)
    assert np.abs(np.asarray(made).astype(int) - np.asarray(whole)).max() <= 1

    def none_at_all(_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    network.fault = none_at_all
    with pytest.raises(EngineError, match="out of memory in the upscaler tiny"):
        Enlarger(name="tiny", network=upscaler_of(network)).enlarge(picture, (256, 256), CPU)


def test_values_that_are_no_numbers_are_no_picture() -> None:
    network = Small()
    network.fault = lambda pixels: pixels * torch.nan
    with pytest.raises(EngineError, match="no numbers"):
        Enlarger(name="tiny", network=upscaler_of(network)).enlarge(noise_picture(8, 8), (16, 16), CPU)


@given(width=st.integers(1, 2000), height=st.integers(1, 2000), scale=st.floats(0.1, 8))
def test_sizes_are_whole_latents(width: int, height: int, scale: float) -> None:
    size = enlarged_size((width, height), scale)
    for side, before in zip(size, (width, height), strict=True):
        assert side % 8 == 0
        assert side == 8 or 0 <= before * scale - side < 8 + 1e-6
    with pytest.raises(UsageError, match="too large"):
        enlarged_size((MAX_SIDE_PX, 8), 1.01)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    write_tiny(folder / "tiny.safetensors", Family.SD1)
    (folder / "ESRGAN").mkdir()
    write_upscaler(folder / "ESRGAN" / "2x-tiny.safetensors")
    return folder / "tiny.safetensors", folder / "ESRGAN"


def settings_for(places: tuple[Path, Path], tmp_path: Path) -> Settings:
    given = {"upscalers_dir": places[1], "outputs_dir": tmp_path / "out", "cache_dir": tmp_path / "cache"}
    return load_settings(given, environment={})


@has_spandrel
def test_a_file_of_the_folder_is_what_spandrel_makes_of_it(places: tuple[Path, Path], tmp_path: Path) -> None:
    import spandrel

    enlarger = open_enlarger("2X-tiny", settings_for(places, tmp_path))
    picture = noise_picture(40, 24)
    model = spandrel.ModelLoader().load_from_file(places[1] / "2x-tiny.safetensors")
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = (model(pixels)[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    made = np.asarray(enlarger.enlarge(picture, (80, 48), CPU))
    assert np.abs(made.astype(int) - expected).max() <= 1
    assert np.array_equal(made, np.asarray(enlarger.enlarge(picture, (80, 48), CPU))), "the same, bit for bit"


@has_spandrel
def test_hires_fix_takes_a_file_writes_its_name_and_is_made_again(
    places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HAYATE_UPSCALERS_DIR", str(places[1]))
    words = ["--model", str(places[0]), "--size", "64x64", "--steps", "3", "--seed", "9", "--hires"]
    words += ["--hires-scale", "1.5", "--hires-steps", "2"]
    first, plain, again = (tmp_path / f"{name}.png" for name in ("first", "plain", "again"))
    assert main(["generate", "a red sun", *words, "--hires-upscaler", "2X-TINY", "-o", str(first)]) == 0
    assert main(["generate", "a red sun", *words, "--hires-upscaler", "Lanczos", "-o", str(plain)]) == 0
    text = Image.open(first).info["parameters"]
    assert "Hires upscaler: 2x-tiny" in text
    assert Image.open(first).size == (96, 96)
    assert not np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(plain)))
    capsys.readouterr()
    assert main(["generate", "--from", str(first), "--model", str(places[0]), "-o", str(again), "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert not [note for note in notes if "hires" in note.lower()]
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(again)))
    monkeypatch.setenv("HAYATE_UPSCALERS_DIR", str(tmp_path / "none"))
    assert main(["generate", "--from", str(first), "--model", str(places[0]), "-o", str(again), "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert [note for note in notes if note.startswith("not honoured: hires fix") and "2x-tiny" in note]
    assert main(["generate", "x", *words, "--hires-upscaler", "2x-tiny"]) == 2
    assert "unknown upscaler '2x-tiny'" in capsys.readouterr().err


def test_names_are_looked_up_before_anything_is_loaded(places: tuple[Path, Path], tmp_path: Path) -> None:
    from hayate.errors import UnknownName
    from hayate.pipeline.resolve import check_names
    from hayate.request import Hires, TextToImage

    own = settings_for(places, tmp_path)
    request = TextToImage(prompt="x", hires=Hires(upscaler="2x-tniy"))
    with pytest.raises(UnknownName, match="nearest: 2x-tiny"):
        check_names(request, own)
    check_names(replace(request, hires=Hires(upscaler="2x-tiny")), own)
