"""Which floating-point type each network computes in, and why."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hayate.errors import UnknownName

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""The names that users give to floating-point types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """A type per network; latents, sampler tables and guidance are always float32."""

    unet: torch.dtype
    text: torch.dtype
    vae: torch.dtype
    reason: str


def resolve_precision(asked: str | None, device: torch.device, *, has_bf16: bool = False) -> Precision:
    """The types for `device`: what was asked for everywhere, else fp32 on CPUs and fp16 with a wider VAE on GPUs.

    `has_bf16` says whether a GPU computes in bf16. The VAE is kept out of fp16 unless fp16 is asked for: SDXL's
    overflows in it, and makes black pictures.
    Raises: UnknownName.
    """
    if asked in (None, "", "auto"):
        if device.type == "cpu":
            return _everywhere(torch.float32, "fp32 is exact, and no CPU computes fp16 faster")
        wide = torch.bfloat16 if has_bf16 else torch.float32
        reason = "fp16 on a GPU; the VAE in a type that can't overflow"
        return Precision(unet=torch.float16, text=torch.float16, vae=wide, reason=reason)
    if asked not in DTYPES:
        raise UnknownName("dtype", asked, ("auto", *DTYPES))
    return _everywhere(DTYPES[asked], "asked for")


def dtype_name(dtype: torch.dtype) -> str:
    """The users' name of a torch type."""
    return next((name for name, known in DTYPES.items() if known == dtype), str(dtype).removeprefix("torch."))


def _everywhere(dtype: torch.dtype, reason: str) -> Precision:
    return Precision(unet=dtype, text=dtype, vae=dtype, reason=reason)
