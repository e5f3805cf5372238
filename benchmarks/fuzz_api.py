"""schemathesis over both APIs, for as long as it is given: `python -m benchmarks.fuzz_api --examples 200`.

Every operation of the document is sent what fits its schema and what does not, over a desk whose checks and database
are the real ones. The verdict is that no answer is a fault of ours: no 5xx but what the document states.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.server.fuzzing import fuzz, fuzzed_app


def main() -> int:
    """1 where a fault was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="for each operation, twice")
    options = parser.parse_args()
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = fuzz(fuzzed_app(Path(folder)), examples=options.examples)
    for fault in report.faults:
        sys.stdout.write(f"{fault}\n\n")
    took_s = time.monotonic() - started_s
    summary = f"{report.operations} operations, {report.requests} requests, {len(report.faults)} faults, {took_s:.0f} s"
    sys.stdout.write(f"{summary}\n")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
