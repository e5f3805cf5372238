"""How long a user waits before anything happens: `hayate --help`, and what launch.py adds to it.

Commands alternate, each in a new process, so that a busy machine slows all of them alike. Bounds of the project:
`hayate --help` < 0.5 s, launch.py on an installed tree adds < 0.3 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = ROOT / ".venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def main() -> None:
    """Print the median and the range of each start in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    python = str(INSTALLED if INSTALLED.exists() else sys.executable)
    commands = {
        "python": [python, "-c", "pass"],
        "import hayate": [python, "-c", "import hayate"],
        "hayate --help": [python, "-P", "-m", "hayate", "--help"],
        "hayate generate --help": [python, "-P", "-m", "hayate", "generate", "--help"],
    }
    if INSTALLED.exists():
        commands["launch.py --help"] = [python, str(ROOT / "launch.py"), "--help"]
    times_ms = measure(commands, options.runs)
    rows = {
        name: {
            "median_ms": round(statistics.median(values), 1),
            "min_ms": round(min(values), 1),
            "max_ms": round(max(values), 1),
        }
        for name, values in times_ms.items()
    }
    if options.json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    for name, row in rows.items():
        sys.stdout.write(f"{name:<24} {row['median_ms']:>7} ms   ({row['min_ms']} to {row['max_ms']})\n")


def measure(commands: dict[str, list[str]], runs: int) -> dict[str, list[float]]:
    """Wall time of each command, every command once per round; the first round only warms the disk cache.

    Units: milliseconds.
    """
    times_ms: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if turn:
                times_ms[name].append((time.perf_counter() - started) * 1000)
    return times_ms


if __name__ == "__main__":
    main()
