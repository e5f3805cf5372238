"""Time of putting a LoRA into the weights of full-size SD1.5, of changing its strength and of taking it out.

    python benchmarks/lora.py [--rounds 7] [--typical] [--json]

The file has rank 32, in fp16. *typical* is what kohya's scripts train: every linear layer and 1×1 convolution of the
transformers, and the text encoder's layers. *every layer* are all linear layers and convolutions of both networks.
*first*: into clean weights; the file is read, which is in the page cache, and the clean copies are taken. *again*:
another strength, from the clean copies. *same*: the set that is there already. *out*: the weights as they were.
On a busy machine the processor's clock (*cpu*, of *first* and *again*) is the steadier one. The weights are constant,
which costs as much. *plain* networks are those that are compiled or run on a GPU, *packed* ones those of eager CPUs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from hayate.engines.loras import LoraEditor, LoraUse
from hayate.models.clip import text_encoder
from hayate.models.config import SD1
from hayate.models.layers import skeleton
from hayate.models.unet import UNet
from hayate.runtime.prepare import PLAIN, Preparation, prepare
from hayate.weights.lora_names import places_of

RANK = 32
BOUND_MS = 150
PACKED = Preparation(is_fused=True, is_packed=True)


def write_lora(path: Path, *, is_typical: bool) -> int:
    """A file of random numbers; how many layers it has."""
    tensors = {}
    places = {place: name for name, place in places_of(SD1).items()}
    for place, name in places.items():
        if len(place.shape) < 2 or (is_typical and not _is_typical(name)) or "embedding" in place.weight:
            continue
        kernel = [1] * (len(place.shape) - 2)
        tensors[f"{name}.lora_up.weight"] = (0.01 * torch.randn(place.shape[0], RANK, *kernel)).half()
        tensors[f"{name}.lora_down.weight"] = (0.01 * torch.randn(RANK, *place.shape[1:])).half()
        tensors[f"{name}.alpha"] = torch.tensor(16.0)
    save_file(tensors, path)
    return len(tensors) // 3


def _is_typical(name: str) -> bool:
    return name.startswith("lora_te_") or "attentions" in name


def networks(dtype: torch.dtype, preparation: Preparation) -> dict[int, nn.Module]:
    """The U-Net and the text encoder with constant weights."""
    with skeleton():
        made = [UNet(SD1.unet), text_encoder(SD1.text[0])]
    for network in made:
        network.to(dtype).to_empty(device="cpu").requires_grad_(False).eval()
        for parameter in network.parameters():
            parameter.fill_(0.01)
        prepare(network, preparation)
    return dict(enumerate(made))


def measure(path: Path, dtype: torch.dtype, preparation: Preparation, rounds: int) -> dict[str, float]:
    """Milliseconds of each kind of change: medians, but for one round to warm up."""
    editor = LoraEditor(SD1, networks(dtype, preparation))

    def apply(strength: float | None) -> tuple[float, float]:
        uses = [] if strength is None else [LoraUse(name="x", path=path, text=strength, unet=strength)]
        started, started_cpu = time.perf_counter(), time.process_time()
        editor.apply(uses)
        return 1000 * (time.perf_counter() - started), 1000 * (time.process_time() - started_cpu)

    turns = {"first": 1.0, "again": 0.5, "same": 0.5, "out": None}
    runs = [{name: apply(strength) for name, strength in turns.items()} for _ in range(rounds + 1)][1:]
    wall = {f"{name}_ms": statistics.median(run[name][0] for run in runs) for name in turns}
    return wall | {f"{name}_cpu_ms": statistics.median(run[name][1] for run in runs) for name in ("first", "again")}


def main() -> None:
    parser = argparse.ArgumentParser(description="measure applying a LoRA to full-size SD1.5")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--typical", action="store_true", help="leave out the file that changes every layer")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    asked = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for extent in ("typical",) if asked.typical else ("typical", "every layer"):
            path = Path(folder) / f"{extent}.safetensors"
            layers = write_lora(path, is_typical=extent == "typical")
            for dtype in (torch.float32, torch.bfloat16):
                for way, preparation in {"plain": PLAIN, "packed": PACKED}.items():
                    times = measure(path, dtype, preparation, asked.rounds)
                    about = {"extent": extent, "layers": layers, "dtype": str(dtype).removeprefix("torch."), "way": way}
                    results.append(about | {name: round(value, 3) for name, value in times.items()})
                    if not asked.json:
                        print(*(f"{name} {value}" for name, value in results[-1].items()), sep="  ", flush=True)
    if asked.json:
        about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "rank": RANK, "bound_ms": BOUND_MS}
        print(json.dumps(about | {"rounds": asked.rounds, "results": results}, indent=1))


if __name__ == "__main__":
    main()
