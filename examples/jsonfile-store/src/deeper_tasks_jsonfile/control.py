"""Control: what an operator asks for, over ids or a filter, a batch at a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice

from deeper_tasks.backends.protocol import MAX_BATCH, JobFilter, QueueSettings, Retried
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.rescheduling import Rescheduled, due_moment, moved_expiry, state_when_due
from deeper_tasks.domain.settlement import MovedJob
from deeper_tasks.domain.state import MAY_BE_RESCHEDULED, MAY_RUN_AGAIN, State
from deeper_tasks.domain.unique import Unique
from deeper_tasks_jsonfile.document import Document, Record


def cancel(document: Document, target: JobFilter, *, reason: str, now: datetime) -> list[MovedJob]:
    """End the jobs meant that wait, and ask the running ones to end."""
    is_named = target.ids is not None
    live = (
        record
        for record in document.meant(target)
        if not record.job.state.is_terminal and (is_named or record.job.cancel_requested is None)
    )
    records = list(islice(live, MAX_BATCH))
    for record in records:
        if record.job.cancel_requested is None:
            record.change(cancel_requested=reason)
        if record.job.state is not State.RUNNING:
            document.move(record, State.CANCELLED, now=now)
    return [MovedJob.of(record.job) for record in records]


def retry(document: Document, target: JobFilter, *, now: datetime) -> list[Retried]:
    """Make the jobs meant that ended without success pending again."""
    ended = (record for record in document.meant(target) if record.job.state in MAY_RUN_AGAIN)
    records = list(islice(ended, MAX_BATCH))
    for record in records:
        most = record.job.attempt + record.original_max_attempts
        fresh = {"max_attempts": most, "scheduled_at": now, "expires_at": None, "cancel_requested": None}
        document.move(record, State.PENDING, now=now, **fresh)
        record.mark(record.marks.after_retry())
        _take_key_again(document, record, now=now)
    return [Retried(id=record.job.id, queue=record.job.queue) for record in records]


def reschedule(
    document: Document, job_id: JobId, *, due: datetime | timedelta | None, now: datetime
) -> Rescheduled | None:
    """Give a waiting job another due time, or end its delay."""
    record = document.jobs.get(job_id)
    if record is None or record.job.state not in MAY_BE_RESCHEDULED:
        return None
    job = record.job
    if due is not None or job.state is not State.PENDING:
        moment, expires_at = due_moment(due, now=now), job.expires_at
        if due is not None and expires_at is not None:
            expires_at = moved_expiry(expires_at, was=job.scheduled_at, due=moment)
        state = state_when_due(job.state, is_due=moment <= now)
        document.move(record, state, now=now, scheduled_at=moment, expires_at=expires_at)
    return Rescheduled.of(record.job, before=job.state)


def delete(document: Document, target: JobFilter) -> list[JobId]:
    """Delete the jobs meant, never a running one."""
    idle = (record for record in document.meant(target) if record.job.state is not State.RUNNING)
    records = list(islice(idle, MAX_BATCH))
    for record in records:
        document.remove(record)
    return [record.job.id for record in records]


def put_queue(document: Document, settings: QueueSettings) -> None:
    """Set what holds for a queue."""
    document.queues[settings.name] = settings


def _take_key_again(document: Document, record: Record, *, now: datetime) -> None:
    """Let a retried job hold its key until it ends, if that is free; still held by it for a period, it stays so."""
    if record.unique is None:
        return
    until_done = Unique(key=record.unique.key)
    holder = document.take_key(until_done, record.job.id, now=now)
    record.unique = until_done if holder == record.job.id else None
    record.change(unique_key=None if record.unique is None else record.unique.key)
