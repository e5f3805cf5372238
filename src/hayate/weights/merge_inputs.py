"""The models that go into a merge: opened, under today's names, and checked against each other before any computing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from hayate.errors import TensorMismatch, UsageError, clip
from hayate.models.config import ModelConfig
from hayate.weights.detect import UNET_PREFIX, detect
from hayate.weights.header import TensorInfo
from hayate.weights.merge_nodes import Model, Node, WithLoras
from hayate.weights.read import Checkpoint, Extent

CONV_IN = UNET_PREFIX + "input_blocks.0.0.weight"
LATENT_CHANNELS = 4
DROPPED = ("model_ema.",)
"""A training's second copy, which is nobody's average after a merge."""
_OLD_TEXT, _NEW_TEXT = "cond_stage_model.transformer.", "cond_stage_model.transformer.text_model."
_FIRST_ONLY = frozenset({"add_difference", "ties", "dare", "scale"})
"""Ways that change A and so have its tensors only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One opened model, under the names that today's files have."""

    checkpoint: Checkpoint
    names: Mapping[str, str]
    """Today's name of each tensor, and the file's."""
    config: ModelConfig

    def info(self, name: str) -> TensorInfo | None:
        return self.checkpoint.tensors[self.names[name]] if name in self.names else None

    def get(self, name: str) -> Tensor:
        return self.checkpoint.get(self.names[name])

    def extent(self, name: str) -> Extent:
        return self.checkpoint.extent(self.names[name])


def source_of(checkpoint: Checkpoint) -> Source:
    """An opened model as an input. Raises: ModelFileError."""
    own = {name: name for name in checkpoint.tensors}
    if _NEW_TEXT + "embeddings.token_embedding.weight" not in own:  # as the oldest SD1 files and some merges are
        own = {_NEW_TEXT + name.removeprefix(_OLD_TEXT) if name.startswith(_OLD_TEXT) else name: name for name in own}
    infos = {name: checkpoint.tensors[theirs] for name, theirs in own.items()}
    config = detect(
        infos, checkpoint.metadata, source=str(checkpoint.path), peek=lambda name: checkpoint.get(own[name])
    )
    return Source(checkpoint=checkpoint, names=MappingProxyType(own), config=config)


def is_copied(name: str, info: TensorInfo) -> bool:
    """Whether a tensor is no weight: whole numbers, positions, and what is outside all networks.

    Source: A1111 behaviour, which merges names with "model" in them and leaves CLIP's positions.
    """
    return not info.is_float or "model" not in name or name.endswith("position_ids") or math.prod(info.shape) == 0


def names_of(node: Node, sources: Mapping[str, Source]) -> tuple[str, ...]:
    """A's tensors, then the weights that only the others have, where the way to merge mixes models."""
    if isinstance(node, Model):
        return tuple(name for name in sources[node.name].names if not name.startswith(DROPPED))
    if isinstance(node, WithLoras):
        return names_of(node.part, sources)
    found = dict.fromkeys(names_of(node.parts[0], sources))
    for part in () if node.method in _FIRST_ONLY else node.parts[1:]:
        found |= dict.fromkeys(name for name in names_of(part, sources) if "model" in name)
    return tuple(found)


def check_families(sources: Mapping[str, Source]) -> Iterator[str]:
    """Notes about models that differ in what they predict. Raises: TensorMismatch for other families."""
    (first_name, first), *others = sources.items()
    for name, source in others:
        ours, theirs = first.config, source.config
        if ours.family is not theirs.family:
            message = (
                f"{clip(first_name)!r} is {ours.family.value.upper()} and {clip(name)!r} is "
                f"{theirs.family.value.upper()}: their tensors can't be mixed"
            )
            raise TensorMismatch(message, hint="merge models of one family")
        if theirs.prediction is not ours.prediction:
            yield (
                f"{clip(name)!r} predicts {theirs.prediction.value} and {clip(first_name)!r} {ours.prediction.value}: "
                "the result is taken for the latter"
            )


def missing_notes(sources: Mapping[str, Source], names: Sequence[str]) -> Iterator[str]:
    """What the inputs lack of the result."""
    for model, source in sources.items():
        lacks = [name for name in names if name not in source.names and not is_copied(name, info_of(name, sources))]
        if lacks:
            count = f"{len(lacks)} tensors are" if len(lacks) > 1 else "1 tensor is"
            yield f"{count} not in {clip(model)!r}, and taken from the others as they are: {clip(lacks[0], 100)}"


def info_of(name: str, sources: Mapping[str, Source]) -> TensorInfo:
    """The tensor in the first model that has it."""
    return next(info for source in sources.values() if (info := source.info(name)) is not None)


def check_shape(node: Node, name: str, sources: Mapping[str, Source]) -> tuple[int, ...] | None:
    """The shape of a node's tensor, None where it has none.

    Raises: TensorMismatch, UsageError where those of its parts can't be mixed.
    """
    if isinstance(node, Model):
        info = sources[node.name].info(name)
        return None if info is None else info.shape
    if isinstance(node, WithLoras):
        return check_shape(node.part, name, sources)
    shapes = [shape for part in node.parts if (shape := check_shape(part, name, sources)) is not None]
    if not shapes:
        return None
    first, *others = shapes
    wrong = next((other for other in others if not _fits(name, first, other)), None)
    if wrong is None and len({_without_kernel(other) for other in others}) > 1:
        wrong = next(other for other in others if other != others[0])
        first = others[0]
    if wrong is not None:
        raise _misfit(name, first, wrong)
    return first


def _fits(name: str, first: Sequence[int], other: Sequence[int]) -> bool:
    if _without_kernel(first) == _without_kernel(other):
        return True
    is_wider = name == CONV_IN and len(first) == len(other) == 4 and other[1] == LATENT_CHANNELS < first[1]
    return is_wider and (first[0], *first[2:]) == (other[0], *other[2:])


def _without_kernel(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[:2]) if len(shape) == 4 and tuple(shape[2:]) == (1, 1) else tuple(shape)


def _misfit(name: str, first: Sequence[int], other: Sequence[int]) -> TensorMismatch | UsageError:
    if name == CONV_IN and first[1] == LATENT_CHANNELS < other[1]:
        return UsageError(
            "an inpainting or pix2pix model can only be A, the first one", hint="change the order of the models"
        )
    message = f"tensor {clip(name, 120)!r} has the shapes {list(first)} and {list(other)}, which can't be mixed"
    return TensorMismatch(message, hint="merge models of one architecture")
