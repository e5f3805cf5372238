"""Block weights: a ratio of its own for each block of the U-Net (MBW), and for elements inside the blocks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hayate.errors import UnknownName, UsageError, clip
from hayate.models.config import Family
from hayate.weights.detect import UNET_PREFIX

BASE = "BASE"
_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.")
_RANGE = re.compile(r"([A-Z]+)(\d+)-([A-Z]*)(\d+)")


def _names(inner: int) -> tuple[str, ...]:
    ways = [[f"{way}{number:02}" for number in range(inner)] for way in ("IN", "OUT")]
    return (BASE, *ways[0], "M00", *ways[1])


SD_BLOCKS, XL_BLOCKS = _names(12), _names(9)
"""26 names for SD1, SD2 and the refiner, 20 for SDXL."""


def blocks_of(family: Family) -> tuple[str, ...]:
    return XL_BLOCKS if family is Family.SDXL else SD_BLOCKS


def block_of(name: str, family: Family) -> str:
    """The block that a tensor belongs to: the embeddings of time and size go with IN00, the last layers with the last.

    Text encoders and VAE are BASE.
    Source: merge-block-weighted's and SuperMerger's behaviour.
    """
    if not name.startswith(UNET_PREFIX):
        return BASE
    inner = name.removeprefix(UNET_PREFIX)
    if found := _BLOCK.match(inner):
        return f"{'IN' if found[1] == 'input' else 'OUT'}{int(found[2]):02}"
    if inner.startswith("middle_block."):
        return "M00"
    return blocks_of(family)[-1] if inner.startswith("out.") else "IN00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A ratio for the tensors of some blocks whose names contain some text."""

    blocks: tuple[str, ...]
    """None of them: every block."""
    is_not_blocks: bool
    elements: tuple[str, ...]
    is_not_elements: bool
    value: float

    def applies(self, name: str, block: str) -> bool:
        in_blocks = not self.blocks or (block in self.blocks) != self.is_not_blocks
        has_element = any(element in name for element in self.elements)
        return in_blocks and (not self.elements or has_element != self.is_not_elements)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How much of another model, tensor by tensor."""

    base: float
    blocks: tuple[tuple[str, float], ...] = ()
    """The blocks that differ from the base; block weights that name all of them set the base, too."""
    rules: tuple[Rule, ...] = ()
    """The last one that applies to a tensor is the one that counts."""
    is_preset: bool = False
    """Whether the blocks are a shape over SD's, of which SDXL takes those that it has."""

    def at(self, name: str, family: Family) -> float:
        """The ratio for the tensor called `name`."""
        if not (self.blocks or self.rules):
            return self.base
        block = block_of(name, family)
        value = dict(self.blocks).get(block, self.base)
        return next((rule.value for rule in reversed(self.rules) if rule.applies(name, block)), value)

    def check(self, family: Family) -> None:
        """Raises: UsageError for blocks that models of this family do not have."""
        own = () if self.is_preset else tuple(block for block, _ in self.blocks)
        for name in (*own, *(block for rule in self.rules for block in rule.blocks)):
            if name not in blocks_of(family):
                count = len(blocks_of(family))
                hint = f"its {count} are {BASE}, IN00 to {blocks_of(family)[count // 2 - 1]}, M00, OUT00 to"
                raise UsageError(f"{family.value.upper()} has no block {name}", hint=f"{hint} {blocks_of(family)[-1]}")


def read_ratio(base: float | None, mbw: str = "", rules: str = "") -> Ratio:
    """A ratio from its texts: block weights as numbers, by name ("IN00-03=0.2, M00=1") or a preset; elemental rules.

    26 or 20 numbers hold the base; 25 or 19 leave it to `base`, which also takes the place of a preset's 0.
    Raises: UsageError, UnknownName.
    """
    blocks = _read_blocks(mbw, base)
    if base is None and not any(name == BASE for name, _ in blocks):
        raise UsageError("a ratio is missing", hint="give a number such as 0.35, or block weights with the base")
    base = dict(blocks).get(BASE, 0.0) if base is None else base
    own = tuple((name, value) for name, value in blocks if name != BASE)
    return Ratio(base=base, blocks=own, rules=read_rules(rules), is_preset=mbw.strip().upper() in PRESETS)


def read_rules(text: str) -> tuple[Rule, ...]:
    """SuperMerger's elemental rules: "OUT03-05:attn2 attn1.to_out:0.5, NOT M00:NOT attn:0.2", by commas or lines.

    Raises: UsageError, UnknownName.
    """
    return tuple(_read_rule(each.strip()) for each in re.split(r"[,\n]", text) if each.strip())


