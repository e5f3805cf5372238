"""Pictures of jobs as bytes: found by the job that made them, held to the folders of pictures, also as small ones."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from starlette.exceptions import HTTPException

from hayate.errors import UsageError
from hayate.settings import Settings

MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".avif": "image/avif",
}
THUMB_SIDES_PX = (64, 128, 256, 384, 512)
THUMBS_KEPT_BYTES = 32 * 2**20


def picture_roots(settings: Settings) -> tuple[Path, ...]:
    """The folders whose pictures are shown: the user's outputs, what jobs did not save there, what jobs start from."""
    server = settings.data_dir / "server"
    return settings.outputs_dir, server / "results", server / "inputs"


def find_picture(path: Path, settings: Settings) -> Path:
    """The real path of a picture, if it is one of a folder of pictures.

    Raises: HTTPException, 404, where it is gone, or was never one.
    """
    try:
        real = path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise _gone() from None
    is_inside = any(real.is_relative_to(root.resolve()) for root in picture_roots(settings))
    if not is_inside or not real.is_file() or real.suffix.lower() not in MEDIA_TYPES:
        raise _gone()
    return real


class Thumbnails:
    """Small pictures, as JPEG; as many are kept as fit into `THUMBS_KEPT_BYTES`. Safe from any thread."""

    def __init__(self, cap_bytes: int = THUMBS_KEPT_BYTES) -> None:
        self._cap_bytes = cap_bytes
        self._size_bytes = 0
        self._kept: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path, side_px: int) -> bytes:
        """The picture of a file, no side longer than `side_px`.

        Raises: UsageError for a side that is not made, or a file that is no picture.
        """
        if side_px not in THUMB_SIDES_PX:
            known = ", ".join(map(str, THUMB_SIDES_PX))
            raise UsageError(f"thumbnails of {side_px} pixels are not made", hint=f"one of: {known}")
        key = (str(path), path.stat().st_mtime_ns, side_px)
        return self._remembered(key, lambda: _shrunk(path, side_px))

    def _remembered(self, key: tuple[str, int, int], make: Callable[[], bytes]) -> bytes:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._size_bytes += len(made) - len(self._kept.pop(key, b""))
            self._kept[key] = made
            while self._size_bytes > self._cap_bytes:
                self._size_bytes -= len(self._kept.popitem(last=False)[1])
        return made


def _shrunk(path: Path, side_px: int) -> bytes:
    """Raises: UsageError for what is no picture any more."""
    from hayate.pipeline.opened import opened_picture

    with opened_picture(path) as opened:
        opened.draft("RGB", (side_px, side_px))  # a JPEG need not be decoded whole
        small = opened.convert("RGB")
    small.thumbnail((side_px, side_px), reducing_gap=2.0)
    made = io.BytesIO()
    small.save(made, "JPEG", quality=82)
    return made.getvalue()


def _gone() -> HTTPException:
    return HTTPException(404, "the picture is not there any more")
