"""Draws the loss curves of the three trainings, as the documentation shows them."""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw
from train_decoder import CURVE as DECODER_CURVE
from train_unet import CURVE as UNET_CURVE
from train_vae import CURVE as VAE_CURVE

OUTPUT = Path(__file__).parents[1] / "docs/images/demo-model-curves.png"
WIDTH_PX, HEIGHT_PX, MARGIN_PX = 330, 260, 42
INK, FAINT, LINE = (60, 60, 70), (225, 226, 230), (196, 52, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One panel: a column of a CSV file over minutes."""

    title: str
    path: Path
    column: str

    def points(self) -> list[tuple[float, float]]:
        """Minutes and values."""
        with self.path.open(newline="") as file:
            return [(float(row["minutes"]), float(row[self.column])) for row in csv.DictReader(file)]


CURVES = (
    Curve(title="Autoencoder: validation PSNR, dB", path=VAE_CURVE, column="psnr_db"),
    Curve(title="Decoder alone, later: validation PSNR, dB", path=DECODER_CURVE, column="psnr_db"),
    Curve(title="U-Net and text: weighted noise error", path=UNET_CURVE, column="loss"),
)


def panel(curve: Curve) -> Image.Image:
    """A line chart with five grid lines each way."""
    picture = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), "white")
    pen, points = ImageDraw.Draw(picture), curve.points()
    x_high = max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)

    def place(x: float, y: float) -> tuple[float, float]:
        across = MARGIN_PX + (WIDTH_PX - 1.5 * MARGIN_PX) * x / x_high
        return across, HEIGHT_PX - MARGIN_PX - (HEIGHT_PX - 2 * MARGIN_PX) * (y - y_low) / (y_high - y_low)

    for part in range(5):
        x, y = x_high * part / 4, y_low + (y_high - y_low) * part / 4
        pen.line([place(0, y), place(x_high, y)], FAINT)
        pen.text((4, place(0, y)[1] - 6), f"{y:.3g}", INK)
        pen.text((place(x, y_low)[0] - 8, HEIGHT_PX - MARGIN_PX + 6), f"{x:.0f}", INK)
    for start, end in itertools.pairwise(points):
        pen.line([place(*start), place(*end)], LINE, width=2)
    pen.text((MARGIN_PX, 14), curve.title, INK)
    pen.text((WIDTH_PX // 2 - 20, HEIGHT_PX - 18), "minutes", INK)
    return picture


def main() -> None:
    picture = Image.new("RGB", (WIDTH_PX * len(CURVES), HEIGHT_PX), "white")
    for index, curve in enumerate(CURVES):
        picture.paste(panel(curve), (index * WIDTH_PX, 0))
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    picture.save(OUTPUT, optimize=True)
    print(OUTPUT)


if __name__ == "__main__":
    main()
