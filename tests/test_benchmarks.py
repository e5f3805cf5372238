"""Every script of benchmarks/ finds what it imports: a module that moved is noticed here, not when measuring."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
_LOAD = """
import runpy, sys
sys.path[:0] = [{root!r}, {folder!r}]
for script in sys.argv[1:]:
    runpy.run_path(script, run_name="loaded")
"""


def test_every_script_loads() -> None:
    folder = ROOT / "benchmarks"
    scripts = sorted(map(str, folder.glob("*.py")))
    code = _LOAD.format(root=str(ROOT), folder=str(folder))
    done = subprocess.run([sys.executable, "-c", code, *scripts], capture_output=True, text=True, cwd=ROOT, check=False)
    assert len(scripts) >= 10
    assert done.returncode == 0, done.stderr[-1000:]
