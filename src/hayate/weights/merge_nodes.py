"""What expressions of merges are made of: models, ways to mix them, and LoRAs in them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from hayate.models.config import Family
from hayate.weights.merge_blocks import Ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to merge: how many models it takes, which ratios, how it can calculate, and its further numbers."""

    title: str
    models: tuple[int, int]
    ratios: int
    calcs: tuple[str, ...] = ("normal",)
    options: Mapping[str, float] = field(default_factory=dict)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "merge": Method(
            title="Weighted sum",
            models=(2, 2),
            ratios=1,
            calcs=("normal", "cosineA", "cosineB", "tensor", "tensor2"),
            options={"beta": 0.0},
        ),
        "add_difference": Method(
            title="Add difference",
            models=(3, 3),
            ratios=1,
            calcs=("normal", "trainDifference", "smoothAdd", "extract"),
            options={"beta": 0.0, "gamma": 1.0},
        ),
        "triple_sum": Method(title="Triple sum", models=(3, 3), ratios=2),
        "sum_twice": Method(title="Sum twice", models=(3, 3), ratios=2),
        "scale": Method(title="self", models=(1, 1), ratios=1, calcs=("normal", "self")),
        "ties": Method(title="TIES", models=(2, 8), ratios=1, options={"keep": 0.2}),
        "dare": Method(title="DARE", models=(2, 8), ratios=1, options={"drop": 0.5, "seed": 0.0}),
        "slerp": Method(title="SLERP", models=(2, 2), ratios=1),
    }
)
SYNONYMS = MappingProxyType({"weighted_sum": "merge", "self": "scale"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as it is: A1111's "No interpolation"."""

    name: str
    is_saved: bool = False
    """Whether the recipe in that file's metadata is meant, not the file; `expanded` leaves none."""
    place: tuple[int, int] = field(default=(0, 0), compare=False, repr=False)
    """Where it stands in the text."""

    def key(self, name: str, family: Family) -> Hashable:
        del name, family
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """Several models by one of the METHODS."""

    method: str
    calc: str
    parts: tuple[Node, ...]
    ratios: tuple[Ratio, ...]
    options: tuple[tuple[str, float], ...] = ()

    def key(self, name: str, family: Family) -> Hashable:
        """What decides the tensor called `name`."""
        ratios = tuple(ratio.at(name, family) for ratio in self.ratios)
        # The range of similarities is one of whole models, so that every tensor depends on all of both.
        parts = self.parts if self.calc.startswith("cosine") else tuple(part.key(name, family) for part in self.parts)
        return self.method, self.calc, parts, ratios, self.options

    def option(self, name: str) -> float:
        return dict(self.options)[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class WithLoras:
    """A model with LoRAs in its weights, each by its strength; their order does not matter."""

    part: Node
    loras: tuple[tuple[str, float], ...]

    def key(self, name: str, family: Family) -> Hashable:
        return "lora", self.part.key(name, family), self.loras


Node = Model | Blend | WithLoras


def walk(node: Node) -> list[Node]:
    """The node and all below it, A first."""
    if isinstance(node, WithLoras):
        return [node, *walk(node.part)]
    below = node.parts if isinstance(node, Blend) else ()
    return [node, *(inner for part in below for inner in walk(part))]
