"""How far the networks are from diffusers and transformers, at full size, on the same random weights in fp32.

    python benchmarks/parity.py

The tests hold the same figures to 1e-5; this prints them. It needs the test extras and 14 GB of memory.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from hayate.models.clip import text_encoder
from hayate.models.config import CLIP_L, OPEN_CLIP_H, SD1, SD1_UNET, SD2_UNET, SDXL_OPEN_CLIP_G, SDXL_UNET
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from tests.models.diffusers_names import text_state, unet_state, vae_state
from tests.models.reference import reference_text, reference_unet, reference_vae, relative_error
from tests.models.test_parity import normal, token_ids


@torch.inference_mode()
def main() -> None:
    for name, config in (("CLIP-L", CLIP_L), ("OpenCLIP-H", OPEN_CLIP_H), ("OpenCLIP-bigG", SDXL_OPEN_CLIP_G)):
        theirs, ours = reference_text(config), on_meta(text_encoder, config)
        ours.load_state_dict(text_state(theirs.state_dict(), config), assign=True)
        ids = token_ids(config)
        hidden = theirs(ids, output_hidden_states=True).hidden_states[-2]
        norm = ours.final_layer_norm if hasattr(ours, "final_layer_norm") else ours.ln_final
        say(name, relative_error(ours(ids, 2).context, norm(hidden) if config.has_final_norm else hidden))
    theirs, ours = reference_vae(SD1.vae), on_meta(AutoencoderKL, SD1.vae)
    ours.load_state_dict(vae_state(theirs.state_dict(), SD1.vae), assign=True)
    say("VAE, decoding", relative_error(ours.decode(normal(1, 4, 8, 8)), theirs.decode(normal(1, 4, 8, 8)).sample))
    for name, config in (("U-Net, SD1.5", SD1_UNET), ("U-Net, SD2.1", SD2_UNET), ("U-Net, SDXL", SDXL_UNET)):
        theirs, ours = reference_unet(config), on_meta(UNet, config)
        ours.load_state_dict(unet_state(theirs.state_dict(), config), assign=True)
        x, context, times = normal(1, 4, 16, 16), normal(1, 77, config.context_width), torch.tensor([500.0])
        vector, added = None, None
        if config.vector_width:
            vector = normal(1, config.vector_width)
            # The reference embeds six sizes itself; zeros become 128 cosines of one and 128 sines of zero each.
            vector[:, 1280:] = torch.cat([torch.ones(128), torch.zeros(128)]).repeat(6)
            added = {"text_embeds": vector[:, :1280], "time_ids": torch.zeros(1, 6)}
        expected = theirs(x, times, context, added_cond_kwargs=added).sample
        say(name, relative_error(ours(x, times, context, vector), expected))


def on_meta(kind, config):
    """A module without memory, to be filled by assignment."""
    with torch.device("meta"):
        return kind(config)


def say(name: str, error: float) -> None:
    print(f"{name:15} {error:.1e}", flush=True)


if __name__ == "__main__":
    main()
