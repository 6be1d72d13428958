"""How the domain's values are written in SQLite: state codes, microseconds, JSON documents, rows of jobs."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from deeper_tasks.backends.codes import CODES, STATES
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import AttemptError, ClaimedJob, Job, JobOptions, Progress
from deeper_tasks.domain.state import State

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY = 86_400_000_000

NO_OPTIONS = JobOptions()

_claimed = msgspec.json.Decoder(tuple[ClaimedJob, ...], strict=False)
_options = msgspec.json.Decoder(JobOptions)
_progress = msgspec.json.Decoder(Progress)
_errors = msgspec.json.Decoder(tuple[AttemptError, ...])
_lines = msgspec.json.Decoder(tuple[str, ...])


def micros(moment: datetime) -> int:
    """Return a moment as microseconds since 1970."""
    return (moment - EPOCH) // MICROSECOND


def duration(delay: timedelta) -> int:
    """Return a duration in microseconds."""
    return delay // MICROSECOND


def moment(value: int) -> datetime:
    """Return the moment, in UTC, of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=value)


def optional_moment(value: int | None) -> datetime | None:
    """Return the moment, or None for NULL."""
    return None if value is None else moment(value)


def to_json(value: Any) -> str:
    """Return a value of the domain as JSON text."""
    return msgspec.json.encode(value).decode()


def plain(text: str) -> str:
    """Return text without the one character at which SQLite's JSON functions end a text, whatever follows it."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def options_document(options: JobOptions) -> str | None:
    """Return a job's options as JSON text; NULL where none is set, the usual case."""
    return None if options == NO_OPTIONS else to_json(options)


def claimed_jobs(document: str) -> tuple[ClaimedJob, ...]:
    """Read the jobs of a claim from the one JSON document that the statement returned."""
    return _claimed.decode(document)


JOB_COLUMNS = (
    "id, state, task, arguments, queue, priority, attempt, max_attempts, inserted_at, scheduled_at, attempted_at, "
    "finished_at, expires_at, node, options, unique_key, cancel_requested, errors, progress, log, result, "
    "result_omitted"
)
"""The columns that `to_job` reads, in its order."""


def to_job(row: sqlite3.Row) -> Job:
    """Read a whole job from a row of `JOB_COLUMNS`."""
    is_running = row["state"] == CODES[State.RUNNING]
    return Job(
        id=JobId(row["id"]),
        state=STATES[row["state"]],
        task=row["task"],
        arguments=row["arguments"],
        queue=row["queue"],
        priority=row["priority"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        inserted_at=moment(row["inserted_at"]),
        scheduled_at=moment(row["scheduled_at"]),
        attempted_at=optional_moment(row["attempted_at"]),
        finished_at=optional_moment(row["finished_at"]),
        expires_at=optional_moment(row["expires_at"]),
        node=NodeId(row["node"]) if is_running else None,
        options=_options.decode(row["options"]) if row["options"] else NO_OPTIONS,
        unique_key=row["unique_key"],
        cancel_requested=row["cancel_requested"],
        errors=_errors.decode(row["errors"]) if row["errors"] else (),
        progress=_progress.decode(row["progress"]) if row["progress"] else None,
        log=_lines.decode(row["log"]) if row["log"] else (),
        result=row["result"],
        result_omitted=row["result_omitted"],
    )
