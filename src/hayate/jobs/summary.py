"""A job in few words, for whoever hears of its events."""

from __future__ import annotations

from typing import Any

from hayate.jobs.records import JobRecord
from hayate.jobs.wire import as_object


def summary_of(job: JobRecord) -> dict[str, Any]:
    """What an event says of a job: where it is, and what came of it."""
    pictures = () if job.result is None else job.result.pictures
    return {
        "kind": job.kind,
        "client": job.client,
        "state": job.state.value,
        "attempt": job.attempt,
        "pictures": [{"path": each.path, "seed": each.seed, "is_saved": each.is_saved} for each in pictures],
        "failure": None if job.failure is None else as_object(job.failure),
        "started_s": job.started_s,
        "ended_s": job.ended_s,
    }
