"""The controls of how pictures are computed: what people try for speed, and what is rarely touched."""

from __future__ import annotations

from hayate.server.ui.controls import Control, Group

SPEED = Group(
    id="speed",
    look="folded",
    controls=(
        Control(
            key="asked.promise",
            kind="choice",
            choices=("exact", "deterministic", "fast"),
            empty="default",
            span=4,
        ),
        Control(key="asked.attention", kind="choice", source="attention", empty="default", span=4),
        Control(
            key="asked.compile",
            kind="choice",
            choices=("off", "default", "reduce-overhead", "max-autotune"),
            empty="default",
            span=4,
        ),
        Control(key="asked.deepcache", kind="number", low=1, high=10, step=1, empty="no", span=3),
        Control(key="asked.tome", kind="number", low=0, high=0.75, step=0.05, empty="no", span=3),
        Control(key="asked.s_min_uncond", kind="number", low=0, high=15, step=0.1, empty="no", span=3),
        Control(key="asked.vae_tile_px", kind="number", low=64, high=4096, step=8, empty="automatic", span=3),
    ),
)
ADVANCED = Group(
    id="advanced",
    look="folded",
    controls=(
        *(
            Control(
                key=f"asked.guidance_interval.{place}", kind="number", low=0, high=10_000, step=0, empty=open_, span=3
            )
            for place, open_ in enumerate(("all steps", "all steps"))
        ),
        Control(key="asked.tiny_vae", kind="choice", source="vaes", empty="whole vae", span=6),
        Control(key="asked.vae_dtype", kind="choice", choices=("fp32", "fp16", "bf16"), empty="automatic", span=3),
        Control(key="asked.layers", kind="choice", choices=("plain", "fused", "packed"), empty="automatic", span=3),
        Control(key="asked.layout", kind="choice", choices=("contiguous", "channels-last"), empty="automatic", span=3),
        Control(key="asked.is_graphed", kind="truth", choices=("true", "false"), empty="automatic", span=3),
        Control(key="asked.offload", kind="choice", choices=("none", "medvram", "lowvram"), empty="automatic", span=3),
        Control(key="asked.inputs_at_once", kind="number", low=1, high=128, step=1, empty="automatic", span=3),
        Control(key="asked.checks_nan", kind="truth", choices=("false",), empty="on", span=3),
        Control(key="asked.ignores_profile", kind="truth", choices=("true",), empty="followed", span=3),
    ),
)
"""Left open, each is what the plan finds best here, or what the server was started with."""
