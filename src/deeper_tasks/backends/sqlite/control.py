"""Control: cancel, retry, delete over ids or a filter, another due time for a job, and the settings of a queue."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from deeper_tasks.backends.codes import CODES, STATES
from deeper_tasks.backends.protocol import MAX_BATCH, JobFilter, QueueSettings, Retried
from deeper_tasks.backends.reading import Reading
from deeper_tasks.backends.sqlite import transitions
from deeper_tasks.backends.sqlite.codec import micros, moment, read_moment, to_json
from deeper_tasks.backends.sqlite.filters import IS_NAMED, where, where_content
from deeper_tasks.backends.sqlite.index_ranges import counts_of, ranges_of
from deeper_tasks.domain.ids import JobId, known_ids, parse_uuid
from deeper_tasks.domain.rescheduling import Rescheduled, new_due
from deeper_tasks.domain.settlement import MovedJob
from deeper_tasks.domain.state import MAY_BE_RESCHEDULED, MAY_RUN_AGAIN, TERMINAL, State

_RUNNING = CODES[State.RUNNING]

SELECT_ALONG_INDEX = """
SELECT json_group_array(json_array(rowid, id, queue, state, unique_key, task, attempt, cancel_requested)) FROM (
    SELECT rowid, id, queue, state, unique_key, task, attempt, cancel_requested FROM deeper_job INDEXED BY {index}
    WHERE {scope} AND {condition} AND {is_open} LIMIT :limit
)
"""
SELECT_NAMED = f"""
SELECT json_group_array(json_array(rowid, id, queue, state, unique_key, task, attempt, cancel_requested)) FROM (
    SELECT rowid, id, queue, state, unique_key, task, attempt, cancel_requested FROM deeper_job
    WHERE {IS_NAMED} AND {{condition}} AND state NOT IN (SELECT value FROM json_each(:kept)) LIMIT :limit
)
"""
_NOT_ASKED_BEFORE = "NOT (state = 4 AND cancel_requested IS NOT NULL)"
_CANCELLABLE = frozenset(CODES.values()) - {CODES[state] for state in TERMINAL}
_RETRYABLE = frozenset(CODES[state] for state in MAY_RUN_AGAIN)
_DELETABLE = frozenset(CODES.values()) - {_RUNNING}

SELECT_WAITING = f"""
SELECT rowid, state, task, queue, attempt, scheduled_at, expires_at FROM deeper_job
WHERE id = ? AND state IN ({", ".join(str(CODES[state]) for state in sorted(MAY_BE_RESCHEDULED))})
"""
PUT_QUEUE = """
INSERT INTO deeper_queue (name, paused_at) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE
SET paused_at = CASE WHEN excluded.paused_at IS NOT NULL THEN coalesce(deeper_queue.paused_at, excluded.paused_at) END
"""


class _SelectedJob(NamedTuple):
    """A job that a filter matches."""

    rowid: int
    id: JobId
    queue: str
    state: int
    unique_key: str | None
    task: str
    attempt: int
    cancel_requested: str | None

    def cancelled(self, reason: str) -> MovedJob:
        """Return the job as the cancel left it, for its event."""
        return MovedJob(
            id=self.id,
            state=State.RUNNING if self.state == _RUNNING else State.CANCELLED,
            task=self.task,
            queue=self.queue,
            attempt=self.attempt,
            cancel_reason=reason if self.cancel_requested is None else self.cancel_requested,
        )


_selected_jobs = msgspec.json.Decoder(list[_SelectedJob])


def cancel(connection: sqlite3.Connection, target: JobFilter, *, reason: str, now: int) -> list[MovedJob]:
    """Cancel the jobs that wait, and request it of those that run; see `Backend.cancel`."""
    jobs = _select(connection, target, _CANCELLABLE, is_open=_NOT_ASKED_BEFORE)
    transitions.cancel(connection, jobs, reason=reason, now=now)
    return [job.cancelled(reason) for job in jobs]


def retry(connection: sqlite3.Connection, target: JobFilter, *, now: int) -> list[Retried]:
    """Make ended jobs pending again; see `Backend.retry`."""
    jobs = _select(connection, target, _RETRYABLE)
    transitions.retry(connection, jobs, now=now)
    return [Retried(id=job.id, queue=job.queue) for job in jobs]


def reschedule(
    connection: sqlite3.Connection, job_id: JobId, *, due: datetime | timedelta | None, now: int
) -> Rescheduled | None:
    """Give a waiting job another due time; see `Backend.reschedule`."""
    known = parse_uuid(job_id)
    row = connection.execute(SELECT_WAITING, (known,)).fetchone()
    if known is None or row is None:
        return None
    before = state = STATES[row["state"]]
    scheduled_at, expires_at = row["scheduled_at"], row["expires_at"]
    was, expiry = _readable(scheduled_at), None if expires_at is None else _readable(expires_at)
    new = new_due(before, due=due, scheduled_at=was, expires_at=expiry, now=moment(now))
    if new is not None:
        state, scheduled_at = new.state, micros(new.scheduled_at)
        # A damaged expiry stays as it is.
        expires_at = expires_at if new.expires_at is None else micros(new.expires_at)
        transitions.reschedule(
            connection, row, state=CODES[state], scheduled_at=scheduled_at, expires_at=expires_at, now=now
        )
    return Rescheduled(
        id=known,
        task=row["task"],
        queue=row["queue"],
        attempt=row["attempt"],
        before=before,
        state=state,
        scheduled_at=read_moment("scheduled_at", scheduled_at, Reading()),
    )


def _readable(at: int) -> datetime | None:
    try:
        return moment(at)
    except OverflowError:
        return None


def delete(connection: sqlite3.Connection, target: JobFilter, *, now: int) -> list[JobId]:
    """Delete the jobs that match; see `Backend.delete`."""
    jobs = _select(connection, target, _DELETABLE)
    transitions.delete(connection, jobs, now=now)
    return [job.id for job in jobs]


def put_queue(connection: sqlite3.Connection, settings: QueueSettings) -> None:
    """Write the settings of a queue; see `Backend.put_queue`."""
    paused_at = None if settings.paused_at is None else micros(settings.paused_at)
    connection.execute(PUT_QUEUE, (settings.name, paused_at))


def _select(
    connection: sqlite3.Connection, target: JobFilter, changeable: frozenset[int], *, is_open: str = "TRUE"
) -> list[_SelectedJob]:
    """Return the first jobs that match: by their ids, or in the index ranges that hold them and few others."""
    if target.ids is not None:
        condition, values = where(msgspec.structs.replace(target, ids=None))
        # A job whose state is damaged may be changed into any: nothing else could repair it.
        kept = to_json(sorted(frozenset(CODES.values()) - changeable))
        values |= {"ids": to_json(known_ids(target.ids)), "kept": kept, "limit": MAX_BATCH}
        return _selected_jobs.decode(connection.execute(SELECT_NAMED.format(condition=condition), values).fetchone()[0])
    states = changeable if target.states is None else changeable & {CODES[state] for state in target.states}
    condition, values = where_content(target)
    jobs: list[_SelectedJob] = []
    for index_range in ranges_of(counts_of(connection), states, queue=target.queue):
        statement = SELECT_ALONG_INDEX.format(
            index=index_range.index, scope=index_range.scope, condition=condition, is_open=is_open
        )
        left = {**values, **index_range.values, "limit": MAX_BATCH - len(jobs)}
        jobs += _selected_jobs.decode(connection.execute(statement, left).fetchone()[0])
        if len(jobs) == MAX_BATCH:
            break
    return jobs
