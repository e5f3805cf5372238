"""`hayate serve` with a desk that has no worker: what the server does must not depend on torch being there."""

from __future__ import annotations

import os
import sys
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


if __name__ == "__main__":
    local: Any = ModuleType("hayate.jobs.local")
    local.LocalDesk = LocalDesk
    sys.modules[local.__name__] = local
    sys.exit(main(["serve", *sys.argv[1:]]))
