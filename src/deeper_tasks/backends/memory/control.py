"""Control: cancel, retry and delete the jobs of a filter, and give a job another due time."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice

from deeper_tasks.backends.memory.listing import matching
from deeper_tasks.backends.memory.tables import Tables
from deeper_tasks.backends.protocol import MAX_BATCH, JobFilter, Retried
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.rescheduling import Rescheduled, new_due
from deeper_tasks.domain.settlement import MovedJob
from deeper_tasks.domain.state import MAY_BE_RESCHEDULED, MAY_RUN_AGAIN, State
from deeper_tasks.domain.transitions import MANUAL_RETRY, after_cancel, after_delete


def cancel(tables: Tables, target: JobFilter, *, reason: str, now: datetime) -> list[MovedJob]:
    """Cancel the jobs of a filter, or request it; see `Backend.cancel`."""
    is_named = target.ids is not None
    live = (
        record
        for record in matching(tables.jobs, target)
        if not record.state.is_terminal and (is_named or record.cancel_requested is None)
    )
    records = list(islice(live, MAX_BATCH))
    for record in records:
        if record.cancel_requested is None:
            record.cancel_requested = reason
        change = after_cancel(record.state)
        if not change.requests_cancel:
            tables.jobs.change(record, change, now=now)
    return [record.as_moved() for record in records]


def retry(tables: Tables, target: JobFilter, *, now: datetime) -> list[Retried]:
    """Make ended jobs pending again; see `Backend.retry`."""
    ended = (record for record in matching(tables.jobs, target) if record.state in MAY_RUN_AGAIN)
    records = list(islice(ended, MAX_BATCH))
    for record in records:
        tables.jobs.change(record, MANUAL_RETRY, now=now)
    return [Retried(id=record.id, queue=record.spec.queue) for record in records]


def reschedule(tables: Tables, job_id: JobId, *, due: datetime | timedelta | None, now: datetime) -> Rescheduled | None:
    """Give a waiting job another due time; see `Backend.reschedule`."""
    record = tables.jobs.named(job_id)
    if record is None or record.state not in MAY_BE_RESCHEDULED:
        return None
    before = record.state
    change = new_due(before, due=due, scheduled_at=record.scheduled_at, expires_at=record.expires_at, now=now)
    if change is not None:
        tables.jobs.reschedule(record, change, now=now)
    return record.as_rescheduled(before=before)


def delete(tables: Tables, target: JobFilter, *, now: datetime) -> list[JobId]:
    """Delete the jobs of a filter; see `Backend.delete`."""
    idle = (record for record in matching(tables.jobs, target) if record.state is not State.RUNNING)
    records = list(islice(idle, MAX_BATCH))
    for record in records:
        tables.jobs.change(record, after_delete(record.state), now=now)
    return [record.id for record in records]
