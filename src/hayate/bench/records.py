"""Published speeds that predictions are held to: others' figures, none measured here but the processor's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Model = Literal["sd15", "sdxl"]
"""SD1.5 at 512×512, SDXL at 1024×1024, both with guidance."""
Path = Literal["torch", "compile", "stable-fast", "OneDiff", "TensorRT"]
FP16_ACCUMULATING: frozenset[Path] = frozenset({"stable-fast", "OneDiff"})
"""Software that adds up products in 16 bits where the card is faster so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One published speed."""

    source: str
    path: Path
    card: str
    model: Model
    it_per_s: float
    """Steps of the whole batch per second."""
    batch: int = 1


def _rows(source: str, path: Path, cards: str, sd15: tuple[float, ...], sdxl: tuple[float, ...] = ()) -> list[Record]:
    names = [name.strip() for name in cards.split(",")]
    models: tuple[tuple[Model, tuple[float, ...]], ...] = (("sd15", sd15), ("sdxl", sdxl))
    return [
        Record(source=source, path=path, card=card, model=model, it_per_s=speed)
        for model, speeds in models
        for card, speed in zip(names, speeds, strict=False)
    ]


_SFAST, _SFAST_CARDS = "stable-fast README", "H100 SXM, A100 80GB, RTX 4080"
_ONEDIFF, _ONEDIFF_CARDS = "OneDiff/nexfort examples", "RTX 4090, A800 80GB, RTX 3090"
RECORDS: tuple[Record, ...] = (
    *_rows(_SFAST, "torch", _SFAST_CARDS, (54.5, 35.6, 29.5), (14.9, 8.7, 4.6)),
    *_rows(_SFAST, "compile", _SFAST_CARDS, (66.0, 41.9, 40.0), (18.5, 10.0, 6.1)),
    *_rows(_SFAST, "stable-fast", _SFAST_CARDS, (104.6, 61.8, 51.6), (21.6, 11.9, 9.1)),
    *_rows(_ONEDIFF, "torch", _ONEDIFF_CARDS, (38.3, 36.1, 21.3), (8.44, 9.92, 3.97)),
    *_rows(_ONEDIFF, "OneDiff", _ONEDIFF_CARDS, (91.0, 76.0, 46.3), (14.77, 13.62, 6.91)),
    *_rows("SD.Next user data", "torch", "H200, RTX 4090, RTX 3060 12GB, RTX 4060", (40.1, 34.4, 8.0, 9.6)),
    *_rows("TensorRT demo and fal-ai", "TensorRT", "H100 SXM, A100 80GB", (), (22.6, 12.2)),
)
"""One picture, fp16. "TensorRT" is one figure of each of two sources; fal-ai's includes the decode."""


def _batches(path: Path, card: str, speeds: tuple[float, float, float]) -> list[Record]:
    source = "diffusers docs"
    return [
        Record(source=source, path=path, card=card, model="sd15", it_per_s=speed, batch=batch)
        for batch, speed in zip((1, 4, 16), speeds, strict=True)
    ]


UNSEEN: tuple[Record, ...] = (
    *_batches("torch", "A100 80GB", (23.13, 13.12, 3.6)),
    *_batches("compile", "A100 80GB", (49.74, 17.27, 4.68)),
    *_batches("torch", "RTX 4090", (41.89, 12.84, 3.2)),
    *_batches("compile", "RTX 4090", (49.81, 15.59, 3.85)),
    *_batches("torch", "RTX 3090", (22.84, 6.35, 1.69)),
    *_batches("compile", "RTX 3090", (25.69, 7.30, 1.91)),
    *_batches("torch", "V100", (19.14, 5.89, 1.66)),
    *_batches("compile", "V100", (22.17, 6.86, 1.90)),
    *_batches("torch", "T4", (6.95, 1.79, 1 / 2.30)),
    *_batches("compile", "T4", (7.56, 1.99, 1 / 1.99)),
)
"""No constant was fitted to these: whole pipelines of `StableDiffusionPipeline`, PyTorch 2.1 nightly.

Source: huggingface/diffusers, docs/source/en/optimization/torch2.0.md, "SD - txt2img".
"""
