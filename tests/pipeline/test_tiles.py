"""The VAE in tiles: a decoder that looks at one place gives the same, seams fade, the built-in pictures stay."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hayate.errors import UsageError
from hayate.pipeline.guards import Guard
from hayate.pipeline.text2image import sample, tell
from hayate.pipeline.tiles import OVERLAP, check_tile, decode_tiled, smaller_tile, tile_starts
from hayate.weights.builtin import builtin_model
from tests.pipeline.faulty import file_engine, job_of

VAE_OWN_PSNR_DB = 33.7
"""What the built-in VAE loses of a held-out picture (docs/demo-model.md): tiles must cost less than that."""


def local_decoder(latents: Tensor) -> Tensor:
    """A decoder whose pixels each depend on one latent."""
    return F.interpolate(latents[:, :3] * 2 + latents[:, 3:], scale_factor=8.0, mode="nearest")


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tile=st.integers(8, 24),
    batch=st.integers(1, 2),
    data=st.data(),
)
def test_a_local_decoder_gives_the_same_picture(
    height: int, width: int, tile: int, batch: int, data: st.DataObject
) -> None:
    seed = data.draw(st.integers(0, 2**32))
    latents = torch.randn((batch, 4, height, width), generator=torch.Generator().manual_seed(seed))
    largest = 0

    def decode(part: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, *part.shape[2:])
        return local_decoder(part)

    picture, whole = decode_tiled(decode, latents, tile * 8), local_decoder(latents)
    assert picture.shape == whole.shape
    assert largest <= tile
    # Each pixel is a mean of at most a few equal numbers: float32 rounds it some times.
    assert torch.allclose(picture, whole, rtol=1e-5, atol=1e-5)


@given(size=st.integers(1, 600), tile=st.integers(8, 200))
def test_tiles_cover_a_side_and_overlap(size: int, tile: int) -> None:
    starts = tile_starts(size, tile)
    if size <= tile:
        assert starts == [0]
        return
    assert starts[0] == 0
    assert starts[-1] + tile == size
    for before, after in pairwise(starts):
        assert 0 < after - before <= tile - int(tile * OVERLAP)
    assert len(starts) == 2 or (len(starts) - 2) * (tile - int(tile * OVERLAP)) + tile < size


@given(width=st.integers(17, 60))
def test_the_difference_of_tiles_fades_over_their_overlap(width: int) -> None:
    """Tiles that differ by 1 as a whole: from one to the other the picture goes no faster than in straight lines."""
    count = 0

    def decode(part: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return torch.full((1, 3, 8 * part.shape[2], 8 * part.shape[3]), float(count % 2))

    picture = decode_tiled(decode, torch.zeros((1, 4, 16, width)), 128)
    assert count == len(tile_starts(width, 16)) > 1
    assert picture.min() >= 0
    assert picture.max() == 1
    assert picture[..., 0].eq(1).all()
    steepest = picture.diff(dim=3).abs().max()
    if count == 2:
        assert steepest <= 1 / (8 * (32 - width)) + 1e-6
    else:  # where three tiles meet, two lines add up
        assert steepest <= 2 / (8 * int(16 * OVERLAP))


def test_the_built_in_models_pictures_keep_more_than_the_vae_itself_loses() -> None:
    engine = file_engine(builtin_model())
    errors, at_edges, elsewhere = [], [], []
    edges = [px for start in tile_starts(32, 16) for px in (8 * start - 1, 8 * (start + 16) - 1) if 0 <= px < 255]
    for seed, prompt in enumerate(("red sun, day, green mountains, meadow", "sunset, purple mountains, sea, a boat")):
        job = job_of(
            builtin_model(), prompt=prompt, negative_prompt="", width_px=256, height_px=256, steps=8, seed=seed
        )
        guard = Guard(engine=engine)
        _, latents = sample(guard, job, tell(guard, job), next(job.batches()), lambda done, rows: None)
        whole = engine.decode(latents)
        guard.tile_px = 128
        tiled = guard.decode(latents)
        assert guard.tiles == 9
        assert tiled.shape == whole.shape
        assert whole.std() > 0.1
        difference = tiled - whole
        errors.append((tiled.clamp(-1, 1) - whole.clamp(-1, 1)).square().mean().item())
        steps = difference.diff(dim=3).abs().mean(dim=(0, 1, 2))
        at_edges.append(steps[edges].mean().item())
        elsewhere.append(steps.mean().item())
    assert min(errors) > 0
    assert 10 * np.log10(4 / np.mean(errors)) >= VAE_OWN_PSNR_DB
    # No seams: at tiles' edges the difference changes from pixel to pixel no more than twice as much as anywhere.
    assert np.mean(at_edges) <= 2 * np.mean(elsewhere)


@pytest.mark.parametrize("tile_px", [-8, 0, 8, 56, 100, 513])
def test_an_impossible_tile_is_refused(tile_px: int) -> None:
    with pytest.raises(UsageError, match=str(tile_px)):
        check_tile(tile_px)
    with pytest.raises(UsageError):
        decode_tiled(local_decoder, torch.zeros((1, 4, 8, 8)), tile_px)


@given(height=st.integers(1, 512), width=st.integers(1, 512), first=st.none() | st.integers(8, 300))
def test_tiles_shrink_until_they_end(height: int, width: int, first: int | None) -> None:
    tile = None if first is None else first * 8
    for _ in range(12):
        smaller = smaller_tile(height * 8, width * 8, tile)
        if smaller is None:
            break
        check_tile(smaller)
        assert smaller < min(max(height, width) * 8, tile or 10**9)
        tile = smaller
    else:
        pytest.fail("never ends")
