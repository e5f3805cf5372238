"""Puts the shipped model where a training left off, so that it can go on without the files of the first training.

Then: encode.py, train_unet.py --peak 5e-4, train_decoder.py --peak 5e-4.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from budget import save_checkpoint
from encode import VAE
from export import TARGET
from render import WORK
from safetensors.torch import load_file
from torch import Tensor
from train_unet import CHECKPOINT, TEXT, TextToLatent

from hayate.weights.detect import UNET_PREFIX, VAE_PREFIX


def main() -> None:
    tensors, net = load_file(TARGET), TextToLatent()
    net.unet.load_state_dict(part(tensors, UNET_PREFIX))
    net.text.load_state_dict(part(tensors, TEXT.prefix))
    WORK.mkdir(exist_ok=True)
    torch.save(part(tensors, VAE_PREFIX), VAE)
    average = [weight.detach().clone() for weight in net.parameters()]
    started = {"net": net.state_dict(), "optimizer": None, "average": average, "step": 0, "spent_s": 0.0}
    save_checkpoint(CHECKPOINT, started)


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of one network under their own names, in fp32."""
    return {name.removeprefix(prefix): value.float() for name, value in tensors.items() if name.startswith(prefix)}


if __name__ == "__main__":
    main()
