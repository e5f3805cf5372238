"""Files that are safetensors but no Stable Diffusion checkpoint: what each seems to be, told from one tensor's name."""

from __future__ import annotations

from collections.abc import Iterable

from hayate.errors import RefusedFormat

_ALONE = "give a whole checkpoint; this part can be used beside one"
_UPSCALER = "put it into upscalers_dir: --hires --hires-upscaler NAME, or hayate upscale --upscaler NAME"
_OTHER = "only SD1, SD2 and SDXL models are run"
_DIFFUSERS = "use the single-file checkpoint instead of the diffusers folder's parts"

_SIGNS: tuple[tuple[str, str, str], ...] = (
    ("lora_up.weight", "a LoRA", _ALONE),
    ("lora_A.weight", "a LoRA", _ALONE),
    ("lora_B.weight", "a LoRA", _ALONE),
    (".hada_w1_a", "a LoHa (LyCORIS)", _ALONE),
    (".lokr_w", "a LoKr (LyCORIS)", _ALONE),
    (".oft_blocks", "an OFT adapter", _ALONE),
    ("emb_params", "a textual-inversion embedding", _ALONE),
    ("string_to_param", "a textual-inversion embedding", _ALONE),
    ("input_hint_block.", "a ControlNet", _ALONE),
    ("controlnet_cond_embedding.", "a ControlNet", _ALONE),
    ("ip_adapter.", "an IP-Adapter", _ALONE),
    ("motion_modules.", "an AnimateDiff motion module", _ALONE),
    ("double_blocks.", "a Flux model", _OTHER),
    ("joint_blocks.", "an SD3 model", _OTHER),
    ("joint_transformer_blocks.", "an SD3 model", _OTHER),
    ("clf.1.weight", "a Stable Cascade or Würstchen model", _OTHER),
    ("model.diffusion_model.input_blocks.", "a checkpoint without a text encoder", _ALONE),
    ("down_blocks.0.resnets.", "a U-Net or VAE in the diffusers layout", _DIFFUSERS),
    ("decoder.conv_in.weight", "a VAE alone", _ALONE),
    ("decoder.up.0.block.", "a VAE alone", _ALONE),
    ("input_blocks.0.0.weight", "a U-Net alone", _ALONE),
    ("text_model.encoder.layers.", "a text encoder alone", _ALONE),
    ("transformer.resblocks.", "a text encoder alone", _ALONE),
    ("body.0.rdb1.", "an upscaler", _UPSCALER),
    ("conv_first.weight", "an upscaler", _UPSCALER),
)
"""A piece of a tensor's name, what a file with it seems to be, and what to do; the first match decides."""


def foreign(names: Iterable[str], source: str) -> RefusedFormat:
    """The error for a file that is no checkpoint, saying what it seems to be.

    Cost: one pass over the joined names for each sign.
    """
    text = "\n".join(names)
    if {"clip_l", "clip_g"} <= set(text.split("\n")):
        return RefusedFormat(
            f"{source} seems to be a textual-inversion embedding for SDXL, not a checkpoint", hint=_ALONE
        )
    for sign, kind, hint in _SIGNS:
        if sign in text:
            return RefusedFormat(f"{source} seems to be {kind}, not a checkpoint", hint=hint)
    return RefusedFormat(f"{source} is no Stable Diffusion checkpoint: its tensors have other names", hint=_OTHER)
