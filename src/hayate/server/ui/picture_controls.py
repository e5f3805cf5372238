"""The controls of txt2img and img2img: every field of a request that a person may want to set."""

from __future__ import annotations

from dataclasses import replace

from hayate.request import BOUNDS, FILLS, RESIZE_MODES
from hayate.server.ui.computing_controls import ADVANCED, SPEED
from hayate.server.ui.controls import Control, Group, Kind, Tab


def bounded(name: str, kind: Kind = "number", **rest: object) -> Control:
    """The control of a request's number, with the bounds that the request itself has."""
    bound = BOUNDS[name]
    words: dict[str, object] = {"low": bound.low, "high": bound.high, "step": bound.multiple or 0.01, **rest}
    return Control(key=f"request.{name}", kind=kind, **words)  # pyright: ignore[reportArgumentType]


TOP = Group(
    id="top",
    controls=(
        Control(key="request.model", kind="choice", source="models", empty="default model", span=6),
        Control(key="request.vae", kind="choice", source="vaes", empty="automatic", span=4),
        bounded("clip_skip", empty="automatic", span=2),
    ),
)
"""Above the tabs; they belong to every picture."""

PROMPT = Group(
    id="prompt",
    controls=(
        Control(key="request.prompt", kind="prompt", default="", rows=3),
        Control(key="request.negative_prompt", kind="prompt", default="", rows=3),
    ),
)
STYLES = Group(id="styles", controls=(Control(key="request.styles", kind="many", source="styles"),))

SAMPLING = Group(
    id="sampling",
    controls=(
        Control(key="request.sampler", kind="choice", source="samplers", empty="default", span=4),
        Control(key="request.scheduler", kind="choice", source="schedules", empty="default", span=4),
        bounded("steps", "slider", slider_high=100, empty="default", span=4),
    ),
)
SIZE = Group(
    id="size",
    controls=(
        bounded("width_px", "slider", slider_high=2048, empty="automatic", span=6),
        bounded("batch_count", "slider", slider_high=32, default=1, span=6),
        bounded("height_px", "slider", slider_high=2048, empty="automatic", span=6),
        bounded("batch_size", "slider", slider_high=16, empty="default", span=6),
    ),
)
GUIDANCE = Group(
    id="guidance",
    controls=(
        bounded("cfg", "slider", slider_high=30, step=0.5, empty="default", span=6),
        bounded("seed", "seed", default=-1, step=1, span=6),
    ),
)
VARIATION = Group(
    id="variation",
    look="switched",
    controls=(
        bounded("subseed", "seed", default=-1, step=1, span=6),
        bounded("subseed_strength", "slider", default=0.0, span=6),
        bounded("seed_resize_from_w_px", "slider", slider_high=2048, empty="no", span=6),
        bounded("seed_resize_from_h_px", "slider", slider_high=2048, empty="no", span=6),
    ),
)
_HIRES = "request.hires"
HIRES = Group(
    id="hires",
    look="switched",
    controls=(
        Control(key=f"{_HIRES}.upscaler", kind="choice", source="hires_upscalers", default="Latent", span=4),
        Control(key=f"{_HIRES}.steps", kind="slider", low=1, high=1000, step=1, slider_high=100, empty="equal", span=4),
        Control(key=f"{_HIRES}.denoising", kind="slider", default=0.7, low=0, high=1, step=0.01, span=4),
        Control(key=f"{_HIRES}.scale", kind="slider", default=2.0, low=1, high=8, step=0.05, slider_high=4, span=4),
        Control(key=f"{_HIRES}.width_px", kind="number", low=64, high=8192, step=8, empty="by scale", span=4),
        Control(key=f"{_HIRES}.height_px", kind="number", low=64, high=8192, step=8, empty="by scale", span=4),
        Control(key=f"{_HIRES}.model", kind="choice", source="models", empty="same", span=4),
        Control(key=f"{_HIRES}.sampler", kind="choice", source="samplers", empty="same", span=4),
        Control(key=f"{_HIRES}.scheduler", kind="choice", source="schedules", empty="same", span=4),
        Control(key=f"{_HIRES}.prompt", kind="text", rows=2, empty="same", span=6),
        Control(key=f"{_HIRES}.negative_prompt", kind="text", rows=2, empty="same", span=6),
    ),
)
REFINER = Group(
    id="refiner",
    look="switched",
    controls=(
        Control(key="request.refiner", kind="choice", source="models", empty="none", span=6),
        bounded("refiner_switch_at", "slider", default=0.8, span=6),
    ),
)
DETAILS = Group(
    id="details",
    look="folded",
    controls=(
        bounded("eta", empty="default", span=3),
        bounded("sigma_min", empty="default", span=3),
        bounded("sigma_max", empty="default", span=3),
        bounded("rho", empty="default", span=3),
        Control(
            key="request.noise_source",
            kind="choice",
            choices=("GPU", "CPU", "NV"),
            setting="rng",
            empty="default",
            span=3,
        ),
        bounded("ensd", empty="default", step=1, span=3),
        Control(
            key="request.emphasis",
            kind="choice",
            choices=("Original", "No norm", "Ignore", "None"),
            empty="default",
            span=3,
        ),
        Control(key="request.dtype", kind="choice", choices=("auto", "fp32", "fp16", "bf16"), empty="default", span=3),
    ),
)
OUTPUT = Group(
    id="output",
    look="folded",
    controls=(
        Control(key="saves_pictures", kind="switch", default=True, span=4),
        Control(key="wants_grid", kind="switch", default=False, span=4),
        Control(key="saves_grid", kind="switch", default=False, span=4),
        Control(key="half_made", kind="choice", choices=("shown", "saved", "dropped"), default="shown", span=4),
        Control(key="preview_every", kind="number", default=3, low=1, high=1000, step=1, empty="no", span=4),
        Control(key="preview_vae", kind="choice", source="vaes", empty="linear", span=4),
    ),
)


