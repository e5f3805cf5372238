"""A pasted text, or the text in a picture, as values of the page's controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hayate.errors import UsageError, clip
from hayate.settings import Settings

if TYPE_CHECKING:
    from hayate.pipeline.infotext import Infotext

METHODS = ("deepcache", "tome", "s_min_uncond")
"""Of the approximate methods those that have a control of the same name."""
INTERVAL = "guidance_interval"
"""The one that has two, for its ends."""
OPEN = MappingProxyType(
    {
        **{f"request.{name}": None for name in ("eta", "sigma_min", "sigma_max", "rho", "refiner", "dtype")},
        **{f"request.seed_resize_from_{side}_px": None for side in "wh"},
        **{f"asked.{name}": None for name in (*METHODS, f"{INTERVAL}.0", f"{INTERVAL}.1")},
        "request.styles": (),
        "script.name": None,
    }
)
"""What a text leaves open goes back to the default, else another picture would come of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What a text does to the form."""

    values: Mapping[str, Any]
    """By the controls' keys; None empties one."""
    groups: Mapping[str, bool]
    """Which switched groups are on."""
    notes: tuple[str, ...]
    infotext: str


def fill_from_text(text: str, settings: Settings, record: Mapping[str, Any] | None = None) -> Filled:
    """The fields that a "parameters" text describes; a picture's `record` has what was said to extensions.

    Raises: UsageError for a text that holds none.
    """
    from hayate.pipeline.infotext import parse_infotext
    from hayate.pipeline.pasted import paste
    from hayate.runtime.asked import Asked
    from hayate.weights.upscalers import upscaler_names

    info = parse_infotext(text)
    if not info.parameters:
        raise UsageError("there are no parameters in the text", hint="paste what stands under a picture, all of it")
    pasted = paste(info, {"start"}, upscaler_names(settings.upscalers_dir))
    given = _given(pasted.request)
    values: dict[str, Any] = {**OPEN, **{f"request.{name}": given[name] for name in given if name != "hires"}}
    methods = {name: value for name, value in _all(pasted.asked).items() if value != _all(Asked())[name]}
    values |= {f"asked.{name}": value for name, value in methods.items() if name in METHODS}
    values |= {f"asked.{INTERVAL}.{place}": end for place, end in enumerate(methods.get(INTERVAL, ()))}
    hires = pasted.request.hires
    if hires is not None:
        values |= {f"request.hires.{name}": value for name, value in _all(hires).items()}
    for name, value in pasted.start.items():
        values |= _start_values(name, value)
    model, notes = _model(info.parameters, settings)
    groups = {
        "hires": hires is not None,
        "variation": pasted.request.subseed_strength is not None or pasted.request.seed_resize_from_w_px is not None,
        "refiner": "Refiner" in info.parameters,
    }
    lent, panels, said = _extensions(info, record)
    if pasted.start and not hires:
        notes.append("it began with a picture, which no text holds: give it in img2img")
    return Filled(
        values={**values, **model, **lent},
        groups={**groups, **panels},
        notes=(*pasted.notes, *notes, *said),
        infotext=text,
    )


def fill_from_picture(path: Path, settings: Settings) -> Filled:
    """The same for a picture's file.

    Raises: UsageError for one that does not say how it was made.
    """
    from hayate.pipeline.picture_info import read_picture_info

    picture = read_picture_info(path)
    if picture.parameters is None:
        raise UsageError("this picture does not say how it was made", hint="take one that Hayate or A1111 saved")
    return fill_from_text(picture.parameters, settings, picture.record)


def _extensions(
    info: Infotext, record: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, bool], tuple[str, ...]]:
    """The values of the extensions' controls, which of their panels are on, and what can't be had."""
    from hayate.extensions.current import current
    from hayate.pipeline.pasted_extensions import pasted_extensions
    from hayate.server.ui.lent_controls import panel_id

    asked, notes = pasted_extensions(info, record)
    values = {f"request.extensions.{name}.{key}": value for name, said in asked.items() for key, value in said.items()}
    panels = {panel_id(each): each.name in asked for each in current().standings if each.has_panel}
    return values, panels, notes


def _given(asked: Any) -> dict[str, Any]:
    """The fields that a dataclass says something in."""
    return {name: value for name, value in _all(asked).items() if value not in (None, (), {})}


def _all(asked: Any) -> dict[str, Any]:
    return {each.name: getattr(asked, each.name) for each in fields(asked)}


def _start_values(name: str, value: Any) -> dict[str, Any]:
    if name == "extend_px":
        return {f"request.start.extend_px.{place}": side or None for place, side in enumerate(value)}
    return {f"request.start.{name}": value}


def _model(parameters: Mapping[str, str], settings: Settings) -> tuple[dict[str, Any], list[str]]:
    """The controls of the models that the text names, as far as they are here by name. No file is read."""
    from hayate.server.ui.choices import choices_of

    found: dict[str, Any] = {}
    notes: list[str] = []
    for key, control, source in (
        ("Model", "request.model", "models"),
        ("VAE", "request.vae", "vaes"),
        ("Refiner", "request.refiner", "models"),
        ("Hires checkpoint", "request.hires.model", "models"),
    ):
        if key not in parameters:
            continue
        wanted = parameters[key].partition(" [")[0].removesuffix(".safetensors").casefold()
        names = [choice.value for choice in choices_of(source, settings)]
        same = [name for name in names if _plain(name) == wanted]
        if same:
            found[control] = same[0]
        else:
            notes.append(f"{key} {clip(parameters[key])!r} is not here: the choice stays as it is")
    return found, notes


def _plain(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".safetensors").casefold()
