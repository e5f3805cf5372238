"""Saving: the file is whole or absent, nothing is ever replaced, and faults leave nothing behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hayate.errors import OutputError
from hayate.pipeline.formats import Format, PictureTexts, encode_png
from hayate.pipeline.png import Target, check_writable, resolve_target, save_picture

PICTURE = np.arange(16 * 24 * 3, dtype=np.uint8).reshape(16, 24, 3)
TEXTS = PictureTexts(parameters="a boat\nSteps: 20, Seed: 1, Size: 24x16", record={"prompt": "a boat", "é": [1.5]})


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pixels_and_texts_come_back(tmp_path: Path) -> None:
    path = save_picture(PICTURE, Target(folder=tmp_path / "new" / "folder"), stem="7", texts=TEXTS)
    assert path.name == "00000-7.png"
    with Image.open(path) as image:
        assert (np.asarray(image) == PICTURE).all()
        assert image.info["parameters"] == TEXTS.parameters


def test_texts_are_written_before_the_pixels_as_text_or_international_text() -> None:
    latin = encode_png(PICTURE, PictureTexts(parameters="café"))
    other = encode_png(PICTURE, PictureTexts(parameters="海"))
    assert 0 < latin.index(b"tEXtparameters\0caf\xe9") < latin.index(b"IDAT")
    assert 0 < other.index(b"iTXtparameters\0\0\0\0\0" + "海".encode()) < other.index(b"IDAT")


def test_a_lone_surrogate_does_not_stop_the_save() -> None:
    assert b"iTXtparameters" in encode_png(PICTURE, PictureTexts(parameters="海\udce9"))


def test_numbers_go_on_after_the_highest(tmp_path: Path) -> None:
    (tmp_path / "00041-9.png").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "99-other.png").touch()
    assert save_picture(PICTURE, Target(folder=tmp_path), stem="1", texts=TEXTS).name == "00042-1.png"


def test_a_given_name_is_never_replaced(tmp_path: Path) -> None:
    target = resolve_target(tmp_path / "boat.png")
    (tmp_path / "boat.png").write_bytes(b"mine")
    names = [save_picture(PICTURE, target, stem="1", texts=TEXTS).name for _ in range(2)]
    assert names == ["boat-1.png", "boat-2.png"]
    assert (tmp_path / "boat.png").read_bytes() == b"mine"


SAVER = """
import sys
import numpy as np
from pathlib import Path
from hayate.pipeline.formats import PictureTexts
from hayate.pipeline.png import Target, save_picture
for _ in range(6):
    texts = PictureTexts(parameters="x")
    print(save_picture(np.zeros((8, 8, 3), np.uint8), Target(folder=Path(sys.argv[1])), stem="5", texts=texts).name)
"""


def test_eight_savers_at_once_get_numbers_of_their_own(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SAVER, str(tmp_path)]
    savers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    names = sorted(name for saver in savers for name in saver.communicate()[0].split())
    assert len({name.partition("-")[0] for name in names}) == 48
    assert listed(tmp_path) == names
    for name in names:
        with Image.open(tmp_path / name) as image:
            image.load()


@pytest.mark.parametrize("call", ["write", "fsync", "link"])
@pytest.mark.parametrize("name", [None, "boat.png"])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, name: str | None
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "write":
        monkeypatch.setattr("hayate.pipeline.png._write_whole", fail)
    else:
        monkeypatch.setattr(os, call, fail)
    with pytest.raises(OutputError, match="disk is full"):
        save_picture(PICTURE, Target(folder=tmp_path, name=name), stem="1", texts=TEXTS)
    assert listed(tmp_path) == []


@pytest.mark.parametrize("name", [None, "boat.png"])
def test_without_hard_links_nothing_is_replaced_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    target = Target(folder=tmp_path, name=name)
    paths = [save_picture(PICTURE, target, stem=str(seed), texts=TEXTS) for seed in (1, 2)]
    assert len(set(paths)) == 2
    assert listed(tmp_path) == sorted(path.name for path in paths)
    assert all(path.read_bytes() == encode_png(PICTURE, TEXTS) for path in paths)


KILLED = """
import os, signal, sys
import numpy as np
from pathlib import Path
import hayate.pipeline.png as png
from hayate.pipeline.formats import PictureTexts
real = os.fsync
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
png.save_picture(np.zeros((8, 8, 3), np.uint8), png.Target(folder=Path(sys.argv[1])), stem="1",
             texts=PictureTexts(parameters="x"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_kill_in_the_middle_leaves_no_picture_and_the_next_save_works(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert not list(tmp_path.glob("*.png"))
    assert save_picture(PICTURE, Target(folder=tmp_path), stem="2", texts=TEXTS).exists()


def test_what_can_not_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a file"):
        check_writable(Target(folder=tmp_path / "file" / "below"))
    with pytest.raises(OutputError, match="a file"):
        check_writable(Target(folder=tmp_path / "file"))
    with pytest.raises(OutputError, match="255 bytes"):
        check_writable(resolve_target(tmp_path / ("é" * 130 + ".png")))
    with pytest.raises(OutputError, match="null"):
        check_writable(Target(folder=Path(f"{tmp_path}/a\0b")))
    check_writable(Target(folder=tmp_path / "fine"))
    assert listed(tmp_path / "fine") == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="may not write"):
        check_writable(Target(folder=tmp_path))


def test_a_path_is_a_png_file_or_a_folder(tmp_path: Path) -> None:
    assert resolve_target(tmp_path / "a.PNG") == Target(folder=tmp_path, name="a.PNG")
    assert resolve_target(tmp_path / "v1.5") == Target(folder=tmp_path / "v1.5")
    assert resolve_target(f"{tmp_path}/a.png/") == Target(folder=tmp_path / "a.png")
    assert resolve_target("a.jpg", Format(quality=60)).format == Format(name="jpeg", quality=60)
    assert resolve_target("a/", Format(name="webp")).format == Format(name="webp")
    with pytest.raises(OutputError, match=r"\.avif"):
        resolve_target("a.gif")
