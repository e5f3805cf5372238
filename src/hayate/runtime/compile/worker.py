"""The compiling process: `python -m hayate.runtime.compile.worker SPEC PACKAGE`.

It never sees a weight, works at low priority, and ends when the process that started it does.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from hayate.runtime.compile.spec import CompileSpec, from_json
from hayate.runtime.compile.trace import examples, export

NICENESS = 10
"""Behind everything else, but not so far that a busy machine never finishes it."""


def main(arguments: list[str]) -> None:
    """Compiles what the first file says into the second. Whatever goes wrong is a traceback and an exit code."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    spec = from_json(Path(arguments[0]).read_text())
    compile_to(spec, Path(arguments[1]))


def compile_to(spec: CompileSpec, package: Path) -> None:
    """Writes the compiled package. Tensors are fake, so a full-size network takes no more memory than a tiny one."""
    from torch._inductor import aoti_compile_and_package
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    with FakeTensorMode(shape_env=ShapeEnv()):
        parameters, inputs = examples(spec)
    program = export(spec, parameters, inputs)
    aoti_compile_and_package(program, package_path=str(package), inductor_configs=configuration(spec))


def configuration(spec: CompileSpec) -> dict[str, Any]:
    """Inductor's settings: any number of threads at run time, and half of the processors for compiling."""
    tuned = {"max_autotune": True, "coordinate_descent_tuning": True} if spec.is_tuned else {}
    return {"cpp.dynamic_threads": True, "compile_threads": max(1, (os.cpu_count() or 1) // 2), **tuned}


def _end_with_parent() -> None:
    """The parent holds the other end of standard input; its end is the end of all that was started here."""
    os.read(0, 1)  # not through sys.stdin, whose lock this thread would hold when the interpreter shuts down
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
