"""A line of the settings file; its other lines and comments stay as they are."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from hayate.doctor.finding import Action
from hayate.doctor.remedies.base import Outcome
from hayate.doctor.undo import Done
from hayate.errors import OutputError, UsageError
from hayate.settings import KEYS, PREFIX, load_settings, settings_file


class SettingLine:
    """Writes `key = value`, as `load_settings` reads it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def plan(self, action: Action) -> Done:
        variable = PREFIX + action.subject.upper()
        if self._environment.get(variable):
            raise UsageError(f"{variable} is set and decides in any case", hint=f"unset {variable} yourself")
        file = settings_file(self._environment)
        line = _line(file, action.subject)
        before = {"file": str(file), "value": action.value} | ({} if line is None else {"line": line})
        return Done(job=action.job, subject=action.subject, before=before)

    def do(self, done: Done) -> Outcome:
        file, key, value = Path(done.before["file"]), done.subject, done.before["value"]
        is_text = KEYS[key].kind in ("text", "path")
        line = f"{key} = {json.dumps(value) if is_text else value}"
        content = _content(file)
        _write(file, _with(content, key, line))
        try:
            load_settings(file=file, environment={})
        except UsageError:
            _write(file, content)
            raise
        return Outcome(text=f"{file}: {line}", after={"line": line})

    def undo(self, done: Done) -> str:
        file, before = Path(done.before["file"]), done.before.get("line")
        now = _line(file, done.subject)
        if done.after and now != done.after["line"]:
            raise UsageError(f"{file}: {done.subject} was changed since", hint="it stays as it is")
        _write(file, _with(_content(file), done.subject, before))
        return f"{file}: {before or f'{done.subject} is the default again'}"


def _content(file: Path) -> str:
    """Raises: OutputError for a file that is there and can't be read."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise OutputError(f"{file} can't be read: {error}", hint="mend the settings file first") from error


def _line(file: Path, key: str) -> str | None:
    found = _pattern(key).search(_content(file))
    return found[0] if found else None


def _with(content: str, key: str, line: str | None) -> str:
    """The content with the key's line replaced, added at the end, or taken out."""
    if _pattern(key).search(content):
        if line is None:
            return re.sub(rf"{_pattern(key).pattern}\n?", "", content, count=1, flags=re.MULTILINE)
        return _pattern(key).sub(lambda found: line, content, count=1)
    if line is None:
        return content
    return f"{content}{'' if not content or content.endswith(chr(10)) else chr(10)}{line}\n"


def _pattern(key: str) -> re.Pattern[str]:
    return re.compile(rf"^[ \t]*[\"']?{re.escape(key)}[\"']?[ \t]*=.*$", re.MULTILINE)


def _write(file: Path, content: str) -> None:
    """Replaces the file whole. Raises: OutputError."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(content, encoding="utf-8")
        os.replace(temporary, file)  # noqa: PTH105
    except OSError as error:
        raise OutputError(f"{file} can't be written: {error.strerror}", hint="check its permissions") from error
    finally:
        temporary.unlink(missing_ok=True)
