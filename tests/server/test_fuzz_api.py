"""schemathesis over the document of both APIs: whatever is sent, no fault of ours is the answer."""

from __future__ import annotations

import pytest

from tests.server.fuzzing import fuzz, fuzzed_app

pytest.importorskip("schemathesis")


def test_nothing_that_is_sent_is_a_fault_of_ours(tmp_path_factory: pytest.TempPathFactory) -> None:
    """`benchmarks/fuzz_api.py` sends more."""
    app = fuzzed_app(tmp_path_factory.mktemp("fuzz"))
    report = fuzz(app, examples=1)
    assert report.operations > 40
    assert report.faults == ()
