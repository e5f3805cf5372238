"""The controls of the tabs that make no pictures from prompts: extras, merger, converter, tune and bench."""

from __future__ import annotations

from hayate.server.ui.controls import Control, Group, Tab
from hayate.server.ui.recipes import ALONE
from hayate.weights.merge_nodes import METHODS

_BY_SCALE, _BY_SIZE = "upscale.by=scale", "upscale.by=size"

UPSCALERS = Group(
    id="upscalers",
    controls=(
        Control(key="upscale.upscaler_1", kind="choice", source="upscalers", default="Lanczos", span=6),
        Control(key="upscale.upscaler_2", kind="choice", source="upscalers", empty="none", span=6),
        Control(key="upscale.visibility_2", kind="slider", default=0.0, low=0, high=1, step=0),
    ),
)
ENLARGED = Group(
    id="enlarged",
    controls=(
        Control(key="upscale.by", kind="choice", choices=("scale", "size"), default="scale", span=4),
        Control(
            key="upscale.scale",
            kind="slider",
            default=2.0,
            low=1,
            high=8,
            step=0,
            slider_high=4,
            span=8,
            shown_when=_BY_SCALE,
        ),
        Control(
            key="upscale.width_px", kind="number", default=1024, low=64, high=8192, step=1, span=4, shown_when=_BY_SIZE
        ),
        Control(
            key="upscale.height_px", kind="number", default=1024, low=64, high=8192, step=1, span=4, shown_when=_BY_SIZE
        ),
        Control(key="upscale.is_cropped", kind="switch", default=True, span=6, shown_when=_BY_SIZE),
        Control(key="upscale.saves_pictures", kind="switch", default=True, span=6),
    ),
)
EXTRAS = Tab(id="extras", groups=(UPSCALERS, ENLARGED))

PNG_INFO = Tab(id="pnginfo")


def _ratio(name: str) -> Control:
    """A1111's slider ends at 1; differences are often added more than once."""
    return Control(key=f"merge.{name}", kind="slider", default=0.3, low=0, high=10, step=0, slider_high=1, span=6)


MERGED = Group(
    id="merged",
    controls=(
        Control(key="merge.a", kind="choice", source="models", span=4, empty="not chosen"),
        Control(key="merge.b", kind="choice", source="models", span=4, empty="not chosen"),
        Control(key="merge.c", kind="choice", source="models", span=4, empty="not chosen"),
        Control(key="merge.method", kind="choice", choices=(ALONE, *METHODS), default="merge", span=6),
        Control(
            key="merge.calc",
            kind="choice",
            choices=tuple(dict.fromkeys(calc for method in METHODS.values() for calc in method.calcs)),
            default="normal",
            span=6,
        ),
        _ratio("alpha"),
        _ratio("beta"),
    ),
)
MERGE_BLOCKS = Group(
    id="merge_blocks",
    look="switched",
    controls=(Control(key="merge.blocks_alpha", kind="text", default=""),),
)
MERGE_BLOCKS_BETA = Group(
    id="merge_blocks_beta",
    look="switched",
    controls=(Control(key="merge.blocks_beta", kind="text", default=""),),
)
MERGE_OPTIONS = Group(
    id="merge_options",
    controls=tuple(
        Control(key=f"merge.options.{name}", kind="number", default=default, low=low, high=high, step=step, span=3)
        for name, default, low, high, step in (
            ("beta", 0.0, 0, 1, 0.01),
            ("gamma", 1.0, 0, 100, 0),
            ("keep", 0.2, 0, 1, 0.01),
            ("drop", 0.5, 0, 0.999, 0.01),
            ("seed", 0.0, 0, 2**53, 1),
        )
    ),
)
MERGE_RULES = Group(
    id="merge_rules",
    look="folded",
    controls=(
        Control(key="merge.rules", kind="text", default="", rows=3, span=6),
        Control(key="merge.loras", kind="text", default="", rows=3, span=6),
    ),
)
MERGE_OUTPUT = Group(
    id="merge_output",
    controls=(
        Control(key="merge.output_name", kind="text", default="", span=6),
        Control(key="merge.dtype", kind="choice", choices=("keep", "fp16", "bf16", "fp32"), default="fp16", span=3),
        Control(key="merge.vae", kind="choice", source="vaes", empty="as it is", span=3),
    ),
)
MERGER = Tab(id="merger", groups=(MERGED, MERGE_OPTIONS, MERGE_BLOCKS, MERGE_BLOCKS_BETA, MERGE_RULES, MERGE_OUTPUT))

_TREATMENTS = ("copy", "convert", "delete")
CONVERTED = Group(
    id="converted",
    controls=(
        Control(key="convert.model", kind="choice", source="models", empty="not chosen", span=6),
        Control(key="convert.output_name", kind="text", default="", span=6),
        Control(
            key="convert.dtype", kind="choice", choices=("keep", "fp32", "fp16", "bf16", "fp8"), default="fp16", span=6
        ),
        Control(key="convert.ema", kind="choice", choices=("none", "only", "drop"), default="drop", span=6),
        *(
            Control(key=f"convert.parts.{part}", kind="choice", choices=_TREATMENTS, empty="as usual", span=3)
            for part in ("unet", "text", "vae", "other")
        ),
    ),
)
MODELS = Tab(id="models", groups=(CONVERTED,))

TUNED = Group(
    id="tuned",
    controls=(
        Control(key="tune.model", kind="choice", source="models", empty="default model", span=6),
        Control(key="tune.promise", kind="choice", choices=("exact", "deterministic", "fast"), default="exact", span=3),
        Control(key="tune.budget_s", kind="slider", default=180, low=5, high=86_400, step=1, slider_high=1800, span=3),
        Control(key="tune.width_px", kind="number", low=64, high=4096, step=8, empty="automatic", span=3),
        Control(key="tune.height_px", kind="number", low=64, high=4096, step=8, empty="automatic", span=3),
        Control(key="tune.batch_size", kind="number", default=1, low=1, high=64, step=1, span=2),
        Control(key="tune.steps", kind="number", default=20, low=1, high=1000, step=1, span=2),
        Control(key="tune.min_psnr_db", kind="number", default=35.0, low=0, high=100, step=0, span=2),
    ),
)
TUNE = Tab(id="tune", groups=(TUNED,))

PRESETS = ("quick", "asuka", "wiki", "sdxl")
"""The names of `bench.presets`, whose own module loads torch."""
BENCHED = Group(
    id="benched",
    controls=(
        Control(key="bench.preset", kind="choice", choices=PRESETS, default="quick", span=6),
        Control(key="bench.model", kind="choice", source="models", empty="default model", span=6),
        Control(key="bench.rounds", kind="number", default=5, low=1, high=100, step=1, span=3),
        Control(key="bench.time_s", kind="number", default=300, low=1, high=86_400, step=1, span=3),
        Control(key="bench.label", kind="text", default="", span=6),
    ),
)
BENCH = Tab(id="bench", groups=(BENCHED,))

GALLERY = Tab(id="gallery")
EXTENSIONS = Tab(id="extensions")
DOCTOR = Tab(id="doctor")
