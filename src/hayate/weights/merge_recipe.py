"""Merges as expressions, such as `add_difference(A, merge(B, C, 0.3), C, 0.7, mbw="GRAD_V")`: a grammar of their own.

A word is a model's name, with or without quotes, or a number; nothing is ever run as a program.

    expression := name | "recipe" "(" name ")" | method "(" argument ("," argument)* ")"
    argument   := expression | number | key "=" (number | word)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

from hayate.errors import UsageError, clip
from hayate.models.config import Family
from hayate.weights.merge_calls import KNOWN, Argument, call
from hayate.weights.merge_nodes import Blend, Model, Node, WithLoras, walk

MAX_CHARACTERS = 20_000
MAX_DEPTH = 16
MAX_SAVED = 8
_TOKEN = re.compile(
    r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<mark>[(),=])|(?P<word>[^\s(),='"][^(),='"]*))"""
)


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
        return tuple(dict.fromkeys(node.name for node in walk(self.root) if isinstance(node, Model)))

    @property
    def loras(self) -> tuple[str, ...]:
        found = [name for node in walk(self.root) if isinstance(node, WithLoras) for name, _ in node.loras]
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
        for node in walk(self.root):
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
        models = [node for node in walk(recipe.root) if isinstance(node, Model)]
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
    return bool(bracket and method.strip() in KNOWN) or _expression_in(text.strip()) != text.strip()


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
            node = call(first.text, *self._arguments(depth))
            return replace(node, place=(first.start, self._taken)) if isinstance(node, Model) else node
        if not first.text.strip():
            raise UsageError("the recipe has an empty name", hint="give the name of a model")
        return Model(name=first.text, place=(first.start, self._taken))

    def _arguments(self, depth: int) -> tuple[list[Argument], dict[str, str]]:
        """What stands in brackets: in order, and by key."""
        self.take()
        given: list[Argument] = []
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


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text.strip(), re.IGNORECASE) is not None
