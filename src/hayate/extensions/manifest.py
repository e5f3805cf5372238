"""`extension.toml`: what an extension is and adds, readable without running a line of it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hayate.errors import UnknownName, UsageError, clip
from hayate.extensions.control import KINDS, Control
from hayate.extensions.kinds import HOOKS

FILE = "extension.toml"
MAX_BYTES, MAX_HOOKS, MAX_CHARACTERS = 64 * 1024, 100, 500
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")
VERSION = re.compile(r"\d{1,6}(?:\.\d{1,6}){0,3}[A-Za-z0-9.+-]{0,20}")
BOUND = re.compile(r"(>=|<)\s*(\d{1,6}(?:\.\d{1,6}){0,2})")
PLACE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
WINDOWS_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))})
_KEYS = ("name", "version", "summary", "hayate", "requires", "needs_picture", "hooks", "controls")
_CONTROL_KEYS = ("script", "key", "kind", "default", "label", "help", "low", "high", "step", "choices")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an extension says of itself."""

    name: str
    version: str
    summary: str
    hayate: str = ""
    """The versions of Hayate that it is for, such as ">=0.1, <2"."""
    requires: tuple[str, ...] = ()
    """Packages, as pip reads them."""
    hooks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By kind of hook: the name of what it adds, and the place "module:object" of that."""
    controls: tuple[Control, ...] = ()
    """What a job says to the extension as a whole."""
    script_controls: Mapping[str, tuple[Control, ...]] = field(default_factory=dict)
    """By script: its fields."""
    needs_picture: frozenset[str] = frozenset()
    """The scripts that need a picture to start from."""

    @property
    def title(self) -> str:
        """Name and version, as the infotext says them."""
        return f"{self.name} {self.version}"


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file.

    Raises: UsageError, with the file's name, for what is none.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{FILE} can't be read: {error.strerror}", hint="check its permissions") from error
    return parse_raw(raw)


def parse_raw(raw: bytes) -> Manifest:
    """The manifest in a file's bytes.

    Raises: UsageError.
    """
    if len(raw) > MAX_BYTES:
        raise UsageError(f"{FILE} is larger than {MAX_BYTES // 1024} kB", hint="it has a few lines")
    try:
        table = tomllib.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{FILE} is not TOML: {clip(reason, 120)}", hint="see docs/extensions.md") from error
    return parse_manifest(table)


def parse_manifest(table: Mapping[str, Any]) -> Manifest:
    """The manifest of a TOML table.

    Raises: UsageError, UnknownName for a key that does not exist.
    """
    for key in table:
        if key not in _KEYS:
            raise UnknownName(f"key of {FILE}", key, _KEYS)
    name = _text(table, "name")
    check_name(name)
    version, needed = _text(table, "version"), _text(table, "hayate", "")
    if not VERSION.fullmatch(version):
        raise UsageError(f"{FILE}: version {clip(version)!r} is no version", hint='version = "1.0.0"')
    bounds_of(needed)
    hooks = _hooks(table.get("hooks", {}))
    controls = _controls(table.get("controls", []), hooks.get("scripts", {}))
    return Manifest(
        name=name,
        version=version,
        summary=_text(table, "summary"),
        hayate=needed,
        requires=_texts(table.get("requires", []), "requires"),
        hooks=hooks,
        controls=controls.pop("", ()),
        script_controls=controls,
        needs_picture=_needing(table.get("needs_picture", []), hooks.get("scripts", {})),
    )


def check_name(name: str) -> None:
    """Raises: UsageError for a name that is not a plain folder's on every system."""
    if not NAME.fullmatch(name) or name in WINDOWS_DEVICES:
        hint = "small letters, digits, - and _; at most 64, the first a letter or a digit"
        raise UsageError(f"{clip(name)!r} can't be an extension's name", hint=hint)


