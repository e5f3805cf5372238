"""Judges the exported model on held-out combinations, through Hayate's own pipeline, and measures its autoencoder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from budget import pixels_to_signal, psnr
from export import TARGET
from judge import load_judge, verdicts
from render import load
from safetensors.torch import load_file
from sample import held_out_prompts
from world import CLASSES, labels

from hayate.engines.torch import TorchEngine, load_engine
from hayate.models.config import ModelConfig
from hayate.models.vae import AutoencoderKL
from hayate.pipeline.noise import resolve_source
from hayate.pipeline.players import read_config
from hayate.pipeline.resolve import resolve
from hayate.pipeline.text2image import text2image
from hayate.request import TextToImage
from hayate.runtime.precision import resolve_precision
from hayate.settings import Settings, load_settings

RESULT = Path(__file__).parents[1] / "docs/demo-model-evaluation.json"
PROMPTS, PROMPT_SEED, FIRST_SEED = 200, 29, 1000


class Painter:
    """The exported model in the pipeline, loaded once."""

    def __init__(self, path: Path) -> None:
        self.config: ModelConfig = read_config(path)
        cpu = torch.device("cpu")
        self.engine: TorchEngine = load_engine(path, cpu, resolve_precision("fp32", cpu))
        self.settings: Settings = load_settings()

    def __call__(self, request: TextToImage) -> np.ndarray:
        """The pictures of a request. Shapes: → [B, 128, 128, 3] uint8."""
        job = resolve(request, self.settings, self.config)
        job = job.with_noise_source(*resolve_source(job.noise_source, self.engine.device))
        return np.concatenate([batch.pictures for batch in text2image(self.engine, job, lambda *_: None)])


def judged(painter: Painter, *, cfg: float, steps: int) -> dict[str, object]:
    """Share of pictures in which the judge finds what the prompt says, per attribute, and what it missed."""
    landscapes, prompts = held_out_prompts(PROMPTS, PROMPT_SEED)
    requests = (
        TextToImage(prompt=prompt, cfg=cfg, steps=steps, seed=FIRST_SEED + i) for i, prompt in enumerate(prompts)
    )
    pictures = np.concatenate([painter(request) for request in requests])
    found = verdicts(load_judge(), pixels_to_signal(torch.from_numpy(pictures))).numpy()
    truth = np.stack([labels(landscape) for landscape in landscapes])
    missed = [
        {"prompt": prompts[i], "seed": FIRST_SEED + int(i), "wanted": values[truth[i, k]], "found": values[found[i, k]]}
        for k, values in enumerate(CLASSES.values())
        for i in np.flatnonzero(found[:, k] != truth[:, k])
    ]
    shares = (found == truth).mean(axis=0)
    return {"cfg": cfg, "steps": steps, "right": dict(zip(CLASSES, shares.tolist(), strict=True)), "missed": missed}


@torch.no_grad()
def vae_quality(path: Path, count: int = 300) -> dict[str, float]:
    """PSNR of the file's own autoencoder on drawings it never saw, of trained and of held-out combinations."""
    prefix, tensors = "first_stage_model.", load_file(path)
    vae = AutoencoderKL(read_config(path).vae)
    vae.load_state_dict({name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)})
    result = {}
    for split in ("validation", "held_out"):
        drawings = load(split)[0]
        chosen = drawings[:: len(drawings) // count]
        pixels = pixels_to_signal(torch.from_numpy(chosen.copy())).contiguous()
        parts = [psnr(vae.decode(vae.encode_moments(part)[0]), part) for part in pixels.split(10)]
        result[split] = round(torch.cat(parts).mean().item(), 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=TARGET)
    parser.add_argument("--cfg", type=float, nargs="+", default=[7.0, 4.0])
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    painter = Painter(options.model)
    result = {"vae_psnr_db": vae_quality(options.model), "runs": []}
    print("VAE PSNR, dB:", result["vae_psnr_db"], flush=True)
    for cfg in options.cfg:
        run = judged(painter, cfg=cfg, steps=options.steps)
        result["runs"].append(run)
        print(f"cfg {cfg:g}:", "  ".join(f"{name} {share:.1%}" for name, share in run["right"].items()), flush=True)
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
