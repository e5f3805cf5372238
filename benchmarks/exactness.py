"""How far fast plans are from fp32 eager, beside plain eager PyTorch in the same type.

    python tests/make_sd15_file.py sd15.safetensors
    python benchmarks/exactness.py sd15.safetensors [--json FILE]

A plan is *exact* when its relative error (norm of difference over norm) for one evaluation is at most 1.1 times that of
plain eager in the same type, and 1e-5 in fp32, and when a finished picture of the built-in model is no further from
that of fp32 eager. The first figures are of the full-size networks with random weights, the others of the built-in
model. Cost: 12 GB of memory, a few minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from hayate.bench.machine import fingerprint
from hayate.engines.networks import loaders_for
from hayate.engines.torch import load_engine
from hayate.models.config import ModelConfig
from hayate.models.layers import Attention, skeleton
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.pipeline.noise import resolve_source
from hayate.pipeline.resolve import resolve
from hayate.pipeline.text2image import text2image
from hayate.request import TextToImage
from hayate.runtime.attention.choose import choose_attention
from hayate.runtime.device import resolve_device
from hayate.runtime.precision import DTYPES, resolve_precision
from hayate.runtime.prepare import PLAIN, Preparation, prepare, set_attention
from hayate.settings import load_settings
from hayate.weights.builtin import builtin_model
from hayate.weights.detect import UNET_PREFIX, VAE_PREFIX, detect_checkpoint
from hayate.weights.load import load_part
from hayate.weights.read import open_checkpoint

BOUND = 1.1
FP32_BOUND = 1e-5


def compare(path: Path, timesteps: tuple[float, ...]) -> list[dict]:
    """One row for each network, timestep and type: the errors of plain eager and of the fast plan."""
    config = architecture(path)
    exact = {name: evaluate(path, config, name, timesteps) for name in ("unet", "vae")}
    rows = []
    for name, expected in exact.items():
        for dtype in ("fp32", "bf16"):
            plain = evaluate(path, config, name, timesteps, dtype=dtype)
            fast = evaluate(path, config, name, timesteps, dtype=dtype, is_fast=True)
            for index, reference in enumerate(expected):
                errors = [relative_error(outputs[index], reference) for outputs in (plain, fast)]
                when = timesteps[index] if name == "unet" else None
                rows.append({"network": name, "timestep": when, "dtype": dtype, "plain": errors[0], "fast": errors[1]})
                print(
                    f"{path.name:32}{name:5} {when or '':6} {dtype}: plain {errors[0]:.2e}, fast {errors[1]:.2e}",
                    flush=True,
                )
    return rows


@torch.inference_mode()
def evaluate(
    path: Path,
    config: ModelConfig,
    name: str,
    timesteps: tuple[float, ...],
    *,
    dtype: str = "fp32",
    is_fast: bool = False,
) -> list[Tensor]:
    """The outputs of one network at every timestep (the VAE's at one latent)."""
    network = load(path, config, name, DTYPES[dtype])
    if is_fast:
        chosen = choose_attention("native", resolve_device("cpu"), DTYPES[dtype], {14, 40})
        prepare(network, Preparation(is_fused=True, is_packed=True))
        set_attention(network, chosen.attention)
    generator = torch.Generator().manual_seed(0)
    side = config.native_size_px // 8
    x = torch.randn((2, 4, side, side), generator=generator).to(DTYPES[dtype])
    if isinstance(network, AutoencoderKL):
        return [network.decode(x[:1] / config.vae.scale).float()]
    assert isinstance(network, UNet)
    context = torch.randn((2, 77, config.unet.context_width), generator=generator).to(DTYPES[dtype])
    return [network(x, torch.full((2,), when), context).float() for when in timesteps]


def load(path: Path, config: ModelConfig, name: str, dtype: torch.dtype) -> nn.Module:
    with skeleton():
        network = UNet(config.unet) if name == "unet" else AutoencoderKL(config.vae)
    with open_checkpoint(path) as checkpoint:
        load_part(network, checkpoint, UNET_PREFIX if name == "unet" else VAE_PREFIX, dtype=dtype)
    return network.eval()


def architecture(path: Path) -> ModelConfig:
    with open_checkpoint(path) as checkpoint:
        return detect_checkpoint(checkpoint)


def compare_pictures(prompt: str = "a red sun over purple mountains, sea", seed: int = 1) -> list[dict]:
    """PSNR of the built-in model's finished picture from that of fp32 eager, in dB: of plain eager and of the plan."""
    exact = picture(prompt, seed, "fp32", PLAIN, None)
    rows = []
    for dtype in ("fp32", "bf16"):
        chosen = choose_attention("native", resolve_device("cpu"), DTYPES[dtype], {14})
        fast = Preparation(is_fused=True, is_packed=True)
        ways = ((PLAIN, None), (fast, chosen.attention))
        values = [psnr(picture(prompt, seed, dtype, *how), exact) for how in ways]
        rows.append({"dtype": dtype, "plain_db": values[0], "fast_db": values[1]})
        print(f"picture {dtype}: plain {values[0]:.1f} dB, fast {values[1]:.1f} dB", flush=True)
    return rows


def picture(prompt: str, seed: int, dtype: str, preparation: Preparation, attention: Attention | None) -> np.ndarray:
    """One picture of the built-in model in 20 steps, by a preparation. Shapes: → [H, W, 3] uint8."""
    path, device = builtin_model(), torch.device("cpu")
    engine = load_engine(path, device, resolve_precision(dtype, device), loaders=loaders_for(preparation))
    if attention is not None:
        engine = engine.attending_by(attention)
    job = resolve(TextToImage(prompt=prompt, seed=seed, steps=20), load_settings(), architecture(path))
    job = job.with_noise_source(*resolve_source(job.noise_source, device))
    return next(iter(text2image(engine, job, lambda *_: None))).pictures[0]


def psnr(actual: np.ndarray, expected: np.ndarray) -> float:
    """Units: dB; 99 where the pictures are equal."""
    error = float(np.square(actual.astype(float) - expected.astype(float)).mean())
    return 99.0 if error == 0 else 10 * math.log10(255**2 / error)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def is_exact(row: dict) -> bool:
    return row["fast"] <= (FP32_BOUND if row["dtype"] == "fp32" else BOUND * row["plain"])


def main() -> None:
    parser = argparse.ArgumentParser(description="compare fast plans with fp32 eager")
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for path in (builtin_model(), options.file):
        rows += [row | {"file": path.name} for row in compare(path, (999.0, 500.0, 20.0))]
    pictures = compare_pictures()
    broken = [row for row in rows if not is_exact(row)]
    print("exact" if not broken else f"{len(broken)} of {len(rows)} evaluations are further off than exact allows")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps({"machine": fingerprint(), "rows": rows, "pictures": pictures}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
