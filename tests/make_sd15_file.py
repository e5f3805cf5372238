"""Writes a full-size SD1.5 checkpoint of random fp16 weights (2.1 GB) in the original layout, for measuring.

python tests/make_sd15_file.py FILE [--seed N]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hayate.bench.random_model import shapes_of, write_random
from hayate.models.config import SD1

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="write a full-size SD1.5 file of random weights")
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_random(arguments.file, shapes_of(SD1), seed=arguments.seed)
