"""Round trips of full-size models: whether every bit comes back, and in what time and memory beside a plain script.

    python benchmarks/convert.py [--models sd15 sdxl] [--diffusers] [--folder DIR] [--json FILE]

Random weights in fp16 go .ckpt → safetensors → diffusers folder → safetensors by `hayate models convert`, each in a
process of its own, and each tensor's SHA-256 is compared with the first one's. The plain script is torch.load and
safetensors.torch.save_file. Memory is the anonymous memory of the process and its children (RssAnon), which the page
cache is not part of; sampled every 10 ms on Linux. Needs three times the model's size on the disk.

With `--diffusers` (from the test extras) diffusers loads the folder, and beside it the file that the folder was made
of, which it converts by its own rules: every tensor of every network is to be the same, and so is what they compute.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from hayate.bench.random_model import random_model
from hayate.weights.read import open_checkpoint

PLAIN = """
import sys, torch
from safetensors.torch import save_file
state = torch.load(sys.argv[1], map_location="cpu", weights_only=True)["state_dict"]
save_file({name: tensor.contiguous() for name, tensor in state.items()}, sys.argv[2])
"""
_EVERY_S = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["sd15", "sdxl"])
    parser.add_argument("--diffusers", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    for name in asked.models:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            for row in round_trip(name, Path(folder), has_diffusers=asked.diffusers):
                rows.append(row)
                print(json.dumps(row), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


def round_trip(name: str, folder: Path, *, has_diffusers: bool = False) -> list[dict[str, object]]:
    """A row for each conversion of one model; raises where a bit is lost."""
    path = random_model(name, folder)
    size_bytes, expected = path.stat().st_size, digests(path)
    pickled = folder / "a.ckpt"
    with open_checkpoint(path) as checkpoint:
        torch.save({"state_dict": {each: checkpoint.get(each) for each in checkpoint.tensors}}, pickled)
    path.unlink()
    first, between, last = folder / "b.safetensors", folder / "c", folder / "d.safetensors"
    convert = [sys.executable, "-m", "hayate", "models", "convert"]
    rows = [row("plain script", [sys.executable, "-c", PLAIN, str(pickled), str(first)], size_bytes)]
    first.unlink()
    rows.append(row("ckpt to safetensors", [*convert, str(pickled), str(first)], size_bytes))
    pickled.unlink()
    check(expected, first)
    rows.append(row("safetensors to diffusers", [*convert, str(first), str(between), "--diffusers"], size_bytes))
    if has_diffusers:
        rows.append({"step": "diffusers loads the folder", **compare_with_diffusers(name, first, between)})
    first.unlink()
    rows.append(row("diffusers to safetensors", [*convert, str(between), str(last)], size_bytes))
    check(expected, last)
    return [{"model": name, **each} for each in rows]


def compare_with_diffusers(name: str, file: Path, folder: Path) -> dict[str, object]:
    """How many tensors and outputs are bit-equal; raises where one isn't."""
    import diffusers

    pipeline = {"sd15": diffusers.StableDiffusionPipeline, "sdxl": diffusers.StableDiffusionXLPipeline}[name]
    words = {"torch_dtype": torch.float16, "local_files_only": True}
    ours = pipeline.from_pretrained(folder, **words)
    theirs = pipeline.from_single_file(str(file), config=str(folder), **words)
    tensors = outputs = 0
    for part in [each for each in ("unet", "vae", "text_encoder", "text_encoder_2") if hasattr(theirs, each)]:
        known, made = getattr(theirs, part).state_dict(), getattr(ours, part).state_dict()
        if known.keys() != made.keys() or not all(torch.equal(made[key], value) for key, value in known.items()):
            raise SystemExit(f"diffusers has other tensors in the {part} of {folder}")
        if not torch.equal(_output(part, getattr(ours, part)), _output(part, getattr(theirs, part))):
            raise SystemExit(f"diffusers computes something else with the {part} of {folder}")
        tensors, outputs = tensors + len(known), outputs + 1
    return {"tensors": tensors, "outputs": outputs}


@torch.inference_mode()
def _output(part: str, network: Any) -> torch.Tensor:
    """What one of diffusers' or transformers' networks computes of numbers that are the same each time."""
    numbers = torch.Generator().manual_seed(1)
    latents = torch.randn((1, 4, 8, 8), generator=numbers).half()
    if part == "vae":
        return network.decode(latents).sample
    if part.startswith("text"):
        return network(torch.randint(0, 49407, (1, 77), generator=numbers)).last_hidden_state
    context = torch.randn((1, 77, network.config.cross_attention_dim), generator=numbers).half()
    added = {"text_embeds": torch.randn((1, 1280), generator=numbers).half(), "time_ids": torch.ones((1, 6)).half()}
    return network(latents, torch.tensor([500]), context, added_cond_kwargs=added).sample


def row(title: str, command: list[str], size_bytes: int) -> dict[str, object]:
    """The time and the memory of a command."""
    started_s = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peaks = [0]
    sampler = threading.Thread(target=_sample, args=(process, peaks))
    sampler.start()
    code = process.wait()
    seconds = time.perf_counter() - started_s
    sampler.join()
    if code:
        raise SystemExit(f"{title} ended with {code}")
    return {
        "step": title,
        "seconds": round(seconds, 1),
        "peak_mb": round(peaks[0] / 1e6),
        "share_of_model": round(peaks[0] / size_bytes, 3),
    }


def check(expected: dict[str, str], path: Path) -> None:
    if digests(path) != expected:
        raise SystemExit(f"{path} is not what it was made of")


def digests(path: Path) -> dict[str, str]:
    """Dtype, shape and SHA-256 of every tensor."""
    with open_checkpoint(path) as checkpoint:
        return {
            name: f"{info.dtype} {info.shape} {hashlib.sha256(_bytes(checkpoint.get(name))).hexdigest()}"
            for name, info in checkpoint.tensors.items()
        }


def _bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else memoryview(b"")


def _sample(process: subprocess.Popen[bytes], peaks: list[int]) -> None:
    while process.poll() is None:
        peaks[0] = max(peaks[0], _anonymous_bytes(process.pid))
        time.sleep(_EVERY_S)


def _anonymous_bytes(process: int) -> int:
    """Of a process and its children."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return 0
    own = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:")), 0)
    return own + sum(_anonymous_bytes(int(child)) for child in children)


if __name__ == "__main__":
    main()
