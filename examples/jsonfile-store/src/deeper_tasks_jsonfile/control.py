"""Control: the requests of an operator, for ids or a filter, a batch at a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice

from deeper_tasks.backends.protocol import MAX_BATCH, JobFilter, QueueSettings, Retried
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.rescheduling import Rescheduled, new_due
from deeper_tasks.domain.settlement import MovedJob
from deeper_tasks.domain.state import MAY_BE_RESCHEDULED, MAY_RUN_AGAIN, State
from deeper_tasks.domain.transitions import MANUAL_RETRY, Change, after_cancel, after_delete
from deeper_tasks_jsonfile.document import Document


def cancel(document: Document, target: JobFilter, *, reason: str, now: datetime) -> list[MovedJob]:
    """End the waiting jobs of a filter, and ask the workers of the running ones to end those."""
    is_named = target.ids is not None
    live = (
        record
        for record in document.matching(target)
        if not record.job.state.is_terminal and (is_named or record.job.cancel_requested is None)
    )
    records = list(islice(live, MAX_BATCH))
    for record in records:
        if record.job.cancel_requested is None:
            record.change(cancel_requested=reason)
        change = after_cancel(record.job.state)
        if not change.requests_cancel:
            document.change(record, change, now=now)
    return [MovedJob.of(record.job) for record in records]


def retry(document: Document, target: JobFilter, *, now: datetime) -> list[Retried]:
    """Make the jobs of a filter that ended without success pending again."""
    ended = (record for record in document.matching(target) if record.job.state in MAY_RUN_AGAIN)
    records = list(islice(ended, MAX_BATCH))
    for record in records:
        document.change(record, MANUAL_RETRY, now=now)
    return [Retried(id=record.job.id, queue=record.job.queue) for record in records]


def reschedule(
    document: Document, job_id: JobId, *, due: datetime | timedelta | None, now: datetime
) -> Rescheduled | None:
    """Give a waiting job another due time, or end its delay."""
    record = document.jobs.get(job_id)
    if record is None or record.job.state not in MAY_BE_RESCHEDULED:
        return None
    job = record.job
    new = new_due(job.state, due=due, scheduled_at=job.scheduled_at, expires_at=job.expires_at, now=now)
    if new is not None:
        record.change(scheduled_at=new.scheduled_at, expires_at=new.expires_at)
        document.change(record, Change(state=new.state), now=now)
    return Rescheduled.of(record.job, before=job.state)


def delete(document: Document, target: JobFilter, *, now: datetime) -> list[JobId]:
    """Delete the jobs of a filter, never a running one."""
    idle = (record for record in document.matching(target) if record.job.state is not State.RUNNING)
    records = list(islice(idle, MAX_BATCH))
    for record in records:
        document.change(record, after_delete(record.job.state), now=now)
    return [record.job.id for record in records]


def put_queue(document: Document, settings: QueueSettings) -> None:
    """Set what holds for a queue. A queue that is paused already keeps the time of its first pause."""
    known = document.queues.get(settings.name)
    if settings.paused_at is None or known is None or known.paused_at is None:
        document.queues[settings.name] = settings
