"""The textual inversions that a prompt names, found in their folder, and their vectors for the text encoders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from hayate.errors import HayateError, clip
from hayate.models.config import ModelConfig
from hayate.prompt.chunks import Emphasis, spans_of
from hayate.prompt.inversions import NONE, Inversions, Unit, inversions
from hayate.prompt.tokenizer import Tokenizer
from hayate.weights.embedding import read_embedding
from hayate.weights.embedding_files import embedding_files


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inverted:
    """What a job's texts name."""

    words: Inversions = NONE
    vectors: tuple[Tensor, ...] = ()
    """For each text encoder the table that the words' ids count in. Shapes: [vectors, width], float32."""
    paths: Mapping[str, Path] = field(default_factory=dict)
    """The files by their names, in the order in which the texts have them."""

    def joined(self, other: Inverted) -> dict[str, Path]:
        """The files of both."""
        return {**self.paths, **other.paths}


NOTHING = Inverted()


def find_inversions(
    texts: Iterable[str],
    style: tuple[Tokenizer, Emphasis],
    folder: Path,
    config: ModelConfig,
    notes: list[str],
) -> Inverted:
    """The embeddings of `folder` whose names stand in `texts`; of one that can't be used a note says why, and its name
    stays words.

    Source: A1111 behaviour, docs/compat.md.
    """
    files = embedding_files(folder)
    if not files:
        return NOTHING
    tokenizer, emphasis = style
    names = {name: tuple(tokenizer.encode(name)) for name in files}
    spans = [tokenizer.encode(span.text) for text in texts for span in spans_of(text, emphasis) if not span.is_break]
    while used := _named(spans, names):
        read: dict[str, tuple[Tensor, ...]] = {}
        for name in used:
            try:
                vectors = read_embedding(files[name], config)
            except HayateError as error:
                notes.append(f"the embedding {clip(name, 80)} is left out, its name stays words: {error}")
                vectors = None
            if vectors is None:
                del names[name]
            else:
                read[name] = vectors
        if len(read) == len(used):
            return Inverted(
                words=inversions((names[name], len(vectors[0])) for name, vectors in read.items()),
                vectors=tuple(torch.cat(each) for each in zip(*read.values(), strict=True)),
                paths={name: files[name] for name in used},
            )
    return NOTHING


def _named(spans: Sequence[Sequence[int]], names: Mapping[str, Unit]) -> list[str]:
    """Which names the texts have, each once, in order."""
    order = list(names)
    words = inversions((tokens, 1) for tokens in names.values())
    first = min((ids[0] for each in words.by_first.values() for _, ids in each), default=0)
    found = [unit[0] - first for span in spans for unit in words.units(span) if unit[0] >= first > 0]
    return [order[number] for number in dict.fromkeys(found)]
