"""Fit the built-in model's preview factors: least squares from its latents to what its own VAE makes of them.

    python scripts/fit_previews.py

Prints the table for `hayate.pipeline.previews` and R², of pictures that the fit has seen and of others.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hayate.pipeline.cast import Cast
from hayate.pipeline.prepared import prepare_request
from hayate.pipeline.text2image import sample, tell
from hayate.pipeline.workspace import Workspace
from hayate.request import TextToImage
from hayate.settings import load_settings

PROMPTS = (
    "a red sun over purple mountains, sea",
    "green hills under a blue sky, clouds",
    "night, stars and a white moon over snow",
    "a yellow desert, orange sky, two suns",
    "a forest at dawn, mist",
    "a red sunset over red hills",
    "a purple mountain, pink sky, clouds",
    "a white winter morning, pale sun",
    "dark mountains, aurora, stars",
    "an orange autumn forest by a river",
    "a lake in the rain, grey",
    "a red moon, black night, sea",
    "summer meadow, blue mountains, yellow sun",
)
HELD_OUT = 3
"""The last prompts, on which the fit is judged."""


def main() -> None:
    """Samples, decodes, fits and prints."""
    settings = load_settings({}, environment={})
    pairs: list[tuple[Tensor, Tensor]] = []
    with Workspace(settings) as workspace, torch.inference_mode():
        for number, prompt in enumerate(PROMPTS):
            request = TextToImage(prompt=prompt, steps=15, seed=100 + number, batch_size=4, batch_count=1)
            prepared = prepare_request(request, settings, None, workspace)
            guard = Cast(prepared, settings, workspace).open()
            seeds = next(prepared.job.batches())
            _, latents = sample(guard, prepared.job, tell(guard, prepared.job), seeds, lambda done, rows: None)
            pixels = torch.cat([guard.decode(one) for one in latents.split(1)])
            pairs.append((rows_of(latents), rows_of(functional.avg_pool2d(pixels, 8))))
    seen, held = pairs[:-HELD_OUT], pairs[-HELD_OUT:]
    factors = torch.linalg.lstsq(with_one(torch.cat([x for x, _ in seen])), torch.cat([y for _, y in seen])).solution
    for row in factors.tolist():
        print("(" + ", ".join(f"{value:.4f}" for value in row) + "),")
    print(
        f"R² {r_squared(factors, seen):.3f} of what it was fitted to, {r_squared(factors, held):.3f} of other pictures"
    )


def rows_of(planes: Tensor) -> Tensor:
    """[B, C, h, w] → [B·h·w, C] float64."""
    return planes.double().movedim(1, -1).flatten(0, -2)


def with_one(rows: Tensor) -> Tensor:
    """A column of ones beside the others, for the constant."""
    return torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)


def r_squared(factors: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> float:
    """How much of the pixels' variance the fit explains, all three colours together."""
    x, y = torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])
    missed = ((with_one(x) @ factors - y) ** 2).sum()
    return float(1 - missed / ((y - y.mean(0)) ** 2).sum())


if __name__ == "__main__":
    main()
