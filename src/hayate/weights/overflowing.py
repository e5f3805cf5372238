"""VAEs that are known to overflow in fp16, by the hash of their file."""

from __future__ import annotations

from pathlib import Path

from hayate.errors import UsageError
from hayate.weights.hashes import file_sha256, known_sha256

SDXL_VAE_BYTES = 334_641_164
KNOWN = frozenset(
    {
        "63aeecb90ff7bc1c115395962d3e803571385b61938377bc7089b36e81e92e2e",  # sdxl_vae.safetensors
        "31e35c80fc4829d14f90153f4c74cd59c90b779f6afe05a74cd6120b893f7e5b",  # sd_xl_base_1.0.safetensors
        "e6bb9ea85bbf7bf6478a7c6d18b71246f22e95d41bcdd80ed40aa212c33cfeff",  # sd_xl_base_1.0_0.9vae.safetensors
    }
)
"""Stability AI's own SDXL files. Source: the card of madebyollin/sdxl-vae-fp16-fix, which was made for that reason."""


def is_known_to_overflow(path: Path, size_bytes: int, cache_dir: Path) -> bool:
    """Whether a file is one of them.

    Cost: a file of the VAE's exact size is read once, 0.3 s; of others only a hash that is known already is looked at.
    """
    try:
        is_candidate = size_bytes == SDXL_VAE_BYTES
        digest = file_sha256(path, cache_dir) if is_candidate else known_sha256(path, cache_dir)
    except UsageError:
        return False
    return digest in KNOWN