def bounds_of(needed: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The bounds of ">=0.1, <2", each with its version.

    Raises: UsageError.
    """
    bounds = []
    for part in filter(None, map(str.strip, needed.split(","))):
        found = BOUND.fullmatch(part)
        if not found:
            raise UsageError(f"{FILE}: hayate = {clip(needed)!r} can't be read", hint='hayate = ">=0.1, <2"')
        bounds.append((found[1], _numbers(found[2])))
    return tuple(bounds)


def is_for(needed: str, version: str) -> bool:
    """Whether an extension for the versions `needed` is for this one."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    ours = _numbers(found[0]) if found else ()
    return all((ours >= bound) if mark == ">=" else (ours < bound) for mark, bound in bounds_of(needed))


def _numbers(text: str) -> tuple[int, ...]:
    """A version's numbers, filled up to three, so that 1 and 1.0.0 are the same."""
    numbers = [int(part) for part in text.split(".")]
    return tuple(numbers + [0] * (3 - len(numbers)))


def _text(table: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if value is None:
        raise UsageError(f"{FILE} has no {key}", hint=f'{key} = "…"')
    return _printable(value, key)


def _printable(value: Any, key: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_CHARACTERS or not (value.isprintable()):
        hint = f"a text in one line, at most {MAX_CHARACTERS} characters"
        raise UsageError(f"{FILE}: {key} is {clip(repr(value))}", hint=hint)
    return value


def _texts(values: Any, key: str) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise UsageError(f"{FILE}: {key} is {clip(repr(values))}", hint=f'{key} = ["…", "…"]')
    return tuple(_printable(value, key) for value in values)


def _hooks(table: Any) -> dict[str, dict[str, str]]:
    hooks: dict[str, dict[str, str]] = {}
    for kind, places in _table(table, "hooks").items():
        if kind not in HOOKS:
            raise UnknownName(f"hook in {FILE}", kind, HOOKS)
        hooks[kind] = {_printable(name, f"hooks.{kind}"): place for name, place in _table(places, kind).items()}
        for name, place in hooks[kind].items():
            if not isinstance(place, str) or not PLACE.fullmatch(place):
                hint = f'[hooks.{kind}] "{clip(name, 30)}" = "module:object"'
                raise UsageError(f"{FILE}: hooks.{kind} has the place {clip(repr(place))}", hint=hint)
    if sum(map(len, hooks.values())) > MAX_HOOKS:
        raise UsageError(f"{FILE} has more than {MAX_HOOKS} hooks", hint="make several extensions of it")
    return hooks


def _table(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{FILE}: {key} is {clip(repr(value))}", hint=f"[{key}] and lines below it")
    return value


def _needing(names: Any, scripts: Mapping[str, str]) -> frozenset[str]:
    for name in (found := _texts(names, "needs_picture")):
        if name not in scripts:
            raise UnknownName(f"script of needs_picture in {FILE}", name, scripts)
    return frozenset(found)


def _controls(rows: Any, scripts: Mapping[str, str]) -> dict[str, tuple[Control, ...]]:
    """By the script that they belong to; those of the extension itself under an empty name."""
    if not isinstance(rows, list):
        raise UsageError(f"{FILE}: controls is {clip(repr(rows))}", hint="[[controls]] for each one")
    found: dict[str, tuple[Control, ...]] = {}
    for row in rows:
        script, control = _script(_table(row, "controls"), scripts), _control(row)
        if script and control.key == "name":
            raise UsageError(f"{FILE}: a script's control can't be called name", hint="its script is called by it")
        if any(control.key == each.key for each in found.get(script, ())):
            raise UsageError(f"{FILE} has two controls of one key", hint="give each a key of its own")
        found[script] = (*found.get(script, ()), control)
    return found


def _script(row: Mapping[str, Any], scripts: Mapping[str, str]) -> str:
    name = _text(row, "script", "")
    if name and name not in scripts:
        raise UnknownName(f"script of a control in {FILE}", name, scripts)
    return name


def _control(row: Mapping[str, Any]) -> Control:
    for key in row:
        if key not in _CONTROL_KEYS:
            raise UnknownName(f"key of a control in {FILE}", key, _CONTROL_KEYS)
    key, kind = _text(row, "key"), _text(row, "kind")
    if not KEY.fullmatch(key):
        raise UsageError(f"{FILE}: a control's key can't be {clip(key)!r}", hint="small letters, digits and _")
    if kind not in KINDS:
        raise UnknownName(f"kind of control in {FILE}", kind, KINDS)
    if "default" not in row:
        raise UsageError(f"{FILE}: the control {key} has no default", hint="default = …")
    made = Control(
        key=key,
        kind=kind,  # pyright: ignore[reportArgumentType]
        default=row["default"],
        label=_worded(row.get("label", key), "label"),
        help=_worded(row.get("help", ""), "help"),
        choices=_texts(row.get("choices", []), "choices"),
        **{name: _bound(row, name) for name in ("low", "high", "step")},
    )
    made.checked(made.default, f"{FILE}: the control {key}: default")
    return made


def _bound(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise UsageError(f"{FILE}: {name} is {clip(repr(value))}", hint=f"{name} = 1.0")
    return value


def _worded(value: Any, key: str) -> dict[str, str]:
    """A text by language; a plain one is English."""
    words: Mapping[str, Any] | Sequence[Any] = {"en": value} if isinstance(value, str) else value
    if not isinstance(words, dict) or "en" not in words:
        raise UsageError(f"{FILE}: {key} is {clip(repr(value))}", hint=f'{key} = {{ en = "…", ja = "…" }}')
    return {str(language): _printable(text, key) for language, text in words.items()}
