"""The journal: what handlers write down about their runs, and producers about what was acknowledged to them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from deeper_tasks import current_job

JOURNAL, ACKNOWLEDGED = "SOAK_JOURNAL", "SOAK_ACKNOWLEDGED"
"""Name, in the environment, the files that are written."""
_END = 65_536
"""Bytes of a few hundred entries."""


class Entry(Struct, frozen=True, kw_only=True):
    """A `start` of a run, or how it was over, `end` or `raise`: in which process, of which worker, when (monotonic)."""

    event: str
    job: str
    attempt: int
    pid: int
    worker: int
    at: float


class Acknowledgement(Struct, frozen=True, kw_only=True):
    """An enqueue that returned. `not_before` is when the job may start at the earliest (monotonic, seconds)."""

    job: str
    is_new: bool
    not_before: float
    key: str | None


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


def acknowledge(acknowledgements: Sequence[Acknowledgement]) -> None:
    """Note what was acknowledged."""
    _append(ACKNOWLEDGED, acknowledgements)


def read_journal(path: Path) -> list[Entry]:
    """Return all that was written, in the order of writing."""
    return [msgspec.json.decode(line, type=Entry) for line in _lines(path)]


def under_way(path: Path) -> set[int]:
    """Return the workers with a run that has started and is not over, as far as the end of the journal tells."""
    if not path.exists():
        return set()
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _END))
        # The first line may be cut.
        lines = file.read().splitlines()[1:]
    runs: dict[tuple[str, int, int], int] = {}
    for entry in (msgspec.json.decode(line, type=Entry) for line in lines):
        run = (entry.job, entry.attempt, entry.pid)
        if entry.event == "start":
            runs[run] = entry.worker
        else:
            runs.pop(run, None)
    return set(runs.values())


def read_acknowledgements(path: Path) -> list[Acknowledgement]:
    """Return all that was written, in the order of writing."""
    return [msgspec.json.decode(line, type=Acknowledgement) for line in _lines(path)]


def _note(event: str) -> None:
    job = current_job()
    # A process that a worker has started has the worker's id in its environment.
    worker, _, _ = os.environ.get("DEEPER_CHILD_OF", str(os.getpid())).partition(":")
    entry = Entry(
        event=event, job=job.id, attempt=job.attempt, pid=os.getpid(), worker=int(worker), at=time.monotonic()
    )
    _append(JOURNAL, [entry])


def _append(variable: str, records: Sequence[Struct]) -> None:
    """By one write to a file opened to append: lines of several processes never mix."""
    descriptor = os.open(os.environ[variable], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    finally:
        os.close(descriptor)


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.exists() else []
