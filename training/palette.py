"""The colours of the world under each light, chosen so that no two values of an attribute can be confused."""

from __future__ import annotations

from shapes import Colour

SKY: dict[str, tuple[Colour, Colour, Colour]] = {
    "day": ((58, 146, 224), (124, 192, 238), (206, 234, 246)),
    "sunset": ((76, 50, 128), (208, 92, 138), (255, 198, 150)),
    "night": ((12, 16, 46), (24, 34, 80), (52, 72, 128)),
}
"""Top, middle and horizon."""

HAZE: dict[str, Colour] = {"day": (206, 234, 246), "sunset": (196, 150, 190), "night": (52, 72, 128)}
"""What far mountains fade into."""

LIGHT: dict[str, Colour] = {
    "red": (228, 32, 40),
    "orange": (255, 136, 10),
    "yellow": (255, 222, 50),
    "white": (255, 253, 248),
    "blue": (96, 170, 255),
}

MOUNTAINS: dict[str, dict[str, Colour]] = {
    "day": {
        "purple": (128, 84, 184),
        "blue": (46, 98, 196),
        "green": (62, 146, 82),
        "gray": (128, 130, 134),
        "red": (192, 66, 58),
    },
    "sunset": {
        "purple": (112, 58, 160),
        "blue": (46, 76, 176),
        "green": (46, 124, 74),
        "gray": (110, 112, 120),
        "red": (184, 44, 46),
    },
    "night": {
        "purple": (84, 46, 136),
        "blue": (30, 66, 158),
        "green": (28, 92, 62),
        "gray": (86, 87, 92),
        "red": (132, 36, 42),
    },
}

GROUND: dict[str, dict[str, tuple[Colour, Colour]]] = {
    "day": {
        "sea": ((62, 152, 206), (18, 84, 156)),
        "desert": ((240, 202, 128), (216, 166, 92)),
        "snow": ((244, 249, 253), (206, 221, 240)),
        "meadow": ((140, 200, 86), (98, 168, 66)),
        "forest": ((64, 136, 92), (24, 82, 60)),
    },
    "sunset": {
        "sea": ((196, 106, 140), (72, 48, 112)),
        "desert": ((236, 152, 96), (186, 104, 78)),
        "snow": ((250, 222, 226), (212, 176, 206)),
        "meadow": ((146, 146, 64), (104, 112, 54)),
        "forest": ((72, 92, 78), (36, 52, 50)),
    },
    "night": {
        "sea": ((34, 58, 116), (10, 20, 56)),
        "desert": ((130, 106, 88), (94, 74, 70)),
        "snow": ((160, 174, 214), (118, 132, 182)),
        "meadow": ((48, 98, 66), (30, 68, 52)),
        "forest": ((26, 64, 66), (9, 30, 36)),
    },
}
"""Lit and shaded side (sea: far and near; forest: back and front row)."""

CLOUD: dict[str, Colour] = {"day": (255, 255, 255), "sunset": (255, 176, 160), "night": (46, 58, 108)}
SHADE: dict[str, Colour] = {"day": (255, 255, 255), "sunset": (238, 196, 196), "night": (128, 138, 182)}
"""What a white surface looks like."""

WINDOW: dict[str, Colour] = {"day": (92, 132, 168), "sunset": (255, 216, 110), "night": (255, 214, 96)}
WALLS: tuple[Colour, ...] = ((246, 236, 216), (236, 200, 150), (232, 238, 244))
ROOFS: tuple[Colour, ...] = ((178, 62, 54), (110, 66, 52), (66, 76, 104))
SAILS: tuple[Colour, ...] = ((252, 250, 244), (236, 84, 72), (252, 212, 110))
HULL: Colour = (112, 62, 44)
TRUNK: Colour = (98, 64, 48)
CACTUS: Colour = (52, 150, 84)
PINE: Colour = (22, 98, 70)
ISLAND: Colour = (214, 186, 132)


def lit(colour: Colour, time: str) -> Colour:
    """`colour` under the light of `time`."""
    white = SHADE[time]
    return (colour[0] * white[0] / 255, colour[1] * white[1] / 255, colour[2] * white[2] / 255)
