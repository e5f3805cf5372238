"""Captions of a landscape in the many ways that users write prompts."""

from __future__ import annotations

import numpy as np
from world import Landscape

WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "crimson", "scarlet"),
    "orange": ("orange", "orange", "amber"),
    "yellow": ("yellow", "yellow", "golden"),
    "white": ("white", "white", "pale"),
    "blue": ("blue", "blue", "azure"),
    "purple": ("purple", "purple", "violet"),
    "green": ("green", "green", "emerald"),
    "gray": ("gray", "grey", "stone gray"),
}
MOUNTAIN_NOUNS = ("mountains", "mountains", "mountains", "peaks", "mountain range", "hills")
TIME_PHRASES: dict[str, tuple[str, ...]] = {
    "day": ("during the day", "by day", "in daylight", "at noon", "on a clear day", "in the daytime"),
    "sunset": ("at sunset", "at sunset", "at dusk", "in the evening", "in the evening light", "at twilight"),
    "night": ("at night", "at night", "by night", "in the night", "under the stars", "at midnight"),
}
TIME_TAGS: dict[str, tuple[str, ...]] = {
    "day": ("day", "daytime", "daylight", "midday", "blue sky"),
    "sunset": ("sunset", "dusk", "evening", "evening sky", "twilight"),
    "night": ("night", "night sky", "starry night", "midnight", "starry sky"),
}
GROUND_TAGS: dict[str, tuple[str, ...]] = {
    "sea": ("sea", "sea", "ocean", "water", "the sea", "calm sea"),
    "desert": ("desert", "desert", "dunes", "sand dunes", "sand", "sandy desert"),
    "snow": ("snow", "snow", "snowfield", "snowy plain", "winter", "snowy field"),
    "meadow": ("meadow", "meadow", "grass", "green meadow", "grassland", "field of grass"),
    "forest": ("forest", "forest", "woods", "woodland", "dark forest", "the forest"),
}
GROUND_PLACES: dict[str, tuple[str, ...]] = {
    "sea": ("on the sea", "at sea", "on the ocean", "on the water", "by the sea"),
    "desert": ("in the desert", "in a desert", "among the dunes", "on the sand"),
    "snow": ("in the snow", "on a snowy plain", "on a snowfield", "in winter"),
    "meadow": ("in a meadow", "on the grass", "in the meadow", "on a green meadow"),
    "forest": ("in the forest", "in a forest", "in the woods", "in the woodland"),
}
OBJECT_NOUNS: dict[str, tuple[str, ...]] = {
    "boat": ("a boat", "a boat", "a sailboat", "a sailing boat", "a ship", "boat", "a small boat"),
    "house": ("a house", "a house", "a cottage", "a small house", "a hut", "house", "a cabin"),
    "cactus": ("a cactus", "a cactus", "a tall cactus", "cactus", "a saguaro", "one cactus"),
    "pines": ("pines", "pines", "pine trees", "some pines", "a few pine trees", "fir trees", "tall pines"),
}
OPENINGS = (
    *("",) * 8,
    "a picture of ",
    "an illustration of ",
    "flat illustration of ",
    "a landscape with ",
    "a poster of ",
    "a view of ",
    "a painting of ",
)
STYLE_TAGS = ("flat illustration", "landscape", "poster", "vector art", "minimalist", "scenery")
DROP = 0.12
"""How often an attribute that the picture has is left out of its caption."""


def caption(landscape: Landscape, rng: np.random.Generator, *, is_full: bool = False) -> str:
    """One wording of a landscape; unless `is_full`, an attribute is left out now and then.

    The object is always named when there is one, so a caption without an object means a picture without one.
    """
    names = ("time", "light", "light_colour", "mountains", "foreground")
    keeps = {name: is_full or rng.random() > DROP for name in names}
    writer = tags if rng.random() < 0.4 else sentence
    return writer(landscape, keeps, rng)


def tags(landscape: Landscape, keeps: dict[str, bool], rng: np.random.Generator) -> str:
    """Short phrases in any order, separated by commas."""
    parts = scene_parts(landscape, keeps, rng)
    if keeps["time"]:
        parts.append(pick(TIME_TAGS[landscape.time], rng))
    place = GROUND_TAGS if landscape.object == "none" or rng.random() < 0.6 else GROUND_PLACES
    if landscape.object != "none" and place is GROUND_PLACES:
        where = f" {pick(place[landscape.foreground], rng)}" if keeps["foreground"] else ""
        parts.append(pick(OBJECT_NOUNS[landscape.object], rng) + where)
    else:
        parts += [pick(OBJECT_NOUNS[landscape.object], rng)] if landscape.object != "none" else []
        parts += [pick(GROUND_TAGS[landscape.foreground], rng)] if keeps["foreground"] else []
    rng.shuffle(parts)
    if rng.random() < 0.15:
        parts.append(pick(STYLE_TAGS, rng))
    return ", ".join(parts)


def sentence(landscape: Landscape, keeps: dict[str, bool], rng: np.random.Generator) -> str:
    """A phrase with prepositions: the scene, the ground with its object, the time, in one of several orders."""
    scene = scene_parts(landscape, keeps, rng)
    link = pick((" over ", " over ", " above ", " and ", ", "), rng)
    parts = [link.join(scene)] if scene else []
    ground = ground_phrase(landscape, keeps, rng)
    if ground:
        parts.append(ground)
        if rng.random() < 0.35:
            parts.reverse()
    text = pick((", ", ", ", " and ", " with "), rng).join(parts)
    if keeps["time"]:
        time = pick(TIME_PHRASES[landscape.time], rng)
        text = f"{text} {time}" if rng.random() < 0.75 else f"{time}, {text}"
    return f"{pick(OPENINGS, rng)}{text}".strip(" ,")


def scene_parts(landscape: Landscape, keeps: dict[str, bool], rng: np.random.Generator) -> list[str]:
    """The sun or moon and the mountains, as far as they are kept."""
    parts = []
    if keeps["light"]:
        colour = f"{pick(WORDS[landscape.light_colour], rng)} " if keeps["light_colour"] else ""
        parts.append(f"{pick(('a ', 'a ', 'the ', ''), rng)}{colour}{landscape.light}")
    if keeps["mountains"]:
        parts.append(f"{pick(WORDS[landscape.mountains], rng)} {pick(MOUNTAIN_NOUNS, rng)}")
    return parts


def ground_phrase(landscape: Landscape, keeps: dict[str, bool], rng: np.random.Generator) -> str:
    """The object, where it stands, or the ground alone."""
    if landscape.object == "none":
        return pick(GROUND_TAGS[landscape.foreground], rng) if keeps["foreground"] else ""
    thing = pick(OBJECT_NOUNS[landscape.object], rng)
    if not keeps["foreground"]:
        return thing
    if rng.random() < 0.7:
        return f"{thing} {pick(GROUND_PLACES[landscape.foreground], rng)}"
    return f"{pick(GROUND_TAGS[landscape.foreground], rng)} with {thing}"


def pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
