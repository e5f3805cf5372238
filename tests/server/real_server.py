"""`hayate serve` as its users start it: a process of its own, with a worker, over folders of a test."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
START_LIMIT_S = 60.0
END_LIMIT_S = 20.0


@contextlib.contextmanager
def running(folder: Path, *words: str) -> Iterator[int]:
    """The server's port, while it runs. Its settings are nobody's, and its folders are in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    said, complained = folder / "server.out", folder / "server.err"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "HOME": str(folder),
        **{f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("CONFIG", "CACHE", "DATA")},
        **{f"HAYATE_{name.upper()}": str(folder / name) for name in ("lora_dir", "models_dir", "outputs_dir")},
        "OMP_NUM_THREADS": "1",
    }
    with said.open("w") as out, complained.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "hayate", "serve", "--port", "0", *words],
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=errors,
        )
    try:
        yield _port(process, said, complained)
    finally:
        process.terminate()
        try:
            process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes], said: Path, complained: Path) -> int:
    limit = time.monotonic() + START_LIMIT_S
    while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", said.read_text())):
        assert process.poll() is None, complained.read_text()
        assert time.monotonic() < limit, "the server did not start"
        time.sleep(0.02)
    return int(found[1])
