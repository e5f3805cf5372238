"""What a job must be to be kept: JSON of a bearable size, under an id of its own."""

from __future__ import annotations

import hashlib
import json
import secrets
import time

from hayate.errors import UsageError, clip
from hayate.jobs.records import NewJob
from hayate.jobs.wire import as_object

MOST_BODY_BYTES = 4 * 2**20
MOST_KEY_CHARACTERS = 200
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id() -> str:
    """26 letters and digits that sort by the millisecond and can't be guessed. Source: github.com/ulid/spec."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def checked(new: NewJob) -> tuple[str, str]:
    """The body as text, and its digest, which two jobs share that ask for the same. Raises: UsageError."""
    try:
        body = json.dumps(as_object(new.body), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the job is no JSON: {clip(str(error))}", hint="texts, numbers, lists and objects") from None
    if len(body) > MOST_BODY_BYTES:
        raise UsageError(f"the job has {len(body)} bytes", hint=f"at most {MOST_BODY_BYTES} are taken")
    if new.key is not None and not 1 <= len(new.key) <= MOST_KEY_CHARACTERS:
        raise UsageError(f"the key has {len(new.key)} characters", hint=f"1 to {MOST_KEY_CHARACTERS}")
    if not -(2**31) <= new.priority < 2**31:
        raise UsageError(f"priority {clip(str(new.priority), 30)} is out of range", hint="0 is usual, 10 goes before")
    return body, hashlib.sha256(f"{new.kind}\n{body}".encode()).hexdigest()