def read_number(text: str, what: str) -> float:
    """Raises: UsageError for anything but a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{what} {clip(text.strip(), 30)!r} is no number", hint="write one such as 0.35")
    return value


def _read_blocks(text: str, base: float | None) -> tuple[tuple[str, float], ...]:
    text = text.strip()
    if not text:
        return ()
    if "=" in text:
        return _read_named(text)
    if "," not in text and not text[0].isdigit():
        if text.upper() not in PRESETS:
            raise UnknownName("preset of block weights", text, PRESETS)
        return tuple(zip(SD_BLOCKS, PRESETS[text.upper()], strict=True))[0 if base is None else 1 :]
    values = [read_number(each, "the block weight") for each in text.split(",")]
    names = {len(each): each for each in (SD_BLOCKS, XL_BLOCKS)} | {
        len(each) - 1: each[1:] for each in (SD_BLOCKS, XL_BLOCKS)
    }
    if len(values) not in names or (base is not None and names[len(values)][0] == BASE):
        given = " beside a ratio, which is BASE already" if base is not None and len(values) in names else ""
        hint = "26 for SD1 and SD2, 20 for SDXL; without BASE beside a ratio, 25 or 19; a preset; or IN00-03=0.2"
        raise UsageError(f"{len(values)} block weights{given} are not right", hint=hint)
    return tuple(zip(names[len(values)], values, strict=True))


def _read_named(text: str) -> tuple[tuple[str, float], ...]:
    table: dict[str, float] = {}
    for each in re.split(r"[,\n]", text):
        names, _, value = each.partition("=")
        number = read_number(value, f"the weight of {clip(names.strip(), 40)!r}")
        table |= dict.fromkeys(_read_names(names.split()), number)
    return tuple(table.items())


def _read_names(words: Sequence[str]) -> tuple[str, ...]:
    """The blocks that names and ranges such as IN04-06 or IN04-IN06 mean."""
    found: list[str] = []
    for word in words:
        ends = _RANGE.fullmatch(word.upper())
        if ends and ends[3] in ("", ends[1]):
            chosen = [f"{ends[1]}{number:02}" for number in range(int(ends[2]), min(int(ends[4]), 99) + 1)]
        else:
            chosen = list(_between(word.upper()))
        wrong = next((name for name in chosen if name not in SD_BLOCKS), None if chosen else word)
        if wrong:
            raise UnknownName("block", wrong, SD_BLOCKS)
        found += chosen
    return tuple(dict.fromkeys(found))


def _between(word: str) -> Sequence[str]:
    """One block, or all from one to another of another kind, such as IN10-OUT01."""
    first, dash, last = word.partition("-")
    if not dash or first not in SD_BLOCKS or last not in SD_BLOCKS:
        return [word]
    return SD_BLOCKS[SD_BLOCKS.index(first) : SD_BLOCKS.index(last) + 1]


def _read_rule(text: str) -> Rule:
    fields = text.split(":")
    if len(fields) != 3:
        hint = "write BLOCKS:ELEMENTS:RATIO, such as IN04-06:attn:0.3"
        raise UsageError(f"the rule {clip(text)!r} has not three parts", hint=hint)
    blocks, elements = fields[0].split(), fields[1].split()
    is_not_blocks, is_not_elements = blocks[:1] == ["NOT"], elements[:1] == ["NOT"]
    return Rule(
        blocks=_read_names(blocks[is_not_blocks:]),
        is_not_blocks=is_not_blocks,
        elements=tuple(elements[is_not_elements:]),
        is_not_elements=is_not_elements,
        value=read_number(fields[2], f"the ratio of {clip(text)!r}"),
    )


def _smoothstep(x: float) -> float:
    return x * x * (3 - 2 * x)


def _shape(function: Callable[[float], float], base: float = 0.0) -> tuple[float, ...]:
    """A curve over the 25 blocks from IN00 to OUT11, at 0, 1/24, … 1."""
    return (base, *(function(place / 24) for place in range(25)))


def _ones(*ranges: tuple[int, int], value: float = 1.0) -> tuple[float, ...]:
    """`value` in ranges of the blocks from IN00 (0) to OUT11 (24), both ends in; 0 elsewhere."""
    inside = {place for first, last in ranges for place in range(first, last + 1)}
    return (0.0, *(value if place in inside else 0.0 for place in range(25)))


PRESETS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "GRAD_V": _shape(lambda x: abs(1 - 2 * x)),
        "GRAD_A": _shape(lambda x: 1 - abs(1 - 2 * x)),
        "FLAT_25": _shape(lambda x: 0.25),
        "FLAT_75": _shape(lambda x: 0.75),
        "WRAP08": _ones((0, 3), (21, 24)),
        "WRAP12": _ones((0, 5), (19, 24)),
        "WRAP14": _ones((0, 6), (18, 24)),
        "WRAP16": _ones((0, 7), (17, 24)),
        "MID12_50": _ones((5, 18), value=0.5),
        "OUT07": _ones((18, 24)),
        "OUT12": _ones((13, 24)),
        "RING08_5": _ones((6, 9), (15, 18)),
        "RING10_5": _ones((5, 9), (15, 19)),
        "RING10_3": _ones((6, 10), (14, 18)),
        "SMOOTHSTEP": _shape(_smoothstep),
        "REVERSE-SMOOTHSTEP": _shape(lambda x: 1 - _smoothstep(x)),
        "COSINE": _shape(lambda x: (1 + math.cos(math.pi * x)) / 2),
        "REVERSE_COSINE": _shape(lambda x: (1 - math.cos(math.pi * x)) / 2),
        "ALL_A": _shape(lambda x: 0.0),
        "ALL_B": _shape(lambda x: 1.0, base=1.0),
    }
)
"""The well-known shapes over SD's 26 blocks; SDXL takes those of the blocks that it has.

Source: the presets of merge-block-weighted and SuperMerger.
"""