def of_script(name: str, field: str, kind: Kind, **rest: object) -> Control:
    """The control of a script's field; it is there while the script is chosen."""
    words: dict[str, object] = {"shown_when": f"script.name={name}", **rest}
    return Control(key=f"script.{field}", kind=kind, **words)  # pyright: ignore[reportArgumentType]


def _axis(letter: str) -> tuple[Control, Control]:
    plot = "x/y/z plot"
    return (
        of_script(plot, f"{letter}.axis", "choice", source="axes", empty="none", span=4),
        of_script(plot, f"{letter}.values", "text", default="", span=8),
    )


_MATRIX, _LINES = "prompt matrix", "prompts from file"
_LOOPBACK, _UPSCALE, _OUTPAINTING = "loopback", "sd upscale", "outpainting"
_SCRIPTS = ("x/y/z plot", _MATRIX, _LINES, _LOOPBACK, _UPSCALE, _OUTPAINTING)
_NEED_PICTURE = (_LOOPBACK, _UPSCALE, _OUTPAINTING)
SCRIPT = Group(
    id="script",
    controls=(
        Control(key="script.name", kind="choice", choices=_SCRIPTS, empty="none"),
        *_axis("x"),
        *_axis("y"),
        *_axis("z"),
        of_script(_MATRIX, "delimiter", "choice", choices=("comma", "space"), default="comma", span=6),
        of_script(_MATRIX, "is_at_start", "switch", default=False, span=6),
        of_script(_MATRIX, "is_negative", "switch", default=False, span=6),
        of_script(_MATRIX, "has_different_seeds", "switch", default=False, span=6),
        of_script(_LOOPBACK, "loops", "slider", default=4, low=1, high=1000, step=1, slider_high=32, span=4),
        of_script(_LOOPBACK, "final_denoising", "slider", default=0.5, low=0, high=1, step=0.01, span=4),
        of_script(_LOOPBACK, "curve", "choice", choices=("linear", "aggressive", "lazy"), default="linear", span=4),
        of_script(_UPSCALE, "upscaler", "choice", source="upscalers", default="Lanczos", span=4),
        of_script(_UPSCALE, "scale", "slider", default=2.0, low=1, high=8, step=0.05, slider_high=4, span=4),
        of_script(_UPSCALE, "overlap_px", "slider", default=64, low=0, high=1024, step=8, slider_high=256, span=4),
        of_script(_LINES, "text", "text", default="", rows=6),
        of_script(_LINES, "has_next_seeds", "switch", default=False, span=6),
        of_script(_LINES, "has_one_seed", "switch", default=False, span=6),
        *(
            of_script(_OUTPAINTING, f"{side}_px", "number", default=128, low=0, high=4096, step=8, span=3)
            for side in ("left", "top", "right", "bottom")
        ),
    ),
)

