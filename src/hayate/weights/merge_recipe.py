"""Merges as expressions, such as `add_difference(A, merge(B, C, 0.3), C, 0.7, mbw="GRAD_V")`: a grammar of their own.

A word is a model's name, with or without quotes, or a number; nothing is ever run as a program.

    expression := name | "recipe" "(" name ")" | method "(" argument ("," argument)* ")"
    argument   := expression | number | key "=" (number | word)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from hayate.errors import UnknownName, UsageError, clip
from hayate.models.config import Family
from hayate.weights.merge_blocks import Ratio, read_number, read_ratio

MAX_CHARACTERS = 20_000
MAX_DEPTH = 16
MAX_SAVED = 8
MAX_SEED = 2**53
_TOKEN = re.compile(
    r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<mark>[(),=])|(?P<word>[^\s(),='"][^(),='"]*))"""
)


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
_TENSOR_CALCS = frozenset({"tensor", "tensor2"})
_TEXT_KEYS = ("mbw", "mbw_beta", "rules", "calc")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """An expression that was read."""

    text: str
    root: Node
    family: Family = Family.SD1
    """Decides what the block weights mean."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The models' names, each once, A first."""
        return tuple(dict.fromkeys(node.name for node in _walk(self.root) if isinstance(node, Model)))

    @property
    def loras(self) -> tuple[str, ...]:
        found = [name for node in _walk(self.root) if isinstance(node, WithLoras) for name, _ in node.loras]
        return tuple(dict.fromkeys(found))

    @property
    def is_merge(self) -> bool:
        """Whether it is more than a model's name."""
        return not isinstance(self.root, Model)

    def key(self, name: str) -> Hashable:
        """What decides the tensor called `name`: methods, inputs, and ratios after block weights."""
        return self.root.key(name, self.family)

    def for_family(self, family: Family) -> Recipe:
        """Raises: UsageError for block weights that such models don't have."""
        for node in _walk(self.root):
            for ratio in node.ratios if isinstance(node, Blend) else ():
                ratio.check(family)
        return replace(self, family=family)


def parse_recipe(text: str) -> Recipe:
    """The merge that an expression, or the JSON of a saved one, stands for.

    Raises: UsageError, UnknownName, which lists the nearest methods or keys.
    """
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"the recipe has {len(text):,} characters", hint=f"at most {MAX_CHARACTERS:,} are read")
    text = _expression_in(text.strip())
    reader = _Reader(text)
    root = reader.expression(0)
    if reader.token.kind != "end":
        raise reader.wrong("the end")
    return Recipe(text=text, root=root)


def expanded(recipe: Recipe, saved: Callable[[Model], str | None]) -> Recipe:
    """The recipe with every name that `saved` gives a text for replaced by that text, and the names in those too.

    Raises: UsageError for one that has itself in it; as `parse_recipe` does.
    """
    for _ in range(MAX_SAVED + 1):
        models = [node for node in _walk(recipe.root) if isinstance(node, Model)]
        found = {node.place: text for node in models if (text := saved(node)) is not None}
        if not found:
            return recipe
        text = recipe.text
        for (start, end), inner in sorted(found.items(), reverse=True):
            text = text[:start] + _expression_in(inner.strip()) + text[end:]
        recipe = parse_recipe(text)
    hint = f"at most {MAX_SAVED} saved recipes are read one inside of another"
    raise UsageError(f"the recipe {clip(recipe.text)!r} has itself in it, or too many others", hint=hint)


def is_recipe(text: str) -> bool:
    """Whether a model's name is an expression: it starts with a method and a bracket, or is a saved recipe."""
    method, bracket, _ = text.strip().partition("(")
    return bool(bracket and method.strip() in _KNOWN) or _expression_in(text.strip()) != text.strip()


def quoted(name: str) -> str:
    """A model's name as it can stand in an expression."""
    is_plain = re.fullmatch(r"[^\s(),='\"](?:[^(),='\"]*[^\s(),='\"])?", name) and not _is_number(name)
    return name if is_plain else f'"{name}"' if '"' not in name else f"'{name}'"


def _expression_in(text: str) -> str:
    """The expression that `sd_merge_recipe` in a file's metadata holds; another text is itself one."""
    if not text.startswith("{"):
        return text
    try:
        saved = json.loads(text)
    except (ValueError, RecursionError):
        return text
    expression = saved.get("expression") if isinstance(saved, dict) else None
    return expression.strip() if isinstance(expression, str) else text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    kind: str
    """mark, word, quoted or end."""
    text: str
    start: int


