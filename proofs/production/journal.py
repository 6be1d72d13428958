"""The journal of a site: when each run of a handler began and ended, in which process, by which worker."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from deeper_tasks import current_job

JOURNAL, NAME = "PRODUCTION_JOURNAL", "PRODUCTION_NAME"
"""In the environment: the file, and what the site calls the process that runs or has started the handler."""


class Entry(Struct, frozen=True, kw_only=True):
    """A `start` of a run, or how it was over: `end` or `raise`. `at` is monotonic, one clock for all processes."""

    event: str
    job: str
    attempt: int
    worker: str
    pid: int
    at: float


class Run(Struct, frozen=True, kw_only=True):
    """A run of a handler. `ended_at` None: it goes on, or was broken off."""

    job: str
    attempt: int
    worker: str
    pid: int
    started_at: float
    ended_at: float | None = None
    how: str | None = None


@contextmanager
def journalled_run() -> Iterator[None]:
    """Note that a run starts, and how it is over."""
    _note("start")
    try:
        yield
    except BaseException:
        _note("raise")
        raise
    _note("end")


def read_runs(path: Path) -> list[Run]:
    """Return all runs, in the order in which they began."""
    runs: dict[tuple[str, int, str, int], Run] = {}
    for line in path.read_bytes().splitlines():
        entry = msgspec.json.decode(line, type=Entry)
        key = (entry.job, entry.attempt, entry.worker, entry.pid)
        if entry.event == "start":
            runs[key] = Run(
                job=entry.job, attempt=entry.attempt, worker=entry.worker, pid=entry.pid, started_at=entry.at
            )
        else:
            runs[key] = msgspec.structs.replace(runs[key], ended_at=entry.at, how=entry.event)
    return list(runs.values())


def _note(event: str) -> None:
    job = current_job()
    entry = Entry(
        event=event,
        job=job.id,
        attempt=job.attempt,
        worker=os.environ.get(NAME, "unnamed"),
        pid=os.getpid(),
        at=time.monotonic(),
    )
    # One write to a file opened to append: lines of several processes never mix.
    descriptor = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, msgspec.json.encode(entry) + b"\n")
    finally:
        os.close(descriptor)
