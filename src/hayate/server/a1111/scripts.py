"""`script_name` and `script_args`: the built-in scripts' positional arguments, as A1111's pages send them.

Source: A1111 v1.10.1's scripts, docs/compat.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from hayate.errors import UnknownName, UsageError
from hayate.extensions.current import current
from hayate.request import FILLS, StartImage, TextToImage
from hayate.server.a1111.axis_list import axis_title
from hayate.server.a1111.lent_scripts import lent_scripts
from hayate.server.a1111.names import Names
from hayate.server.a1111.replies import ScriptArgument
from hayate.server.a1111.script_arguments import Arguments, Planned, ScriptInfo

SIDES = ("left", "up", "right", "down")
"""In the order of `StartImage.extend_px`, in A1111's words."""
SCALES_SIDES = 8


def plan_script(name: str | None, values: Sequence[Any], request: TextToImage, names: Names) -> Planned | None:
    """What the script of a call makes of it; None where there is none.

    Raises: UnknownName, UsageError.
    """
    if not name or name.casefold() == "none":
        return None
    known = {each.name: each for each in script_list(is_img2img=request.start is not None)}
    script = known.get(ALIASES.get(name.casefold(), name.casefold()))
    if script is None:
        raise UnknownName("script", name, known)
    return script.make(Arguments(values=values, script=script), request, names)


def script_list(*, is_img2img: bool) -> tuple[ScriptInfo, ...]:
    """The scripts of a tab: those that are built in, but for those that are off, and then those of extensions."""
    names = current().names("scripts")
    own = [each for each in SCRIPTS if PART_OF.get(each.name, each.name) in names]
    taken = {each.name for each in own}
    lent = [each for each in lent_scripts() if each.name not in taken]
    return tuple(each for each in (*own, *lent) if (each.is_img2img if is_img2img else each.is_txt2img))


def _xyz_plot(arguments: Arguments, request: TextToImage, names: Names) -> Planned:
    del names
    body: dict[str, Any] = {"name": "x/y/z plot"}
    for axis in ("x", "y", "z"):
        title = axis_title(arguments.get(f"{axis.upper()} type"), is_img2img=request.start is not None)
        if title is not None:
            body[axis] = f"{title}={_axis_values(arguments, axis.upper())}"
    if len(body) == 1:
        raise UsageError("the plot has no axis", hint="script_args: the number or the name of an axis, and its values")
    shows_pictures = bool(arguments.get("Include Sub Images"))
    return Planned(request=request, body=body, has_sheet=True, shows_pictures=shows_pictures)


def _axis_values(arguments: Arguments, axis: str) -> str:
    """Either a text, or the list that A1111's page keeps for axes of names."""
    listed = arguments.get(f"{axis} values (list)")
    text = arguments.get(f"{axis} values")
    if isinstance(listed, list) and listed and not text:
        return ", ".join(f'"{str(each).replace(chr(34), chr(34) * 2)}"' for each in listed)
    return str(text)


def _prompt_matrix(arguments: Arguments, request: TextToImage, names: Names) -> Planned:
    del names
    body = {
        "name": "prompt matrix",
        "is_at_start": bool(arguments.get("Put variable parts at start of prompt")),
        "has_different_seeds": bool(arguments.get("Use different seed for each picture")),
        "is_negative": arguments.text("Select prompt").casefold() == "negative",
        "delimiter": arguments.text("Select joining char").casefold(),
    }
    note = () if request.batch_size in (None, 1) and request.batch_count in (None, 1) else (_ONE_EACH,)
    one_each = replace(request, batch_size=1, batch_count=1)
    return Planned(request=one_each, body=body, notes=note, has_sheet=True)


_ONE_EACH = "one picture is made for each prompt of the matrix"


def _loopback(arguments: Arguments, request: TextToImage, names: Names) -> Planned:
    del names
    if arguments.text("Append interrogated prompt at each iteration").casefold() != "none":
        raise UsageError("there is no model here that describes pictures", hint='send "None" for append_interrogation')
    body = {
        "name": "loopback",
        "loops": arguments.whole("Loops"),
        "final_denoising": float(arguments.number("Final denoising strength")),
        "curve": arguments.text("Denoising strength curve").casefold(),
    }
    return Planned(request=request, body=body)


def _sd_upscale(arguments: Arguments, request: TextToImage, names: Names) -> Planned:
    chosen = arguments.get("Upscaler")
    if isinstance(chosen, int) and not isinstance(chosen, bool):
        listed = names.upscaler_list()
        if not 0 <= chosen < len(listed):
            raise UsageError(f"sd upscale: there is no upscaler {chosen}", hint=f"0 to {len(listed) - 1}, or a name")
        chosen = listed[chosen]
    body = {
        "name": "sd upscale",
        "upscaler": names.upscaler(str(chosen)),
        "scale": float(arguments.number("Scale Factor")),
        "overlap_px": arguments.whole("Tile overlap"),
    }
    return Planned(request=request, body=body)


def _prompts_from_file(arguments: Arguments, request: TextToImage, names: Names) -> Planned:
    del names
    body = {
        "name": "prompts from file",
        "text": arguments.text("List of prompt inputs"),
        "has_next_seeds": bool(arguments.get("Iterate seed every line")),
        "has_one_seed": bool(arguments.get("Use same random seed for all lines")),
    }
    where = arguments.text("Insert prompts at the").casefold()
    note = () if where == "start" and not request.prompt else ("each line is a whole prompt: the call's is not joined",)
    return Planned(request=request, body=body, notes=note)


def _outpainting_mk2(arguments: Arguments, request: TextToImage, names: Names) -> Planned:
    del names
    return _outpainted(arguments, request, arguments.get("Outpainting direction"), fill="latent noise")


