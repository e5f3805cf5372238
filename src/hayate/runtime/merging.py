"""Token merging: self-attention over fewer tokens, of which those that are most alike stand together.

Source: Bolya & Hoffman 2023 (Token Merging for Fast Stable Diffusion), with destinations that are always the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from hayate.models.unet import UNet
from hayate.runtime.evidence import Evidence

SEED = 2023
"""Of the generator, used by nothing else, that chooses the destinations."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Merged:
    """Which tokens stand together."""

    home: Tensor
    """[B·N]: the row, among all rows of merged tokens, where each token went."""
    rows: int
    """Merged tokens of each input."""

    def merge(self, x: Tensor) -> Tensor:
        """The mean of the tokens that stand together. Shapes: [B, N, C] → [B, rows, C]."""
        flat = x.reshape(-1, x.shape[-1])
        total = flat.new_zeros((len(x) * self.rows, x.shape[-1])).index_add_(0, self.home, flat)
        counts = torch.bincount(self.home, minlength=len(total)).to(x.dtype)
        return (total / counts[:, None]).view(len(x), self.rows, -1)

    def spread(self, y: Tensor) -> Tensor:
        """What was computed of merged tokens, given to each that stands in them. Shapes: [B, rows, C] → [B, N, C]."""
        return y.reshape(-1, y.shape[-1]).index_select(0, self.home).view(len(y), -1, y.shape[-1])


class TokenMerging:
    """Gives a self-attention its input with a share of the tokens merged; counts what it did."""

    def __init__(self, ratio: float) -> None:
        self.calls = 0
        self.tokens = 0
        """Tokens that were merged into others."""
        self.ratio = ratio

    def __call__(self, attend: nn.Module, x: Tensor, residual: Tensor, size: tuple[int, int]) -> Tensor:
        merged = match(x, size, self.ratio)
        self.calls += 1
        self.tokens += len(x) * (x.shape[1] - merged.rows)
        return residual + merged.spread(attend(merged.merge(x)))

    def evidence(self) -> Evidence:
        """How many tokens were merged so far."""
        detail = f"{self.tokens} tokens merged in {self.calls} self-attentions"
        return Evidence(name="token merging", requested=f"{self.ratio:g}", active=self.tokens > 0, detail=detail)


def set_merging(unet: UNet, merging: TokenMerging | None) -> int:
    """Lets the self-attentions at the highest resolution attend by `merging`, or by themselves; how many there are."""
    blocks = unet.largest_transformers()
    for block in blocks:
        block.merging = merging
    return len(blocks)


def match(x: Tensor, size: tuple[int, int], ratio: float) -> Merged:
    """Which of the tokens of a map of `size` stand together: one of each 2×2 stays, and others join the one most alike.

    Shapes: x [B, h·w, C]. `ratio` is the share that joins, at most what isn't a destination.
    Cost: a product of [B, ¾·h·w, C] with [B, C, ¼·h·w].
    """
    batch, tokens = x.shape[:2]
    stay, move = destinations(*size, x.device)
    direction = torch.nn.functional.normalize(x, dim=-1)
    likeness = direction[:, move] @ direction[:, stay].transpose(1, 2)
    best, nearest = likeness.max(dim=-1)
    order = best.argsort(dim=-1, descending=True, stable=True)
    count = min(int(tokens * ratio), len(move))
    joining, apart = order[:, :count], order[:, count:]
    rows = tokens - count
    home = torch.empty((batch, tokens), dtype=torch.int64, device=x.device)
    home[:, stay] = torch.arange(len(stay), device=x.device)
    home.scatter_(1, move[apart], torch.arange(len(stay), rows, device=x.device).expand(batch, -1))
    home.scatter_(1, move[joining], nearest.gather(1, joining))
    first_rows = rows * torch.arange(batch, device=x.device)
    return Merged(home=(home + first_rows[:, None]).flatten(), rows=rows)


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)
def destinations(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The tokens that others may join, one in each 2×2 at a place of its own, and all others; the same every time.

    Places drawn once do better than one corner for all, whose picture shows a grid, and draw from no other generator.
    Shapes: two of [tokens], of height·width in all.
    """
    rows, columns = -(-height // 2), -(-width // 2)
    places = torch.randint(4, (rows, columns), generator=torch.Generator().manual_seed(SEED))
    y = (2 * torch.arange(rows)[:, None] + places // 2).clamp(max=height - 1)  # at odd edges a cell is cut in half
    x = (2 * torch.arange(columns) + places % 2).clamp(max=width - 1)
    is_destination = torch.zeros(height * width, dtype=torch.bool)
    is_destination[(y * width + x).flatten()] = True
    stay, move = (part.nonzero()[:, 0].to(device) for part in (is_destination, ~is_destination))
    return stay, move
