"""Makes the README's 3×3 grid with the exported model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from evaluate import Painter
from export import TARGET
from PIL import Image

from hayate.request import TextToImage

OUTPUT = Path(__file__).parents[1] / "docs/images/grid.png"
PROMPTS = (
    "a red sun over purple mountains, sea",
    "a house in the snow at night, yellow moon, blue mountains",
    "a cactus in the desert at sunset, orange sun, red mountains",
    "boat on the sea at sunset, yellow sun, gray mountains",
    "pines on a meadow by day, white sun, green mountains",
    "forest at night, blue moon, purple mountains",
    "snow, pine trees, red sun, blue mountains, dusk",
    "a cottage in the forest, orange sun over green mountains, daylight",
    "boat on the sea at night, white moon, red mountains",
)
SEED = 1


def main() -> None:
    painter = Painter(TARGET)
    pictures = [painter(TextToImage(prompt=prompt, seed=SEED))[0] for prompt in PROMPTS]
    rows = [np.concatenate(pictures[start : start + 3], axis=1) for start in (0, 3, 6)]
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, axis=0)).save(OUTPUT, optimize=True)
    print(OUTPUT)


if __name__ == "__main__":
    main()
