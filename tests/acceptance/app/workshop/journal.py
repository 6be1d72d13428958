"""The journal: what tasks write down themselves about their attempts, from whatever process they run in."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import msgspec

from deeper_tasks import current_job


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line: what happened in which attempt, in which process of which worker, and when (monotonic, seconds)."""

    event: str
    job: str
    attempt: int
    pid: int
    worker: int
    at: float
    other: int | str | None = None


def write(event: str, other: int | str | None = None) -> None:
    """Append a line about the current attempt, by one write to a file opened to append: lines never mix."""
    job = current_job()
    line = json.dumps(
        {
            "event": event,
            "job": job.id,
            "attempt": job.attempt,
            "pid": os.getpid(),
            "worker": int(os.environ["WORKSHOP_WORKER"]),
            "at": time.monotonic(),
            "other": other,
        }
    )
    descriptor = os.open(os.environ["WORKSHOP_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def read(path: Path) -> list[Entry]:
    """Return all that was written, in the order of writing."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Entry) for line in path.read_bytes().splitlines()]
