"""schemathesis over the documents of both APIs: whatever is sent, no fault of ours is the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tests.server.fuzzing import ENDLESS, AsLocal, fuzzed_app

schemathesis = pytest.importorskip("schemathesis")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Read from the application, as a client would."""
    app = AsLocal(fuzzed_app(tmp_path_factory.mktemp("fuzz")))
    return schemathesis.openapi.from_asgi("/openapi.json", app).exclude(path=list(ENDLESS))


api = schemathesis.pytest.from_fixture("document")


@api.parametrize()
@hypothesis_settings(
    max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
def test_nothing_that_is_sent_is_a_fault_of_ours(case: Any) -> None:
    checks = schemathesis.checks
    case.call_and_validate(
        checks=[
            checks.not_a_server_error,
            checks.content_type_conformance,
            checks.response_schema_conformance,
        ],
        headers={"X-Fuzz": "1"},
    )
