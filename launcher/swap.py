"""A new environment beside the old one, put in its place by two renames; whenever it is interrupted, one is whole.

    .venv      the one in use
    .ven~      the new one, until it works
    .ven-      the old one, until the new one is in its place

The names are equally long, because scripts in an environment hold its path: it is replaced byte for byte, also inside
the .exe files of Windows, where a longer one would move what follows. Environments carry three marks of launch.py:
`hayate-venv` (made by it), `hayate-unfinished` (not whole), `hayate-stamp` (whole, and what it was made from).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

OWN, UNFINISHED, STAMP = "hayate-venv", "hayate-unfinished", "hayate-stamp"


class StrangerError(Exception):
    """A folder is in the way that is not ours to remove."""


def side(venv: Path) -> Path:
    """Where the new environment is made."""
    return venv.with_name(_names(venv)[0])


def before(venv: Path) -> Path:
    """Where the old environment is kept while the names change."""
    return venv.with_name(_names(venv)[1])


def recover(venv: Path) -> bool:
    """Ends an exchange that was interrupted between its renames; whether there was one.

    Cost: where the environment is in its place, one look.
    """
    if os.path.lexists(venv):
        return False
    for candidate in (side(venv), before(venv)):
        if is_whole(candidate):
            candidate.rename(venv)
            return True
    return False


def is_whole(place: Path) -> bool:
    """Whether an environment was finished, and nobody has begun to remove it."""
    return (place / STAMP).exists() and not (place / UNFINISHED).exists()


def exchange(venv: Path) -> None:
    """Puts the new environment in the old one's place, and removes the old one."""
    remove(before(venv))
    venv.rename(before(venv))
    side(venv).rename(venv)
    remove(before(venv))


def remove(place: Path) -> None:
    """Removes an environment of ours; one that is not there is no error.

    Raises: StrangerError for a folder without our mark.
    """
    if not os.path.lexists(place):
        return
    if not (place / OWN).exists() and any(place.iterdir()):
        raise StrangerError(place)
    # Whoever finds it half removed must not take it for whole, and must know that it is ours: the marks go last.
    (place / UNFINISHED).touch()
    for inner in place.iterdir():
        if inner.is_dir() and not inner.is_symlink():
            shutil.rmtree(inner)
        elif inner.name not in (OWN, UNFINISHED):
            inner.unlink()
    (place / UNFINISHED).unlink()
    (place / OWN).unlink(missing_ok=True)
    place.rmdir()


def relocate(venv: Path) -> None:
    """Writes the place where the new environment will be into its scripts, which hold the one where it is."""
    now, later = os.fsencode(side(venv)), os.fsencode(venv)
    for file in (side(venv) / "pyvenv.cfg", *_scripts(side(venv))):
        content = file.read_bytes()
        if now in content:
            file.write_bytes(content.replace(now, later))


def packages(venv: Path) -> frozenset[str]:
    """The names of what is installed, by the folders that pip leaves."""
    places = (*venv.glob("lib/python*/site-packages"), venv / "Lib" / "site-packages")
    return frozenset(
        each.name.partition("-")[0].lower().replace("_", "-") for place in places for each in place.glob("*.dist-info")
    )


def _names(venv: Path) -> list[str]:
    stem = venv.name[:-1]
    return [stem + letter for letter in "~-+" if stem + letter != venv.name][:2]


def _scripts(venv: Path) -> Iterator[Path]:
    for folder in (venv / "bin", venv / "Scripts"):
        if folder.is_dir():
            yield from (each for each in folder.iterdir() if each.is_file() and not each.is_symlink())
