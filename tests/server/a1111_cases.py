"""A1111's own API cases, written anew from what they ask: 12 of txt2img, 4 of img2img."""

from __future__ import annotations

from typing import Any

from tests.server.a1111_server import half_mask, picture

SIMPLE = {
    "batch_size": 1,
    "cfg_scale": 7,
    "denoising_strength": 0,
    "enable_hr": False,
    "eta": 0,
    "firstphase_height": 0,
    "firstphase_width": 0,
    "height": 64,
    "n_iter": 1,
    "negative_prompt": "",
    "prompt": "example prompt",
    "restore_faces": False,
    "s_churn": 0,
    "s_noise": 1,
    "s_tmax": 0,
    "s_tmin": 0,
    "sampler_index": "Euler a",
    "seed": -1,
    "seed_resize_from_h": -1,
    "seed_resize_from_w": -1,
    "steps": 3,
    "styles": [],
    "subseed": -1,
    "subseed_strength": 0,
    "tiling": False,
    "width": 64,
}
"""The request that A1111's tests begin with."""
IMAGE = {
    "denoising_strength": 0.75,
    "init_images": [picture()],
    "inpaint_full_res": False,
    "inpaint_full_res_padding": 0,
    "inpainting_fill": 0,
    "inpainting_mask_invert": False,
    "mask": None,
    "mask_blur": 4,
    "resize_mode": 0,
    "prompt": "example prompt",
    "sampler_index": "Euler a",
    "steps": 3,
    "width": 64,
    "height": 64,
    "seed_resize_from_h": -1,
    "seed_resize_from_w": -1,
}
EMPHASES = "((emphasis)), (emphasis1:1.1), [to:1], [from::2], [from:to:0.3], [alt|alt1]"

TEXT_CASES: list[dict[str, Any]] = [
    {},
    {"negative_prompt": "example negative prompt"},
    {"prompt": EMPHASES},
    {"height": 128},
    {"enable_hr": True},
    {"tiling": True},
    {"restore_faces": True},
    {"sampler_index": "PLMS"},
    {"sampler_index": "DDIM"},
    {"sampler_index": "UniPC"},
    {"n_iter": 2},
    {"batch_size": 2},
]
"""What differs from the simple request."""
IMAGE_CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "mask": {"mask": half_mask()},
    "inverted mask": {"mask": half_mask(), "inpainting_mask_invert": True},
    "sd upscale": {"script_name": "sd upscale", "script_args": ["", 8, "Lanczos", 2.0]},
}
