"""What is measured by name: the community's tests, or any picture's own parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from hayate.errors import UnknownName, UsageError
from hayate.models.config import Family
from hayate.pipeline.infotext import parse_infotext
from hayate.pipeline.pasted import pasted_request
from hayate.pipeline.picture_info import read_picture_info
from hayate.request import TextToImage

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MAX_TEXT_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One piece of work to measure."""

    name: str
    doc: str
    request: TextToImage
    family: Family | None = None
    """What the model must be, where the work is that of one family."""


ASUKA = TextToImage(
    prompt="masterpiece, best quality, masterpiece, asuka langley sitting cross legged on a chair",
    negative_prompt="lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, cropped, "
    "worst quality, low quality, normal quality, jpeg artifacts,signature, watermark, username, blurry, artist name",
    steps=28,
    sampler="Euler",
    cfg=12,
    seed=2870305590,
    width_px=512,
    height_px=512,
    clip_skip=2,
    ensd=31337,
)
WIKI = TextToImage(
    prompt="masterpiece, best quality,",
    negative_prompt="lowres, low quality, bad anatomy, signature",
    steps=20,
    sampler="DPM++ 2M",
    scheduler="Karras",
    cfg=11,
    seed=1,
    width_px=512,
    height_px=512,
    clip_skip=2,
    ensd=31337,
    batch_size=2,
    batch_count=5,
)
QUICK = TextToImage(prompt="a red sun over purple mountains, sea", steps=20, sampler="DPM++ 2M", cfg=7, seed=1)
LARGE = replace(QUICK, width_px=1024, height_px=1024, scheduler="Karras")

PRESETS = MappingProxyType(
    {
        each.name: each
        for each in (
            Preset(name="quick", doc="one picture of the model's own size in 20 steps", request=QUICK),
            Preset(name="asuka", doc="Hello Asuka: 512×512, 28 steps, Euler, CFG 12, clip skip 2", request=ASUKA),
            Preset(
                name="wiki", doc="the speed-up page's: 512×512, 20 steps, DPM++ 2M Karras, batch 2 × 5", request=WIKI
            ),
            Preset(name="sdxl", doc="1024×1024, 20 steps, DPM++ 2M Karras", request=LARGE, family=Family.SDXL),
        )
    }
)


def preset_of(words: str) -> Preset:
    """A preset by its name, or the work that a picture's or a text file's parameters describe.

    Raises: UnknownName, UsageError for a file that can't be read or says nothing.
    """
    if words in PRESETS:
        return PRESETS[words]
    path = Path(words)
    if path.suffix.lower() in _PICTURES:
        text = read_picture_info(path).parameters
        if text is None:
            raise UsageError(f"{path} does not say how it was made", hint="take a picture that A1111 or Hayate saved")
    elif path.suffix.lower() == ".txt" or path.exists():
        text = _read_text(path)
    else:
        raise UnknownName("preset", words, (*PRESETS, "a .png of A1111's", "a .txt of its parameters"))
    return Preset(name=path.name, doc=f"as {path.name} was made", request=pasted_request(parse_infotext(text)))


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TEXT_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"{path} can't be read: {reason}", hint="a text file of A1111's parameters") from error
