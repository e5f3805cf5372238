"""Extensions as their authors would write them, in a folder of the test's."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hayate.extensions.current import current, in_use
from hayate.extensions.session import Session


def write_extension(
    folder: Path,
    name: str,
    code: str = "",
    hooks: Mapping[str, Mapping[str, str]] | None = None,
    *,
    more: str = "",
) -> Path:
    """An extension whose one module is `code`, called `work`; `more` goes to the end of its manifest."""
    place = folder / name
    place.mkdir(parents=True)
    lines = [f'name = "{name}"', 'version = "1.2.3"', f'summary = "The extension {name}"', ""]
    for kind, places in (hooks or {}).items():
        lines.append(f"[hooks.{kind}]")
        lines += [f'"{title}" = "work:{what}"' for title, what in places.items()]
    (place / "extension.toml").write_text("\n".join(lines) + "\n" + textwrap.dedent(more), encoding="utf-8")
    (place / "work.py").write_text(textwrap.dedent(code), encoding="utf-8")
    return place


@contextmanager
def session_in(folder: Path, data_dir: Path, limit_s: float = 10.0) -> Iterator[Session]:
    """Inside it the extensions of a folder act."""
    with in_use(lambda: Session.open(folder, data_dir, limit_s=limit_s)):
        yield current()
