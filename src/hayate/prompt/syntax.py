"""The brackets of a prompt as a tree, read in one pass with a stack.

A bracket that matches nothing, or holds what its form does not allow, is text, and so is every bracket around it;
what is complete inside it keeps its meaning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias

from hayate.prompt.grammar import MAX_DEPTH

TOKEN = re.compile(r"[^\\()\[\]:|]+|\\.|[\\()\[\]:|]")
WHEN = re.compile(r"\s*([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """`[before:after:when]`: one text up to a moment, another from then on."""

    before: tuple[Node, ...]
    after: tuple[Node, ...]
    when: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternation:
    """`[one|other|…]`: the next text at each step, round and round."""

    options: tuple[tuple[Node, ...], ...]


Node: TypeAlias = "str | Switch | Alternation | tuple[Node, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """Why a text has no tree."""

    reason: str


def parse_tree(text: str) -> tuple[Node, ...] | Unreadable:
    """The tree of `text`, or the reason why all of it is plain text.

    Cost: linear; each piece is moved to another level once.
    """
    groups = [_Group(opener="")]
    for match in TOKEN.finditer(text):
        token = match[0]
        if token in {"(", "["}:
            groups.append(_Group(opener=token))
            if len(groups) > MAX_DEPTH + 1:
                return Unreadable(reason=f"brackets are nested deeper than {MAX_DEPTH}")
        elif token in {")", "]"}:
            _close(groups, token)
        elif token in {":", "|"}:
            groups[-1].separate(token)
        elif token == "\\":
            return Unreadable(reason="a backslash stands at the end of a line")
        else:
            groups[-1].fields[-1].append(token)
    _spill(groups)
    if "|" in groups[0].separators:
        return Unreadable(reason="a '|' is not inside [one|other]")
    return _join(groups[0].fields, groups[0].separators)


@dataclass(slots=True)
class _Group:
    """What stands between a bracket and here, in fields divided by `:` and `|`."""

    opener: str
    fields: list[list[Node]] = field(default_factory=lambda: [[]])
    separators: list[str] = field(default_factory=list)

    def separate(self, separator: str) -> None:
        self.separators.append(separator)
        self.fields.append([])


def _close(groups: list[_Group], closer: str) -> None:
    """Ends the innermost group with `closer`, or makes text of all open brackets if that has no meaning."""
    node = _node(groups[-1], closer)
    if node is None:
        _spill(groups)
        groups[0].fields[-1].append(closer)
    else:
        groups.pop()
        groups[-1].fields[-1].append(node)


def _node(group: _Group, closer: str) -> Node | None:
    """The meaning of a closed group, or None if it has none."""
    if group.opener + closer == "()":
        return _bracketed(group, closer) if group.separators in ([], [":"]) else None
    if group.opener + closer != "[]":
        return None
    if not group.separators:
        return _bracketed(group, closer)
    if ":" not in group.separators:
        return Alternation(options=tuple(map(tuple, group.fields)))
    return _switch(group)


def _bracketed(group: _Group, closer: str) -> Node:
    return (group.opener, *_join(group.fields, group.separators), closer)


def _switch(group: _Group) -> Switch | None:
    """`[after:when]` or `[before:after:when]`; a `|` in a field is text, as A1111 documents it."""
    fields, separators = group.fields, group.separators
    when = WHEN.fullmatch(_text(fields[-1])) if separators[-1] == ":" else None
    if when is None or separators.count(":") > 2:
        return None
    start = separators.index(":") + 1 if separators.count(":") == 2 else 0
    before = _join(fields[:start], separators[: start - 1]) if start else ()
    after = _join(fields[start:-1], separators[start:-1])
    return Switch(before=before, after=after, when=when[1])


def _join(fields: list[list[Node]], separators: list[str]) -> tuple[Node, ...]:
    """The nodes of `fields` in order, with the separators between them as text."""
    nodes = list(fields[0])
    for separator, field_nodes in zip(separators, fields[1:], strict=True):
        nodes += [separator, *field_nodes]
    return tuple(nodes)


def _text(nodes: list[Node]) -> str:
    """The text of `nodes`, or nothing if they are more than text."""
    texts = [node for node in nodes if isinstance(node, str)]
    return "".join(texts) if len(texts) == len(nodes) else ""


def _spill(groups: list[_Group]) -> None:
    """Makes text of every open bracket: what they hold goes to the ground level, in order."""
    ground = groups[0]
    for group in groups[1:]:
        ground.fields[-1].append(group.opener)
        ground.fields[-1] += group.fields[0]
        for separator, nodes in zip(group.separators, group.fields[1:], strict=True):
            ground.separate(separator)
            ground.fields[-1] += nodes
    del groups[1:]
