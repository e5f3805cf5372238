"""Dataclasses as JSON and back: for bodies of jobs, the database, and the pipe between server and worker."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from hayate.errors import UnknownName, UsageError, clip

Kind = TypeVar("Kind")
_TITLES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def as_object(value: Any) -> Any:
    """A value as JSON can hold it; of dataclasses without what is as by default."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: as_object(own) for each in fields(value) if not _is_default(each, own := _of(value, each))}
    if isinstance(value, Mapping):
        return {str(key): as_object(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_object(each) for each in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def read_object(kind: type[Kind], words: Any, title: str) -> Kind:
    """The dataclass that JSON describes; `title` says in errors what it is.

    Raises: UnknownName for a field that does not exist, UsageError for one that is missing or of another type.
    """
    if not isinstance(words, Mapping):
        raise UsageError(f"{title} is no object", hint='{"…": …}')
    hints = hints_of(kind)
    for name in words:
        if name not in hints:
            raise UnknownName(f"field of {title}", str(name), hints)
    for each in fields(kind):  # pyright: ignore[reportArgumentType]
        if each.name not in words and each.default is MISSING and each.default_factory is MISSING:
            raise UsageError(f"{title} has no {each.name}", hint=f'"{each.name}": …')
    return kind(**{name: _read(hints[name], value, f"{title}: {name}") for name, value in words.items()})


@cache
def hints_of(kind: type) -> Mapping[str, Any]:
    """The types of a dataclass' fields. Cost: they are resolved once."""
    hints = get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind)}


def _of(value: Any, each: Any) -> Any:
    return getattr(value, each.name)


def _is_default(each: Any, value: Any) -> bool:
    if each.default is not MISSING:
        return type(value) is type(each.default) and value == each.default
    return each.default_factory is not MISSING and value == each.default_factory()


def _read(hint: Any, value: Any, title: str) -> Any:
    """`value` as a type hint wants it."""
    if get_origin(hint) in (Union, types.UnionType):
        others = [each for each in get_args(hint) if each is not type(None)]
        is_nothing = value is None and len(others) < len(get_args(hint))
        return None if is_nothing else _read(others[0], value, title)
    if hint in _TITLES:
        return _plain(hint, value, title)
    if hint is Path:
        return Path(_plain(str, value, title))
    if isinstance(hint, type) and is_dataclass(hint):
        return read_object(hint, value, title)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _member(hint, value, title)
    return _contained(hint, value, title)


def _contained(hint: Any, value: Any, title: str) -> Any:
    """A tuple or a mapping; what has another hint, such as Any, is left as it is."""
    kind = get_origin(hint)
    if kind is tuple:
        return _many(get_args(hint), value, title)
    is_mapping = isinstance(kind, type) and issubclass(kind, Mapping)
    return _mapping(get_args(hint)[1], value, title) if is_mapping else value


def _plain(kind: type, value: Any, title: str) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and is_number:
        return float(value)
    if not isinstance(value, kind) or (kind is int and not is_number):
        raise UsageError(f"{title}: {clip(repr(value))} is not {_TITLES[kind]}", hint=f"give {_TITLES[kind]}")
    return value


def _many(kinds: tuple[Any, ...], value: Any, title: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise UsageError(f"{title}: {clip(repr(value))} is not a list", hint="[…]")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise UsageError(f"{title} has {len(value)} values", hint=f"{len(kinds)} are wanted")
    return tuple(_read(kind, each, title) for kind, each in zip(kinds, value, strict=True))


def _mapping(kind: Any, value: Any, title: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{title}: {clip(repr(value))} is no object", hint='{"…": …}')
    return {key: _read(kind, each, f"{title}.{clip(key)}") for key, each in value.items()}


def _member(kind: type[Enum], value: Any, title: str) -> Enum:
    known = {member.value: member for member in kind}
    if value not in known:
        raise UnknownName(title, str(value), map(str, known))
    return known[value]
