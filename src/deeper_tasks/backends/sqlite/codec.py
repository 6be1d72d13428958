"""How the domain's values are written in SQLite: state codes, microseconds, JSON documents, rows of jobs."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from deeper_tasks.backends.buckets import BUCKET_SECONDS
from deeper_tasks.backends.codes import CODES, STATES
from deeper_tasks.backends.reading import (
    NO_OPTIONS,
    UNREADABLE,
    Reading,
    are_attempts,
    to_errors,
    to_lines,
    to_options,
    to_progress,
)
from deeper_tasks.domain.damage import EARLIEST, LATEST
from deeper_tasks.domain.end_of_time import END_OF_TIME
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import ClaimedJob, Job, JobOptions
from deeper_tasks.domain.state import State

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
BUCKET = BUCKET_SECONDS * 1_000_000

_claimed = msgspec.json.Decoder(tuple[ClaimedJob, ...], strict=False)


def micros(moment: datetime) -> int:
    """Return a moment as microseconds since 1970."""
    return (moment - EPOCH) // MICROSECOND


def duration(delay: timedelta) -> int:
    """Return a duration in microseconds."""
    return delay // MICROSECOND


LAST_MOMENT = micros(END_OF_TIME)


def later(now: int, by: timedelta) -> int:
    """Return a stored moment so much later, or the last one that can be stored."""
    return min(now + duration(by), LAST_MOMENT)


def moment(value: int) -> datetime:
    """Return the moment, in UTC, of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=value)


def optional_moment(value: int | None) -> datetime | None:
    """Return the moment, or None for NULL."""
    return None if value is None else moment(value)


def read_moment(field: str, value: int, reading: Reading) -> datetime:
    """Return the moment; one beyond an end of the calendar reads as that end."""
    return reading.field(field, lambda: moment(value), instead=LATEST if value > 0 else EARLIEST)


def read_optional_moment(field: str, value: int | None, reading: Reading) -> datetime | None:
    """The same for a value that may be NULL."""
    return None if value is None else read_moment(field, value, reading)


def to_json(value: Any) -> str:
    """Return a value of the domain as JSON text."""
    return msgspec.json.encode(value).decode()


def plain(text: str) -> str:
    """Return text without the NUL character, at which SQLite's JSON functions cut a text off."""
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
    "result_omitted, original_max_attempts, iif(state = 6, NULL, unknown_since) AS unknown_since, "
    "iif(state = 6, NULL, unfit_since) AS unfit_since, iif(state = 6, NULL, is_quarantined) AS is_quarantined"
)
"""The columns that `to_job` reads, in its order. The marks of a completed job are stale, so they are read as NULL."""


def to_job(row: sqlite3.Row) -> Job:
    """Read a whole job from a row of `JOB_COLUMNS`; `Job.damage` lists the fields that cannot be read."""
    if are_attempts(row["attempt"], row["max_attempts"], row["original_max_attempts"]):
        with suppress(*UNREADABLE):
            return _to_sound_job(row)
    return _to_damaged_job(row)


def _to_sound_job(row: sqlite3.Row) -> Job:
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
        options=to_options(row["options"]),
        unique_key=row["unique_key"],
        cancel_requested=row["cancel_requested"],
        errors=to_errors(row["errors"]),
        progress=to_progress(row["progress"]),
        log=to_lines(row["log"]),
        result=row["result"],
        result_omitted=row["result_omitted"],
        unknown_since=optional_moment(row["unknown_since"]),
        unfit_since=optional_moment(row["unfit_since"]),
        is_quarantined=row["is_quarantined"] is not None,
    )


def _to_damaged_job(row: sqlite3.Row) -> Job:
    reading = Reading()

    def optional(field: str) -> datetime | None:
        return read_optional_moment(field, row[field], reading)

    job = Job(
        id=JobId(row["id"]),
        state=reading.state(row["state"]),
        task=row["task"],
        arguments=row["arguments"],
        queue=row["queue"],
        priority=row["priority"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        inserted_at=read_moment("inserted_at", row["inserted_at"], reading),
        scheduled_at=read_moment("scheduled_at", row["scheduled_at"], reading),
        attempted_at=optional("attempted_at"),
        finished_at=optional("finished_at"),
        expires_at=optional("expires_at"),
        node=NodeId(row["node"] or "") if row["state"] == CODES[State.RUNNING] else None,
        options=reading.options(row["options"]),
        unique_key=row["unique_key"],
        cancel_requested=row["cancel_requested"],
        errors=reading.errors(row["errors"]),
        progress=reading.progress(row["progress"]),
        log=reading.log(row["log"]),
        result=row["result"],
        result_omitted=row["result_omitted"],
        unknown_since=optional("unknown_since"),
        unfit_since=optional("unfit_since"),
        is_quarantined=row["is_quarantined"] is not None,
    )
    reading.attempts(row["attempt"], row["max_attempts"], row["original_max_attempts"])
    return msgspec.structs.replace(job, damage=tuple(reading.damage))


HIGHEST_ATTEMPT = 2_147_483_646
"""The highest attempt that a claim counts up from."""

CLAIMED_COLUMNS = (
    "id, task, arguments, queue, priority, attempt, max_attempts, inserted_at, scheduled_at, attempted_at, "
    "expires_at, unknown_since, unfit_since, is_quarantined, original_max_attempts, options"
)
"""The columns that `to_claimed_job` reads, in its order."""


def to_claimed_job(row: sqlite3.Row, *, attempts: int, has_started: bool, token: ClaimToken, now: int) -> ClaimedJob:
    """
    Read a claimed job from a row of `CLAIMED_COLUMNS`; `ClaimedJob.damage` lists the fields that cannot be read.

    The texts of the row are bytes. `attempts` is added to the attempt in the row.
    """
    reading = Reading()

    def text(field: str) -> str:
        stored: bytes = row[field]
        return reading.field(field, stored.decode, instead=stored.decode("utf-8", "replace"))

    job = ClaimedJob(
        id=JobId(text("id")),
        token=token,
        task=text("task"),
        arguments=text("arguments"),
        queue=text("queue"),
        priority=row["priority"],
        attempt=min(row["attempt"], HIGHEST_ATTEMPT) + attempts,
        max_attempts=row["max_attempts"],
        inserted_at=read_moment("inserted_at", row["inserted_at"], reading),
        scheduled_at=read_moment("scheduled_at", row["scheduled_at"], reading),
        claimed_at=moment(now),
        expires_at=read_optional_moment("expires_at", row["expires_at"], reading),
        has_started=has_started,
        unknown_since=read_optional_moment("unknown_since", row["unknown_since"], reading),
        unfit_since=read_optional_moment("unfit_since", row["unfit_since"], reading),
        is_quarantined=row["is_quarantined"] is not None,
        earlier_attempts=row["max_attempts"] - row["original_max_attempts"],
        options=reading.options(text("options")) if row["options"] else None,
    )
    reading.attempts(job.attempt - 1, job.max_attempts, row["original_max_attempts"])
    return msgspec.structs.replace(job, damage=tuple(reading.damage))
