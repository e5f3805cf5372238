"""What a test of extensions leaves behind: nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def as_many_threads_as_before() -> Iterator[None]:
    """PyTorch has one number of threads for the process, and with another one sums are other bits."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
