"""Tensors that real files carry and no network here uses."""

from __future__ import annotations

import re

IGNORED = (
    r"(.*\.)?position_ids",  # CLIP's 0…76, saved as a buffer by old transformers
    r"(.*\.)?attn_mask",  # the causal mask, saved as a buffer by old open_clip
    r"(.*\.)?logit_scale",  # CLIP's training temperature
    r"(visual|vision_model|visual_projection)\..*",  # CLIP's picture half
    r"text_projection\.weight",  # CLIP-L's, which no context or vector of the known families uses
    r"model_ema\..*",  # the second copy of the U-Net that training averages
    r"(.*\.)?(betas|(sqrt_)?(one_minus_|recip_|recipm1_)?alphas.*|log_one_minus_alphas.*|posterior_.*)",  # schedules
    r"loss\..*",  # the VAE's discriminator
    r"(v_pred|ztsnr)",  # markers
)
"""Tensors, by pattern of their name after the prefix, that real files carry and no network here uses."""

_IGNORED = re.compile("|".join(f"(?:{pattern})" for pattern in IGNORED))


def is_ignored(name: str) -> bool:
    """Whether a tensor, by its name after the prefix, is among them."""
    return _IGNORED.fullmatch(name) is not None
