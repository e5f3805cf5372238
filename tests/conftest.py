"""What holds for every test: no settings of the person who runs them, and no deadline per example."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A busy machine is slow at times; that is no fault of the code under test.
settings.register_profile("hayate", deadline=None)
settings.load_profile("hayate")


@pytest.fixture(scope="session", autouse=True)
def nobodys_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An environment without HAYATE_ variables, whose configuration and cache folders are empty."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("HAYATE_")]:
            patch.delenv(name)
        for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "APPDATA", "LOCALAPPDATA"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield


@pytest.fixture(scope="module", autouse=True)
def as_many_threads_as_before() -> Iterator[None]:
    """PyTorch has one number of threads for the process, which a setting changes; another one gives other bits."""
    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    yield
    if torch is not None and before is not None and torch.get_num_threads() != before:
        torch.set_num_threads(before)
