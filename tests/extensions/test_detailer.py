"""The worked example: what is found is painted anew as img2img with a mask would, and told in the infotext."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hayate.errors import UnknownName
from hayate.extensions.session import Session
from hayate.pipeline.infotext import parse_infotext
from hayate.pipeline.report import Report
from hayate.pipeline.session import Maker
from hayate.pipeline.workspace import Workspace
from hayate.request import StartImage, TextToImage
from hayate.settings import Settings, load_settings
from tests.extensions.folders import session_in, write_extension

EXAMPLE = Path(__file__).parents[2] / "examples" / "detailer"
CENTRES = ((30, 30), (92, 88))
RADII = (14, 9)
DISCS = f"""
import numpy as np
from hayate.extensions.hooks import Retouched

def draw(picture, call):
    y, x = np.mgrid[:picture.shape[0], :picture.shape[1]]
    picture[:] = 128
    for (centre_y, centre_x), radius in zip({CENTRES}, {RADII}):
        picture[(y - centre_y) ** 2 + (x - centre_x) ** 2 <= radius ** 2] = (255, 0, 0)
    return Retouched(picture=picture)
"""
FINDS_DISCS = """
import numpy as np
from ..region import Region
from .colour import patches

def detect(picture):
    is_red = (picture[:, :, 0] == 255) & (picture[:, :, 1] == 0)
    return [Region(mask=patch.astype(np.uint8) * 255) for patch in patches(is_red)]
"""
DISC_REQUEST = TextToImage(prompt="a red sun", seed=7, steps=4, width_px=128, height_px=128)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("own")
    places = {"cache_dir": folder / "cache", "outputs_dir": folder / "out", "data_dir": folder / "data"}
    return load_settings({**places, "threads": 1, "attention": "sdp"}, environment={})


@pytest.fixture(scope="module")
def workspace(own: Settings) -> Iterator[Workspace]:
    with Workspace(own) as made:
        yield made


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """Discs are drawn first, then the detailer comes, with a detector for them."""
    shutil.copytree(EXAMPLE, tmp_path / "extensions" / "detailer")
    (tmp_path / "extensions" / "detailer" / "detectors" / "discs.py").write_text(FINDS_DISCS)
    write_extension(tmp_path / "extensions", "a-draws-discs", DISCS, {"pictures": {"discs": "draw"}})
    with session_in(tmp_path / "extensions", tmp_path / "data") as opened:
        yield opened


def made(own: Settings, workspace: Workspace, **values: object) -> Report:
    request = TextToImage(
        prompt=DISC_REQUEST.prompt,
        seed=7,
        steps=4,
        width_px=128,
        height_px=128,
        extensions={"detailer": values} if values else {},
    )
    return Maker(settings=own, workspace=workspace, on_row=lambda *_: None).make(request, keeps_pixels=True)


def disc(number: int) -> np.ndarray:
    y, x = np.mgrid[:128, :128]
    (centre_y, centre_x), radius = CENTRES[number], RADII[number]
    return ((y - centre_y) ** 2 + (x - centre_x) ** 2 <= radius**2).astype(np.uint8) * 255


@pytest.mark.usefixtures("session")
def test_each_thing_is_painted_as_img2img_paints_it(own: Settings, workspace: Workspace, tmp_path: Path) -> None:
    """Against the pipeline's own img2img with a mask from a file, one disc after the other."""
    report = made(own, workspace, detector="discs", prompt="a blue lake", denoising=0.7, padding_px=8, mask_blur=2)
    before = made(own, workspace)
    expected = before.pixels[0]
    maker = Maker(settings=own, workspace=workspace, on_row=lambda *_: None, output=tmp_path / "out")
    for number in (0, 1):
        picture, mask = tmp_path / f"picture-{number}.png", tmp_path / f"mask-{number}.png"
        Image.fromarray(expected).save(picture)
        Image.fromarray(disc(number)).save(mask)
        start = StartImage(path=str(picture), mask=str(mask), denoising=0.7, padding_px=8, mask_blur=2)
        request = TextToImage(
            prompt="a blue lake", seed=7 + number, steps=4, width_px=128, height_px=128, start=start, extensions={}
        )
        with session_in(tmp_path / "none", tmp_path / "data"):
            expected = maker.make(request, keeps_pixels=True).pixels[0]
    assert np.array_equal(report.pixels[0], expected)
    assert not np.array_equal(report.pixels[0], before.pixels[0])


@pytest.mark.usefixtures("session")
def test_outside_of_the_masks_no_bit_changes(own: Settings, workspace: Workspace) -> None:
    report, before = made(own, workspace, detector="discs", mask_blur=0), made(own, workspace)
    is_outside = (disc(0) | disc(1)) == 0
    assert np.array_equal(report.pixels[0][is_outside], before.pixels[0][is_outside])
    for number in (0, 1):
        assert not np.array_equal(report.pixels[0][disc(number) > 0], before.pixels[0][disc(number) > 0])


@pytest.mark.usefixtures("session")
def test_the_infotext_tells_what_was_painted(own: Settings, workspace: Workspace) -> None:
    report = made(own, workspace, detector="discs", prompt="a blue lake", denoising=0.5)
    keys = parse_infotext(report.pictures[0].infotext).parameters
    assert keys["Detailer detector"] == "discs"
    assert keys["Detailer regions"] == "2"
    assert keys["Detailer denoising"] == "0.5"
    assert keys["Detailer prompt"] == "a blue lake"
    assert keys["Extensions"] == "a-draws-discs 1.2.3, detailer 1.0.0"


@pytest.mark.usefixtures("session")
def test_the_colour_detector_finds_the_discs_too(own: Settings, workspace: Workspace) -> None:
    keys = parse_infotext(made(own, workspace, detector="colour").pictures[0].infotext).parameters
    assert keys["Detailer regions"] == "2"


def test_only_the_largest_are_painted(session: Session, own: Settings, workspace: Workspace) -> None:
    report, before = made(own, workspace, detector="discs", most=1, mask_blur=0), made(own, workspace)
    assert not np.array_equal(report.pixels[0][disc(0) > 0], before.pixels[0][disc(0) > 0])
    assert np.array_equal(report.pixels[0][disc(1) > 0], before.pixels[0][disc(1) > 0])
    assert session.problems() == {}


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("name", ["face", "../region", "os", "discs.py"])
def test_only_files_of_its_folder_are_detectors(own: Settings, workspace: Workspace, name: str) -> None:
    with pytest.raises(UnknownName, match="nearest: "):
        made(own, workspace, detector=name)


@pytest.mark.usefixtures("session")
def test_it_acts_only_where_it_is_asked_for(own: Settings, workspace: Workspace) -> None:
    keys = parse_infotext(made(own, workspace).pictures[0].infotext).parameters
    assert keys["Extensions"] == "a-draws-discs 1.2.3"
