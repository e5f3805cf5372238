"""CLIP text encoders in the two layouts that checkpoints carry: transformers' (CLIP-L) and open_clip's (H, bigG)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hayate.models.config import TextConfig, TextLayout
from hayate.models.layers import (
    Attention,
    Embedding,
    LayerNorm,
    Linear,
    merge_heads,
    parameter,
    scaled_dot_product,
    split_heads,
)


class TextEncoding(NamedTuple):
    """What a text encoder makes of one 77-token chunk."""

    context: Tensor
    """[B, 77, width]"""
    pooled: Tensor | None
    """[B, projection_width], or None when the encoder has no projection."""


class Inserted(NamedTuple):
    """Vectors that stand in the place of tokens: textual inversions."""

    where: Tensor
    """[B, 77] bool"""
    vectors: Tensor
    """[number of True, width], in the order of `where`'s rows."""


def inserted_in(hidden: Tensor, inserted: Inserted | None) -> Tensor:
    """Token embeddings with the vectors in their places. Shapes: [B, 77, width]."""
    if inserted is None:
        return hidden
    where, vectors = inserted.where.to(hidden.device), inserted.vectors.to(hidden)
    return hidden.masked_scatter(where[..., None], vectors)


def text_encoder(config: TextConfig, attention: Attention = scaled_dot_product) -> CLIPText | OpenCLIPText:
    """The text encoder whose attribute names are those in the file."""
    kind = CLIPText if config.layout is TextLayout.CLIP else OpenCLIPText
    return kind(config, attention)


class CLIPText(nn.Module):
    """OpenAI's CLIP text encoder with transformers' names (inside `text_model.`).

    Source: Radford et al. 2021.
    """

    def __init__(self, config: TextConfig, attention: Attention = scaled_dot_product) -> None:
        super().__init__()
        self.config = config
        self.embeddings = CLIPEmbeddings(config)
        self.encoder = CLIPLayers(config, attention)
        self.final_layer_norm = LayerNorm(config.width)

    def forward(self, ids: Tensor, skip: int | None = None, inserted: Inserted | None = None) -> TextEncoding:
        """The context `skip` layers before the end (1: the last), the file's own choice by default.

        Shapes: ids [B, 77] int64.
        """
        hidden = self.embeddings(ids, inserted)
        skip = self.config.skip if skip is None else skip
        for layer in self.encoder.layers[: self.config.depth + 1 - skip]:
            hidden = layer(hidden)
        return TextEncoding(self.final_layer_norm(hidden) if self.config.has_final_norm else hidden, None)


class CLIPEmbeddings(nn.Module):
    """Token and position embeddings, added."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.token_embedding = Embedding(config.vocabulary, config.width)
        self.position_embedding = Embedding(config.positions, config.width)

    def forward(self, ids: Tensor, inserted: Inserted | None = None) -> Tensor:
        return inserted_in(self.token_embedding(ids), inserted) + self.position_embedding.weight[: ids.shape[1]]


class CLIPLayers(nn.Module):
    """All transformer layers, in a list under the name `layers`."""

    def __init__(self, config: TextConfig, attention: Attention) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CLIPLayer(config, attention) for _ in range(config.depth))


class CLIPLayer(nn.Module):
    """A pre-norm transformer layer with transformers' names."""

    def __init__(self, config: TextConfig, attention: Attention) -> None:
        super().__init__()
        self.layer_norm1 = LayerNorm(config.width)
        self.self_attn = CLIPAttention(config, attention)
        self.layer_norm2 = LayerNorm(config.width)
        self.mlp = CLIPMLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class CLIPMLP(nn.Module):
    """Two linear layers around the activation that the encoder was trained with."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.activation = quick_gelu if config.is_quick_gelu else F.gelu
        self.fc1 = Linear(config.width, config.mlp_width)
        self.fc2 = Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class CLIPAttention(nn.Module):
    """Causal self-attention with separate projections."""

    def __init__(self, config: TextConfig, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.heads = config.heads
        self.q_proj = Linear(config.width, config.width)
        self.k_proj = Linear(config.width, config.width)
        self.v_proj = Linear(config.width, config.width)
        self.out_proj = Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(part(x), self.heads) for part in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(merge_heads(self.attention(q, k, v, is_causal=True)))


class OpenCLIPText(nn.Module):
    """open_clip's text encoder (ViT-H of SD2, ViT-bigG of SDXL) with open_clip's names.

    Source: Ilharco et al., open_clip.
    """

    def __init__(self, config: TextConfig, attention: Attention = scaled_dot_product) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = Embedding(config.vocabulary, config.width)
        self.positional_embedding = parameter(config.positions, config.width, std=0.01)
        self.transformer = OpenCLIPLayers(config, attention)
        self.ln_final = LayerNorm(config.width)
        self.text_projection = parameter(config.width, config.projection_width, std=config.width**-0.5)

    def forward(self, ids: Tensor, skip: int | None = None, inserted: Inserted | None = None) -> TextEncoding:
        """The context `skip` layers before the end and the projected, normed state of the end token.

        Shapes: ids [B, 77] int64. The end token is the first of the highest id.
        """
        hidden = inserted_in(self.token_embedding(ids), inserted) + self.positional_embedding[: ids.shape[1]]
        skip = self.config.skip if skip is None else skip
        context = hidden
        for index, layer in enumerate(self.transformer.resblocks):
            hidden = layer(hidden)
            if index == self.config.depth - skip:
                context = hidden
        ends = hidden[torch.arange(ids.shape[0], device=ids.device), ids.argmax(dim=-1)]
        pooled = self.ln_final(ends) @ self.text_projection
        return TextEncoding(self.ln_final(context) if self.config.has_final_norm else context, pooled)


class OpenCLIPLayers(nn.Module):
    """All transformer layers, in a list under the name `resblocks`."""

    def __init__(self, config: TextConfig, attention: Attention) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(OpenCLIPLayer(config, attention) for _ in range(config.depth))


class OpenCLIPLayer(nn.Module):
    """A pre-norm transformer layer with open_clip's names."""

    def __init__(self, config: TextConfig, attention: Attention) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.width)
        self.attn = OpenCLIPAttention(config, attention)
        self.ln_2 = LayerNorm(config.width)
        self.mlp = OpenCLIPMLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class OpenCLIPMLP(nn.Module):
    """Two linear layers around the activation that the encoder was trained with."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.activation = quick_gelu if config.is_quick_gelu else F.gelu
        self.c_fc = Linear(config.width, config.mlp_width)
        self.c_proj = Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.activation(self.c_fc(x)))


class OpenCLIPAttention(nn.Module):
    """Causal self-attention with one projection for queries, keys and values."""

    def __init__(self, config: TextConfig, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.heads = config.heads
        self.in_proj_weight = parameter(3 * config.width, config.width, std=config.width**-0.5)
        self.in_proj_bias = parameter(3 * config.width, std=0.0)
        self.out_proj = Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        packed = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = (split_heads(part, self.heads) for part in packed.chunk(3, dim=-1))
        return self.out_proj(merge_heads(self.attention(q, k, v, is_causal=True)))


def quick_gelu(x: Tensor) -> Tensor:
    """x·σ(1.702·x), the approximation of GELU that OpenAI's CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)
