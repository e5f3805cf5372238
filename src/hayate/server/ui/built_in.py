"""What people had extensions for, and have here without one; and what is not here yet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltIn:
    """A feature; the strings `builtin.<id>` and `builtin.<id>.where` say what it is and where."""

    id: str
    instead: str
    """A1111's extensions for it."""


BUILT_IN = (
    BuiltIn(id="loras", instead="Lora, sd-webui-additional-networks, a1111-sd-webui-lycoris"),
    BuiltIn(id="merger", instead="sd-webui-supermerger, merge-block-weighted-gui"),
    BuiltIn(id="converter", instead="sd-webui-model-converter, stable-diffusion-webui-model-toolkit"),
    BuiltIn(id="compile", instead="Stable-Diffusion-WebUI-TensorRT"),
    BuiltIn(id="tiles", instead="multidiffusion-upscaler-for-automatic1111 (Tiled VAE)"),
    BuiltIn(id="upscale", instead="ultimate-upscale-for-automatic1111"),
    BuiltIn(id="approximate", instead="sd-webui-tome"),
    BuiltIn(id="bench", instead="stable-diffusion-webui-system-info"),
    BuiltIn(id="gallery", instead="stable-diffusion-webui-images-browser"),
    BuiltIn(id="queue", instead="sd-webui-agent-scheduler"),
)
NOT_HERE = ("ControlNet", "ADetailer", "GFPGAN / CodeFormer", "Deforum")
"""Often asked for, and not here."""
