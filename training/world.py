"""What a landscape can show: five attributes, which of them go together, and which combinations are held out."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields

import numpy as np

TIMES = ("day", "sunset", "night")
COLOURS = ("red", "orange", "yellow", "white", "blue")
MOUNTAINS = ("purple", "blue", "green", "gray", "red")
FOREGROUNDS = ("sea", "desert", "snow", "meadow", "forest")
OBJECTS = ("none", "boat", "house", "cactus", "pines")

SUN_COLOURS = ("red", "orange", "yellow", "white")
MOON_COLOURS = ("white", "yellow", "blue", "red")
OBJECTS_ON = {
    "sea": ("none", "boat", "house", "pines"),
    "desert": ("none", "house", "cactus"),
    "snow": ("none", "house", "pines"),
    "meadow": ("none", "house", "cactus", "pines"),
    "forest": ("none", "house"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """One combination of attributes."""

    time: str
    light_colour: str
    """Colour of the sun (day, sunset) or of the moon (night)."""
    mountains: str
    foreground: str
    object: str

    @property
    def light(self) -> str:
        """What shines: the sun, or at night the moon."""
        return "moon" if self.time == "night" else "sun"


CLASSES: dict[str, tuple[str, ...]] = {
    "time": TIMES,
    "light_colour": COLOURS,
    "mountains": MOUNTAINS,
    "foreground": FOREGROUNDS,
    "object": OBJECTS,
}
"""The values of every attribute, in the order in which the judge numbers them."""


def combinations() -> list[Landscape]:
    """All 960 combinations that the world allows."""
    return [
        Landscape(time=time, light_colour=colour, mountains=mountains, foreground=foreground, object=thing)
        for time in TIMES
        for colour in (MOON_COLOURS if time == "night" else SUN_COLOURS)
        for mountains in MOUNTAINS
        for foreground in FOREGROUNDS
        for thing in OBJECTS_ON[foreground]
    ]


def is_held_out(landscape: Landscape) -> bool:
    """Whether a combination is kept from every training: one in ten, by a hash of its names."""
    key = "|".join(getattr(landscape, field.name) for field in fields(landscape))
    return zlib.crc32(f"hayate {key}".encode()) % 10 == 0


def trained() -> list[Landscape]:
    """The combinations that may be trained on."""
    return [landscape for landscape in combinations() if not is_held_out(landscape)]


def held_out() -> list[Landscape]:
    """The combinations that are only evaluated."""
    return [landscape for landscape in combinations() if is_held_out(landscape)]


def labels(landscape: Landscape) -> np.ndarray:
    """Index of every attribute's value in `CLASSES`.

    Shapes: [5] int64.
    """
    return np.array([values.index(getattr(landscape, name)) for name, values in CLASSES.items()])