_START = "request.start"
START = Group(
    id="start",
    controls=(
        Control(key=f"{_START}.denoising", kind="slider", default=0.75, low=0, high=1, step=0.01, span=6),
        Control(key=f"{_START}.resize_mode", kind="choice", choices=RESIZE_MODES, default="just resize", span=6),
    ),
)
MASK = Group(
    id="mask",
    look="folded",
    controls=(
        Control(key=f"{_START}.mask_blur", kind="slider", default=4, low=0, high=64, step=1, span=6),
        Control(key=f"{_START}.fill", kind="choice", choices=FILLS, default="original", span=6),
        Control(key=f"{_START}.padding_px", kind="number", low=0, high=1024, step=4, empty="whole picture", span=6),
        Control(key=f"{_START}.is_mask_inverted", kind="switch", default=False, span=6),
    ),
)
OUTPAINT = Group(
    id="outpaint",
    look="folded",
    controls=tuple(
        Control(key=f"{_START}.extend_px.{place}", kind="number", low=0, high=4096, step=8, empty="no", span=3)
        for place in range(4)
    ),
)
START_DETAILS = Control(key=f"{_START}.noise_multiplier", kind="number", default=1.0, low=0, high=10, step=0.01, span=3)

FROM_NOISE = Group(
    id="script",
    controls=(
        replace(SCRIPT.controls[0], choices=tuple(each for each in _SCRIPTS if each not in _NEED_PICTURE)),
        *(each for each in SCRIPT.controls[1:] if not each.shown_when.endswith(_NEED_PICTURE)),
    ),
)
"""The scripts that need no picture to start from."""

TXT2IMG = Tab(
    id="txt2img",
    groups=(
        PROMPT,
        STYLES,
        SAMPLING,
        SIZE,
        GUIDANCE,
        VARIATION,
        HIRES,
        REFINER,
        SPEED,
        DETAILS,
        ADVANCED,
        OUTPUT,
        FROM_NOISE,
    ),
)
IMG2IMG = Tab(
    id="img2img",
    groups=(
        PROMPT,
        STYLES,
        START,
        MASK,
        OUTPAINT,
        SAMPLING,
        SIZE,
        GUIDANCE,
        VARIATION,
        REFINER,
        SPEED,
        replace(DETAILS, controls=(*DETAILS.controls, START_DETAILS)),
        ADVANCED,
        OUTPUT,
        SCRIPT,
    ),
)
PICTURE_TABS = (TXT2IMG, IMG2IMG)

NOT_SHOWN = {
    "request.start": "img2img's own: the picture is the canvas', its fields are controls",
    "request.hires": "a group of controls",
    "request.start.path": "the canvas",
    "request.start.mask": "the canvas",
    "request.start.extend_px": "four controls, one for each side",
    "request.device": "the server's: its worker has one device",
    "request.extensions": "a group of controls for each extension that has some",
    "asked.dtype": "the request's own precision",
    "asked.guidance_interval": "two controls, for its ends",
    "asked.compile_parts": "what is worth compiling is measured by Tune; else it is a flag of the server",
    "asked.wished_attention": "what A1111's flags ask for",
    "asked.is_offload_for_sdxl": "what A1111's --medvram-sdxl asks for",
    "asked.notes": "what A1111's flags are answered",
}
"""Fields of a request, and of how it is computed, without a control of their own, and why."""
