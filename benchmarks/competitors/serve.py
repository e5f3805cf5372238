"""The process of one contender: python -m benchmarks.competitors.serve NAME JOB [--prepare]."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from benchmarks.competitors.base import Competitor, Job
from benchmarks.turns import serve

NAMES = ("hayate", "diffusers", "openvino", "onnxruntime", "sdcpp", "comfyui")


def competitor(name: str) -> Competitor:
    return importlib.import_module(f"benchmarks.competitors.{name}").COMPETITOR


def own_answers() -> Callable[[dict], None]:
    """Answers on what is standard output now; whatever a program prints goes to standard error from here on."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content: dict) -> None:
        channel.write(json.dumps(content) + "\n")
        channel.flush()

    return answer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("job", type=Job.from_json)
    parser.add_argument("--prepare", action="store_true")
    options = parser.parse_args()
    answer, chosen = own_answers(), competitor(options.name)
    if options.prepare:
        if chosen.prepare:
            chosen.prepare(options.job)
        return
    loaded = chosen.load(options.job)
    answer({"version": loaded.version, "setting": loaded.setting})
    with without_gradients():
        serve(loaded.tasks, answer)


def without_gradients() -> AbstractContextManager[object]:
    """PyTorch's inference mode, for programs that have loaded PyTorch."""
    torch = sys.modules.get("torch")
    return torch.inference_mode() if torch else nullcontext()


if __name__ == "__main__":
    main()