def _poor_outpainting(arguments: Arguments, request: TextToImage, names: Names) -> Planned:
    del names
    fill = arguments.get("Masked content")
    if isinstance(fill, int) and not isinstance(fill, bool) and 0 <= fill < len(FILLS):
        fill = FILLS[fill]
    return _outpainted(arguments, request, arguments.get("Outpainting direction"), fill=str(fill))


def _outpainted(arguments: Arguments, request: TextToImage, directions: Any, *, fill: str) -> Planned:
    """The start on a larger canvas; the job's size follows the canvas."""
    start: StartImage | None = request.start
    if not isinstance(directions, list) or not directions or start is None:
        raise UsageError("outpainting has no direction", hint=f"script_args: a list of {', '.join(SIDES)}")
    if unknown := [each for each in directions if each not in SIDES]:
        raise UnknownName("direction", str(unknown[0]), SIDES)
    pixels = arguments.whole("Pixels to expand") // SCALES_SIDES * SCALES_SIDES
    extend = tuple(pixels if side in directions else 0 for side in SIDES)
    blur = arguments.whole("Mask blur")
    larger = replace(start, extend_px=(extend[0], extend[1], extend[2], extend[3]), fill=fill, mask_blur=blur)
    return Planned(request=replace(request, start=larger, width_px=None, height_px=None))


def _argument(label: str, value: Any = None, *span: float, choices: Sequence[str] | None = None) -> ScriptArgument:
    low, high, step = (*span, None, None, None)[:3]
    listed = None if choices is None else list(choices)
    return ScriptArgument(label=label, value=value, minimum=low, maximum=high, step=step, choices=listed)


_AXES = tuple(
    argument
    for axis in "XYZ"
    for argument in (
        _argument(f"{axis} type", 0),
        _argument(f"{axis} values", ""),
        _argument(f"{axis} values (list)", []),
    )
)
_DIRECTION = _argument("Outpainting direction", list(SIDES), choices=SIDES)

PART_OF: Mapping[str, str] = MappingProxyType(
    {
        "prompts from file or textbox": "prompts from file",
        "outpainting mk2": "outpainting",
        "poor man's outpainting": "outpainting",
    }
)
"""Our scripts that stand behind those of other names."""
SCRIPTS: tuple[ScriptInfo, ...] = (
    ScriptInfo(
        name="prompt matrix",
        make=_prompt_matrix,
        arguments=(
            _argument("Put variable parts at start of prompt", False),
            _argument("Use different seed for each picture", False),
            _argument("Select prompt", "positive", choices=("positive", "negative")),
            _argument("Select joining char", "comma", choices=("comma", "space")),
            _argument("Grid margins (px)", 0, 0, 500, 2),
        ),
    ),
    ScriptInfo(
        name="prompts from file or textbox",
        make=_prompts_from_file,
        arguments=(
            _argument("Iterate seed every line", False),
            _argument("Use same random seed for all lines", False),
            _argument("Insert prompts at the", "start", choices=("start", "end")),
            _argument("List of prompt inputs", ""),
        ),
    ),
    ScriptInfo(
        name="x/y/z plot",
        make=_xyz_plot,
        arguments=(
            *_AXES,
            _argument("Draw legend", True),
            _argument("Include Sub Images", False),
            _argument("Include Sub Grids", False),
            _argument("Keep -1 for seeds", False),
            _argument("Vary seeds for X", False),
            _argument("Vary seeds for Y", False),
            _argument("Vary seeds for Z", False),
            _argument("Grid margins (px)", 0, 0, 500, 2),
            _argument("Use text inputs instead of dropdowns", False),
        ),
    ),
    ScriptInfo(
        name="loopback",
        make=_loopback,
        is_txt2img=False,
        arguments=(
            _argument("Loops", 4, 1, 32, 1),
            _argument("Final denoising strength", 0.5, 0, 1, 0.01),
            _argument("Denoising strength curve", "Linear", choices=("Aggressive", "Linear", "Lazy")),
            _argument("Append interrogated prompt at each iteration", "None", choices=("None", "CLIP", "DeepBooru")),
        ),
    ),
    ScriptInfo(
        name="outpainting mk2",
        make=_outpainting_mk2,
        is_txt2img=False,
        arguments=(
            _argument("", ""),
            _argument("Pixels to expand", 128, 8, 256, 8),
            _argument("Mask blur", 8, 0, 64, 1),
            _DIRECTION,
            _argument("Fall-off exponent (lower=higher detail)", 1.0, 0, 4, 0.01),
            _argument("Color variation", 0.05, 0, 1, 0.01),
        ),
    ),
    ScriptInfo(
        name="poor man's outpainting",
        make=_poor_outpainting,
        is_txt2img=False,
        arguments=(
            _argument("Pixels to expand", 128, 8, 256, 8),
            _argument("Mask blur", 4, 0, 64, 1),
            _argument("Masked content", "fill", choices=FILLS),
            _DIRECTION,
        ),
    ),
    ScriptInfo(
        name="sd upscale",
        make=_sd_upscale,
        is_txt2img=False,
        arguments=(
            _argument("", ""),
            _argument("Tile overlap", 64, 0, 256, 16),
            _argument("Upscaler", "Lanczos"),
            _argument("Scale Factor", 2.0, 1, 4, 0.05),
        ),
    ),
)
"""The scripts that are built in, in A1111's order."""
ALIASES: Mapping[str, str] = MappingProxyType(
    {"prompts from file": "prompts from file or textbox", "xyz plot": "x/y/z plot", "x/y plot": "x/y/z plot"}
)
