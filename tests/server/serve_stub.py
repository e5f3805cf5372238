"""`hayate serve` with a desk that has no worker: what the server does must not depend on torch being there."""

from __future__ import annotations

import os
import sys
from functools import partial
from types import ModuleType
from typing import Any

from hayate.cli.main import main
from hayate.jobs.lock import InstanceLock
from hayate.settings import Settings
from tests.server.stub_desk import StubDesk


class LocalDesk(StubDesk):
    """Made as the real one is; it has the real one's lock."""

    def __init__(self, settings: Settings, *_: Any, **__: Any) -> None:
        super().__init__(settings.data_dir / "server", auto=bool(os.environ.get("STUB_AUTO")))
        self._lock_file = InstanceLock(self.folder)

    def start(self) -> None:
        self._lock_file.take()
        super().start()


def put_in_place() -> None:
    """`STUB_AUTO`: jobs are done at once. `LIGHT`: the real desk, with a worker that needs no torch."""
    if os.environ.get("LIGHT"):
        from hayate.jobs import local
        from tests.jobs.light_worker import COMMAND

        local.LocalDesk = partial(local.LocalDesk, command=COMMAND)  # pyright: ignore[reportAttributeAccessIssue]
        return
    stub: Any = ModuleType("hayate.jobs.local")
    stub.LocalDesk = LocalDesk
    sys.modules[stub.__name__] = stub


if __name__ == "__main__":
    put_in_place()
    sys.exit(main(["serve", *sys.argv[1:]]))