class _Reader:
    """Reads one token after the other, and knows the next one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = self._taken = 0
        self.token = self._read()

    def take(self) -> _Token:
        self._taken = self._end
        token, self.token = self.token, self._read()
        return token

    def wrong(self, wanted: str) -> UsageError:
        found = clip(repr(self.token.text), 40) if self.token.kind != "end" else "the end"
        message = f"the recipe {clip(self._text)!r} has {found} at character {self.token.start + 1}"
        return UsageError(message, hint=f"{wanted} was expected there; an example: merge(A, B, 0.35)")

    def expression(self, depth: int) -> Node:
        """Raises: UsageError, UnknownName."""
        if depth > MAX_DEPTH:
            raise UsageError("the recipe is nested too deeply", hint=f"{MAX_DEPTH} levels are read")
        if self.token.kind not in ("word", "quoted"):
            raise self.wrong("a model or a method")
        first = self.take()
        if first.kind == "word" and self._is_mark("("):
            node = _call(first.text, *self._arguments(depth))
            return replace(node, place=(first.start, self._taken)) if isinstance(node, Model) else node
        if not first.text.strip():
            raise UsageError("the recipe has an empty name", hint="give the name of a model")
        return Model(name=first.text, place=(first.start, self._taken))

    def _arguments(self, depth: int) -> tuple[list[_Argument], dict[str, str]]:
        """What stands in brackets: in order, and by key."""
        self.take()
        given: list[_Argument] = []
        keys: dict[str, str] = {}
        while not self._is_mark(")"):
            first = self.token
            if first.kind == "word" and _is_number(first.text):
                given.append(self.take().text)
            else:
                node = self.expression(depth + 1)
                if self._is_mark("=") and isinstance(node, Model):
                    self.take()
                    if node.name in keys:
                        raise UsageError(f"{clip(node.name)!r} is given twice", hint="leave one out")
                    keys[node.name] = self._value()
                else:
                    given.append(node)
            if not self._is_mark(")") and not self._skip(","):
                raise self.wrong("a comma or a closing bracket")
        self.take()
        return given, keys

    def _value(self) -> str:
        if self.token.kind not in ("word", "quoted"):
            raise self.wrong("a value")
        return self.take().text

    def _is_mark(self, mark: str) -> bool:
        return self.token.kind == "mark" and self.token.text == mark

    def _skip(self, mark: str) -> bool:
        is_there = self._is_mark(mark)
        if is_there:
            self.take()
        return is_there

    def _read(self) -> _Token:
        found = _TOKEN.match(self._text, self._end)
        if found is None:
            rest = self._text[self._end :].strip()
            start = len(self._text) - len(self._text[self._end :].lstrip())
            if rest:
                message = f"the recipe {clip(self._text)!r} has a quote at character {start + 1} that never ends"
                raise UsageError(message, hint="close it")
            return _Token(kind="end", text="", start=len(self._text))
        self._end = found.end()
        kind = "quoted" if found.lastgroup in ("double", "single") else str(found.lastgroup)
        text = found[str(found.lastgroup)]
        start = found.start(str(found.lastgroup)) - (kind == "quoted")
        return _Token(kind=kind, text=text.strip() if kind == "word" else text, start=start)


_Argument = Node | str
"""A part, or the text of a number."""
_KNOWN = (*METHODS, *SYNONYMS, "lora", "recipe")


def _call(name: str, given: Sequence[_Argument], keys: Mapping[str, str]) -> Node:
    if name == "lora":
        return _with_loras(given, keys)
    if name == "recipe":
        return _saved(given, keys)
    method = SYNONYMS.get(name, name)
    if method not in METHODS:
        raise UnknownName("way to merge", name, _KNOWN)
    return _blend(method, given, keys)


def _saved(given: Sequence[_Argument], keys: Mapping[str, str]) -> Model:
    """`recipe(A)`: what A itself was merged of, by its metadata."""
    if keys or len(given) != 1 or not isinstance(given[0], Model):
        raise UsageError("recipe takes the name of one merged model", hint="such as recipe(A)")
    return Model(name=given[0].name, is_saved=True)


def _with_loras(given: Sequence[_Argument], keys: Mapping[str, str]) -> WithLoras:
    """`lora(A, name, 0.8, other, 0.5)`; a strength left out is 1."""
    if keys:
        raise UnknownName("key of lora", next(iter(keys)), ("none: lora(A, name, 0.8)",))
    if len(given) < 2 or isinstance(given[0], str):
        raise UsageError("lora needs a model and a LoRA", hint='such as lora(A, "name", 0.8)')
    loras: list[tuple[str, float]] = []
    for each in given[1:]:
        if isinstance(each, Model):
            loras.append((each.name, 1.0))
        elif isinstance(each, str) and loras:
            loras[-1] = (loras[-1][0], read_number(each, "the strength"))
        else:
            raise UsageError("lora takes names and strengths after its model", hint='such as lora(A, "name", 0.8)')
    return WithLoras(part=given[0], loras=tuple(loras))


def _blend(method: str, given: Sequence[_Argument], keys: Mapping[str, str]) -> Blend:
    about = METHODS[method]
    ratio_keys = ("alpha", "beta")[: about.ratios]
    known = (*ratio_keys, *_TEXT_KEYS, *about.options)
    if wrong := next((key for key in keys if key not in known), None):
        raise UnknownName(f"key of {method}", wrong, known)
    parts = [each for each in given if not isinstance(each, str)]
    numbers = [each for each in given if isinstance(each, str)]
    _check_counts(method, len(parts), len(numbers))
    bases = {key: read_number(text, key) for key, text in zip(ratio_keys, numbers, strict=False)}
    if twice := next((key for key in bases if key in keys), None):
        raise UsageError(f"{method} has {twice} twice", hint="as a number or by its key")
    bases |= {key: read_number(keys[key], key) for key in ratio_keys if key in keys}
    calc = _calc_of(method, keys.get("calc", "normal"))
    options = tuple((key, _option(key, keys, default)) for key, default in about.options.items())
    blend = Blend(
        method=method,
        calc=calc,
        parts=tuple(parts),
        ratios=_ratios(ratio_keys, bases, keys),
        options=options,
    )
    _check_tensor_shares(blend)
    return blend


def _check_counts(method: str, parts: int, numbers: int) -> None:
    about = METHODS[method]
    low, high = about.models
    if not low <= parts <= high:
        wanted = str(low) if low == high else f"{low} to {high}"
        names = ", ".join("ABC"[:low])
        ratios = ", ".join(("0.35", "0.3")[: about.ratios])
        hint = f"it takes {wanted}: {method}({names}, {ratios})"
        raise UsageError(f"{method} has {parts} model{'s' * (parts != 1)}", hint=hint)
    if numbers > about.ratios:
        raise UsageError(f"{method} has {numbers} numbers", hint=f"it takes {about.ratios} after the models")


def _calc_of(method: str, calc: str) -> str:
    calcs = METHODS[method].calcs
    if calc not in calcs:
        home = next((name for name, each in METHODS.items() if calc in each.calcs), None)
        if home:
            raise UsageError(f"{method} can't calculate by {calc}", hint=f"{home} can; here: {', '.join(calcs)}")
        raise UnknownName(
            "calculation mode", calc, [*calcs, *(each for name in METHODS for each in METHODS[name].calcs)]
        )
    return calc


def _option(key: str, keys: Mapping[str, str], default: float) -> float:
    value = read_number(keys[key], key) if key in keys else default
    limits = {"keep": (0, 1), "drop": (0, 0.999), "beta": (0, 1), "gamma": (0, 100), "seed": (0, MAX_SEED)}
    low, high = limits[key]
    if not low <= value <= high:
        raise UsageError(f"{key} {value:g} is out of range", hint=f"{low:g} to {high:g} are possible")
    return value


def _ratios(names: Sequence[str], bases: Mapping[str, float], keys: Mapping[str, str]) -> tuple[Ratio, ...]:
    if "mbw_beta" in keys and "beta" not in names:
        raise UsageError("mbw_beta is for ways with two ratios", hint="triple_sum and sum_twice have them")
    texts = {"alpha": (keys.get("mbw", ""), keys.get("rules", "")), "beta": (keys.get("mbw_beta", ""), "")}
    return tuple(read_ratio(bases.get(name), *texts[name]) for name in names)


def _check_tensor_shares(blend: Blend) -> None:
    """Slices are shares of a whole, so that their ratios lie between 0 and 1."""
    if blend.calc not in _TENSOR_CALCS | {"extract"}:
        return
    ratio = blend.ratios[0]
    values = (ratio.base, *(value for _, value in ratio.blocks), *(rule.value for rule in ratio.rules))
    if wrong := next((value for value in values if not 0 <= value <= 1), None):
        raise UsageError(f"{blend.calc} can't take the ratio {wrong:g}", hint="0 to 1 are possible")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text.strip(), re.IGNORECASE) is not None


def _walk(node: Node) -> list[Node]:
    """The node and all below it, A first."""
    if isinstance(node, WithLoras):
        return [node, *_walk(node.part)]
    below = node.parts if isinstance(node, Blend) else ()
    return [node, *(inner for part in below for inner in _walk(part))]
