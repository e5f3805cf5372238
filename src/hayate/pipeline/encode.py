"""Prompts to what the U-Net is conditioned on.

Source: A1111 behaviour, docs/compat.md: the stages of one prompt are encoded as a batch, filled up with empty
chunks to the longest; emphasis multiplies the encoder's output and restores the batch's mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hayate.engines.base import Engine
from hayate.models.clip import Inserted
from hayate.models.config import Family
from hayate.models.layers import sinusoidal_embedding
from hayate.pipeline.inversions import NOTHING, Inverted
from hayate.prompt.chunks import Emphasis, tokenize
from hayate.prompt.inversions import FIRST_VECTOR
from hayate.prompt.tokenizer import Tokenizer

SIZE_EMBEDDING_WIDTH = 256
AESTHETIC_SCORE, NEGATIVE_AESTHETIC_SCORE = 6.0, 2.5
"""What SDXL's refiner is told of a prompt and of a negative prompt. Source: A1111 behaviour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextStyle:
    """How texts become conditioning, apart from the texts."""

    tokenizer: Tokenizer
    emphasis: Emphasis = Emphasis.ORIGINAL
    comma_backtrack: int = 20
    clip_skip: int | None = None
    """Which hidden state from the end SD1's encoder gives; None: the model's own. SD2 and SDXL ignore it."""
    width_px: int
    height_px: int
    inverted: Inverted = NOTHING
    """The textual inversions that the texts name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditioning:
    """What one text tells the U-Net."""

    context: Tensor
    """[77·chunks, width] float32"""
    vector: Tensor | None
    """[vector_width] float32, or None for a family without vector conditioning."""


def encode_texts(
    engine: Engine, texts: Sequence[str], style: TextStyle, *, is_negative: bool = False
) -> list[Conditioning]:
    """One Conditioning for each of `texts`, all of the same length.

    SDXL's empty negative prompt is all zeros, as the model was trained.
    """
    contexts, pooled = [], None
    for index, config in enumerate(engine.config.text):
        tokens = _tokenize(texts, config.pad_id, style)
        context, pooled = _encode_chunks(engine, index, tokens, style)
        contexts.append(context)
    context = torch.cat(contexts, dim=-1)
    if engine.config.family in (Family.SDXL, Family.SDXL_REFINER) and is_negative and not any(texts):
        context, pooled = torch.zeros_like(context), None if pooled is None else torch.zeros_like(pooled)
    vectors = _vectors(engine, pooled, style, is_negative=is_negative)
    return [
        Conditioning(context=row, vector=None if vectors is None else vectors[index])
        for index, row in enumerate(context)
    ]


def apply_emphasis(context: Tensor, weights: Tensor, emphasis: Emphasis) -> Tensor:
    """`context` with every token multiplied by its weight; Original then restores the mean.

    Shapes: context [B, 77, width], weights [B, 77].
    """
    if emphasis not in (Emphasis.ORIGINAL, Emphasis.NO_NORM) or bool((weights == 1).all()):
        return context
    weighted = context * weights[..., None]
    return weighted if emphasis is Emphasis.NO_NORM else weighted * (context.mean() / weighted.mean())


def _tokenize(texts: Sequence[str], pad_id: int, style: TextStyle) -> tuple[Tensor, Tensor]:
    """Ids and weights of every text, filled up with empty chunks to the longest.

    Shapes: → ids [texts, chunks, 77] int64, weights [texts, chunks, 77] float32.
    """
    empty, *tokens = (
        tokenize(
            text,
            style.tokenizer,
            pad_id=pad_id,
            comma_backtrack=style.comma_backtrack,
            emphasis=style.emphasis,
            words=style.inverted.words,
        )
        for text in ("", *texts)
    )
    longest = max(len(item.ids) for item in tokens)
    ids = [np.concatenate([item.ids, *[empty.ids] * (longest - len(item.ids))]) for item in tokens]
    weights = [np.concatenate([item.weights, *[empty.weights] * (longest - len(item.ids))]) for item in tokens]
    return torch.from_numpy(np.stack(ids)), torch.from_numpy(np.stack(weights))


def _encode_chunks(
    engine: Engine, encoder: int, tokens: tuple[Tensor, Tensor], style: TextStyle
) -> tuple[Tensor, Tensor | None]:
    """Contexts of all chunks side by side, and the pooled vector of the first.

    Shapes: → [texts, 77·chunks, width], [texts, projection_width] or None.
    """
    ids, weights = tokens[0], tokens[1].to(engine.device)
    skip = style.clip_skip if engine.config.family is Family.SD1 else None
    contexts, pooled = [], None
    for index in range(ids.shape[1]):
        plain, inserted = _inserted(ids[:, index], encoder, style.inverted)
        encoding = engine.encode_text(encoder, plain, skip, inserted)
        contexts.append(apply_emphasis(encoding.context, weights[:, index], style.emphasis))
        pooled = encoding.pooled if index == 0 else pooled
    return torch.cat(contexts, dim=1), pooled


def _inserted(ids: Tensor, encoder: int, inverted: Inverted) -> tuple[Tensor, Inserted | None]:
    """Ids that every vocabulary has, and the vectors that stand over some of them."""
    where = ids >= FIRST_VECTOR
    if not bool(where.any()):
        return ids, None
    return ids.masked_fill(where, 0), Inserted(where, inverted.vectors[encoder][ids[where] - FIRST_VECTOR])


def _vectors(engine: Engine, pooled: Tensor | None, style: TextStyle, *, is_negative: bool) -> Tensor | None:
    """SDXL's vector: the pooled text, then original size, crop and target size as sinusoids.

    Its refiner is told an aesthetic score in place of the target size.

    Shapes: → [texts, vector_width] or None.
    Source: Podell et al. 2023, section 2.2.
    """
    if not engine.config.unet.vector_width or pooled is None:
        return None
    size = [float(style.height_px), float(style.width_px)]
    last = size
    if engine.config.family is Family.SDXL_REFINER:
        last = [NEGATIVE_AESTHETIC_SCORE if is_negative else AESTHETIC_SCORE]
    sizes = torch.tensor([*size, 0.0, 0.0, *last])
    embedded = sinusoidal_embedding(sizes, SIZE_EMBEDDING_WIDTH).flatten().to(pooled)
    return torch.cat([pooled, embedded.expand(len(pooled), -1)], dim=-1)
